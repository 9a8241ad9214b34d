package plivosim

import (
	"net/url"
	"strconv"
	"time"
)

// pricePerMMS in US dollars, as Plivo's MMS FAQ gives it.
const pricePerMMS = "0.01600"

// newReport returns the documented fields of a delivery report.
func (e *epoch) newReport(m *message, sequence int) report {
	e.mu.Lock()
	defer e.mu.Unlock()
	entry := m.entry
	f := url.Values{}
	for name, value := range map[string]string{
		"MessageUUID":        entry.UUID,
		"ParentMessageUUID":  entry.UUID,
		"From":               entry.From,
		"To":                 m.shownTo(),
		"Type":               m.request.kind,
		"Status":             string(entry.State),
		"Units":              "1",
		"TotalRate":          pricePerMMS,
		"TotalAmount":        m.amount(),
		"MCC":                "",
		"MNC":                "",
		"ErrorCode":          entry.ErrorCode,
		"PartInfo":           "1 of 1",
		"Sequence":           strconv.Itoa(sequence),
		"MessageTime":        callbackTime(entry.AcceptedAt),
		"QueuedTime":         callbackTime(entry.reached(StateQueued)),
		"SentTime":           callbackTime(entry.reached(StateSent)),
		"DeliveryReportTime": callbackTime(entry.reached(StateDelivered, StateUndelivered)),
		"requester_ip":       m.requester,
		"PowerpackUUID":      m.request.powerpack,
	} {
		f.Set(name, value)
	}
	return report{state: entry.State, sequence: sequence, fields: f}
}

// shownTo returns the recipient. Its last three digits are masked if the request's log
// parameter asks for that.
func (m *message) shownTo() string {
	to := m.entry.To
	if m.request.masked {
		return to[:len(to)-3] + "XXX"
	}
	return to
}

// amount returns the price of the message: failed messages are free.
func (m *message) amount() string {
	if m.entry.State == StateFailed {
		return "0.00000"
	}
	return pricePerMMS
}

// reached returns the time of the first change into one of the states, or the zero
// time.
func (e Entry) reached(states ...State) time.Time {
	for _, change := range e.History {
		for _, st := range states {
			if change.State == st {
				return change.At
			}
		}
	}
	return time.Time{}
}

// callbackTime formats a time for callbacks: without a zone, assumed to be UTC. The zero
// time is empty.
func callbackTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05.000000")
}
