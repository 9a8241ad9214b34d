package maintenance

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/webhook"
)

// fakeEvents is a WebhookEventStore.
type fakeEvents struct {
	release func() ([]webhook.Task, error)
	fail    func() (int, error)
}

func (f fakeEvents) ReleaseWebhookEvents(context.Context, int) ([]webhook.Task, error) {
	return f.release()
}

func (f fakeEvents) FailEventsOfDisabledWebhooks(context.Context, int) (int, error) {
	return f.fail()
}

func TestEventRelayWorksUntilAShortBatch(t *testing.T) {
	t.Parallel()
	task := webhook.Task{EventID: uuid.UUID{15: 1}, Generation: 1}
	next, enqueued := batches(t, batchSize, 2), 0
	job := WebhookEventRelay(fakeEvents{release: func() ([]webhook.Task, error) {
		n, err := next()
		return slices.Repeat([]webhook.Task{task}, n), err
	}, fail: batches(t, batchSize, 2)}, func(_ context.Context, got webhook.Task) error {
		if got != task {
			t.Errorf("enqueued %v, want %v", got, task)
		}
		enqueued++
		return nil
	})
	runOnce(t, job)
	if enqueued != batchSize+2 {
		t.Errorf("got %d tasks enqueued, want %d", enqueued, batchSize+2)
	}
}

func TestEventRelayStopsWhenQueueIsDown(t *testing.T) {
	t.Parallel()
	job := WebhookEventRelay(fakeEvents{release: func() ([]webhook.Task, error) { return make([]webhook.Task, batchSize), nil }},
		func(context.Context, webhook.Task) error { return errQueueDown })
	if err := job.Run(t.Context()); !errors.Is(err, errQueueDown) {
		t.Errorf("Run() = %v, want %v", err, errQueueDown)
	}
}
