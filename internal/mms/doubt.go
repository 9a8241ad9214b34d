package mms

import (
	"strings"
	"time"
)

// Doubt is an attempt of which it is not known whether Plivo accepted it.
type Doubt struct {
	AttemptRef
	Sender        PhoneNumber
	Recipient     PhoneNumber
	StartedAt     time.Time     // when the attempt was claimed
	FinishedAt    time.Time     // when it was given up on
	Age           time.Duration // since it was given up on
	Due           bool          // the time for a look has come
	PairAmbiguous bool          // another message between the same two numbers, not long before, may be what is found
}

// Listed is a message as Plivo lists it.
type Listed struct {
	PlivoUUID string
	From, To  string // digits, perhaps with a plus sign
	At        time.Time
	State     string
	Code      string
	Details
}

// Report is what Plivo says of the message, as a report.
func (l Listed) Report() Report {
	return Report{PlivoUUID: l.PlivoUUID, State: l.State, Code: l.Code, Proven: true, Details: l.Details}
}

// ListQuery asks for the outbound MMS that Plivo lists from a span of time.
type ListQuery struct {
	From, To  time.Time
	Sender    PhoneNumber // only from it; empty for all. Plivo may ignore both numbers,
	Recipient PhoneNumber // only to it; so what comes back has to be filtered again.
	Offset    int
}

// ListPage is how many messages Plivo lists at a time, at most (Plivo docs, list
// all messages).
const ListPage = 20

// ListSkew widens the time in which an attempt's message is looked for: our
// clock and Plivo's are not the same.
const ListSkew = time.Minute

// Window is the time in which the attempt's message would be listed: until now,
// since Plivo may have worked off the request long after we gave it up, and
// nothing else of ours went between the two numbers meanwhile.
func (d Doubt) Window() (from, to time.Time) {
	return d.StartedAt.Add(-ListSkew), d.FinishedAt.Add(d.Age + ListSkew)
}

// Matches reports whether the listed message can be the attempt's.
func (d Doubt) Matches(l Listed) bool {
	from, to := d.Window()
	return digits(l.From) == digits(string(d.Sender)) && digits(l.To) == digits(string(d.Recipient)) &&
		!l.At.Before(from) && !l.At.After(to)
}

func digits(number string) string { return strings.TrimPrefix(number, "+") }

// Resolution is what a look at Plivo's list says about a doubt.
type Resolution struct {
	Kind  ResolutionKind
	Found Listed        // for Adopt
	Wait  time.Duration // for LookAgain
}

// ResolutionKind names what is to be done about a doubt.
type ResolutionKind int

// What is to be done about a doubt.
const (
	CheckAgain    ResolutionKind = iota // nothing found yet, and Plivo's list may lag behind
	Adopt                               // Plivo has it: Found
	HoldAmbiguous                       // several of Plivo's messages may be it: a person has to decide
	HoldByPolicy                        // nothing found, and a person is to decide
	Resend                              // Plivo does not have it, as far as can be known
)

// String names the kind for logs.
func (k ResolutionKind) String() string {
	return [...]string{"look again", "adopt", "hold as ambiguous", "hold by policy", "resend"}[k]
}

// DoubtPolicy says how long to wait for evidence and what to do when none came.
type DoubtPolicy struct {
	Wait time.Duration // covers the lag of Plivo's list
	Hold bool          // hold for a person instead of sending again
}

// Resolve decides on a doubt after a complete look at Plivo's list. found are
// the listed messages that match and belong to no other attempt.
func (p DoubtPolicy) Resolve(d Doubt, found []Listed) Resolution {
	switch {
	case len(found) == 1 && !d.PairAmbiguous:
		return Resolution{Kind: Adopt, Found: found[0]}
	case len(found) > 0:
		return Resolution{Kind: HoldAmbiguous}
	case d.Age < p.Wait:
		return Resolution{Kind: CheckAgain, Wait: p.nextCheck(d.Age)}
	case p.Hold:
		return Resolution{Kind: HoldByPolicy}
	default:
		return Resolution{Kind: Resend}
	}
}

// Looks are rare, since Plivo allows 20 lists a minute: the age doubles from
// one to the next, and the last comes when the whole waiting time is over.
const firstCheck = 5 * time.Second

func (p DoubtPolicy) nextCheck(age time.Duration) time.Duration {
	return min(max(age, firstCheck), p.Wait-age)
}

// Decision is what a person says about a held message.
type Decision string

// The decisions.
const (
	DecideSent   Decision = "was_sent"
	DecideResend Decision = "resend"
	DecideGiveUp Decision = "give_up"
)

// Decisions lists all decisions.
func Decisions() []Decision { return []Decision{DecideSent, DecideResend, DecideGiveUp} }
