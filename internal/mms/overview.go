package mms

import "time"

// Overview summarizes the messages created in a range of days.
type Overview struct {
	Days    []Day          // oldest first, without gaps
	Totals  map[Status]int // over all days
	Medians []Median       // in the order of a message's life
	Reasons []ReasonCount  // most frequent first
}

// Day counts the messages created on one day, UTC, by their current status.
type Day struct {
	Date   time.Time
	Counts map[Status]int
}

// Total is the number of messages created on the day.
func (d Day) Total() int { return sum(d.Counts) }

// MedianSample is how many of the newest messages a median is taken of.
const MedianSample = 1000

// Median is the median time that the newest messages took from their creation to
// a status.
type Median struct {
	Status   Status
	Took     time.Duration
	Messages int // size of the sample: messages that reached the status
}

// ReasonCount counts the messages that failed for a reason.
type ReasonCount struct {
	Reason    Reason
	PlivoCode string // empty if Plivo gave none
	Messages  int
}

// Description explains the reason in a sentence.
func (r ReasonCount) Description() string {
	if r.PlivoCode != "" || r.Reason == ReasonReported || r.Reason == "" {
		return ExplainPlivoCode(r.PlivoCode).Explain()
	}
	return r.Reason.Description()
}

// Total is the number of messages.
func (o Overview) Total() int { return sum(o.Totals) }

// Reached counts the messages that are sent or delivered. Sent counts as success,
// because delivery receipts are rare in the US and Canada (Plivo support, message
// statuses).
func (o Overview) Reached() int { return o.Totals[Sent] + o.Totals[Delivered] }

// Ended counts the messages whose outcome is known: they reached the carrier, were
// undelivered or failed.
func (o Overview) Ended() int { return o.Reached() + o.Totals[Undelivered] + o.Totals[Failed] }

// Rate is Reached as a percentage of Ended; false if no message has ended.
func (o Overview) Rate() (percent float64, ok bool) {
	if o.Ended() == 0 {
		return 0, false
	}
	return 100 * float64(o.Reached()) / float64(o.Ended()), true
}

func sum(counts map[Status]int) int {
	total := 0
	for _, n := range counts {
		total += n
	}
	return total
}
