package notify

import (
	"context"

	"postcard/internal/mms"
)

// Relay sees to it that every pending event has a task. Any number of relays may
// run side by side.
type Relay struct {
	Store RelayStore
	Queue Queue
}

// RelayStore returns the tasks of up to limit events that have none, or may have
// lost theirs.
type RelayStore interface {
	TakeWebhookEvents(ctx context.Context, limit int) ([]mms.WebhookTask, error)
}

// Queue puts tasks into the queue.
type Queue interface {
	EnqueueWebhook(ctx context.Context, t mms.WebhookTask) error
}

const relayedAtOnce = 500

// Sweep enqueues the tasks of all events that have none. What cannot be enqueued
// comes up again.
func (r Relay) Sweep(ctx context.Context) error {
	for {
		tasks, err := r.Store.TakeWebhookEvents(ctx, relayedAtOnce)
		if err != nil {
			return err
		}
		for _, task := range tasks {
			if err := r.Queue.EnqueueWebhook(ctx, task); err != nil {
				return err
			}
		}
		if len(tasks) < relayedAtOnce {
			return nil
		}
	}
}
