// Package notify tells users' webhooks what happens to their messages: it signs
// an event, posts it once per call, and records what came of it. The queue brings
// it back for the next try. It never follows a redirect, and reaches no private
// address unless that is allowed.
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

// Store keeps events. Of ClaimWebhookEvent, false means that there is nothing to
// do (yet).
type Store interface {
	ClaimWebhookEvent(ctx context.Context, id uuid.UUID, lease time.Duration) (webhook.Delivery, bool, error)
	WebhookEventDue(ctx context.Context, id uuid.UUID) (wait time.Duration, pending bool, err error)
	PostponeWebhookEvent(ctx context.Context, t webhook.Delivery, wait time.Duration) error
	RecordWebhookDelivery(ctx context.Context, t webhook.Delivery, told webhook.DeliveryResult, next *time.Duration) error
}

// Dispatcher works on one event at a time per call.
type Dispatcher struct {
	Store  Store
	Client *Client
	Jitter func() float64 // from 0 to 1
	Logger *slog.Logger

	mu   sync.Mutex
	busy map[uuid.UUID]int // calls under way, by webhook
}

const (
	// lease is how long a try may take at most, with all that belongs to it. A
	// try whose process was killed is made again after it.
	lease = callTimeout + 20*time.Second

	// A webhook that stalls holds up this many calls at most, and one that fails
	// a single one, so that others are told in time.
	maxConcurrentCalls        = 4
	maxConcurrentWhileFailing = 1
	busyRetryDelay            = time.Second
	storeRetryDelay           = 5 * time.Second
	reasonWebhookFails        = mms.Reason("webhook_failed")
)

// Process tells of one event, if it is due.
func (n *Dispatcher) Process(ctx context.Context, id uuid.UUID) mms.TaskResult {
	telling, claimed, err := n.Store.ClaimWebhookEvent(ctx, id, lease)
	switch {
	case err != nil:
		return n.postpone(ctx, id, err)
	case !claimed:
		return n.unclaimed(ctx, id)
	}
	if !n.begin(telling) {
		if err := n.Store.PostponeWebhookEvent(ctx, telling, busyRetryDelay); err != nil {
			return n.postpone(ctx, id, err)
		}
		return mms.TaskResult{Action: mms.TaskPostpone, Wait: busyRetryDelay}
	}
	defer n.end(telling.WebhookID)
	told, err := n.deliver(ctx, telling)
	if err != nil {
		return n.postpone(ctx, id, err)
	}
	wait, again := webhook.NextRetry(telling.Attempts, n.Jitter())
	again = again && !told.OK && !told.Gone()
	if err := n.Store.RecordWebhookDelivery(ctx, telling, told, waitIf(again, wait)); err != nil {
		return n.postpone(ctx, id, err)
	}
	switch {
	case told.OK:
		return mms.TaskResult{Action: mms.TaskDone}
	case again:
		return mms.TaskResult{Action: mms.TaskRetry, Wait: wait, Reason: reasonWebhookFails}
	}
	return mms.TaskResult{Action: mms.TaskFail, Reason: reasonWebhookFails}
}

// unclaimed brings a task back that came too early: the queue counts in whole
// seconds.
func (n *Dispatcher) unclaimed(ctx context.Context, id uuid.UUID) mms.TaskResult {
	wait, pending, err := n.Store.WebhookEventDue(ctx, id)
	switch {
	case err != nil:
		return n.postpone(ctx, id, err)
	case !pending:
		return mms.TaskResult{Action: mms.TaskDone}
	}
	return mms.TaskResult{Action: mms.TaskPostpone, Wait: wait}
}

func waitIf(again bool, wait time.Duration) *time.Duration {
	if !again {
		return nil
	}
	return &wait
}

func (n *Dispatcher) begin(t webhook.Delivery) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	most := maxConcurrentCalls
	if t.Failing {
		most = maxConcurrentWhileFailing
	}
	if n.busy[t.WebhookID] >= most {
		return false
	}
	if n.busy == nil {
		n.busy = map[uuid.UUID]int{}
	}
	n.busy[t.WebhookID]++
	return true
}

func (n *Dispatcher) end(webhook uuid.UUID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.busy[webhook]--; n.busy[webhook] == 0 {
		delete(n.busy, webhook)
	}
}

func (n *Dispatcher) postpone(ctx context.Context, id uuid.UUID, err error) mms.TaskResult {
	n.Logger.ErrorContext(ctx, "webhook event put off", slog.Any("event_id", id), slog.Any("error", err))
	return mms.TaskResult{Action: mms.TaskPostpone, Wait: storeRetryDelay}
}

func (n *Dispatcher) deliver(ctx context.Context, t webhook.Delivery) (webhook.DeliveryResult, error) {
	body, err := json.Marshal(payloadOf(t))
	if err != nil {
		return webhook.DeliveryResult{}, fmt.Errorf("writing a webhook event: %w", err)
	}
	signature, err := sign(t, body)
	if err != nil {
		return webhook.DeliveryResult{}, err
	}
	return n.Client.post(ctx, t, signature, body), nil
}

// payload is what a webhook is told. Its fields are those of the API's Message.
type payload struct {
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"` // when it occurred
	Data      any       `json:"data"`
}

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

func payloadOf(t webhook.Delivery) payload {
	p := payload{Type: t.Type(), Timestamp: t.OccurredAt.UTC(), Data: struct{}{}}
	if t.MessageID == uuid.Nil {
		return p
	}
	m := t.Message
	p.Data = message{
		ID: m.ID, Version: m.Version, Status: m.Status, StatusTitle: m.Status.Title(), Explanation: m.Explain(), Final: m.Final(),
		Reason: m.Reason, PlivoCode: m.PlivoCode, PlivoUUID: m.PlivoUUID, To: m.Recipient, From: m.Sender, Metadata: m.Metadata,
		BatchID: idIfAny(m.BatchID), ResendOf: idIfAny(m.ResendOf), CreatedAt: m.CreatedAt.UTC(),
	}
	return p
}

func idIfAny(id uuid.UUID) *uuid.UUID {
	if id == uuid.Nil {
		return nil
	}
	return &id
}
