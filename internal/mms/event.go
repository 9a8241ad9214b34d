package mms

import "fmt"

var eventTitles = map[EventKind]string{
	EventCreated:          "Taken on and stored",
	EventAttemptStarted:   "A worker began to hand it to Plivo",
	EventSubmitted:        "Plivo has it",
	EventTransientFailure: "Plivo did not take it this time",
	EventAccountError:     "The Plivo account could not send it",
	EventPermanentFailure: "Plivo refused it",
	EventInDoubt:          "It is not known whether Plivo has it",
	EventReport:           "Plivo reported",
	EventStatusPolled:     "No report came: asked Plivo",
	EventClosed:           "No further report is expected",
	EventRequeued:         "Put back into the queue, where it was missing",
	EventWaiting:          "Waits for its turn: the sender's pace, or a pause",
	EventSuppressed:       "Not sent: the recipient has opted out of messages from this sender",
	EventExpired:          "Given up: too late to be sent",
	EventEvidenceSearched: "Looked for it at Plivo",
	EventEvidenceFound:    "Found at Plivo",
	EventNoEvidence:       "Not found at Plivo after the full wait: queued again",
	EventHeld:             "Held for a person to decide",
	EventDecided:          "Decided by a person",
	EventDue:              "Its set time came",
	EventCanceled:         "Canceled by its sender",
	EventResent:           "Sent again as a new message",
	EventDuplicate:        "Two attempts turned out to have reached Plivo: sent twice",
}

// Title is what happened, in plain words.
func (k EventKind) Title() string {
	if title, ok := eventTitles[k]; ok {
		return title
	}
	return string(k)
}

// Description is the event's detail in plain words; "" where the title says it all.
func (e Event) Description() string {
	switch e.Kind {
	case EventReport, EventStatusPolled:
		if e.Status == Delivered || e.Status == Sent {
			return e.Status.Title()
		}
		return e.Detail
	case EventEvidenceFound, EventDuplicate:
		return fmt.Sprintf("Plivo's UUID is %s", e.Detail)
	case EventResent:
		return e.Detail
	default:
		return Reason(e.Detail).Description()
	}
}

var outcomeTitles = map[Outcome]string{
	Accepted:         "Accepted",
	TransientFailure: "Not taken this time",
	PermanentFailure: "Refused",
	AccountError:     "Account trouble",
	Unknown:          "Unknown",
}

// Title is the outcome in plain words; an attempt without one is under way.
func (o Outcome) Title() string {
	if title, ok := outcomeTitles[o]; ok {
		return title
	}
	return "Under way"
}
