package mms

import (
	"strings"
	"time"
)

// Doubt is an attempt that Plivo may or may not have accepted.
type Doubt struct {
	AttemptRef
	Sender        PhoneNumber
	Recipient     PhoneNumber
	StartedAt     time.Time     // when the attempt was claimed
	FinishedAt    time.Time     // when the worker gave up on the response
	Age           time.Duration // since FinishedAt
	Due           bool          // the next check is due
	PairAmbiguous bool          // another message's unresolved attempt between the same two numbers could be the one that is found
	RetriedAt     time.Time     // when the message was queued again although the doubt is open; zero if it was not
}

// Superseded reports whether the message was queued again although the doubt is
// open. Evidence can still show that Plivo has it; without evidence there is nothing to
// decide.
func (d Doubt) Superseded() bool { return !d.RetriedAt.IsZero() }

// AsOf returns the database's time when the doubt was read from it.
func (d Doubt) AsOf() time.Time { return d.FinishedAt.Add(d.Age) }

// Listed is a message as Plivo's list shows it.
type Listed struct {
	PlivoUUID string
	From, To  string // digits, with or without a plus sign
	At        time.Time
	State     string
	Code      string
	Details
}

// Report returns the listed state as a delivery report.
func (l Listed) Report() Report {
	return Report{PlivoUUID: l.PlivoUUID, State: l.State, Code: l.Code, Authenticated: true, Details: l.Details}
}

// ListQuery selects outbound MMS from Plivo's list. Plivo may ignore Sender and
// Recipient, so the caller has to filter the result again.
type ListQuery struct {
	From, To  time.Time
	Sender    PhoneNumber // empty: any
	Recipient PhoneNumber // empty: any
	Offset    int
}

// ListPage is how many messages Plivo lists at a time (Plivo docs, list all
// messages).
const ListPage = 20

// ListSkew widens the search window of an attempt, since our clock and Plivo's
// may differ.
const ListSkew = time.Minute

// Window returns the span of time in which Plivo lists the attempt's message, if it
// has it.
func (d Doubt) Window() (from, to time.Time) {
	return d.StartedAt.Add(-ListSkew), d.FinishedAt.Add(ListSkew)
}

// Matches reports whether the listed message can be the attempt's. It may be later than
// the window, because Plivo may have processed the request long after our timeout, and no
// other message was sent between the two numbers meanwhile. For a superseded attempt this
// does not hold: the message itself was sent again.
func (d Doubt) Matches(l Listed) bool {
	from, to := d.Window()
	switch {
	case !d.Superseded():
		to = d.AsOf().Add(ListSkew)
	case d.RetriedAt.Before(to):
		to = d.RetriedAt
	}
	return d.HasNumbers(l) && !l.At.Before(from) && !l.At.After(to)
}

// HasNumbers reports whether the listed message is between the doubt's two numbers.
func (d Doubt) HasNumbers(l Listed) bool {
	return digits(l.From) == digits(string(d.Sender)) && digits(l.To) == digits(string(d.Recipient))
}

func digits(number string) string { return strings.TrimPrefix(number, "+") }

// Resolution is what to do about a doubt after a search of Plivo's list.
type Resolution struct {
	Kind  ResolutionKind
	Found Listed        // for Adopt
	Wait  time.Duration // for CheckAgain
}

// ResolutionKind is the kind of a Resolution.
type ResolutionKind int

// The kinds of resolution.
const (
	CheckAgain      ResolutionKind = iota // nothing matches yet, and Plivo's list may lag behind
	Adopt                                 // Plivo has the message: Found
	HoldAmbiguous                         // the match is not certain: a person has to decide
	HoldByPolicy                          // nothing matches, and the policy wants a person to decide
	Retry                                 // nothing matches after the full wait: Plivo does not have it, as far as can be known
	HoldUnavailable                       // the list could not be read for too long
	StopChecking                          // no certain match for an attempt that is superseded anyway
)

// String names the kind in logs.
func (k ResolutionKind) String() string {
	return [...]string{"check again", "adopt", "hold as ambiguous", "hold by policy", "retry", "hold without a list", "stop checking"}[k]
}

// DoubtPolicy says how long to look for evidence, and what to do if there is none.
type DoubtPolicy struct {
	Wait time.Duration // long enough for the lag of Plivo's list
	Hold bool          // hold the message for a person instead of resending it
}

// Resolve decides on a doubt after a complete search of Plivo's list. found are
// the listed messages that match and belong to no other attempt.
func (p DoubtPolicy) Resolve(d Doubt, found []Listed) Resolution {
	switch {
	case len(found) == 1 && !d.PairAmbiguous:
		return Resolution{Kind: Adopt, Found: found[0]}
	case d.Superseded():
		return Resolution{Kind: StopChecking}
	case len(found) > 0:
		return Resolution{Kind: HoldAmbiguous}
	case d.Age < p.Wait:
		return Resolution{Kind: CheckAgain, Wait: p.nextCheck(d.Age)}
	case p.Hold:
		return Resolution{Kind: HoldByPolicy}
	default:
		return Resolution{Kind: Retry}
	}
}

// firstCheck is the shortest wait between two checks.
const firstCheck = 5 * time.Second

// nextCheck returns the wait until the next check. Early checks are rare, because Plivo
// allows 20 list calls a minute: the age doubles from one to the next, and the
// last one comes when the policy's wait is over.
func (p DoubtPolicy) nextCheck(age time.Duration) time.Duration {
	return min(max(age, firstCheck), p.Wait-age)
}

// Decision is a person's decision about a held message.
type Decision string

// The decisions.
const (
	DecideSent   Decision = "was_sent"
	DecideRetry  Decision = "retry"
	DecideGiveUp Decision = "give_up"
)

// Decisions returns all decisions.
func Decisions() []Decision { return []Decision{DecideSent, DecideRetry, DecideGiveUp} }
