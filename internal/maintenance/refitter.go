package maintenance

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/picture"
)

// RefitStore keeps messages that failed because their pictures were too large, and have not
// been resent. RefitCandidates returns those after the id. CreateRefit creates the message
// that repeats one of them, with other contents by position; it does nothing when the message
// has been resent meanwhile.
type RefitStore interface {
	RefitCandidates(ctx context.Context, after uuid.UUID, limit int) ([]mms.RefitCandidate, error)
	ReserveGetCall(ctx context.Context) (wait time.Duration, err error)
	CreateRefit(ctx context.Context, old, id uuid.UUID, contents map[int]mms.ContentHash) error
}

// RefitterOptions configure the refitter.
type RefitterOptions struct {
	Store     RefitStore
	WithLease WithLease
	Plivo     Getter
	Checker   MediaChecker // nil: messages with URLs are not resent
	Pictures  PictureCopier
	Budget    int // bytes that the pictures of a message may take together
	Logger    *slog.Logger
}

const (
	refitInterval  = 10 * time.Second
	refitBatchSize = 50
	maxRefitTries  = 5
	maxRefitsKnown = 10_000
)

// Refitter returns the job that resends messages with smaller pictures when Plivo has said
// that they were too large, which it does not charge. It asks Plivo about each message before
// that: a report could be forged or about another attempt. No message is refitted twice.
func Refitter(o RefitterOptions) Job {
	r := &refitter{RefitterOptions: o, tries: map[uuid.UUID]int{}}
	return Job{Name: "refitter", Interval: refitInterval, Run: func(ctx context.Context) error {
		return o.WithLease(ctx, "refitter", r.run)
	}}
}

type refitter struct {
	RefitterOptions
	tries map[uuid.UUID]int // of messages that could not be refitted, since the start of the process
}

func (r *refitter) run(ctx context.Context) error {
	if len(r.tries) > maxRefitsKnown {
		clear(r.tries)
	}
	after := uuid.Nil
	for {
		candidates, err := r.Store.RefitCandidates(ctx, after, refitBatchSize)
		if err != nil {
			return err
		}
		for _, c := range candidates {
			after = c.MessageID
			if r.tries[c.MessageID] >= maxRefitTries {
				continue
			}
			if err := r.refit(ctx, c); err != nil {
				return err
			}
		}
		if len(candidates) < refitBatchSize {
			return nil
		}
	}
}

// refit resends one message. An error is not caused by the message.
func (r *refitter) refit(ctx context.Context, c mms.RefitCandidate) error {
	r.tries[c.MessageID]++
	confirmed, err := r.confirmed(ctx, c)
	if err != nil {
		return err
	}
	if !confirmed {
		r.tries[c.MessageID] = maxRefitTries
		r.Logger.InfoContext(ctx, "Plivo does not confirm that a message's pictures were too large", c.LogAttr())
		return nil
	}
	contents, err := r.makeSmaller(ctx, c)
	var unusable *picture.Error
	switch {
	case errors.As(err, &unusable), errors.Is(err, mms.ErrNoUpload):
		r.tries[c.MessageID] = maxRefitTries
		return nil
	case errors.Is(err, errNotReadable):
		return nil
	case err != nil:
		return err
	}
	return r.Store.CreateRefit(ctx, c.MessageID, refitID(c), contents)
}

// confirmed asks Plivo whether it has not sent the message because of its size.
func (r *refitter) confirmed(ctx context.Context, c mms.RefitCandidate) (bool, error) {
	wait, err := r.Store.ReserveGetCall(ctx)
	if err != nil {
		return false, err
	}
	if err := sleep(ctx, wait); err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, getTimeout)
	defer cancel()
	found, err := r.Plivo.Get(ctx, c.PlivoUUID)
	if errors.Is(err, mms.ErrNotFound) {
		return false, nil
	}
	return c.Matches(found) && found.State == "failed" && found.Code == mms.TooLargeCode, err
}

// errNotReadable says that a picture behind a URL cannot be read now.
var errNotReadable = errors.New("the picture behind a URL cannot be read")

// makeSmaller makes all pictures together half as large as they were, or as the budget if
// that is less.
func (r *refitter) makeSmaller(ctx context.Context, c mms.RefitCandidate) (map[int]mms.ContentHash, error) {
	data := make([][]byte, len(c.Media)) // of pictures behind URLs
	sizes := make([]int, len(c.Media))
	total := 0
	for i, m := range c.Media {
		sizes[i] = m.Bytes
		if m.Content.IsZero() {
			var err error
			if data[i], err = r.read(ctx, m.URL); err != nil {
				return nil, err
			}
			sizes[i] = len(data[i])
		}
		total += sizes[i]
	}
	contents := map[int]mms.ContentHash{}
	for i, share := range picture.Share(min(total, r.Budget)/2, sizes) {
		hash, err := r.fit(ctx, c.Media[i], data[i], share)
		if err != nil {
			return nil, err
		}
		contents[c.Media[i].Position] = hash
	}
	return contents, nil
}

func (r *refitter) read(ctx context.Context, url string) ([]byte, error) {
	if r.Checker == nil {
		return nil, errNotReadable
	}
	_, data, err := r.Checker.Check(ctx, url)
	if err == nil && data == nil {
		err = errNotReadable
	}
	return data, err
}

func (r *refitter) fit(ctx context.Context, m mms.MessageMedium, data []byte, share int) (mms.ContentHash, error) {
	if data == nil {
		content, err := r.Pictures.Refit(ctx, m.Content, share)
		return content.Hash, err
	}
	copied, err := r.Pictures.Copy(ctx, data, share)
	return copied.Hash, err
}

// refitID returns the id of the message that repeats another one: a UUIDv7 of the time when
// that failed. It is always the same, so that the message cannot be created twice.
func refitID(c mms.RefitCandidate) uuid.UUID {
	sum := sha256.Sum256(append([]byte("refit "), c.MessageID[:]...))
	id := uuid.UUID(sum[:16])
	var milliseconds [8]byte
	binary.BigEndian.PutUint64(milliseconds[:], uint64(c.FailedAt.UnixMilli()))
	copy(id[:6], milliseconds[2:])
	id[6] = id[6]&0x0f | 0x70 // version 7
	id[8] = id[8]&0x3f | 0x80 // RFC 9562
	return id
}
