package webhook

import (
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
)

// TestType is the type of a test event.
const TestType = "webhook.test"

// messageType is the type of an event about a message that got the status.
func messageType(s mms.Status) string { return "message." + string(s) }

// MessageTypes returns every type of event about a message.
func MessageTypes() []string {
	var types []string
	for _, s := range mms.Statuses() {
		types = append(types, messageType(s))
	}
	return types
}

// EventTypes returns every type of event.
func EventTypes() []string { return slices.Concat(MessageTypes(), []string{TestType}) }

// MessageEvent is the body of a delivery about a message (Standard Webhooks).
type MessageEvent struct {
	Type      string           `json:"type" doc:"The type of the event: message. and the status that the message got." example:"message.delivered"`
	Timestamp time.Time        `json:"timestamp" doc:"When the event occurred."`
	Data      MessageEventData `json:"data" doc:"The message as it was at the event."`
}

// MessageEventData is a message at an event. Its fields are named as in the API's Message.
type MessageEventData struct {
	ID          uuid.UUID         `json:"id" format:"uuid" doc:"The ID of the message."`
	Version     int64             `json:"version" doc:"The version of the message at the event. It grows from event to event: use it to order events."`
	Status      mms.Status        `json:"status" doc:"The status of the message."`
	StatusTitle string            `json:"statusTitle" doc:"The status as a display title."`
	Explanation string            `json:"explanation" doc:"The status in plain language, what the message waits for, and what happens next."`
	Final       bool              `json:"final" doc:"Whether the status is final. Late reports or evidence can still change it."`
	Reason      mms.Reason        `json:"reason,omitempty" doc:"Why the message failed or is waiting, as a stable code."`
	PlivoCode   string            `json:"plivoCode,omitempty" doc:"The error code reported by Plivo."`
	PlivoUUID   string            `json:"plivoUuid,omitempty" doc:"Plivo's UUID of the message."`
	To          mms.PhoneNumber   `json:"to" doc:"The recipient's phone number."`
	From        mms.PhoneNumber   `json:"from" doc:"The sender's phone number."`
	Metadata    map[string]string `json:"metadata,omitempty" doc:"The metadata you set when you created the message."`
	BatchID     *uuid.UUID        `json:"batchId,omitempty" format:"uuid" doc:"The ID of the batch the message belongs to."`
	ResendOf    *uuid.UUID        `json:"resendOf,omitempty" format:"uuid" doc:"The ID of the message that this one repeats."`
	CreatedAt   time.Time         `json:"createdAt" doc:"When the message was created."`
}

// TestEvent is the body of a test delivery.
type TestEvent struct {
	Type      string        `json:"type" doc:"The type of the event."`
	Timestamp time.Time     `json:"timestamp" doc:"When the test was requested."`
	Data      TestEventData `json:"data" doc:"Empty."`
}

// TestEventData is the data of a test event: none.
type TestEventData struct{}

// Payload returns the body of the delivery: a MessageEvent or a TestEvent.
func (d Delivery) Payload() any {
	if d.MessageID == uuid.Nil {
		return TestEvent{Type: d.Type(), Timestamp: d.OccurredAt.UTC()}
	}
	m := d.Message
	return MessageEvent{Type: d.Type(), Timestamp: d.OccurredAt.UTC(), Data: MessageEventData{
		ID: m.ID, Version: m.Version, Status: m.Status, StatusTitle: m.Status.Title(), Explanation: m.Explain(), Final: m.Final(),
		Reason: m.Reason, PlivoCode: m.PlivoCode, PlivoUUID: m.PlivoUUID, To: m.Recipient, From: m.Sender, Metadata: m.Metadata,
		BatchID: optionalID(m.BatchID), ResendOf: optionalID(m.ResendOf), CreatedAt: m.CreatedAt.UTC(),
	}}
}

func optionalID(id uuid.UUID) *uuid.UUID {
	if id == uuid.Nil {
		return nil
	}
	return &id
}
