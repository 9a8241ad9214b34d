package httpapi

import (
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
)

// Message is where a picture message stands.
type Message struct {
	ID              uuid.UUID         `json:"id" format:"uuid" doc:"The message's id."`
	Status          mms.Status        `json:"status" doc:"Where it stands, as a code." example:"queued"`
	StatusTitle     string            `json:"statusTitle" doc:"The status as a heading." example:"Queued"`
	Explanation     string            `json:"explanation" doc:"Where it stands and what comes next, in a sentence or two." example:"The message is stored safely and waits for a worker."`
	NextStep        string            `json:"nextStep,omitempty" doc:"What you can do, where there is anything to do."`
	Final           bool              `json:"final" doc:"Whether the story is over. undelivered may still be corrected to delivered by a late report."`
	StatusURL       string            `json:"statusUrl" doc:"Where to ask for news; send If-None-Match with the last ETag." format:"uri-reference"`
	To              mms.PhoneNumber   `json:"to" doc:"The recipient." example:"+14155550123"`
	From            mms.PhoneNumber   `json:"from" doc:"The sender number that was asked for or chosen." example:"+14155550100"`
	Text            string            `json:"text" doc:"The text below the pictures; may be empty."`
	MediaURLs       []string          `json:"mediaUrls" nullable:"false" doc:"The pictures, in order." example:"[\"https://example.com/picture.jpg\"]"`
	Reason          mms.Reason        `json:"reason,omitempty" doc:"Why it failed or waits, as a code; the explanation has the words." example:"rate_limited"`
	PlivoUUID       string            `json:"plivoUuid,omitempty" doc:"Plivo's id of the message, once Plivo has it."`
	PlivoCode       string            `json:"plivoCode,omitempty" doc:"Plivo's error code, as it came."`
	Units           *int              `json:"units,omitempty" doc:"How many units Plivo charged, once it told."`
	Cost            string            `json:"cost,omitempty" doc:"What Plivo charged, in US dollars, once it told." example:"0.016000"`
	CarrierSentAt   *time.Time        `json:"carrierSentAt,omitempty" doc:"When Plivo handed it to the carrier, by Plivo's clock."`
	CarrierReportAt *time.Time        `json:"carrierReportAt,omitempty" doc:"When the carrier's receipt came, by Plivo's clock."`
	PlivoMeaning    *CodeMeaning      `json:"plivoCodeMeaning,omitempty" doc:"What is known about the code."`
	Held            bool              `json:"held,omitempty" doc:"Whether it waits for your decision; see decideMessage."`
	ExpiresAt       time.Time         `json:"expiresAt" doc:"After this it is not sent any more, and fails."`
	NextAttemptAt   *time.Time        `json:"nextAttemptAt,omitempty" doc:"When the next attempt is due, while queued."`
	Priority        string            `json:"priority" enum:"high,normal,bulk" doc:"Who goes first where messages wait." example:"normal"`
	SendAt          *time.Time        `json:"sendAt,omitempty" doc:"It is not sent before this."`
	Metadata        map[string]string `json:"metadata,omitempty" doc:"Your own words about it." example:"{\"order\":\"1017\"}"`
	KeyID           *uuid.UUID        `json:"apiKeyId,omitempty" format:"uuid" doc:"The API key that it was sent with."`
	ResendOf        *uuid.UUID        `json:"resendOf,omitempty" format:"uuid" doc:"The message that this one sends again."`
	BatchID         *uuid.UUID        `json:"batchId,omitempty" format:"uuid" doc:"The batch that it belongs to."`
	Version         int64             `json:"version" doc:"Grows with every event."`
	CreatedAt       time.Time         `json:"createdAt" doc:"When it was taken on."`
	UpdatedAt       time.Time         `json:"updatedAt" doc:"When something last happened."`
	FinalAt         *time.Time        `json:"finalAt,omitempty" doc:"When it became final."`
}

// Attempt is one call to Plivo.
type Attempt struct {
	Ordinal    int         `json:"ordinal" doc:"From 1."`
	StartedAt  time.Time   `json:"startedAt"`
	FinishedAt *time.Time  `json:"finishedAt,omitempty" doc:"Absent while the call is under way."`
	Outcome    mms.Outcome `json:"outcome,omitempty" enum:"accepted,transient_failure,permanent_failure,account_error,unknown" doc:"What it came to; absent while the call is under way."`
	HTTPStatus int         `json:"httpStatus,omitempty" doc:"Plivo's answer; absent when none was read. One that came after its delivery report is added later, without a new version." example:"202"`
	Detail     string      `json:"detail,omitempty" doc:"What Plivo or the network said."`
}

