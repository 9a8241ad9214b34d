package mms

import "time"

// Overview is what became of the messages of some days.
type Overview struct {
	Days    []Day          // the oldest first, without gaps
	Totals  map[Status]int // over all days
	Medians []Median       // in the order of a message's life
	Reasons []ReasonCount  // the most frequent first
}

// Day counts the messages taken on in one day, UTC, by where they stand now.
type Day struct {
	Date   time.Time
	Counts map[Status]int
}

// Total is how many messages were taken on that day.
func (d Day) Total() int { return sum(d.Counts) }

// MedianSample is how many messages medians are taken of: the newest.
const MedianSample = 1000

// Median is how long half of the messages, the newest ones, took from being taken on
// to a status, at most.
type Median struct {
	Status   Status
	Took     time.Duration
	Messages int // that got there
}

// ReasonCount is how often messages failed for a reason.
type ReasonCount struct {
	Reason    Reason
	PlivoCode string // where Plivo gave one
	Messages  int
}

// Description says why, in a sentence.
func (r ReasonCount) Description() string {
	if r.PlivoCode != "" || r.Reason == ReasonReported || r.Reason == "" {
		return ExplainPlivoCode(r.PlivoCode).Explain()
	}
	return r.Reason.Description()
}

// Total is how many messages there were.
func (o Overview) Total() int { return sum(o.Totals) }

// Reached counts those that the carrier has or has delivered: in the US and
// Canada a receipt often does not come (Plivo support, message statuses).
func (o Overview) Reached() int { return o.Totals[Sent] + o.Totals[Delivered] }

// Ended counts those of which it is known whether they reached the carrier.
func (o Overview) Ended() int { return o.Reached() + o.Totals[Undelivered] + o.Totals[Failed] }

// Rate is the share of those that ended which reached the carrier, in percent;
// false while none has ended.
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
