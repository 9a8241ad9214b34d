package mms

import (
	"fmt"
	"math"
	"time"
)

// Reason is why a message failed or waits, as a stable code.
type Reason string

// The reasons. Where Plivo gave a code of its own, it stands beside as PlivoCode.
const (
	ReasonUnreachable            Reason = "plivo_unreachable"
	ReasonRateLimited            Reason = "rate_limited"
	ReasonCredentials            Reason = "plivo_credentials"
	ReasonCredit                 Reason = "plivo_credit"
	ReasonEndpoint               Reason = "plivo_endpoint"
	ReasonForbidden              Reason = "forbidden"
	ReasonRejected               Reason = "rejected_by_plivo"
	ReasonAttemptsExhausted      Reason = "attempts_exhausted"
	ReasonNoResponse             Reason = "no_response"
	ReasonServerError            Reason = "plivo_server_error"
	ReasonMalformedResponse      Reason = "malformed_response"
	ReasonWorkerLost             Reason = "worker_lost"
	ReasonPersistentAccountError Reason = "persistent_account_error" // account trouble that other messages do not have
	ReasonListUnavailable        Reason = "list_unavailable"         // held: Plivo's list cannot be read
	ReasonReported               Reason = "reported"                 // a delivery report said so
	ReasonExpired                Reason = "expired"
	ReasonOptedOut               Reason = "opted_out"
	ReasonAmbiguous              Reason = "ambiguous"       // held: several of Plivo's messages may be it
	ReasonNotFound               Reason = "not_found"       // Plivo does not list it after the full wait
	ReasonDecidedSent            Reason = "decided_sent"    // a person said so
	ReasonDecidedGiveUp          Reason = "decided_give_up" // a person said so
	ReasonDecidedResend          Reason = "decided_resend"  // a person said so
)

var reasonDescriptions = map[Reason]string{
	ReasonUnreachable:            "Plivo could not be reached.",
	ReasonRateLimited:            "Plivo asked us to slow down.",
	ReasonCredentials:            "Plivo refused our account's credentials. The operator has to correct them; the message waits.",
	ReasonCredit:                 "The Plivo account has no credit left. The operator has to top it up; the message waits.",
	ReasonEndpoint:               "Plivo's address or the account's id seems to be wrong. The operator has to correct it; the message waits.",
	ReasonForbidden:              "Plivo does not allow this account to send this message, for example because the destination country is not enabled.",
	ReasonRejected:               "Plivo refused the message.",
	ReasonAttemptsExhausted:      "Plivo did not take the message in any of the attempts.",
	ReasonNoResponse:             "The message was handed to Plivo, but no answer came back.",
	ReasonServerError:            "Plivo answered with an error of its own that leaves open whether it has the message.",
	ReasonMalformedResponse:      "Plivo's answer could not be understood.",
	ReasonWorkerLost:             "The worker stopped in the middle of the call to Plivo.",
	ReasonPersistentAccountError: "Plivo refused it for the account's sake again and again, while other messages passed.",
	ReasonListUnavailable:        "Plivo's list could not be read for a long time, so there is no evidence.",
	ReasonReported:               "The delivery report said so.",
	ReasonExpired:                "It could not be sent in time and would have come too late.",
	ReasonOptedOut:               "The recipient has opted out of messages from this sender.",
	ReasonAmbiguous:              "Plivo lists several messages that could be this one.",
	ReasonNotFound:               "Plivo does not list the message after the full waiting time.",
	ReasonDecidedSent:            "A person decided that it was sent.",
	ReasonDecidedGiveUp:          "A person decided not to send it again.",
	ReasonDecidedResend:          "A person decided to send it again.",
}

// Description explains the reason in a sentence; "" for none.
func (r Reason) Description() string {
	if words, ok := reasonDescriptions[r]; ok || r == "" {
		return words
	}
	return string(r)
}

var statusTitles = map[Status]string{
	Scheduled:   "Scheduled",
	Queued:      "Queued",
	Sending:     "Sending",
	InDoubt:     "In doubt",
	Submitted:   "With Plivo",
	Sent:        "Sent",
	Delivered:   "Delivered",
	Undelivered: "Not delivered",
	Failed:      "Failed",
	Canceled:    "Canceled",
}

