package mms

import "slices"

// Status is where a message stands.
type Status string

// The statuses of a message's life; Title and Explain have the words for them.
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

// statuses is in the order of a message's life.
var statuses = []Status{Scheduled, Queued, Sending, InDoubt, Submitted, Sent, Delivered, Undelivered, Failed, Canceled}

// Statuses returns every status in the order of a message's life.
func Statuses() []Status { return slices.Clone(statuses) }

// Known reports whether s is one of the statuses.
func (s Status) Known() bool { return slices.Contains(statuses, s) }

// Final reports whether the message's story is over, as far as is known. Late
// proof or a late delivery report may still correct it.
func (s Status) Final() bool {
	return s == Delivered || s == Undelivered || s == Failed || s == Canceled
}

// transitions holds every legal transition. Up to submitted it is us who know. Proof
// that Plivo has the message then wins over whatever we believed, also after a
// failure: an answer was lost, and comes to light late. From submitted on it is
// Plivo who knows; its states have one order, so that reports lead to the same
// end whichever comes first.
var transitions = map[Status][]Status{
	Scheduled:   {Queued, Canceled},
	Queued:      {Sending, Canceled, Failed, Submitted},
	Sending:     {Submitted, Queued, Failed, InDoubt},
	InDoubt:     {Submitted, Queued, Failed, Sent}, // Sent: only by a person's word
	Canceled:    {Submitted},
	Submitted:   {Sent, Failed, Undelivered, Delivered},
	Sent:        {Failed, Undelivered, Delivered},
	Failed:      {Undelivered, Delivered, Submitted},
	Undelivered: {Delivered},
}

// CanBecome reports whether a message in status s may go to status to.
func (s Status) CanBecome(to Status) bool { return slices.Contains(transitions[s], to) }

// StatusesBefore returns the statuses from which a message may go to status to, for
// the guard of the statement that takes it there.
func StatusesBefore(to Status) []Status {
	var from []Status
	for _, s := range statuses {
		if s.CanBecome(to) {
			from = append(from, s)
		}
	}
	return from
}

// StatusFromReport translates the state named in a delivery report into a status. It
// is false for a state that changes nothing (queued: we know already) and for
// one that Postcard does not know: such a report is kept as an event only.
//
// Plivo's message states: queued, sent, failed, delivered, undelivered, and in
// older pages rejected, to be read as undelivered (Plivo docs, message object).
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
