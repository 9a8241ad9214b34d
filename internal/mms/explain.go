package mms

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"time"
)

// Reason is why a message failed or waits, as a stable code.
type Reason string

// The reasons. A code that Plivo itself gave is kept beside it, in PlivoCode.
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
	ReasonPersistentAccountError Reason = "persistent_account_error" // account errors that other messages do not get
	ReasonListUnavailable        Reason = "list_unavailable"         // held: Plivo's list cannot be read
	ReasonReported               Reason = "reported"                 // a delivery report said so
	ReasonExpired                Reason = "expired"
	ReasonOptedOut               Reason = "opted_out"
	ReasonAmbiguous              Reason = "ambiguous"       // held: it is uncertain which message a listed one belongs to
	ReasonNotFound               Reason = "not_found"       // no listed message matches after the full wait
	ReasonNotReported            Reason = "not_reported"    // no report came, while others did (decision 7)
	ReasonUnresolved             Reason = "unresolved"      // no attempt is left, and an outcome stayed unknown
	ReasonDecidedSent            Reason = "decided_sent"    // a person decided
	ReasonDecidedGiveUp          Reason = "decided_give_up" // a person decided
	ReasonDecidedRetry           Reason = "decided_retry"   // a person decided

	// Of a message whose media cannot be used. What was found is in the event.
	ReasonMediaNotFound     Reason = "media_not_found"
	ReasonMediaGone         Reason = "media_gone"
	ReasonMediaRefused      Reason = "media_refused" // another status than 200
	ReasonMediaPrivate      Reason = "media_private"
	ReasonMediaRedirects    Reason = "media_redirects"
	ReasonMediaNoType       Reason = "media_no_type"
	ReasonMediaNoLength     Reason = "media_no_length"
	ReasonMediaChunked      Reason = "media_chunked"
	ReasonMediaCompressed   Reason = "media_compressed"
	ReasonMediaTypeDiffers  Reason = "media_type_differs"
	ReasonMediaUnsupported  Reason = "media_unsupported_type"
	ReasonMediaTooLarge     Reason = "media_too_large"
	ReasonMediaTotal        Reason = "media_total_too_large"
	ReasonMediaUnusable     Reason = "media_unusable"      // damaged, or cannot be made to fit
	ReasonMediaRejected     Reason = "media_rejected"      // by Plivo's upload
	ReasonMediaMissing      Reason = "media_missing"       // its content is gone
	ReasonMediaUnreachable  Reason = "media_unreachable"   // of a check: the host does not answer, or with an error that may pass
	ReasonPlivoMediaUnknown Reason = "plivo_media_unknown" // Plivo no longer has an upload
)

var reasonDescriptions = map[Reason]string{
	ReasonUnreachable:            "Plivo could not be reached.",
	ReasonRateLimited:            "Plivo's limit on requests was exceeded.",
	ReasonCredentials:            "Plivo rejected the account's credentials. Messages wait until the operator fixes the credentials.",
	ReasonCredit:                 "The Plivo account has no credit left. Messages wait until the operator tops it up.",
	ReasonEndpoint:               "Plivo's address or the account ID appears to be wrong. Messages wait until the operator fixes the setting.",
	ReasonForbidden:              "Plivo does not allow this account to send this message, for example because the destination country is not enabled.",
	ReasonRejected:               "Plivo rejected the message.",
	ReasonAttemptsExhausted:      "The last attempt failed, and no more attempts are allowed.",
	ReasonNoResponse:             "The request was sent to Plivo, but no response arrived.",
	ReasonServerError:            "Plivo answered with a server error, which leaves open whether it accepted the message.",
	ReasonMalformedResponse:      "Plivo's response was incomplete or malformed.",
	ReasonWorkerLost:             "The worker stopped during the call to Plivo.",
	ReasonPersistentAccountError: "Plivo kept rejecting this message with an account error while it accepted others.",
	ReasonListUnavailable:        "Plivo's list of messages could not be read for a long time, so there is no evidence.",
	ReasonReported:               "Plivo reported the failure.",
	ReasonExpired:                "It expired before it could be sent.",
	ReasonOptedOut:               "The recipient has opted out.",
	ReasonAmbiguous:              "Plivo lists a message that could be this one, but it is not certain which message it belongs to.",
	ReasonNotFound:               "Plivo still did not list the message when the waiting time ended.",
	ReasonNotReported:            "Plivo answered with a server error and sent no report about the message, although it promptly reported others.",
	ReasonUnresolved:             "Plivo did not say clearly whether it accepted the message, there is no evidence that it did, and no more attempts are allowed.",
	ReasonDecidedSent:            "Marked as sent by a person.",
	ReasonDecidedGiveUp:          "Given up by a person.",
	ReasonDecidedRetry:           "A person chose to send it again.",
	ReasonMediaNotFound:          "The host of a picture says that there is nothing at its link (404).",
	ReasonMediaGone:              "The host of a picture says that it was removed (410).",
	ReasonMediaRefused:           "The host of a picture refused to hand it out.",
	ReasonMediaPrivate:           "The link of a picture leads to a private or reserved address, which Plivo cannot reach.",
	ReasonMediaRedirects:         "The link of a picture redirects too often, or to an address that cannot be used.",
	ReasonMediaNoType:            "The host of a picture does not say what type it has (Content-Type), which Plivo requires.",
	ReasonMediaNoLength:          "The host of a picture does not say how large it is (Content-Length), which Plivo requires.",
	ReasonMediaChunked:           "The host of a picture sends it in chunks instead of saying how large it is (Content-Length), which Plivo requires.",
	ReasonMediaCompressed:        "The host of a picture sends it compressed (Content-Encoding), which Plivo cannot use.",
	ReasonMediaTypeDiffers:       "A file is not of the type that its host says (Content-Type), so Plivo would reject it.",
	ReasonMediaUnsupported:       "A file is of a type that cannot be sent by MMS.",
	ReasonMediaTooLarge:          "A file is larger than Plivo allows.",
	ReasonMediaTotal:             "The files of the message together are larger than Plivo allows.",
	ReasonMediaUnusable:          "A picture is damaged or cannot be made to fit.",
	ReasonMediaRejected:          "Plivo rejected a picture of the message.",
	ReasonMediaMissing:           "A picture of the message is no longer stored.",
	ReasonMediaUnreachable:       "The host of a picture did not answer, or answered with an error that may pass.",
	ReasonPlivoMediaUnknown:      "Plivo no longer has a picture of the message. Postcard uploads it again.",
}

