package mms

import (
	"strings"
	"time"

	"github.com/google/uuid"
)

// AttemptRef names one attempt. Its number is the fence: what a worker records
// about attempt n counts only while n is the message's newest.
type AttemptRef struct {
	MessageID uuid.UUID
	Number    int
}

// Acceptance is what a proof that Plivo accepted an attempt means for its
// message.
type Acceptance int

// What a proof can mean.
const (
	NothingNew Acceptance = iota // it is known already
	Adopted                      // the message is at Plivo, which was not known before
	Duplicate                    // the message is at Plivo once more than was known
)

// Claim is a message that one worker, and no other, is about to hand to Plivo.
type Claim struct {
	AttemptRef
	Sender    Number
	Recipient Number
	Text      string
	MediaURLs []string
	Refusals  int // earlier attempts that Plivo refused for now

	// OwnTroubles are earlier attempts that met account trouble although other
	// messages were accepted afterwards.
	OwnTroubles int
}

// RelayItem is a queued message whose task has to be looked at.
type RelayItem struct {
	Task Task
	Wait time.Duration // until the next attempt is due; 0 when it is
}

// Report is a delivery report of Plivo about one attempt.
type Report struct {
	Token     string // of the attempt, from the callback URL
	PlivoUUID string
	State     string // as Plivo named it
	Code      string // Plivo's error code; empty when none was given
	Proven    bool   // Plivo vouches for every field: it signed them, or was asked
	Details
}

// Details are what Plivo tells beside the state; each may be missing.
type Details struct {
	Units      *int
	Cost       string     // in US dollars, decimal
	SentAt     *time.Time // when Plivo handed it to the carrier, by Plivo's clock
	ReportedAt *time.Time // when the carrier's receipt came, by Plivo's clock
}

// Silent is a message at Plivo of which nothing has been heard for a while.
type Silent struct {
	AttemptRef
	PlivoUUID string
	Sender    Number
	Recipient Number
}

// Matches reports whether what Plivo has under the message's UUID can be the
// message. Plivo may mask digits of the recipient (Plivo docs, data redaction).
func (s Silent) Matches(l Listed) bool {
	to := digits(l.To)
	return digits(l.From) == digits(string(s.Sender)) && (to == digits(string(s.Recipient)) || strings.ContainsFunc(to, func(r rune) bool { return r < '0' || r > '9' }))
}

// maxState bounds what is kept of a state or code that Plivo named.
const maxState = 32

// Words is the report in short, for the event that records it.
func (r Report) Words() string {
	words := clip(r.State, maxState)
	if r.Code != "" && r.Code != "000" {
		words += ", code " + r.ShortCode()
	}
	return words
}

// ShortCode is the error code, cut to what is kept of it.
func (r Report) ShortCode() string { return clip(r.Code, maxState) }

// clip makes s storable: valid UTF-8 without NUL, at most limit bytes.
func clip(s string, limit int) string {
	s = strings.ReplaceAll(s, "\x00", "")
	return strings.ToValidUTF8(s[:min(len(s), limit)], "")
}

// Obstacle says what keeps a queued message from being claimed. With none set
// it can be claimed, or the obstacle has just gone.
type Obstacle struct {
	Gone       bool          // it is not queued any more
	NotDue     time.Duration // until it is due
	Expired    bool          // it is too late to send it
	Suppressed bool          // its recipient has opted out of its sender's messages
	SetAside   bool          // its batch is paused or canceled
	Released   bool          // it was let out of the line for the gate's next opening
	Gate       time.Duration // until its sender's gate opens
	PairBusy   bool          // another message between the same two numbers is under way or in doubt
}

// MaxCounted is up to how many messages before one in line are counted: there may be a
// hundred thousand.
const MaxCounted = 5_000

// Place is a message's place in its sender's line, and what else it waits for.
type Place struct {
	Ahead  int           // messages before it, MaxCounted at most
	Wait   time.Duration // about how long it will take; at the least, where MaxCounted are before it or something holds it up
	Paused Reason        // why nothing is sent at present; empty while sending goes on
	Batch  BatchState    // of its batch; running also where it has none
}

// Pause is why nothing is sent at present.
type Pause struct {
	Cause  Reason
	Detail string // what Plivo said
	Since  time.Time
}
