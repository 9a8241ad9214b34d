// Package intake creates messages: it validates what was submitted, stores the
// message, and then enqueues its task. It knows neither HTTP nor SQL.
package intake

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/failpoint"
	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/mms"
)

// Store stores messages. CreateMessage and BatchWriter.Commit return once the data is
// on disk; they and BeginBatch return mms.CapError, mms.ErrKeyReused or
// mms.ErrInFlight for requests that must not create anything. An error is
// mms.OutcomeUnknownError if the data may be stored all the same.
type Store interface {
	CreateMessage(ctx context.Context, request mms.CreateRequest) (mms.CreateResult, error)

	// BeginBatch returns a result instead of a writer when the batch has been created
	// before, under the same idempotency key.
	BeginBatch(ctx context.Context, request mms.BatchRequest) (mms.BatchWriter, *mms.BatchResult, error)

	// MessageCreatedUnder and BatchCreatedUnder return what was created under an idempotency
	// key. They return mms.ErrNotFound or mms.ErrBatchNotFound if nothing was,
	// mms.ErrKeyReused if a different request has the key, and mms.ErrInFlight while one is in
	// progress.
	MessageCreatedUnder(ctx context.Context, workspace uuid.UUID, idempotency mms.Idempotency) (mms.CreateResult, error)
	BatchCreatedUnder(ctx context.Context, workspace uuid.UUID, idempotency mms.Idempotency) (mms.BatchResult, error)

	Message(ctx context.Context, workspace, id uuid.UUID) (mms.History, error)
	Forecast(ctx context.Context, m mms.Message, candidates []mms.PhoneNumber) (mms.Forecast, error)
	Now(ctx context.Context) (time.Time, error)
}

// Uploads finds out what messages send of uploads. Resolve returns invalid.Fields for ids
// that cannot be used.
type Uploads interface {
	Resolve(ctx context.Context, workspace uuid.UUID, ids []uuid.UUID, fit mms.Fit) ([]mms.MessageUpload, error)
}

// Queue passes tasks to workers.
type Queue interface {
	Enqueue(ctx context.Context, t mms.Task) error
}

// Senders knows the senders of the moment: all of them, and those that do not rest.
type Senders interface {
	All() []mms.PhoneNumber
	Active() []mms.PhoneNumber
}

// Intake creates messages and batches.
type Intake struct {
	Rules    mms.Rules
	Senders  Senders // nil: those of Rules, which never change
	DailyCap int     // messages per UTC day of a workspace without a cap of its own; 0: unlimited
	Store    Store
	Queue    Queue
	Uploads  Uploads
	IDs      *IDs
	Logger   *slog.Logger
}

// rules returns the rules of the moment.
func (in *Intake) rules() mms.Rules {
	rules := in.Rules
	if in.Senders != nil {
		rules.Senders, rules.Resting = in.Senders.Active(), in.Senders.All()
	}
	return rules
}

// enqueueTimeout bounds how long a request waits for Redis after its message is
// stored. The task relay enqueues what is left.
const enqueueTimeout = 300 * time.Millisecond

// CreateMessage creates a message. When it returns without an error, the message is
// committed and will be sent even if Redis is unavailable. It returns violations of
// params as invalid.Fields. If the database is unavailable, the error is
// mms.ErrNotStored, or mms.OutcomeUnknownError when the message may be stored.
func (in *Intake) CreateMessage(ctx context.Context, by mms.Submitter, params mms.CreateParams) (mms.CreateResult, error) {
	return in.create(ctx, by, params, uuid.Nil)
}

// Resend creates a new message with the content and the options of an earlier message of
// the submitter, to be sent immediately. It returns mms.ErrNotFinal unless the earlier
// message is sent or final.
func (in *Intake) Resend(ctx context.Context, by mms.Submitter, id uuid.UUID, idempotency mms.Idempotency) (mms.CreateResult, error) {
	old, err := in.Store.Message(ctx, by.Workspace, id)
	if err != nil {
		return mms.CreateResult{}, notStored(err)
	}
	if !old.Final() && old.Status != mms.Sent {
		return mms.CreateResult{}, mms.ErrNotFinal
	}
	params := mms.CreateParams{
		To: string(old.Recipient), Text: old.Text, MediaURLs: old.MediaURLs, Uploads: old.Uploads, Fit: string(old.Fit), Priority: old.Priority.String(), Metadata: old.Metadata, Idempotency: idempotency,
		ValidFor: validForOf(old.Message),
	}
	if slices.Contains(in.rules().Senders, old.Sender) {
		params.From = string(old.Sender)
	}
	return in.create(ctx, by, params, old.ID)
}

// validForOf returns the validFor of a message in seconds, or nil if it is shorter than the
// minimum.
func validForOf(m mms.Message) *int {
	start := m.CreatedAt
	if m.SendAt != nil {
		start = *m.SendAt
	}
	seconds := int(math.Round(min(m.ExpiresAt.Sub(start), mms.MaxValidFor).Seconds()))
	if seconds < int(mms.MinValidFor.Seconds()) {
		return nil
	}
	return &seconds
}

