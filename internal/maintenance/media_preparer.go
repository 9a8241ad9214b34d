package maintenance

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/media"
	"github.com/postcard-mms/postcard/internal/mms"
)

// PreparationStore keeps messages that wait until their media are ready. MarkPrepared
// returns the tasks to enqueue; messages of batches join the backlog without one.
type PreparationStore interface {
	Preparations(ctx context.Context, limit int) ([]mms.Preparation, error)
	MarkPrepared(ctx context.Context, prepared []mms.Prepared) ([]mms.Task, error)
	PostponePreparation(ctx context.Context, ids []uuid.UUID, wait time.Duration) error
	FailPreparation(ctx context.Context, ids []uuid.UUID, reason mms.Reason, detail string) error
}

// MediaCheckStore keeps the results of checks for mms.MediaCheckLifetime.
type MediaCheckStore interface {
	MediaChecks(ctx context.Context, urls []string) (map[string]mms.MediaCheck, error)
	SaveMediaCheck(ctx context.Context, c mms.MediaCheck) error
}

// PlivoMediaStore keeps pictures and the ids under which Plivo has them. Content returns
// mms.ErrNoUpload for a picture that is no longer stored.
type PlivoMediaStore interface {
	Content(ctx context.Context, hash mms.ContentHash) (mms.Content, error)
	AtPlivo(ctx context.Context, hash mms.ContentHash) (bool, error)
	SavePlivoMedia(ctx context.Context, hash mms.ContentHash, mediaID string) error
	ReserveGetCall(ctx context.Context) (wait time.Duration, err error)
}

// MediaPreparerStore is what the media preparer needs of the database.
type MediaPreparerStore interface {
	PreparationStore
	MediaCheckStore
	PlivoMediaStore
}

// MediaChecker checks what is behind a URL. The data are those of a picture.
type MediaChecker interface {
	Check(ctx context.Context, url string) (check mms.MediaCheck, data []byte, err error)
}

// PictureCopier stores pictures that were made to fit a budget in bytes, and small versions
// for lists. The error is a *picture.Error if the picture cannot be used. Preview returns the
// zero hash then.
type PictureCopier interface {
	Copy(ctx context.Context, data []byte, budget int) (media.Copied, error)
	Refit(ctx context.Context, hash mms.ContentHash, budget int) (mms.Content, error)
	Preview(ctx context.Context, data []byte) (mms.ContentHash, error)
}

// MediaUploader uploads a picture to Plivo. The error is an mms.PlivoMediaError if Plivo
// will never take it.
type MediaUploader interface {
	UploadMedia(ctx context.Context, name, mediaType string, data []byte) (mediaID string, err error)
}

// MediaPreparerOptions configure the media preparer.
type MediaPreparerOptions struct {
	Store     MediaPreparerStore
	WithLease WithLease
	Checker   MediaChecker // nil: URLs are sent unchecked
	Pictures  PictureCopier
	Plivo     MediaUploader
	Queue     Enqueuer
	Budget    int                  // bytes that the pictures of a message may take together
	OnCheck   func(mms.MediaCheck) // called for each URL that was fetched
	OnUpload  func(err error)      // called for each upload to Plivo
}

const (
	preparationPage  = 1000 // messages read at a time
	preparationChunk = 500  // messages recorded by one statement
	flushInterval    = 200 * time.Millisecond
	roundLimit       = 20 * time.Second // after which a round starts no more calls, so that new messages do not wait for slow hosts
)

// MediaPreparer returns the job that makes the media of messages ready: it checks what is
// behind URLs, copies pictures that would not fit, and uploads pictures to Plivo. It does so
// before a message is claimed: neither an attempt nor its lease covers these calls, and
// a call whose answer is lost is repeated.
//
// In a round of up to preparationPage messages it fetches each URL and uploads each picture
// once, several at a time, and releases each message as soon as its own media are ready. A
// host that fails is skipped for the rest of the round; its messages wait longer each time.
func MediaPreparer(o MediaPreparerOptions) Job {
	p := &mediaPreparer{MediaPreparerOptions: o, backoff: backoff{failures: map[string]int{}}}
	return Job{Name: "media preparer", Interval: time.Second, Run: func(ctx context.Context) error {
		return o.WithLease(ctx, "media_preparer", p.run)
	}}
}

type mediaPreparer struct {
	MediaPreparerOptions
	backoff backoff
}

func (p *mediaPreparer) run(ctx context.Context) error {
	for {
		page, err := p.Store.Preparations(ctx, preparationPage)
		if err != nil || len(page) == 0 {
			return err
		}
		if err := p.prepareAll(ctx, page); err != nil || len(page) < preparationPage {
			return err
		}
	}
}

