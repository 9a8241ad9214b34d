package maintenance

import (
	"context"
	"time"

	"github.com/postcard-mms/postcard/internal/webhook"
)

// EventRelayQueue adds tasks of webhook events to the queue.
type EventRelayQueue interface {
	EnqueueWebhook(ctx context.Context, t webhook.Task) error
}

// EventRelay returns the job that gives every pending webhook event a task. take
// returns the tasks of up to limit events that have none, or may have lost
// theirs; an event whose task could not be enqueued is returned again later.
func EventRelay(take func(ctx context.Context, limit int) ([]webhook.Task, error), queue EventRelayQueue) Job {
	return Job{Name: "webhook event relay", Interval: 500 * time.Millisecond, Run: func(ctx context.Context) error {
		return untilShortBatch(func() (int, error) {
			tasks, err := take(ctx, batchSize)
			if err != nil {
				return 0, err
			}
			for _, task := range tasks {
				if err := queue.EnqueueWebhook(ctx, task); err != nil {
					return 0, err
				}
			}
			return len(tasks), nil
		})
	}}
}