// Title is the status as a heading.
func (s Status) Title() string { return statusTitles[s] }

// NextStep says in plain words what the sender can do; "" where there is nothing
// to do but wait, or nothing more at all.
func (m Message) NextStep() string {
	switch {
	case m.Held:
		return "Please decide below: was it sent, shall it be sent again, or is it given up?"
	case m.Status == Undelivered || m.Status == Failed && m.Reason == ReasonReported:
		return ExplainPlivoCode(m.PlivoCode).NextStep
	case m.Status == Failed:
		return failedNextSteps[m.Reason]
	case m.Final() && m.PlivoUUID != "" && (m.Status == Sent || m.Status == Submitted):
		return "If it matters, ask the recipient whether it arrived."
	}
	return ""
}

var failedNextSteps = map[Reason]string{
	ReasonForbidden:              "Ask the operator to have the destination's country or feature enabled at Plivo, then send it again.",
	ReasonRejected:               "Correct what Plivo named (see the attempts), and send it again.",
	ReasonAttemptsExhausted:      "Send it again later. If it happens often, tell the operator.",
	ReasonExpired:                "Send it again if it still makes sense.",
	ReasonPersistentAccountError: "Tell the operator: something about the sender's number or this destination is wrong at Plivo (see the attempts).",
	ReasonOptedOut:               "Do not send to this number unless the recipient asks for it, by texting START to the sender's number.",
}

// Explain says in plain words where the message stands and what comes next.
func (m Message) Explain() string {
	switch m.Status {
	case Scheduled:
		return "The message is stored safely and will be sent at its set time."
	case Queued:
		return m.explainQueued()
	case Sending:
		return "A worker is handing the message to Plivo right now."
	case InDoubt:
		return "Plivo may or may not have the message. " + m.Reason.Description() + " It is held, because sending it again could reach the recipient twice."
	case Submitted:
		if m.Final() {
			return "Plivo took the message and never said what became of it."
		}
		return "Plivo has the message and will hand it to the carrier."
	case Sent:
		if m.Reason == ReasonDecidedSent {
			return m.Reason.Description()
		}
		if m.Final() {
			return "The carrier has the message. No word came that it arrived; in the US and Canada this is usual."
		}
		return "The carrier has the message. In the US and Canada this is often the last word we get."
	case Delivered:
		return "The carrier confirmed that the message arrived."
	case Undelivered:
		return "The carrier could not deliver the message. " + ExplainPlivoCode(m.PlivoCode).Explain()
	case Failed:
		return m.explainFailed()
	case Canceled:
		return "The message was canceled before it was sent."
	}
	return ""
}

func (m Message) explainQueued() string {
	if m.Attempts == 0 {
		return "The message is stored safely and waits for a worker."
	}
	return fmt.Sprintf("%s It will be tried again (attempts so far: %d).", m.Reason.Description(), m.Attempts)
}

func (m Message) explainFailed() string {
	if m.Reason == ReasonReported {
		return "Plivo could not send the message. " + ExplainPlivoCode(m.PlivoCode).Explain()
	}
	return "The message was not sent. " + m.Reason.Description()
}

// Description says in plain words what the message waits for, and about how long.
func (p QueuePosition) Description() string {
	switch {
	case p.Paused != "":
		return "All sending is paused. " + p.Paused.Description()
	case p.Batch == BatchPaused || p.Batch == BatchCanceled:
		return fmt.Sprintf("Its batch is %s.", p.Batch)
	case p.Ahead == 0 && p.Wait < time.Minute:
		return "It is next in line."
	case p.Ahead >= MaxCounted:
		return fmt.Sprintf("%d messages or more are ahead: about %s at the least.", p.Ahead, aboutTime(p.Wait))
	default:
		return fmt.Sprintf("%s ahead, about %s.", Counted(p.Ahead, "message"), aboutTime(p.Wait))
	}
}

// aboutTime rounds up to what people care about.
func aboutTime(d time.Duration) string {
	if d > 2*time.Hour {
		return Counted(int(math.Ceil(d.Hours())), "hour")
	}
	return Counted(max(1, int(math.Ceil(d.Minutes()))), "minute")
}

// Counted is the number with the word, in the plural but for one.
func Counted(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}
