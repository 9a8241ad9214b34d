// Package intake takes messages on: it checks a draft, commits the message,
// and only then tells the queue. It knows neither HTTP nor SQL.
package intake

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"postcard/internal/failpoint"
	"postcard/internal/mms"
)

// Store keeps messages. Accept returns once the message is on disk.
type Store interface {
	Accept(ctx context.Context, m mms.Message) (mms.Message, error)
}

// Queue hands out messages to workers.
type Queue interface {
	Enqueue(ctx context.Context, t mms.Task) error
}

// Intake accepts messages.
type Intake struct {
	Rules  mms.Rules
	Store  Store
	Queue  Queue
	Logger *slog.Logger
}

// enqueueTimeout is how long an accepted message waits for Redis before it is
// left to the relay: the person who sent it should not wait for a dead server.
const enqueueTimeout = 300 * time.Millisecond

// Accept takes a message on for its owner. When it returns without an error
// the message is committed, whatever happens to Redis afterwards. Faults of
// the draft come back as invalid.Fields.
func (in *Intake) Accept(ctx context.Context, owner uuid.UUID, d mms.Draft) (mms.Message, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return mms.Message{}, fmt.Errorf("making a message id: %w", err)
	}
	message, err := in.Rules.Check(d, id, owner)
	if err != nil {
		return mms.Message{}, err
	}
	failpoint.Hit(failpoint.APIBeforeCommit)
	message, err = in.store(ctx, message)
	if err != nil {
		return mms.Message{}, fmt.Errorf("storing a message: %w", err)
	}
	failpoint.Hit(failpoint.APICommitted)
	in.enqueue(ctx, message.ID)
	failpoint.Hit(failpoint.APIEnqueued)
	return message, nil
}

// store tries a few times while the database is away: the answer to an earlier
// try may have been lost, and a client that is told to try again would send a
// second message.
func (in *Intake) store(ctx context.Context, m mms.Message) (mms.Message, error) {
	for _, wait := range storeWaits {
		stored, err := in.Store.Accept(ctx, m)
		if !errors.Is(err, mms.ErrUnavailable) {
			return stored, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return mms.Message{}, err
		}
	}
	return in.Store.Accept(ctx, m)
}

// storeWaits are the times between tries to store a message.
var storeWaits = []time.Duration{100 * time.Millisecond, 400 * time.Millisecond, time.Second}

// enqueue goes on although the client may have gone: the message is accepted.
func (in *Intake) enqueue(ctx context.Context, id uuid.UUID) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), enqueueTimeout)
	defer cancel()
	if err := in.Queue.Enqueue(ctx, mms.Task{MessageID: id, Generation: 1}); err != nil {
		in.Logger.WarnContext(ctx, "message stored but not enqueued; the relay will do it",
			slog.Any("message_id", id), slog.Any("error", err))
	}
}
