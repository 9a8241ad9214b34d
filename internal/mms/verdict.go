package mms

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Outcome is how one attempt ended.
type Outcome string

// The outcomes of an attempt.
const (
	Accepted         Outcome = "accepted"          // Plivo accepted it and returned a UUID
	TransientFailure Outcome = "transient_failure" // Plivo certainly did not accept it, but may accept it later
	PermanentFailure Outcome = "permanent_failure" // Plivo certainly did not accept it and never will
	AccountError     Outcome = "account_error"     // Plivo did not accept it because of the account, not the message
	Unknown          Outcome = "unknown"           // Plivo may or may not have accepted it: never resend it blindly
)

// MaxDetail bounds how much of an error text from Plivo or the network is
// stored, in bytes.
const MaxDetail = 1000

// Submission is the message that one attempt sends to Plivo.
type Submission struct {
	Sender      PhoneNumber
	Recipient   PhoneNumber
	Text        string
	MediaURLs   []string
	MediaIDs    []string // Plivo's ids of uploads
	CallbackURL string   // receives the attempt's delivery reports; empty for none

	// MayWrite is called just before the request body is written. A worker that
	// was suspended may find that it has lost its lease on the attempt.
	MayWrite func() bool
}

// Answer is what was seen of one call to Plivo.
type Answer struct {
	Written    bool     // some of the request may have been written to the network
	Status     int      // HTTP status; 0 if none was read
	UUIDs      []string // the message UUIDs of a well-formed 2xx response
	APIID      string
	Text       string // Plivo's error text, unchanged
	RetryAfter time.Duration
	Err        error // why there is no status, or why the response could not be read
	MediaIDs   bool  // the request named uploads
}

// Verdict is what an answer means.
type Verdict struct {
	Outcome    Outcome
	Reason     Reason // empty if accepted
	PlivoUUID  string // set only if accepted
	APIID      string
	HTTPStatus int
	RetryAfter time.Duration // as Plivo requested; 0 if it did not
	Detail     string        // shown to users of the workspace; may contain a phone number, so it must not be logged
}

// Judge decides what an answer means. Everything that the evidence does not
// settle is Unknown: Plivo has no idempotency key, so only a clear rejection
// permits another call.
func Judge(a Answer) Verdict {
	v := Verdict{HTTPStatus: a.Status, APIID: clip(a.APIID, 100), RetryAfter: a.RetryAfter, Detail: detail(a)}
	switch {
	case a.Status == 0 && !a.Written:
		v.Outcome, v.Reason = TransientFailure, ReasonUnreachable
	case a.Status == 0:
		v.Outcome, v.Reason = Unknown, ReasonNoResponse
	case a.Status/100 == 2:
		v.judgeSuccess(a)
	default:
		v.Outcome, v.Reason = judgeStatus(a)
		if v.Reason == ReasonServerError && a.Err != nil {
			v.Reason = ReasonMalformedResponse // DOUBT_SILENCE needs an answer that was read whole
		}
	}
	return v
}

// judgeSuccess requires exactly one UUID for the one recipient. With none or
// several, nobody can say which of Plivo's messages is this one.
func (v *Verdict) judgeSuccess(a Answer) {
	if a.Err == nil && len(a.UUIDs) == 1 && plausibleUUID(a.UUIDs[0]) {
		v.Outcome, v.PlivoUUID, v.Detail = Accepted, a.UUIDs[0], ""
		return
	}
	v.Outcome, v.Reason = Unknown, ReasonMalformedResponse
}

// plausibleUUID reports whether s can be stored and used in a request. It does
// not insist on today's format of Plivo's UUIDs: if Plivo changed it, every
// message would be in doubt.
func plausibleUUID(s string) bool {
	return len(s) > 0 && len(s) <= 100 && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// judgeStatus judges a status other than 2xx (Plivo docs, API response codes).
// Where the docs are silent, it prefers the outcome that cannot cause a
// duplicate.
func judgeStatus(a Answer) (Outcome, Reason) {
	switch a.Status {
	case 429:
		return TransientFailure, ReasonRateLimited
	case 401:
		return AccountError, ReasonCredentials
	case 402:
		return AccountError, ReasonCredit
	case 403:
		return PermanentFailure, ReasonForbidden
	case 404, 405, 301, 307, 308:
		// A wrong account ID or base URL, which affects every message. These
		// redirects say that the request has to be made again elsewhere; 302
		// and 303 may follow a request that was carried out.
		return AccountError, ReasonEndpoint
	case 408:
		return Unknown, ReasonNoResponse
	}
	if a.Status < 400 || a.Status >= 500 {
		return Unknown, ReasonServerError
	}
	switch {
	case isInsufficientCredit(a.Text):
		return AccountError, ReasonCredit
	case a.MediaIDs && a.Status == 400 && unknownMedia.MatchString(a.Text):
		return TransientFailure, ReasonPlivoMediaUnknown
	default:
		return PermanentFailure, ReasonRejected
	}
}

// unknownMedia recognizes Plivo's rejection of a media id that it does not know, or no
// longer. Its text is not documented. A match by mistake costs another upload and counts
// as an attempt.
var unknownMedia = regexp.MustCompile(`(?i)\bmedia[_ -]?ids?\b|\bmedia\b.*(not found|unknown|invalid|not exist|expired|deleted)`)

// isInsufficientCredit recognizes Plivo's rejection for lack of credit. Its
// status is not documented; its text was seen as "InsufficientCredit". Only the
// beginning of the text counts, since Plivo may quote the message further on.
func isInsufficientCredit(text string) bool {
	squeezed := strings.ReplaceAll(strings.ToLower(text), " ", "")
	return strings.HasPrefix(squeezed, "insufficientcredit")
}

func detail(a Answer) string {
	text := a.Text
	if a.Err != nil {
		text = strings.TrimSpace(a.Err.Error() + " " + text)
	}
	if len(a.UUIDs) > 1 {
		text = strings.TrimSpace(fmt.Sprintf("%d message UUIDs in one response: %s. %s", len(a.UUIDs), strings.Join(a.UUIDs, ", "), text))
	}
	return clip(text, MaxDetail)
}