// Reasons returns every reason, sorted.
func Reasons() []Reason { return slices.Sorted(maps.Keys(reasonDescriptions)) }

// Description explains the reason in a sentence; "" for no reason. An unknown
// reason is returned as it is.
func (r Reason) Description() string {
	if description, ok := reasonDescriptions[r]; ok || r == "" {
		return description
	}
	return string(r)
}

var statusTitles = map[Status]string{
	Scheduled:   "Scheduled",
	Queued:      "Queued",
	Sending:     "Sending",
	InDoubt:     "In doubt",
	Submitted:   "Submitted to Plivo",
	Sent:        "Sent",
	Delivered:   "Delivered",
	Undelivered: "Not delivered",
	Failed:      "Failed",
	Canceled:    "Canceled",
}

// Title is the status as a heading.
func (s Status) Title() string { return statusTitles[s] }

// NextStep tells the user what to do, in plain language; "" if there
// is nothing to do.
func (m Message) NextStep() string {
	switch {
	case m.Held:
		return "Choose: mark as sent, retry or give up."
	case m.Status == Queued && m.BatchState == BatchPaused:
		return "Resume its batch to send it."
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
	ReasonForbidden:              "Ask the operator to have the destination country or the feature enabled at Plivo, then resend the message.",
	ReasonRejected:               "Correct what Plivo rejected (see the attempts), and send a new message.",
	ReasonAttemptsExhausted:      "Resend it later. If this happens often, tell the operator.",
	ReasonUnresolved:             "If it matters, ask the recipient whether it arrived before you resend it. If this happens often, tell the operator.",
	ReasonExpired:                "Resend it if it is still useful.",
	ReasonPersistentAccountError: "Tell the operator: the sender's number or this destination is probably not set up correctly at Plivo (see the attempts).",
	ReasonOptedOut:               nextRespectOptOut,
	ReasonMediaNotFound:          "Correct the link, or upload the picture, and send a new message.",
	ReasonMediaGone:              nextUpload,
	ReasonMediaRefused:           "Make the picture available to everybody, without a login, or upload it, and send a new message.",
	ReasonMediaPrivate:           "Put the picture on a public host, or upload it, and send a new message.",
	ReasonMediaRedirects:         "Enter the address that the link leads to in the end, or upload the picture, and send a new message.",
	ReasonMediaNoType:            nextHost,
	ReasonMediaNoLength:          nextHost,
	ReasonMediaChunked:           nextHost,
	ReasonMediaCompressed:        "Turn off compression for pictures at the host, or upload the picture, and send a new message.",
	ReasonMediaTypeDiffers:       nextHost,
	ReasonMediaUnsupported:       "Use a JPEG, PNG or GIF picture, and send a new message.",
	ReasonMediaTooLarge:          "Make the file smaller (2 MB at most), or let Postcard make the picture fit, and send a new message.",
	ReasonMediaTotal:             "Send fewer or smaller files (5 MB at most together), or let Postcard make the pictures fit.",
	ReasonMediaUnusable:          "Use another picture (see the history for what is wrong with this one), and send a new message.",
	ReasonMediaRejected:          "Use another picture (see the history for what Plivo said), and send a new message.",
	ReasonMediaMissing:           "Upload the picture again, and send a new message.",
}

const (
	nextUpload = "Upload the picture, and send a new message."
	nextHost   = "Correct the host's answer (see the history), or upload the picture, and send a new message."
)

// Explain describes in plain language the message's status and what happens next.
func (m Message) Explain() string {
	switch m.Status {
	case Scheduled:
		return "The message is stored and will be sent at its scheduled time."
	case Queued:
		return m.explainQueued()
	case Sending:
		return "A worker is sending the message to Plivo."
	case InDoubt:
		return m.explainInDoubt()
	case Submitted:
		if m.Final() {
			return "Plivo accepted the message, but never reported what happened to it."
		}
		return "Plivo accepted the message and will pass it to the carrier."
	case Sent:
		return m.explainSent()
	case Delivered:
		return "The carrier confirmed that the message was delivered."
	case Undelivered:
		return "The carrier could not deliver the message. " + ExplainPlivoCode(m.PlivoCode).Explain()
	case Failed:
		return m.explainFailed()
	case Canceled:
		return "The message was canceled before it was sent."
	}
	return ""
}

// explainQueued says what a queued message waits for besides the sender's rate limit. Of
// several pauses, it names the one that must end first.
func (m Message) explainQueued() string {
	explanation := "The message is stored and waiting to be sent."
	switch {
	case m.Preparing:
		explanation = m.explainPreparing()
	case m.Attempts > 0:
		explanation = fmt.Sprintf("%s It will be tried again (attempts so far: %d).", m.Reason.Description(), m.Attempts)
	}
	switch {
	case m.BatchState == BatchPaused:
		explanation += " Its batch was paused by a user, and it waits until the batch is resumed."
	case m.BatchState == BatchCanceled:
		explanation += " Its batch was canceled by a user, and it will be canceled too."
	case m.Pause.Active():
		explanation += " " + m.Pause.Explain()
	case m.SenderResting:
		explanation += " Its sender number rests: an admin has taken it out of use, and the message waits until it is put back or the message expires."
	}
	return explanation
}

// explainPreparing says what keeps the media from being ready, if something does.
func (m Message) explainPreparing() string {
	const preparing = "The message is stored. Its pictures are being prepared before it is sent."
	if m.MediaProblem == "" {
		return preparing
	}
	return fmt.Sprintf("%s %s Postcard tries again until the message expires.", preparing, m.MediaProblem)
}

// Explain says who paused all sending, when, why, and how it ends; "" if nothing did.
func (p Pause) Explain() string {
	if !p.Active() {
		return ""
	}
	since := ""
	if !p.Since.IsZero() {
		since = p.Since.UTC().Format(" on 2 Jan 2006, 15:04:05 UTC")
	}
	return fmt.Sprintf("Postcard paused all sending%s. %s Postcard keeps trying one message at a time and resumes when Plivo accepts one.", since, p.Cause.Description())
}

func (m Message) explainInDoubt() string {
	next := "Postcard is checking with Plivo before it does anything else."
	if m.Held {
		next = "It is held for a decision, because sending it again could reach the recipient twice."
	}
	return "Plivo may or may not have the message. " + m.Reason.Description() + " " + next
}

func (m Message) explainSent() string {
	switch {
	case m.Reason == ReasonDecidedSent:
		return m.Reason.Description()
	case m.Final():
		return "The carrier has the message. It did not confirm delivery, which is usual in the US and Canada."
	}
	return "The carrier has the message. In the US and Canada, this is often the last report."
}

func (m Message) explainFailed() string {
	switch m.Reason {
	case ReasonReported:
		return "Plivo could not send the message. " + ExplainPlivoCode(m.PlivoCode).Explain()
	case ReasonDecidedGiveUp, ReasonUnresolved:
		return "Whether the message was sent is unknown. " + m.Reason.Description()
	}
	return "The message was not sent. " + m.Reason.Description()
}

// Description says in plain language how many messages are ahead, and about how long they
// take. It gives no time while a pause stops the message, which Message.Explain explains.
func (p QueuePosition) Description() string {
	stopped := p.Paused || p.Resting || p.Batch == BatchPaused || p.Batch == BatchCanceled
	switch {
	case stopped && p.Ahead == 0:
		return "No message is ahead of it."
	case stopped && p.Ahead >= MaxCounted:
		return fmt.Sprintf("At least %d messages are ahead of it.", MaxCounted)
	case stopped:
		return Counted(p.Ahead, "message") + " ahead."
	case p.Ahead == 0 && p.Wait < time.Minute:
		return "It is next in the queue."
	case p.Ahead >= MaxCounted:
		return fmt.Sprintf("At least %d messages are ahead: about %s or more.", p.Ahead, approximate(p.Wait))
	default:
		return fmt.Sprintf("%s ahead, about %s.", Counted(p.Ahead, "message"), approximate(p.Wait))
	}
}

// approximate writes a duration in minutes, or in hours from two hours on,
// rounded up.
func approximate(d time.Duration) string {
	if d > 2*time.Hour {
		return Counted(int(math.Ceil(d.Hours())), "hour")
	}
	return Counted(max(1, int(math.Ceil(d.Minutes()))), "minute")
}

// Counted writes the number with the noun, which gets an s unless n is 1.
func Counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
