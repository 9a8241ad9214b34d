package maintenance

import (
	"context"
	"time"

	"github.com/postcard-mms/postcard/internal/webhook"
)

// WebhookEventStore releases webhook events and fails those that will not be delivered.
type WebhookEventStore interface {
	ReleaseWebhookEvents(ctx context.Context, limit int) ([]webhook.Task, error)
	FailEventsOfDisabledWebhooks(ctx context.Context, limit int) (int, error)
}

// WebhookEventRelay returns the job that gives due webhook events their tasks, as far as
// their webhooks have slots, and fails the events of disabled webhooks. An event whose
// task could not be enqueued is released again later.
func WebhookEventRelay(store WebhookEventStore, enqueue func(context.Context, webhook.Task) error) Job {
	return Job{Name: "webhook event relay", Interval: 500 * time.Millisecond, Run: func(ctx context.Context) error {
		if err := untilShortBatch(func() (int, error) { return releaseWebhookEvents(ctx, store, enqueue) }); err != nil {
			return err
		}
		return untilShortBatch(func() (int, error) { return store.FailEventsOfDisabledWebhooks(ctx, batchSize) })
	}}
}

func releaseWebhookEvents(ctx context.Context, store WebhookEventStore, enqueue func(context.Context, webhook.Task) error) (int, error) {
	tasks, err := store.ReleaseWebhookEvents(ctx, batchSize)
	if err != nil {
		return 0, err
	}
	for _, task := range tasks {
		if err := enqueue(ctx, task); err != nil {
			return 0, err
		}
	}
	return len(tasks), nil
}