// prepareAll prepares messages and records what became of them. Its error is the first
// that neither a message nor the host of a picture has caused; its messages are postponed.
func (p *mediaPreparer) prepareAll(ctx context.Context, page []mms.Preparation) error {
	known, err := p.Store.MediaChecks(ctx, urlsToCheck(page))
	if err != nil {
		return err
	}
	starting, stop := context.WithTimeout(ctx, roundLimit)
	defer stop()
	round := newMediaRound(p, known, starting.Done())
	results := make(chan preparationResult)
	var preparing sync.WaitGroup
	for _, m := range page {
		preparing.Go(func() { results <- round.prepare(ctx, m) })
	}
	go func() { preparing.Wait(); close(results) }()
	return p.recordAll(ctx, results)
}

// urlsToCheck returns the URLs that are sent as they are or have to be copied.
func urlsToCheck(page []mms.Preparation) []string {
	var urls []string
	for _, m := range page {
		for _, medium := range m.Media {
			if medium.Content.IsZero() {
				urls = append(urls, medium.URL)
			}
		}
	}
	slices.Sort(urls)
	return slices.Compact(urls)
}

// preparationResult is what became of one message: it is prepared, has failed for a reason,
// or waits.
type preparationResult struct {
	mms.Prepared
	reason mms.Reason
	detail string
	wait   time.Duration // 0 if it is prepared or has failed
	err    error         // why it waits, unless the host of a picture is the cause
}

// recordAll records results until the channel is closed, in chunks. It keeps receiving
// after an error.
func (p *mediaPreparer) recordAll(ctx context.Context, results <-chan preparationResult) error {
	ticker := time.NewTicker(flushInterval)
	defer ticker.Stop()
	var first error
	var chunk []preparationResult
	flush := func() {
		if err := p.record(ctx, chunk); err != nil && first == nil {
			first = err
		}
		chunk = nil
	}
	for {
		select {
		case result, ok := <-results:
			if !ok {
				flush()
				return first
			}
			if first == nil {
				first = result.err
			}
			if chunk = append(chunk, result); len(chunk) == preparationChunk {
				flush()
			}
		case <-ticker.C:
			flush()
		}
	}
}

type failure struct {
	reason mms.Reason
	detail string
}

// record records a chunk of results, with one statement for each outcome.
func (p *mediaPreparer) record(ctx context.Context, chunk []preparationResult) error {
	var prepared []mms.Prepared
	waiting, failed := map[time.Duration][]uuid.UUID{}, map[failure][]uuid.UUID{}
	for _, r := range chunk {
		switch {
		case r.reason != "":
			key := failure{r.reason, r.detail}
			failed[key] = append(failed[key], r.MessageID)
		case r.wait > 0:
			waiting[r.wait] = append(waiting[r.wait], r.MessageID)
		default:
			prepared = append(prepared, r.Prepared)
		}
	}
	var errs []error
	if len(prepared) > 0 {
		tasks, err := p.Store.MarkPrepared(ctx, prepared)
		errs = append(errs, err, enqueueAll(ctx, p.Queue, tasks))
	}
	for wait, ids := range waiting {
		errs = append(errs, p.Store.PostponePreparation(ctx, ids, wait))
	}
	for f, ids := range failed {
		errs = append(errs, p.Store.FailPreparation(ctx, ids, f.reason, f.detail))
	}
	return errors.Join(errs...)
}

// MediaUse returns the job that notes which uploads Plivo keeps for longer, because it has
// accepted a message with them.
func MediaUse(markUsed func(context.Context) error) Job {
	return Job{Name: "media use", Interval: time.Minute, Run: markUsed}
}

// backoff has the waits of hosts and of Plivo, which grow while they fail. They are kept in
// memory: after a restart, the first wait is short again.
type backoff struct {
	mu       sync.Mutex
	failures map[string]int
}

const (
	minPreparationWait = 5 * time.Second
	maxPreparationWait = 5 * time.Minute
	maxUploadWait      = time.Minute // as for messages while Plivo cannot be reached
	maxBackoffs        = 10_000
)

// grow returns how long to wait after another failure of the name.
func (b *backoff) grow(name string, most time.Duration) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.failures) >= maxBackoffs {
		clear(b.failures)
	}
	wait := min(minPreparationWait<<min(b.failures[name], 10), most)
	b.failures[name]++
	return wait
}

func (b *backoff) reset(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.failures, name)
}
