package worker

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"postcard/internal/mms"
)

// batch is how many rows a caretaker takes at a time.
const batch = 500

// Relay sees to it that every queued message has a task: it enqueues those
// whose task is missing because Redis was away, or has lost it, or holds one
// that will never run. Any number of relays may run side by side.
type Relay struct {
	Store  RelayStore
	Queue  RelayQueue
	Logger *slog.Logger
}

// RelayStore hands out queued messages whose task has to be looked at.
type RelayStore interface {
	TakeForRelay(ctx context.Context, limit int) ([]mms.RelayItem, error)
	NextGeneration(ctx context.Context, t mms.Task) (bool, error)
	NoteRelayed(ctx context.Context, id uuid.UUID) error
}

// RelayQueue is the queue as the relay sees it.
type RelayQueue interface {
	Ping(ctx context.Context) error
	Ensure(ctx context.Context, item mms.RelayItem) (mms.TaskState, error)
}

// Sweep looks after all messages whose time for a look has come. While the
// queue is away it takes none, so that all come up at once when it is back.
func (r *Relay) Sweep(ctx context.Context) error {
	for {
		if err := r.Queue.Ping(ctx); err != nil {
			return err
		}
		items, err := r.Store.TakeForRelay(ctx, batch)
		if err != nil {
			return err
		}
		for _, item := range items {
			if err := r.look(ctx, item); err != nil {
				return err
			}
		}
		if len(items) < batch {
			return nil
		}
	}
}

func (r *Relay) look(ctx context.Context, item mms.RelayItem) error {
	state, err := r.Queue.Ensure(ctx, item)
	if err != nil {
		return err
	}
	if state == mms.TaskStuck {
		moved, err := r.Store.NextGeneration(ctx, item.Task)
		if err != nil || !moved {
			return err
		}
		item.Task.Generation++
		if state, err = r.Queue.Ensure(ctx, item); err != nil {
			return err
		}
	}
	if state != mms.TaskAdded {
		return nil
	}
	r.Logger.InfoContext(ctx, "message put back into the queue", slog.Any("message_id", item.Task.MessageID))
	return r.Store.NoteRelayed(ctx, item.Task.MessageID)
}

// Lapses puts messages in doubt whose worker was lost in the middle of an
// attempt.
type Lapses struct {
	Store  LapseStore
	Logger *slog.Logger
}

// LapseStore finds attempts whose lease is over.
type LapseStore interface {
	DoubtLapsed(ctx context.Context, limit int) (int, error)
}

// Sweep looks after all attempts whose lease is over.
func (l *Lapses) Sweep(ctx context.Context) error {
	for {
		n, err := l.Store.DoubtLapsed(ctx, batch)
		if err != nil {
			return err
		}
		if n > 0 {
			l.Logger.WarnContext(ctx, "attempts lost their worker; their messages are in doubt", slog.Int("messages", n))
		}
		if n < batch {
			return nil
		}
	}
}

// Every calls sweep at once and then at each interval, until ctx ends. A
// failure is logged when it begins and when it is over, not each time.
func Every(ctx context.Context, name string, interval time.Duration, logger *slog.Logger, sweep func(context.Context) error) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	failing := false
	for {
		err := sweep(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil && !failing {
			logger.WarnContext(ctx, fmt.Sprintf("the %s cannot work at present", name), slog.Any("error", err))
		}
		if err == nil && failing {
			logger.InfoContext(ctx, fmt.Sprintf("the %s works again", name))
		}
		failing = err != nil
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}
