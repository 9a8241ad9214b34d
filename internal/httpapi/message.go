package httpapi

import (
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
)

// Message is an MMS message and its status.
type Message struct {
	ID              uuid.UUID         `json:"id" format:"uuid" doc:"The ID of the message."`
	Status          mms.Status        `json:"status" doc:"The status of the message." example:"queued"`
	StatusTitle     string            `json:"statusTitle" doc:"The status as a display title." example:"Queued"`
	Explanation     string            `json:"explanation" doc:"The status in plain language, what the message waits for, and what happens next. What it waits for can change without a new version: a pause of all sending begins and ends for many messages at once." example:"The message is stored and waiting to be sent."`
	NextStep        string            `json:"nextStep,omitempty" doc:"What you can do about the status. Absent if there is nothing to do."`
	Final           bool              `json:"final" doc:"Whether the status is final. Late reports or evidence can still change it, for example from undelivered to delivered."`
	StatusURL       string            `json:"statusUrl" doc:"The URL of this message." format:"uri-reference"`
	To              mms.PhoneNumber   `json:"to" doc:"The recipient's phone number." example:"+14155550123"`
	From            mms.PhoneNumber   `json:"from" doc:"The sender's phone number." example:"+14155550100"`
	Text            string            `json:"text" doc:"The text of the message."`
	MediaURLs       []string          `json:"mediaUrls" nullable:"false" doc:"The URLs of the pictures." example:"[\"https://example.com/picture.jpg\"]"`
	MediaIDs        []uuid.UUID       `json:"mediaIds,omitempty" nullable:"false" doc:"The IDs of the uploads that the message sends. Absent if it sends none."`
	Fit             mms.Fit           `json:"fit,omitempty" enum:"auto,always,never" doc:"What is done with pictures that are too large. See sendMms." example:"auto"`
	Reason          mms.Reason        `json:"reason,omitempty" doc:"Why the message failed or is waiting, as a stable code. explanation says it in plain language." example:"rate_limited"`
	PlivoUUID       string            `json:"plivoUuid,omitempty" doc:"Plivo's UUID of the message. Absent until Plivo accepts the message."`
	PlivoCode       string            `json:"plivoCode,omitempty" doc:"The error code reported by Plivo. Absent if it reported none, or 000, which is its code for no error."`
	Units           *int              `json:"units,omitempty" doc:"The number of units charged by Plivo. Absent until Plivo reports it."`
	Cost            string            `json:"cost,omitempty" doc:"The amount charged by Plivo in US dollars. Absent until Plivo reports it." example:"0.016000"`
	CarrierSentAt   *time.Time        `json:"carrierSentAt,omitempty" doc:"When Plivo handed the message to the carrier, as reported by Plivo."`
	CarrierReportAt *time.Time        `json:"carrierReportAt,omitempty" doc:"When Plivo received the carrier's delivery report, as reported by Plivo."`
	PlivoMeaning    *CodeMeaning      `json:"plivoCodeMeaning,omitempty" doc:"What plivoCode means."`
	Held            bool              `json:"held,omitempty" doc:"Whether the message is held until you decide what to do with it. See decideMessage."`
	ExpiresAt       time.Time         `json:"expiresAt" doc:"When the message expires. A message that has not been sent by then fails."`
	NextAttemptAt   *time.Time        `json:"nextAttemptAt,omitempty" doc:"When the next attempt is due. Only present while a queued message waits for a retry: absent once the attempt is due."`
	Priority        string            `json:"priority" enum:"high,normal,bulk" doc:"The priority among waiting messages." example:"normal"`
	SendAt          *time.Time        `json:"sendAt,omitempty" doc:"When the message is scheduled to be sent. Absent if it was not scheduled."`
	Metadata        map[string]string `json:"metadata,omitempty" doc:"The metadata you set when you created the message." example:"{\"order\":\"1017\"}"`
	KeyID           *uuid.UUID        `json:"apiKeyId,omitempty" format:"uuid" doc:"The ID of the API key that created the message."`
	ResendOf        *uuid.UUID        `json:"resendOf,omitempty" format:"uuid" doc:"The ID of the message that this one repeats."`
	BatchID         *uuid.UUID        `json:"batchId,omitempty" format:"uuid" doc:"The ID of the batch the message belongs to."`
	Version         int64             `json:"version" doc:"The version of the message. It increases with every event."`
	CreatedAt       time.Time         `json:"createdAt" doc:"When the message was created."`
	UpdatedAt       time.Time         `json:"updatedAt" doc:"When the message last changed."`
	FinalAt         *time.Time        `json:"finalAt,omitempty" doc:"When the status became final."`
}

// Attempt is one call to Plivo to send a message.
type Attempt struct {
	Ordinal    int         `json:"ordinal" doc:"The number of the attempt, starting at 1."`
	StartedAt  time.Time   `json:"startedAt" doc:"When the attempt started."`
	FinishedAt *time.Time  `json:"finishedAt,omitempty" doc:"When the attempt finished. Absent while it is in progress."`
	Outcome    mms.Outcome `json:"outcome,omitempty" enum:"accepted,transient_failure,permanent_failure,account_error,unknown" doc:"The outcome of the attempt. Absent while it is in progress."`
	HTTPStatus int         `json:"httpStatus,omitempty" doc:"The HTTP status of Plivo's response. Absent if no response was received. A response that arrives after the delivery report is added without a new version of the message." example:"202"`
	Detail     string      `json:"detail,omitempty" doc:"The error text from Plivo or the network."`
}

