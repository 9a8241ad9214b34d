package mms

import (
	"fmt"
	"strings"
	"time"
)

// Outcome is what one attempt came to.
type Outcome string

// The outcomes of an attempt.
const (
	Accepted         Outcome = "accepted"          // Plivo has it and named its UUID
	TransientFailure Outcome = "transient_failure" // Plivo certainly does not have it and may take it later
	PermanentFailure Outcome = "permanent_failure" // Plivo certainly does not have it and will not take it
	AccountError     Outcome = "account_error"     // Plivo does not have it, and not for the message's fault
	Unknown          Outcome = "unknown"           // Plivo may or may not have it: never sent again blindly
)

// MaxDetail bounds what is kept of Plivo's or the network's words, in bytes.
const MaxDetail = 1000

// Submission is what one attempt asks of Plivo.
type Submission struct {
	Sender      PhoneNumber
	Recipient   PhoneNumber
	Text        string
	MediaURLs   []string
	CallbackURL string // where delivery reports of this attempt go; empty for none

	// MayWrite is asked at the last moment before the request's body leaves
	// us: a worker that was stopped for a while may find that its attempt is
	// not its own any more.
	MayWrite func() bool
}

// Answer is all that is known after one call to Plivo.
type Answer struct {
	Written    bool     // whether any byte of the request may have left us
	Status     int      // HTTP status; 0 when none was read
	UUIDs      []string // the message UUIDs of a well-formed 2xx
	APIID      string
	Text       string // Plivo's error text as it came
	RetryAfter time.Duration
	Err        error // why there is no status, or why the answer could not be read
}

// Verdict is how an answer is to be read.
type Verdict struct {
	Outcome    Outcome
	Reason     Reason // empty when accepted
	PlivoUUID  string // set when accepted
	APIID      string
	HTTPStatus int
	RetryAfter time.Duration // what Plivo asked for; 0 when it did not
	Detail     string        // for the message's owner; may name a phone number, so never logged
}

// Judge reads an answer. What the evidence does not settle is Unknown: Plivo
// has no idempotency key, so only a clear refusal allows another call.
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
		v.Outcome, v.Reason = judgeStatus(a.Status, a.Text)
	}
	return v
}

// judgeSuccess accepts exactly one UUID for our one destination: with none or
// several it cannot be said which message of Plivo's is ours.
func (v *Verdict) judgeSuccess(a Answer) {
	if a.Err == nil && len(a.UUIDs) == 1 && plausibleUUID(a.UUIDs[0]) {
		v.Outcome, v.PlivoUUID, v.Detail = Accepted, a.UUIDs[0], ""
		return
	}
	v.Outcome, v.Reason = Unknown, ReasonMalformedResponse
}

// plausibleUUID accepts what can be stored and asked for again. Plivo's own
// form is not held to: a new one would put every message in doubt.
func plausibleUUID(s string) bool {
	return len(s) > 0 && len(s) <= 100 && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// judgeStatus reads a status outside 2xx. Plivo docs, API response codes; the
// choice where they are silent is ours and leans to the side that cannot send
// twice.
func judgeStatus(status int, text string) (Outcome, Reason) {
	switch status {
	case 429:
		return TransientFailure, ReasonRateLimited
	case 401:
		return AccountError, ReasonCredentials
	case 402:
		return AccountError, ReasonCredit
	case 403:
		return PermanentFailure, ReasonForbidden
	case 404, 405, 301, 307, 308:
		// A wrong account id or base URL: no message is at fault. These
		// redirects say that the request is still to be made, elsewhere; 302
		// and 303 may follow a request that was carried out.
		return AccountError, ReasonEndpoint
	case 408:
		return Unknown, ReasonNoResponse
	}
	if status >= 400 && status < 500 {
		if isInsufficientCredit(text) {
			return AccountError, ReasonCredit
		}
		return PermanentFailure, ReasonRejected
	}
	return Unknown, ReasonServerError
}

// isInsufficientCredit recognises Plivo's refusal for want of credit, whose status is
// not documented; the text was seen as "InsufficientCredit". It has to begin so:
// elsewhere in a text it may be a part of the message that Plivo repeats.
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
		text = strings.TrimSpace(fmt.Sprintf("%d message UUIDs in one answer: %s. %s", len(a.UUIDs), strings.Join(a.UUIDs, ", "), text))
	}
	return clip(text, MaxDetail)
}
