package operator

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/pasted"
)

var (
	// ErrNoSender says that no sender has the number.
	ErrNoSender = errors.New("no sender has this number")

	// ErrSenderOfEnvironment says that a sender cannot be removed, because it is in the
	// environment.
	ErrSenderOfEnvironment = errors.New("the sender is in the environment")
)

// Sender is a number that messages are sent from.
type Sender struct {
	Number        mms.PhoneNumber
	InEnvironment bool // in PLIVO_SENDER_NUMBER of this api
	OnPage        bool // added on the page
	AddedAt       *time.Time

	Environment  *time.Duration // interval by the workers' environment; 0: no limit; nil: no worker has said yet
	Rate         *float64       // messages per minute set on the page, which wins; 0: no limit; nil: none
	Interval     *time.Duration // interval in effect; nil: no worker has said yet
	RestingSince *time.Time     // nil: it is in use

	Waiting int           // messages in its backlog; at most mms.MaxCounted
	Wait    time.Duration // estimate of how long they take; a lower bound if Waiting is mms.MaxCounted or it rests

	CountedAt     *time.Time // when the messages of the last 7 days were counted; nil: not yet
	WeekDelivered int
	WeekSent      int // without a confirmed delivery
	WeekFailed    int // or undelivered

	AtPlivo NumberState
}

// Removable reports whether the sender can be removed on the page.
func (s Sender) Removable() bool { return s.OnPage && !s.InEnvironment }

// NumberState is what Plivo said about a number.
type NumberState struct {
	Number
	CheckedAt *time.Time // nil: Plivo has not been asked yet
	Problem   string     // why the last query got no answer; Number is older then
}

// Number is a number as Plivo describes it. Plivo does not document the values of the
// registration fields, so they are shown as they come.
type Number struct {
	Found       bool // the account has it
	Type        string
	MMS         bool
	TenDLC      string // status of the 10DLC registration
	Campaign    string // of the 10DLC registration
	TollFree    string // status of the toll-free verification
	Application bool   // it has one; without it, what people write is lost
	MessageURL  string // of the application
}

// RepliesLost says why what people write to the number does not reach us; "" if it does, or
// if that is not known. inbound is our message URL; empty if Plivo cannot reach us.
func (s NumberState) RepliesLost(inbound string) string {
	switch {
	case s.CheckedAt == nil || !s.Found || inbound == "":
		return ""
	case !s.Application:
		return "Replies to this number are lost: it has no application at Plivo."
	case strings.TrimSuffix(s.MessageURL, "/") != inbound:
		return "Replies to this number are lost: its message URL is not ours."
	}
	return ""
}

// Warnings says what keeps messages from being sent from the number, as far as Plivo knows.
func (s NumberState) Warnings() []string {
	var warnings []string
	switch {
	case s.CheckedAt == nil:
	case !s.Found && s.Problem == "":
		warnings = append(warnings, "The Plivo account does not have this number: Plivo rejects messages from it.")
	case s.Found && !s.MMS:
		warnings = append(warnings, "MMS is not enabled for this number: Plivo rejects messages from it.")
	}
	return warnings
}

// maxRate bounds a sender's rate, in messages per minute. Plivo allows 300 requests in 5 s
// for a whole account (Plivo docs, account limits).
const maxRate = 3600

// ParseRate reads a rate in messages per minute, as people type it. An empty one is nil: the
// environment's.
func ParseRate(typed string, violations *invalid.Fields) *float64 {
	typed = pasted.Clean(typed)
	if typed == "" {
		return nil
	}
	rate, err := strconv.ParseFloat(typed, 64)
	if err != nil {
		violations.Add("rate", "type", "must be a number of messages per minute, such as 15 or 0.5")
		return nil
	}
	checkRate(rate, violations)
	return &rate
}

func checkRate(rate float64, violations *invalid.Fields) {
	if !(rate == 0 || rate >= 0.01 && rate <= maxRate) { // false for NaN
		violations.Add("rate", "range", "must be 0 for no limit, or from 0.01 to "+strconv.Itoa(maxRate)+" messages per minute")
	}
}

// parseNumber reads the number of a sender as people type it.
func parseNumber(typed string, refuseFictional bool, violations *invalid.Fields) mms.PhoneNumber {
	n, err := mms.ParseTypedPhoneNumber(typed)
	switch {
	case pasted.Clean(typed) == "":
		violations.Add("number", "required", "is missing")
	case err != nil:
		violations.Add("number", "e164", err.Error())
	case refuseFictional && n.IsFictional():
		violations.Add("number", "fictional", "is a number for films and examples (555-0100 to 555-0199): enter one that you have rented from Plivo")
	}
	return n
}