// Event is one entry in the history of a message.
type Event struct {
	ID      int64         `json:"id" doc:"The ID of the event. IDs increase, with gaps."`
	At      time.Time     `json:"at" doc:"When the event occurred."`
	Kind    mms.EventKind `json:"kind" doc:"The kind of event." example:"created"`
	Status  mms.Status    `json:"status" doc:"The status of the message after the event." example:"queued"`
	Attempt int           `json:"attempt,omitempty" doc:"The number of the attempt the event belongs to, if any."`
	Detail  string        `json:"detail,omitempty" doc:"More about the event. Depends on its kind; often a reason, as in the reason of a message."`
}

// QueuePosition is the position of a waiting message in its sender's backlog.
type QueuePosition struct {
	Ahead       int    `json:"ahead" doc:"The number of messages ahead, counted up to 5000."`
	WaitSeconds int    `json:"waitSeconds" doc:"The estimated wait in whole seconds. A lower bound if 5000 or more messages are ahead, or if sending is paused."`
	Explanation string `json:"explanation" doc:"The position in plain language. The explanation of the message says what stops it, if anything does."`
}

// History is a message with its attempts, events and replies.
type History struct {
	Message
	QueuePosition *QueuePosition `json:"queuePosition,omitempty" doc:"The position of the message in its sender's backlog. Only present while the message is waiting."`
	Attempts      []Attempt      `json:"attempts" nullable:"false" doc:"The attempts to send the message, oldest first."`
	Events        []Event        `json:"events" nullable:"false" doc:"The events of the message, oldest first."`
	Replies       []Reply        `json:"replies" nullable:"false" doc:"The messages that the recipient has sent to the sender's number since your first message, newest first. A reply does not change the version."`
}

// Reply is an inbound message from the recipient.
type Reply struct {
	ID         uuid.UUID   `json:"id" format:"uuid" doc:"The ID of the reply."`
	Text       string      `json:"text" doc:"The text of the reply."`
	MediaURLs  []string    `json:"mediaUrls" nullable:"false" doc:"The URLs of the pictures, at Plivo."`
	Keyword    mms.Keyword `json:"keyword,omitempty" doc:"What the reply asks for: stop, start or help. Absent for other replies."`
	ReceivedAt time.Time   `json:"receivedAt" doc:"When the reply was received."`
}

func messagePath(id uuid.UUID) string { return messagesPath + "/" + id.String() }

// CodeMeaning explains a Plivo error code.
type CodeMeaning struct {
	Description string          `json:"description" doc:"What happened." example:"The carrier's filter classified the message as spam."`
	Responsible mms.Responsible `json:"responsible" doc:"The party responsible for the failure." enum:"message,operator,plivo,carrier,recipient,unknown" example:"message"`
	NextStep    string          `json:"nextStep" doc:"What to do next."`
}

func meaning(code string) *CodeMeaning {
	if code == "" {
		return nil
	}
	m := mms.ExplainPlivoCode(code)
	return &CodeMeaning{Description: m.Description, Responsible: m.Responsible, NextStep: m.NextStep}
}

func (a *api) message(m mms.Message) Message {
	return Message{
		ID: m.ID, Status: m.Status, StatusTitle: m.Status.Title(), Explanation: m.Explain(), NextStep: m.NextStep(), Final: m.Final(),
		StatusURL: a.PublicURL + messagePath(m.ID),
		To:        m.Recipient, From: m.Sender, Text: m.Text, MediaURLs: append([]string{}, m.MediaURLs...),
		MediaIDs: mediaIDs(m.Uploads), Fit: m.Fit,
		Reason: m.Reason, PlivoUUID: m.PlivoUUID, PlivoCode: m.PlivoCode, PlivoMeaning: meaning(m.PlivoCode),
		Units: m.Units, Cost: m.Cost, CarrierSentAt: utc(m.SentAt), CarrierReportAt: utc(m.ReportedAt),
		Priority: m.Priority.String(), SendAt: utc(m.SendAt), Metadata: m.Metadata,
		KeyID: idIfAny(m.KeyID), ResendOf: idIfAny(m.ResendOf), BatchID: idIfAny(m.BatchID),
		Held: m.Held, ExpiresAt: m.ExpiresAt.UTC(), NextAttemptAt: utc(m.NextAttemptAt), Version: m.Version,
		CreatedAt: m.CreatedAt.UTC(), UpdatedAt: m.UpdatedAt.UTC(), FinalAt: utc(m.FinalAt),
	}
}

func mediaIDs(uploads []mms.MessageUpload) []uuid.UUID {
	var ids []uuid.UUID
	for _, u := range uploads {
		ids = append(ids, u.ID)
	}
	return ids
}

func (a *api) history(h mms.History) *History {
	out := &History{Message: a.message(h.Message), Attempts: []Attempt{}, Events: []Event{}, Replies: []Reply{}}
	for _, attempt := range h.AttemptList {
		out.Attempts = append(out.Attempts, Attempt{
			Ordinal: attempt.Ordinal, StartedAt: attempt.StartedAt.UTC(), FinishedAt: utc(attempt.FinishedAt),
			Outcome: attempt.Outcome, HTTPStatus: attempt.HTTPStatus, Detail: attempt.Detail,
		})
	}
	for _, e := range h.Events {
		out.Events = append(out.Events, Event{
			ID: e.ID, At: e.At.UTC(), Kind: e.Kind, Status: e.Status, Attempt: e.Attempt, Detail: e.Detail,
		})
	}
	return out
}

func idIfAny(id uuid.UUID) *uuid.UUID {
	if id == uuid.Nil {
		return nil
	}
	return &id
}

func utc(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	u := t.UTC()
	return &u
}
