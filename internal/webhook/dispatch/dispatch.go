// Package dispatch delivers events to users' webhooks: it signs an event, makes one
// call, and records the result. The queue runs it again for a retry.
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
	// ClaimWebhookEvent claims a due event for the duration lease and counts an attempt. It
	// returns false if the event is not due, not pending, or its webhook is disabled.
	ClaimWebhookEvent(ctx context.Context, id uuid.UUID, lease time.Duration) (webhook.Delivery, bool, error)

	// WebhookEventDue returns how long it is until a pending event is due. pending is
	// false if it will not be delivered any more.
	WebhookEventDue(ctx context.Context, id uuid.UUID) (wait time.Duration, pending bool, err error)

	// PostponeWebhookEvent gives a claimed event back without an attempt.
	PostponeWebhookEvent(ctx context.Context, d webhook.Delivery, wait time.Duration) error

	// RecordWebhookDelivery records the result of a delivery. The event is due
	// again after retryAfter; nil means no retry.
	RecordWebhookDelivery(ctx context.Context, d webhook.Delivery, result webhook.DeliveryResult, retryAfter *time.Duration) error
}

// Deliverer delivers events. Its methods may be called concurrently.
type Deliverer struct {
	Store  Store
	Client *Client
	Jitter func() float64 // in [0,1]
	Logger *slog.Logger

	mu     sync.Mutex
	active map[uuid.UUID]int // calls in progress, by webhook
}

const (
	// lease bounds one delivery, including its database statements. If the process
	// is killed, the delivery is repeated after the lease.
	lease = callTimeout + 20*time.Second

	// These limits keep a slow or failing webhook from delaying the others.
	maxConcurrentCalls        = 4 // per webhook and process
	maxConcurrentWhileFailing = 1

	busyRetryDelay       = time.Second     // while the webhook is at its limit
	storeRetryDelay      = 5 * time.Second // after a database error
	reasonDeliveryFailed = mms.Reason("webhook_failed")
)

// Process delivers one event if it is due.
func (d *Deliverer) Process(ctx context.Context, id uuid.UUID) mms.TaskResult {
	delivery, claimed, err := d.Store.ClaimWebhookEvent(ctx, id, lease)
	switch {
	case err != nil:
		return d.postpone(ctx, id, err)
	case !claimed:
		return d.handleUnclaimed(ctx, id)
	}
	if !d.begin(delivery) {
		if err := d.Store.PostponeWebhookEvent(ctx, delivery, busyRetryDelay); err != nil {
			return d.postpone(ctx, id, err)
		}
		return mms.TaskResult{Action: mms.TaskPostpone, Wait: busyRetryDelay}
	}
	defer d.end(delivery.WebhookID)
	result, err := d.deliver(ctx, delivery)
	if err != nil {
		return d.postpone(ctx, id, err)
	}
	retryAfter := d.retryAfter(delivery, result)
	if err := d.Store.RecordWebhookDelivery(ctx, delivery, result, retryAfter); err != nil {
		return d.postpone(ctx, id, err)
	}
	switch {
	case result.OK:
		return mms.TaskResult{Action: mms.TaskDone}
	case retryAfter != nil:
		return mms.TaskResult{Action: mms.TaskRetry, Wait: *retryAfter, Reason: reasonDeliveryFailed}
	}
	return mms.TaskResult{Action: mms.TaskFail, Reason: reasonDeliveryFailed}
}

// handleUnclaimed postpones a task that ran before its event was due, which
// happens because the queue counts in whole seconds.
func (d *Deliverer) handleUnclaimed(ctx context.Context, id uuid.UUID) mms.TaskResult {
	wait, pending, err := d.Store.WebhookEventDue(ctx, id)
	switch {
	case err != nil:
		return d.postpone(ctx, id, err)
	case !pending:
		return mms.TaskResult{Action: mms.TaskDone}
	}
	return mms.TaskResult{Action: mms.TaskPostpone, Wait: wait}
}

