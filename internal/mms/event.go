package mms

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// Event is one thing that happened to a message.
type Event struct {
	ID      int64
	At      time.Time
	Kind    EventKind
	Status  Status // of the message, after the event
	Attempt int    // ordinal of its attempt; 0 for none
	Detail  string // depends on the kind, often a Reason; may be empty
}

// EventKind says what happened.
type EventKind string

// The kinds of event.
const (
	EventCreated          EventKind = "created"           // the message was stored
	EventAttemptStarted   EventKind = "attempt_started"   // a worker claimed it and is about to call Plivo
	EventSubmitted        EventKind = "submitted"         // Plivo accepted it and returned a UUID
	EventTransientFailure EventKind = "transient_failure" // Plivo did not accept it; it is queued again
	EventAccountError     EventKind = "account_error"     // the Plivo account cannot send; all sending pauses
	EventPermanentFailure EventKind = "permanent_failure" // Plivo rejected it, and it failed
	EventInDoubt          EventKind = "in_doubt"          // whether Plivo accepted it is unknown
	EventReport           EventKind = "report"            // a delivery report arrived
	EventStatusPolled     EventKind = "status_polled"     // its status was fetched from Plivo
	EventClosed           EventKind = "closed"            // no further report is expected
	EventRequeued         EventKind = "requeued"          // its task was missing or did not run, and it got a new one
	EventWaiting          EventKind = "waiting"           // it joined the backlog of its sender
	EventSuppressed       EventKind = "suppressed"        // it failed: the recipient has opted out
	EventExpired          EventKind = "expired"           // it failed: ExpiresAt passed
	EventEvidenceSearched EventKind = "evidence_searched" // Plivo's list was searched without a match
	EventEvidenceFound    EventKind = "evidence_found"    // Plivo's list has it
	EventNoEvidence       EventKind = "no_evidence"       // Plivo's list never had it; it is queued again
	EventNoReport         EventKind = "no_report"         // Plivo sent no report, but reported others; it is queued again
	EventUnresolved       EventKind = "unresolved"        // it failed: no attempt is left, and an outcome stayed unknown
	EventHeld             EventKind = "held"              // a person has to decide
	EventDecided          EventKind = "decided"           // a person decided
	EventDuplicate        EventKind = "duplicate"         // a second attempt turned out to be accepted too
	EventDue              EventKind = "due"               // SendAt was reached
	EventCanceled         EventKind = "canceled"          // a user canceled it or its batch
	EventResent           EventKind = "resent"            // a new message repeats it
	EventPreparing        EventKind = "preparing"         // its media have to be checked or uploaded before it is sent
	EventPrepared         EventKind = "prepared"          // its media are ready
	EventMediaFailed      EventKind = "media_failed"      // it failed: its media cannot be used
	EventRefitted         EventKind = "refitted"          // it repeats a message, or a new one repeats it, with smaller pictures
)

var eventTitles = map[EventKind]string{
	EventCreated:          "Created",
	EventAttemptStarted:   "Sending to Plivo started",
	EventSubmitted:        "Submitted to Plivo",
	EventTransientFailure: "Not accepted by Plivo; it will be retried",
	EventAccountError:     "Plivo account error; all sending is paused",
	EventPermanentFailure: "Rejected by Plivo",
	EventInDoubt:          "Unknown whether Plivo accepted it",
	EventReport:           "Delivery report from Plivo",
	EventStatusPolled:     "Status polled from Plivo",
	EventClosed:           "No further report expected",
	EventRequeued:         "Requeued: its task was missing or did not run",
	EventWaiting:          "Waiting for the sender's rate limit or the end of a pause",
	EventSuppressed:       "Not sent: the recipient has opted out",
	EventExpired:          "Expired before it could be sent",
	EventEvidenceSearched: "Searched Plivo for it",
	EventEvidenceFound:    "Found at Plivo",
	EventNoEvidence:       "Not found at Plivo: queued again",
	EventNoReport:         "Not reported by Plivo, unlike other messages: queued again",
	EventUnresolved:       "Given up: its outcome is unknown",
	EventHeld:             "Held for a decision",
	EventDecided:          "Decision made",
	EventDue:              "Scheduled time reached",
	EventCanceled:         "Canceled",
	EventResent:           "Resent as a new message",
	EventPreparing:        "Its pictures are being prepared",
	EventPrepared:         "Its pictures are ready",
	EventMediaFailed:      "Not sent: its pictures cannot be used",
	EventRefitted:         "Too large for the carrier: resent with smaller pictures",
	EventDuplicate:        "Sent twice: Plivo accepted two attempts",
}

// EventKinds returns every kind of event, sorted.
func EventKinds() []EventKind { return slices.Sorted(maps.Keys(eventTitles)) }

// Title describes the kind for people. An unknown kind is returned as it is.
func (k EventKind) Title() string {
	if title, ok := eventTitles[k]; ok {
		return title
	}
	return string(k)
}

// canceledWithBatch is the detail of a cancellation that came with the batch's.
const canceledWithBatch = "batch"

// Description explains the event's detail for people; "" if the title says it all.
func (e Event) Description() string {
	switch e.Kind {
	case EventReport, EventStatusPolled:
		if e.Status == Delivered || e.Status == Sent {
			return e.Status.Title()
		}
		return e.Detail
	case EventEvidenceFound, EventDuplicate:
		return "Plivo's UUID is " + e.Detail
	case EventResent, EventNoReport, EventPrepared, EventMediaFailed, EventRefitted:
		return e.Detail
	case EventSuppressed:
		return describeSuppression(e.Detail)
	case EventCanceled:
		if e.Detail == canceledWithBatch {
			return "together with its batch"
		}
	}
	return Reason(e.Detail).Description()
}

// describeSuppression explains the detail of EventSuppressed: the reason of the suppression
// and its sender, separated by a space. Events of older versions have no detail.
func describeSuppression(detail string) string {
	reason, sender, ok := strings.Cut(detail, " ")
	if !ok {
		return ""
	}
	switch reason, sender := SuppressionReason(reason), PhoneNumber(sender); {
	case sender == "":
		return reason.Description()
	case reason == SuppressedByRecipient:
		return "the recipient opted out by a text message to " + sender.International()
	case reason == SuppressedByPlivo:
		return "Plivo reported that the recipient opted out of messages from " + sender.International()
	default:
		return "an admin added the opt-out for sender " + sender.International()
	}
}

var outcomeTitles = map[Outcome]string{
	Accepted:         "Accepted",
	TransientFailure: "Temporary failure",
	PermanentFailure: "Rejected",
	AccountError:     "Account error",
	Unknown:          "Unknown",
}

// Title describes the outcome for people. The empty outcome is an attempt in
// progress.
func (o Outcome) Title() string {
	if title, ok := outcomeTitles[o]; ok {
		return title
	}
	return "In progress"
}
