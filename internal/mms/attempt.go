package mms

import (
	"log/slog"
	"strings"
	"time"

	"github.com/google/uuid"
)

// AttemptRef names one attempt. Its number is the fence: what a worker records
// about attempt n counts only while n is the message's newest.
type AttemptRef struct {
	MessageID uuid.UUID
	Ordinal   int // from 1
}

// LogAttr adds message_id and attempt to a log record, beside its other
// attributes.
func (r AttemptRef) LogAttr() slog.Attr {
	return slog.Group("", slog.Any("message_id", r.MessageID), slog.Int("attempt", r.Ordinal))
}

// SubmitResult is what a proof that Plivo accepted an attempt means for its
// message.
type SubmitResult int

// What a proof can mean.
const (
	AlreadyKnown SubmitResult = iota // it is known already
	Adopted                          // the message is at Plivo, which was not known before
	Duplicate                        // the message is at Plivo once more than was known
)

// Claim is a message that one worker, and no other, is about to hand to Plivo.
type Claim struct {
	AttemptRef
	Sender            PhoneNumber
	Recipient         PhoneNumber
	Text              string
	MediaURLs         []string
	TransientFailures int // earlier attempts that Plivo refused for now

	// OwnTroubles are earlier attempts that met account trouble although other
	// messages were accepted afterwards.
	OwnAccountErrors int
}

// TaskCheck is a queued message whose task has to be looked at.
type TaskCheck struct {
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

// Unreported is a message at Plivo of which nothing has been heard for a while.
type Unreported struct {
	AttemptRef
	PlivoUUID string
	Sender    PhoneNumber
	Recipient PhoneNumber
}

// Matches reports whether what Plivo has under the message's UUID can be the
// message. Plivo may mask digits of the recipient (Plivo docs, data redaction).
func (s Unreported) Matches(l Listed) bool {
	to := digits(l.To)
	return digits(l.From) == digits(string(s.Sender)) && (to == digits(string(s.Recipient)) || strings.ContainsFunc(to, func(r rune) bool { return r < '0' || r > '9' }))
}

// maxState bounds what is kept of a state or code that Plivo named.
const maxState = 32

// Summary is the report in short, for the event that records it.
func (r Report) Summary() string {
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

// ClaimBlocker says what keeps a queued message from being claimed. With none set
// it can be claimed, or the obstacle has just gone.
type ClaimBlocker struct {
	Gone         bool          // it is not queued any more
	DueIn        time.Duration // until it is due
	Expired      bool          // it is too late to send it
	Suppressed   bool          // its recipient has opted out of its sender's messages
	Parked       bool          // its batch is paused or canceled
	Released     bool          // it was let out of the line for the gate's next opening
	RateLimited  time.Duration // until its sender's gate opens
	PairInFlight bool          // another message between the same two numbers is under way or in doubt
}

// MaxCounted is up to how many messages before one in line are counted: there may be a
// hundred thousand.
const MaxCounted = 5_000

// QueuePosition is a message's place in its sender's line, and what else it waits for.
type QueuePosition struct {
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

// Stats count the messages that no carrier has yet.
type Stats struct {
	Messages map[Status]int // queued, sending, in doubt and submitted
	Waiting  int            // queued messages that wait for a rate limit or the end of a pause
	Held     int            // messages in doubt that wait for a person
}