func (in *Intake) create(ctx context.Context, by mms.Submitter, params mms.CreateParams, resendOf uuid.UUID) (mms.CreateResult, error) {
	message, err := in.validate(ctx, by, params)
	if err != nil {
		replayed, err := in.replayMessage(ctx, by, params.Idempotency, err)
		return replayed, notStored(err)
	}
	message.ResendOf = resendOf
	request := mms.CreateRequest{Message: message, Candidates: in.rules().Candidates(params.From), Caps: by.Caps(in.DailyCap), Idempotency: params.Idempotency}
	failpoint.Hit(failpoint.APIBeforeCommit)
	result, err := in.store(ctx, request)
	if err != nil {
		return mms.CreateResult{}, notStored(fmt.Errorf("storing a message: %w", err))
	}
	failpoint.Hit(failpoint.APICommitted)
	if !result.Replayed && result.Status == mms.Queued && !result.Preparing {
		in.enqueue(ctx, mms.Task{MessageID: result.ID, Generation: 1, Priority: result.Priority})
	}
	failpoint.Hit(failpoint.APIEnqueued)
	return result, nil
}

// Forecast predicts when a message would be sent and what it would cost. It stores
// nothing.
func (in *Intake) Forecast(ctx context.Context, by mms.Submitter, params mms.CreateParams) (mms.Forecast, error) {
	message, err := in.validate(ctx, by, params)
	if err != nil {
		return mms.Forecast{}, notStored(err)
	}
	forecast, err := in.Store.Forecast(ctx, message, in.rules().Candidates(params.From))
	return forecast, notStored(err)
}

func (in *Intake) validate(ctx context.Context, by mms.Submitter, params mms.CreateParams) (mms.Message, error) {
	id, err := in.IDs.next()
	if err != nil {
		return mms.Message{}, err
	}
	now, err := in.now(ctx, params)
	if err != nil {
		return mms.Message{}, err
	}
	message, err := in.rules().Validate(params, id, by.Workspace, now)
	if err != nil {
		return mms.Message{}, err
	}
	message.KeyID, message.CreatedBy = by.Key, by.User
	if len(params.MediaIDs) > 0 {
		var uploads []mms.MessageUpload
		uploads, err = in.resolve(ctx, by.Workspace, params.MediaIDs, message.Fit)
		message.Uploads = append(slices.Clip(message.Uploads), uploads...)
	}
	return message, err
}

// resolve returns what a message sends of uploads whose ids are valid.
func (in *Intake) resolve(ctx context.Context, workspace uuid.UUID, mediaIDs []string, fit mms.Fit) ([]mms.MessageUpload, error) {
	uploads, err := in.Uploads.Resolve(ctx, workspace, mms.ParseMediaIDs(mediaIDs, new(invalid.Fields)), fit)
	if err != nil {
		return nil, fmt.Errorf("looking up uploads: %w", err)
	}
	return uploads, nil
}

// now returns the database's time if params have a time to compare it with, and the
// zero time otherwise.
func (in *Intake) now(ctx context.Context, params mms.CreateParams) (time.Time, error) {
	if params.SendAt == "" {
		return time.Time{}, nil
	}
	return in.Store.Now(ctx)
}

// store retries while the database is unavailable and ctx leaves enough time.
// CreateMessage is idempotent, so a retry also finds out whether an attempt whose
// outcome is unknown has stored the message. Once there was such an attempt, any
// other error is no proof that the message is not stored.
func (in *Intake) store(ctx context.Context, request mms.CreateRequest) (mms.CreateResult, error) {
	var unknown mms.OutcomeUnknownError
	for attempt := 0; ; attempt++ {
		result, err := in.Store.CreateMessage(ctx, request)
		if err == nil {
			return result, nil
		}
		mayBeStored := errors.As(err, &unknown) || unknown.ID != uuid.Nil
		if errors.Is(err, mms.ErrUnavailable) && attempt < len(retryDelays) && pause(ctx, retryDelays[attempt]) {
			continue
		}
		if mayBeStored {
			return mms.CreateResult{}, mms.OutcomeUnknownError{ID: request.ID, Err: err}
		}
		return mms.CreateResult{}, err
	}
}

// retryDelays are the average delays between attempts to store a message.
var retryDelays = []time.Duration{100 * time.Millisecond, 400 * time.Millisecond, time.Second}

// minAttempt is the time that an attempt to store a message may take (see createTimeout of
// package postgres). With less, the deadline could end the attempt before its outcome is
// known.
const minAttempt = 3 * time.Second

// pause waits for about delay, jittered so that many requests do not retry at the same
// moment. It reports false at once when ctx leaves no time for an attempt after that.
func pause(ctx context.Context, delay time.Duration) bool {
	delay = delay/2 + rand.N(delay)
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < delay+minAttempt {
		return false
	}
	select {
	case <-time.After(delay):
		return true
	case <-ctx.Done():
		return false
	}
}

// notStored adds mms.ErrNotStored to an error of an unavailable database whose outcome
// is known.
func notStored(err error) error {
	var unknown mms.OutcomeUnknownError
	if !errors.Is(err, mms.ErrUnavailable) || errors.As(err, &unknown) {
		return err
	}
	return fmt.Errorf("%w: %w", mms.ErrNotStored, err)
}

// enqueue enqueues a committed message's task, even if the client has gone away.
func (in *Intake) enqueue(ctx context.Context, t mms.Task) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), enqueueTimeout)
	defer cancel()
	if err := in.Queue.Enqueue(ctx, t); err != nil {
		in.Logger.WarnContext(ctx, "could not enqueue a stored message; the task relay will",
			slog.Any("message_id", t.MessageID), slog.Any("error", err))
	}
}