// Event is one thing that happened to a message.
type Event struct {
	ID      int64         `json:"id" doc:"Grows from event to event, with gaps."`
	At      time.Time     `json:"at"`
	Kind    mms.EventKind `json:"kind" doc:"What happened, as a code." example:"created"`
	Status  mms.Status    `json:"status" doc:"The message's status after the event." example:"queued"`
	Attempt int           `json:"attempt,omitempty" doc:"The number of the attempt it belongs to, if any."`
	Detail  string        `json:"detail,omitempty" doc:"Further words."`
}

// QueuePosition is a message's place among those that wait for its sender's turn.
type QueuePosition struct {
	Ahead       int     `json:"ahead" doc:"Messages before it, counted up to 5000."`
	WaitSeconds float64 `json:"waitSeconds" doc:"About how long it will take; at the least, where 5000 or more are before it, or something holds it up."`
	Explanation string  `json:"explanation" doc:"What it waits for, in plain words: its turn, the end of a pause of all sending, or that of its batch."`
}

// History is a message with all that happened to it, oldest first.
type History struct {
	Message
	QueuePosition *QueuePosition `json:"queuePosition,omitempty" doc:"Its place in line, while it waits for its sender's turn."`
	Attempts      []Attempt      `json:"attempts" nullable:"false" doc:"The calls to Plivo, oldest first."`
	Events        []Event        `json:"events" nullable:"false" doc:"All that happened, oldest first."`
	Replies       []Reply        `json:"replies" nullable:"false" doc:"What the recipient has sent to the sender's number since your first message, newest first. A reply does not change the version."`
}

// Reply is a message that the recipient sent back.
type Reply struct {
	ID         uuid.UUID   `json:"id" format:"uuid"`
	Text       string      `json:"text"`
	MediaURLs  []string    `json:"mediaUrls" nullable:"false" doc:"Where Plivo keeps its pictures."`
	Keyword    mms.Keyword `json:"keyword,omitempty" doc:"stop, start or help, where the text is nothing else."`
	ReceivedAt time.Time   `json:"receivedAt"`
}

func messagePath(id uuid.UUID) string { return messagesPath + "/" + id.String() }

// CodeMeaning explains a Plivo error code.
type CodeMeaning struct {
	Description string          `json:"description" doc:"What happened." example:"The carrier's filter took it for spam."`
	Responsible mms.Responsible `json:"responsible" doc:"Whose matter it is: sender, operator, plivo, carrier, recipient or unknown." example:"sender"`
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
		Reason: m.Reason, PlivoUUID: m.PlivoUUID, PlivoCode: m.PlivoCode, PlivoMeaning: meaning(m.PlivoCode),
		Units: m.Units, Cost: m.Cost, CarrierSentAt: utc(m.SentAt), CarrierReportAt: utc(m.ReportedAt),
		Priority: m.Priority.String(), SendAt: utc(m.SendAt), Metadata: m.Metadata,
		KeyID: idIfAny(m.KeyID), ResendOf: idIfAny(m.ResendOf), BatchID: idIfAny(m.BatchID),
		Held: m.Held, ExpiresAt: m.ExpiresAt.UTC(), NextAttemptAt: utc(m.NextAttemptAt), Version: m.Version,
		CreatedAt: m.CreatedAt.UTC(), UpdatedAt: m.UpdatedAt.UTC(), FinalAt: utc(m.FinalAt),
	}
}

func (a *api) history(h mms.History) *History {
	out := &History{Message: a.message(h.Message), Attempts: []Attempt{}, Events: []Event{}, Replies: []Reply{}}
	for _, t := range h.AttemptList {
		out.Attempts = append(out.Attempts, Attempt{
			Ordinal: t.Ordinal, StartedAt: t.StartedAt.UTC(), FinishedAt: utc(t.FinishedAt),
			Outcome: t.Outcome, HTTPStatus: t.HTTPStatus, Detail: t.Detail,
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
