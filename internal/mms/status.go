package mms

import "slices"

// Status is the state of a message.
type Status string

// The statuses of a message; Title and Explain describe them for people.
const (
	Scheduled   Status = "scheduled"
	Queued      Status = "queued"
	Sending     Status = "sending"
	InDoubt     Status = "in_doubt"
	Submitted   Status = "submitted"
	Sent        Status = "sent"
	Delivered   Status = "delivered"
	Undelivered Status = "undelivered"
	Failed      Status = "failed"
	Canceled    Status = "canceled"
)

// statuses lists the statuses in the order of a message's life.
var statuses = []Status{Scheduled, Queued, Sending, InDoubt, Submitted, Sent, Delivered, Undelivered, Failed, Canceled}

// Statuses returns every status in the order of a message's life.
func Statuses() []Status { return slices.Clone(statuses) }

// Known reports whether s is one of the statuses.
func (s Status) Known() bool { return slices.Contains(statuses, s) }

// Final reports whether the status is normally the last one. Late evidence or a
// late delivery report can still change it. A message can also be final as submitted
// or sent, when no further report is expected: see Message.Final.
func (s Status) Final() bool {
	return s == Delivered || s == Undelivered || s == Failed || s == Canceled
}

// transitions lists the legal next statuses of each status.
//
// Until submitted, Postcard decides the status. If Plivo's answer was lost, late
// evidence that Plivo accepted the message still moves it from queued, failed or
// canceled to submitted. After that only Plivo's reports decide; their order is
// fixed, so the order in which they arrive does not matter.
var transitions = map[Status][]Status{
	Scheduled:   {Queued, Canceled},
	Queued:      {Sending, Canceled, Failed, Submitted},
	Sending:     {Submitted, Queued, Failed, InDoubt},
	InDoubt:     {Submitted, Queued, Failed, Sent}, // to Sent only by a person's decision
	Canceled:    {Submitted},
	Submitted:   {Sent, Failed, Undelivered, Delivered},
	Sent:        {Failed, Undelivered, Delivered},
	Failed:      {Undelivered, Delivered, Submitted},
	Undelivered: {Delivered},
}

// CanBecome reports whether a message may go from status s to status to.
func (s Status) CanBecome(to Status) bool { return slices.Contains(transitions[s], to) }

// StatusesBefore returns the statuses from which a message may go to status to.
// It is the guard of the statement that makes the transition.
func StatusesBefore(to Status) []Status {
	var from []Status
	for _, s := range statuses {
		if s.CanBecome(to) {
			from = append(from, s)
		}
	}
	return from
}

// StatusFromReport translates the state in a delivery report into a status. It
// returns false for a state that changes nothing (queued, since the message is
// known to be at Plivo) and for an unknown state: such a report is stored as an
// event only.
//
// Plivo's message states are queued, sent, failed, delivered, undelivered and,
// in older pages, rejected, which means undelivered (Plivo docs, message object).
func StatusFromReport(state string) (Status, bool) {
	switch state {
	case "sent":
		return Sent, true
	case "delivered":
		return Delivered, true
	case "undelivered", "rejected":
		return Undelivered, true
	case "failed":
		return Failed, true
	default:
		return "", false
	}
}
