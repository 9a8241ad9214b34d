package webhook

import (
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
)

// EventState says whether an event has been delivered.
type EventState string

// The states of an event.
const (
	Pending   EventState = "pending"
	Delivered EventState = "delivered"
	Failed    EventState = "failed"
)

// Event is something an endpoint is notified of: a change of a message's
// status, or a test.
type Event struct {
	ID          uuid.UUID
	Sequence    int64 // orders the events of an endpoint
	WebhookID   uuid.UUID
	MessageID   uuid.UUID  // uuid.Nil: a test
	Status      mms.Status // of the message at the event; empty for a test
	Version     int64      // of the message at the event
	OccurredAt  time.Time
	State       EventState
	Attempts    int        // deliveries started so far
	DueAt       *time.Time // when the next delivery is due; nil if it is due, or there is none
	AttemptedAt *time.Time
	HTTPStatus  int    // of the last response; 0 for none
	Error       string // of the last delivery, in plain words; at most MaxError bytes
}

// MaxError bounds Event.Error, in bytes.
const MaxError = 500

// Type names the kind of event, such as message.delivered.
func (e Event) Type() string {
	if e.MessageID == uuid.Nil {
		return TestType
	}
	return messageType(e.Status)
}

// Task is a hint in the queue to deliver an event.
type Task struct {
	EventID    uuid.UUID
	Generation int  // part of the task id, so that a lost task can be replaced
	Slow       bool // the endpoint is slow, so it gets no slot that is kept for others
}

// Delivery is one attempt to deliver an event.
type Delivery struct {
	Event
	URL       string
	Secret    Secret
	OldSecret Secret      // "" unless a previous secret still signs
	Settled   bool        // the endpoint has MaxSlots and is neither slow nor failing
	Message   mms.Message // as it was at the event (see AsOf)
	Now       time.Time   // of the database
}

// DeliveryResult is the outcome of a delivery.
type DeliveryResult struct {
	OK         bool
	Quick      bool          // the call ended within Patience
	HTTPStatus int           // 0 when no response was read
	Error      string        // in plain words; empty when OK
	RetryAfter time.Duration // how long the receiver asked us to wait, up to MaxRetryAfter; 0 if it did not
}

// Pause is how long the result pauses the webhook: a receiver that asks us to wait means all
// of its events.
func (r DeliveryResult) Pause() time.Duration { return min(r.RetryAfter, MaxPause) }

// Gone reports whether the receiver asks us to stop (Standard Webhooks: 410).
func (r DeliveryResult) Gone() bool { return r.HTTPStatus == 410 }

// AsOf returns the message as it was at the event, as far as that is stored.
func AsOf(m mms.Message, e Event, reason mms.Reason, plivoCode string) mms.Message {
	if e.Version != m.Version {
		m.Held, m.NextAttemptAt = false, nil
		m.Pause, m.BatchState = mms.Pause{}, ""
		m.FinalAt = nil
		if e.Status.Final() {
			m.FinalAt = &e.OccurredAt
		}
	}
	if slices.Contains([]mms.Status{mms.Scheduled, mms.Queued, mms.Sending, mms.InDoubt}, e.Status) {
		m.PlivoUUID = ""
	}
	m.Status, m.Reason, m.PlivoCode, m.Version, m.UpdatedAt = e.Status, reason, plivoCode, e.Version, e.OccurredAt
	return m
}
