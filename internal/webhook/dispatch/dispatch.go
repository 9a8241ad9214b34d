// Package dispatch delivers events to users' webhooks: it signs an event, makes one
// call, and records the result. The store releases it again for a retry.
//
// It must not follow redirects, nor call private addresses unless configured to.
package dispatch

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/webhook"
)

// Store stores events.
type Store interface {
	// ClaimWebhookEvent claims a released event for the duration lease and counts an
	// attempt. It returns false if there is nothing to deliver, and for an event of a
	// slow endpoint unless maySlow is true.
	ClaimWebhookEvent(ctx context.Context, id uuid.UUID, lease time.Duration, maySlow bool) (webhook.Delivery, bool, error)

	// MarkWebhookSlow marks the endpoint as slow. Its events that wait for a slot then
	// wait for a slot for slow endpoints.
	MarkWebhookSlow(ctx context.Context, webhookID uuid.UUID) error

	// RecordWebhookDelivery records the result of a delivery, and releases the next
	// events of the endpoint. The event is due again after retryAfter; nil means no
	// retry.
	RecordWebhookDelivery(ctx context.Context, d webhook.Delivery, result webhook.DeliveryResult, retryAfter *time.Duration) ([]webhook.Task, error)
}

// Deliverer delivers events. Its methods may be called concurrently.
//
// The store limits how many calls an endpoint gets at a time: it releases only as many of
// its events. A call occupies a slot of Process for at most webhook.Patience: one
// that takes longer goes on without a slot, and the endpoint's next events are delivered
// by ProcessSlow. So endpoints that stop answering, however many, do not delay the
// others' events.
type Deliverer struct {
	Store   Store
	Client  *Client
	Enqueue func(context.Context, webhook.Task) error
	Jitter  func() float64 // in [0,1]
	Logger  *slog.Logger

	calls sync.WaitGroup
}

const (
	// lease bounds one delivery, including its database statements. If the process
	// is killed, the delivery is repeated after the lease.
	lease = callTimeout + 20*time.Second

	// turn is how long an endpoint that answers keeps a slot while it has more events.
	// Without it each event would cost a round trip through Redis; a long one would let
	// busy endpoints delay the others.
	turn = 100 * time.Millisecond

	storeRetryDelay = 5 * time.Second // after a database error
)

// Process delivers an event if it is due and its endpoint is not slow, and then more
// events of the endpoint until its turn is over. It returns at most webhook.Patience
// later, even if a call has not ended.
func (d *Deliverer) Process(ctx context.Context, id uuid.UUID) mms.TaskResult {
	detached := context.WithoutCancel(ctx) // ctx ends when Process returns
	for started := time.Now(); ; {
		delivery, claimed, err := d.Store.ClaimWebhookEvent(ctx, id, lease, false)
		if err != nil || !claimed {
			return d.handleUnclaimed(ctx, id, err)
		}
		next := make(chan []webhook.Task, 1)
		d.calls.Go(func() { next <- d.deliver(detached, delivery) })
		select {
		case tasks := <-next:
			if len(tasks) == 0 || tasks[0].Slow || time.Since(started) > turn {
				d.enqueue(ctx, tasks)
				return mms.TaskResult{Action: mms.TaskDone}
			}
			id = tasks[0].EventID
			d.enqueue(ctx, tasks[1:])
		case <-time.After(webhook.Patience):
			d.calls.Go(func() { d.enqueue(detached, <-next) })
			d.markSlow(ctx, delivery.WebhookID)
			return mms.TaskResult{Action: mms.TaskDone}
		}
	}
}

func (d *Deliverer) markSlow(ctx context.Context, webhookID uuid.UUID) {
	if err := d.Store.MarkWebhookSlow(ctx, webhookID); err != nil {
		d.Logger.ErrorContext(ctx, "a webhook was not marked as slow", slog.Any("webhook_id", webhookID), slog.Any("error", err))
	}
}

// ProcessSlow delivers one event if it is due. It returns when the delivery has ended.
func (d *Deliverer) ProcessSlow(ctx context.Context, id uuid.UUID) mms.TaskResult {
	delivery, claimed, err := d.Store.ClaimWebhookEvent(ctx, id, lease, true)
	if err != nil || !claimed {
		return d.handleUnclaimed(ctx, id, err)
	}
	d.enqueue(ctx, d.deliver(ctx, delivery))
	return mms.TaskResult{Action: mms.TaskDone}
}

// Wait waits for the calls that have taken longer than webhook.Patience, up to limit.
// Process and ProcessSlow must not be called any more.
func (d *Deliverer) Wait(limit time.Duration) {
	ended := make(chan struct{})
	go func() { d.calls.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(limit):
	}
}

func (d *Deliverer) handleUnclaimed(ctx context.Context, id uuid.UUID, err error) mms.TaskResult {
	if err == nil { // the store releases the event again if it has to be delivered
		return mms.TaskResult{Action: mms.TaskDone}
	}
	d.Logger.ErrorContext(ctx, "webhook event postponed", slog.Any("event_id", id), slog.Any("error", err))
	return mms.TaskResult{Action: mms.TaskPostpone, Wait: storeRetryDelay}
}

// deliver makes one call, records its result and returns the endpoint's next events. If
// the result cannot be recorded, the event is delivered again after its lease.
func (d *Deliverer) deliver(ctx context.Context, delivery webhook.Delivery) []webhook.Task {
	started := time.Now()
	result := d.call(ctx, delivery)
	result.Quick = time.Since(started) < webhook.Patience
	next, err := d.Store.RecordWebhookDelivery(ctx, delivery, result, d.retryAfter(delivery, result))
	if err != nil {
		d.Logger.ErrorContext(ctx, "a webhook delivery was not recorded", slog.Any("event_id", delivery.ID), slog.Any("error", err))
	}
	return next
}

func (d *Deliverer) enqueue(ctx context.Context, tasks []webhook.Task) {
	for _, task := range tasks {
		if err := d.Enqueue(ctx, task); err != nil { // the event relay enqueues it later
			d.Logger.WarnContext(ctx, "a webhook event was not enqueued", slog.Any("event_id", task.EventID), slog.Any("error", err))
		}
	}
}

// retryAfter returns when to retry after the result; nil for never.
func (d *Deliverer) retryAfter(delivery webhook.Delivery, result webhook.DeliveryResult) *time.Duration {
	wait, retry := webhook.NextRetry(delivery.Attempts, d.Jitter(), result.RetryAfter)
	if !retry || result.OK || result.Gone() {
		return nil
	}
	return &wait
}

// call makes one call. Every failure is part of the result.
func (d *Deliverer) call(ctx context.Context, delivery webhook.Delivery) webhook.DeliveryResult {
	body, err := json.Marshal(delivery.Payload())
	if err != nil {
		return d.uncallable(ctx, delivery, fmt.Errorf("encoding a webhook event: %w", err))
	}
	signature, err := sign(delivery, body)
	if err != nil {
		return d.uncallable(ctx, delivery, err)
	}
	return d.Client.post(ctx, delivery, signature, body)
}

// uncallable returns the result for an event that cannot be sent because of a fault of
// ours. It counts as a failure, so that the event does not come back for ever.
func (d *Deliverer) uncallable(ctx context.Context, delivery webhook.Delivery, err error) webhook.DeliveryResult {
	d.Logger.ErrorContext(ctx, "a webhook event cannot be sent", slog.Any("event_id", delivery.ID), slog.Any("error", err))
	return webhook.DeliveryResult{Error: "The event could not be prepared for sending. This is a fault of Postcard."}
}
