// Package intake takes messages on: it checks a draft, commits the message,
// and only then tells the queue. It knows neither HTTP nor SQL.
package intake

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/failpoint"
	"github.com/postcard-mms/postcard/internal/mms"
)

// Store keeps messages. Accept returns once the message is on disk, or
// mms.CapError, mms.ErrKeyReused or mms.ErrInFlight.
type Store interface {
	CreateMessage(ctx context.Context, o mms.CreateRequest) (mms.CreateResult, error)
	CreateBatch(ctx context.Context, o mms.BatchRequest, fill mms.Fill) (mms.BatchResult, error)
	Message(ctx context.Context, owner, id uuid.UUID) (mms.History, error)
	Forecast(ctx context.Context, m mms.Message) (mms.Forecast, error)
	Now(ctx context.Context) (time.Time, error)
}

// Queue hands out messages to workers.
type Queue interface {
	Enqueue(ctx context.Context, t mms.Task) error
}

// Intake accepts messages.
type Intake struct {
	Rules    mms.Rules
	DailyCap int // messages a day, UTC, of a user without a cap of their own; 0: none
	Store    Store
	Queue    Queue
	Logger   *slog.Logger
}

// enqueueTimeout is how long an accepted message waits for Redis before it is
// left to the relay: the person who sent it should not wait for a dead server.
const enqueueTimeout = 300 * time.Millisecond

// CreateMessage takes a message on. When it returns without an error the message is
// committed, whatever happens to Redis afterwards. Faults of the draft come back
// as invalid.Fields.
func (in *Intake) CreateMessage(ctx context.Context, by mms.Submitter, d mms.CreateParams) (mms.CreateResult, error) {
	return in.create(ctx, by, d, uuid.Nil)
}

// Resend takes on a new message that says the same as an earlier one of the
// author's, whose story has to be over: else mms.ErrNotOver.
func (in *Intake) Resend(ctx context.Context, by mms.Submitter, id uuid.UUID, i mms.Idempotency) (mms.CreateResult, error) {
	old, err := in.Store.Message(ctx, by.User, id)
	if err != nil {
		return mms.CreateResult{}, err
	}
	if !old.Final() && old.Status != mms.Sent {
		return mms.CreateResult{}, mms.ErrNotFinal
	}
	draft := mms.CreateParams{
		To: string(old.Recipient), Text: old.Text, MediaURLs: old.MediaURLs, Priority: old.Priority.String(), Metadata: old.Metadata, Idempotency: i,
	}
	if slices.Contains(in.Rules.Senders, old.Sender) {
		draft.From = string(old.Sender)
	}
	return in.create(ctx, by, draft, old.ID)
}

func (in *Intake) create(ctx context.Context, by mms.Submitter, d mms.CreateParams, resendOf uuid.UUID) (mms.CreateResult, error) {
	message, err := in.validate(ctx, by, d)
	if err != nil {
		return mms.CreateResult{}, err
	}
	message.ResendOf = resendOf
	order := mms.CreateRequest{Message: message, Caps: by.Caps(in.DailyCap), Idempotency: d.Idempotency}
	failpoint.Hit(failpoint.APIBeforeCommit)
	taken, err := in.store(ctx, order)
	if err != nil {
		return mms.CreateResult{}, fmt.Errorf("storing a message: %w", err)
	}
	failpoint.Hit(failpoint.APICommitted)
	if !taken.Replayed && taken.Status == mms.Queued {
		in.enqueue(ctx, mms.Task{MessageID: taken.ID, Generation: 1, Priority: taken.Priority})
	}
	failpoint.Hit(failpoint.APIEnqueued)
	return taken, nil
}

// Forecast says what would become of a draft, and stores nothing.
func (in *Intake) Forecast(ctx context.Context, by mms.Submitter, d mms.CreateParams) (mms.Forecast, error) {
	message, err := in.validate(ctx, by, d)
	if err != nil {
		return mms.Forecast{}, err
	}
	return in.Store.Forecast(ctx, message)
}

func (in *Intake) validate(ctx context.Context, by mms.Submitter, d mms.CreateParams) (mms.Message, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return mms.Message{}, fmt.Errorf("making a message id: %w", err)
	}
	now, err := in.now(ctx, d)
	if err != nil {
		return mms.Message{}, err
	}
	message, err := in.Rules.Validate(d, id, by.User, now)
	message.KeyID = by.Key
	return message, err
}

// now is the database's time, asked for where the draft is to be held against it.
func (in *Intake) now(ctx context.Context, d mms.CreateParams) (time.Time, error) {
	if d.SendAt == "" {
		return time.Time{}, nil
	}
	return in.Store.Now(ctx)
}

// store tries a few times while the database is away: the answer to an earlier
// try may have been lost, and a client that is told to try again would send a
// second message.
func (in *Intake) store(ctx context.Context, o mms.CreateRequest) (mms.CreateResult, error) {
	for _, wait := range retryDelays {
		stored, err := in.Store.CreateMessage(ctx, o)
		if !errors.Is(err, mms.ErrUnavailable) {
			return stored, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return mms.CreateResult{}, err
		}
	}
	return in.Store.CreateMessage(ctx, o)
}

// retryDelays are the times between tries to store a message.
var retryDelays = []time.Duration{100 * time.Millisecond, 400 * time.Millisecond, time.Second}

// enqueue goes on although the client may have gone: the message is accepted.
func (in *Intake) enqueue(ctx context.Context, t mms.Task) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), enqueueTimeout)
	defer cancel()
	if err := in.Queue.Enqueue(ctx, t); err != nil {
		in.Logger.WarnContext(ctx, "message stored but not enqueued; the relay will do it",
			slog.Any("message_id", t.MessageID), slog.Any("error", err))
	}
}
