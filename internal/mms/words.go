package mms

import "fmt"

// Reason is why a message failed or waits, as a stable code.
type Reason string

// The reasons. Where Plivo gave a code of its own, it stands beside as PlivoCode.
const (
	ReasonUnreachable    Reason = "plivo_unreachable"
	ReasonRateLimited    Reason = "rate_limited"
	ReasonCredentials    Reason = "plivo_credentials"
	ReasonCredit         Reason = "plivo_credit"
	ReasonAddress        Reason = "plivo_address"
	ReasonForbidden      Reason = "forbidden"
	ReasonRefused        Reason = "refused_by_plivo"
	ReasonAttemptsUsedUp Reason = "attempts_used_up"
	ReasonNoAnswer       Reason = "no_answer"
	ReasonServerError    Reason = "plivo_server_error"
	ReasonBrokenAnswer   Reason = "broken_answer"
	ReasonWorkerLost     Reason = "worker_lost"
	ReasonReported       Reason = "reported" // a delivery report said so
	ReasonExpired        Reason = "expired"
	ReasonAmbiguous      Reason = "ambiguous"       // held: several of Plivo's messages may be it
	ReasonNotFound       Reason = "not_found"       // Plivo does not list it after the full wait
	ReasonDecidedSent    Reason = "decided_sent"    // a person said so
	ReasonDecidedGiveUp  Reason = "decided_give_up" // a person said so
	ReasonDecidedAgain   Reason = "decided_again"   // a person said so
)

var reasonWords = map[Reason]string{
	ReasonUnreachable:    "Plivo could not be reached.",
	ReasonRateLimited:    "Plivo asked us to slow down.",
	ReasonCredentials:    "Plivo refused our account's credentials. The operator has to correct them; the message waits.",
	ReasonCredit:         "The Plivo account has no credit left. The operator has to top it up; the message waits.",
	ReasonAddress:        "Plivo's address or the account's id seems to be wrong. The operator has to correct it; the message waits.",
	ReasonForbidden:      "Plivo does not allow this account to send this message, for example because the destination country is not enabled.",
	ReasonRefused:        "Plivo refused the message.",
	ReasonAttemptsUsedUp: "Plivo did not take the message in any of the attempts.",
	ReasonNoAnswer:       "The message was handed to Plivo, but no answer came back.",
	ReasonServerError:    "Plivo answered with an error of its own that leaves open whether it has the message.",
	ReasonBrokenAnswer:   "Plivo's answer could not be understood.",
	ReasonWorkerLost:     "The worker stopped in the middle of the call to Plivo.",
	ReasonReported:       "The delivery report said so.",
	ReasonExpired:        "It could not be sent in time and would have come too late.",
	ReasonAmbiguous:      "Plivo lists several messages that could be this one.",
	ReasonNotFound:       "Plivo does not list the message after the full waiting time.",
	ReasonDecidedSent:    "A person decided that it was sent.",
	ReasonDecidedGiveUp:  "A person decided not to send it again.",
	ReasonDecidedAgain:   "A person decided to send it again.",
}

// Words explains the reason in a sentence; "" for none.
func (r Reason) Words() string {
	if words, ok := reasonWords[r]; ok || r == "" {
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

// Explain says in plain words where the message stands and what comes next.
func (m Message) Explain() string {
	switch m.Status {
	case Scheduled:
		return "The message will be sent at its set time."
	case Queued:
		return m.explainQueued()
	case Sending:
		return "A worker is handing the message to Plivo right now."
	case InDoubt:
		return "Plivo may or may not have the message. " + m.Reason.Words() + " It is held, because sending it again could reach the recipient twice."
	case Submitted:
		if m.Final() {
			return "Plivo took the message and never said what became of it."
		}
		return "Plivo has the message and will hand it to the carrier."
	case Sent:
		if m.Final() {
			return "The carrier has the message. No word came that it arrived; in the US and Canada this is usual."
		}
		return "The carrier has the message. In the US and Canada this is often the last word we get."
	case Delivered:
		return "The carrier confirmed that the message arrived."
	case Undelivered:
		return "The carrier could not deliver the message. " + PlivoCodeWords(m.PlivoCode)
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
	return fmt.Sprintf("%s It will be tried again (attempts so far: %d).", m.Reason.Words(), m.Attempts)
}

func (m Message) explainFailed() string {
	if m.Reason == ReasonReported {
		return "Plivo could not send the message. " + PlivoCodeWords(m.PlivoCode)
	}
	return "The message was not sent. " + m.Reason.Words()
}

// plivoCodeWords explains the error codes whose meaning Plivo has published
// (Plivo docs, messaging error codes; support articles on message expiry,
// opt-out, geo permissions and credit). The list is open: an unknown code is
// shown as it came.
var plivoCodeWords = map[string]string{
	"10":   "The carrier called the message invalid.",
	"20":   "The carrier's network had an error.",
	"30":   "The carrier's filter took it for spam.",
	"40":   "The sender's number is not valid or not enabled for this.",
	"50":   "The recipient's number is not valid, or not a mobile phone.",
	"60":   "The carriers passed the message round in a circle.",
	"70":   "The recipient cannot be reached, permanently.",
	"80":   "The recipient cannot be reached at present: the phone may be off or without coverage.",
	"90":   "No route to the recipient's carrier was available.",
	"100":  "The carrier does not allow or support such messages.",
	"110":  "The message is too long.",
	"120":  "The pictures are too large in total.",
	"200":  "The recipient has opted out of messages from this sender.",
	"420":  "The message waited too long in Plivo's queue and expired.",
	"450":  "The recipient's country is not enabled for this Plivo account.",
	"900":  "The Plivo account had no credit left.",
	"1000": "Plivo gave no reason.",
}

// OptedOutCode is Plivo's error code for a recipient who has opted out of
// messages from the sender.
const OptedOutCode = "200"

// PlivoCodeWords explains a Plivo error code in a sentence.
func PlivoCodeWords(code string) string {
	if code == "" || code == "000" {
		return "No reason was given."
	}
	if words, ok := plivoCodeWords[code]; ok {
		return fmt.Sprintf("%s (Plivo's code %s)", words, code)
	}
	return fmt.Sprintf("Plivo's code is %s, whose meaning is not published.", code)
}
