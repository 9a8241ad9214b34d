package mms

import (
	"strings"
	"time"
)

// Report is a delivery report from Plivo about one attempt.
type Report struct {
	Token         string // of the attempt, from the callback URL
	PlivoUUID     string
	State         string // Plivo's name for it (see StatusFromReport)
	Code          string // Plivo's error code, unchanged (see ShortCode); empty if it gave none
	Authenticated bool   // every field is known to come from Plivo: it was signed, or fetched from Plivo's API
	Details
}

// Details are what Plivo reports besides the state. Each field may be missing.
type Details struct {
	Units      *int
	Cost       string     // in US dollars, decimal
	SentAt     *time.Time // when Plivo passed the message to the carrier, by Plivo's clock
	ReportedAt *time.Time // when the carrier's receipt arrived, by Plivo's clock
}

// maxState bounds how much of a state or an error code is stored, in bytes.
const maxState = 32

// Summary is the report in short, as the detail of its event.
func (r Report) Summary() string {
	summary := clip(r.State, maxState)
	if code := r.ShortCode(); code != "" {
		summary += ", code " + code
	}
	return summary
}

// ShortCode is the error code, cut to the length that is stored; empty if there was no
// error.
func (r Report) ShortCode() string { return ErrorCode(clip(r.Code, maxState)) }

// clip makes s storable in Postgres: valid UTF-8 without NUL, and at most limit
// bytes long.
func clip(s string, limit int) string {
	s = strings.ReplaceAll(s, "\x00", "")
	return strings.ToValidUTF8(s[:min(len(s), limit)], "")
}

// Unreported is a message at Plivo without a recent delivery report.
type Unreported struct {
	AttemptRef
	PlivoUUID string
	Sender    PhoneNumber
	Recipient PhoneNumber
}

// Matches reports whether the message that Plivo has under the UUID can be this
// one. Plivo may mask digits of the recipient (Plivo docs, data redaction).
func (u Unreported) Matches(l Listed) bool {
	to := digits(l.To)
	masked := strings.ContainsFunc(to, func(r rune) bool { return r < '0' || r > '9' })
	return digits(l.From) == digits(string(u.Sender)) && (masked || to == digits(string(u.Recipient)))
}