// retryAfter returns when to retry after the result; nil for never.
func (d *Deliverer) retryAfter(delivery webhook.Delivery, result webhook.DeliveryResult) *time.Duration {
	wait, retry := webhook.NextRetry(delivery.Attempts, d.Jitter())
	if !retry || result.OK || result.Gone() {
		return nil
	}
	return &wait
}

// begin reserves a call of the webhook. It returns false if the webhook is at its
// limit.
func (d *Deliverer) begin(delivery webhook.Delivery) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	limit := maxConcurrentCalls
	if delivery.Failing {
		limit = maxConcurrentWhileFailing
	}
	if d.active[delivery.WebhookID] >= limit {
		return false
	}
	if d.active == nil {
		d.active = map[uuid.UUID]int{}
	}
	d.active[delivery.WebhookID]++
	return true
}

func (d *Deliverer) end(webhookID uuid.UUID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.active[webhookID]--; d.active[webhookID] == 0 {
		delete(d.active, webhookID)
	}
}

func (d *Deliverer) postpone(ctx context.Context, id uuid.UUID, err error) mms.TaskResult {
	d.Logger.ErrorContext(ctx, "webhook event postponed", slog.Any("event_id", id), slog.Any("error", err))
	return mms.TaskResult{Action: mms.TaskPostpone, Wait: storeRetryDelay}
}

// deliver makes one call. An error means that the call could not be made.
func (d *Deliverer) deliver(ctx context.Context, delivery webhook.Delivery) (webhook.DeliveryResult, error) {
	body, err := json.Marshal(payloadOf(delivery))
	if err != nil {
		return webhook.DeliveryResult{}, fmt.Errorf("encoding a webhook event: %w", err)
	}
	signature, err := sign(delivery, body)
	if err != nil {
		return webhook.DeliveryResult{}, err
	}
	return d.Client.post(ctx, delivery, signature, body), nil
}

// payload is the request body (Standard Webhooks).
type payload struct {
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"` // when it occurred
	Data      any       `json:"data"`
}

// message is the data of a message event. Its fields are named as in the API's
// Message.
type message struct {
	ID          uuid.UUID         `json:"id"`
	Version     int64             `json:"version"` // grows from event to event of a message
	Status      mms.Status        `json:"status"`
	StatusTitle string            `json:"statusTitle"`
	Explanation string            `json:"explanation"`
	Final       bool              `json:"final"`
	Reason      mms.Reason        `json:"reason,omitempty"`
	PlivoCode   string            `json:"plivoCode,omitempty"`
	PlivoUUID   string            `json:"plivoUuid,omitempty"`
	To          mms.PhoneNumber   `json:"to"`
	From        mms.PhoneNumber   `json:"from"`
	Metadata    map[string]string `json:"metadata,omitempty"`
	BatchID     *uuid.UUID        `json:"batchId,omitempty"`
	ResendOf    *uuid.UUID        `json:"resendOf,omitempty"`
	CreatedAt   time.Time         `json:"createdAt"`
}

func payloadOf(d webhook.Delivery) payload {
	p := payload{Type: d.Type(), Timestamp: d.OccurredAt.UTC(), Data: struct{}{}}
	if d.MessageID == uuid.Nil {
		return p
	}
	m := d.Message
	p.Data = message{
		ID: m.ID, Version: m.Version, Status: m.Status, StatusTitle: m.Status.Title(), Explanation: m.Explain(), Final: m.Final(),
		Reason: m.Reason, PlivoCode: m.PlivoCode, PlivoUUID: m.PlivoUUID, To: m.Recipient, From: m.Sender, Metadata: m.Metadata,
		BatchID: optionalID(m.BatchID), ResendOf: optionalID(m.ResendOf), CreatedAt: m.CreatedAt.UTC(),
	}
	return p
}

func optionalID(id uuid.UUID) *uuid.UUID {
	if id == uuid.Nil {
		return nil
	}
	return &id
}
