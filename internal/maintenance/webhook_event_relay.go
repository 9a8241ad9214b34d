package maintenance

import (
	"context"
	"time"

	"github.com/postcard-mms/postcard/internal/webhook"
)

// WebhookEventRelay returns the job that enqueues a task for every pending webhook
// event. take returns the tasks of up to limit events that have none, or may
// have lost theirs; an event whose task could not be enqueued is returned again
// later.
func WebhookEventRelay(take func(ctx context.Context, limit int) ([]webhook.Task, error), enqueue func(context.Context, webhook.Task) error) Job {
	return Job{Name: "webhook event relay", Interval: 500 * time.Millisecond, Run: func(ctx context.Context) error {
		return untilShortBatch(func() (int, error) {
			tasks, err := take(ctx, batchSize)
			if err != nil {
				return 0, err
			}
			for _, task := range tasks {
				if err := enqueue(ctx, task); err != nil {
					return 0, err
				}
			}
			return len(tasks), nil
		})
	}}
}
