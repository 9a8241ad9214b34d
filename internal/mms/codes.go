package mms

import (
	"fmt"
	"strings"
)

// OptedOutCode is Plivo's error code for a recipient who has opted out of
// messages from the sender.
const OptedOutCode = "200"

// Responsible says who can resolve a failure.
type Responsible string

// The responsible parties.
const (
	ResponsibleMessage   Responsible = "message"   // the submitter: the message or its recipient number is wrong
	ResponsibleOperator  Responsible = "operator"  // the operator of this installation and its Plivo account
	ResponsiblePlivo     Responsible = "plivo"     // Plivo
	ResponsibleCarrier   Responsible = "carrier"   // the recipient's carrier
	ResponsibleRecipient Responsible = "recipient" // the recipient or their phone
	ResponsibleUnknown   Responsible = "unknown"
)

var responsibleDescriptions = map[Responsible]string{
	ResponsibleMessage: "the message or its recipient number", ResponsibleOperator: "this installation or its Plivo account", ResponsiblePlivo: "Plivo",
	ResponsibleCarrier: "the recipient's carrier", ResponsibleRecipient: "the recipient or their phone", ResponsibleUnknown: "unknown",
}

// Description names the responsible party for people.
func (r Responsible) Description() string { return responsibleDescriptions[r] }

// CodeMeaning explains a Plivo error code in plain language.
type CodeMeaning struct {
	Code        string // empty if Plivo gave none
	Description string // what happened
	Responsible Responsible
	NextStep    string // what to do
}

const (
	nextCheckNumber   = "Check the number with the recipient before you resend the message."
	nextLater         = "Resend it later."
	nextOperator      = "Tell the operator. Resend the message when the problem is fixed."
	nextRespectOptOut = "Do not send to this number unless the recipient opts in again, by texting START to the number from which they opted out."
)

// codeMeanings explains the error codes whose meaning Plivo has published (Plivo
// docs, messaging error codes; support articles on message expiry, opt-out, geo
// permissions, file sizes and credit). Plivo may add codes at any time.
var codeMeanings = map[string]CodeMeaning{
	"10":         {Description: "The carrier rejected the message as invalid.", Responsible: ResponsibleMessage, NextStep: "Change the text or the pictures, and send a new message."},
	"20":         {Description: "The carrier's network had an error.", Responsible: ResponsibleCarrier, NextStep: nextLater},
	"30":         {Description: "The carrier's filter classified the message as spam.", Responsible: ResponsibleMessage, NextStep: "Do not resend it unchanged: change the text and its links. If this happens often, ask the operator to check the sender's registration."},
	"40":         {Description: "The sender's number is invalid or not enabled for this message.", Responsible: ResponsibleOperator, NextStep: nextOperator},
	"50":         {Description: "The recipient's number is invalid or not a mobile phone.", Responsible: ResponsibleMessage, NextStep: nextCheckNumber},
	"60":         {Description: "The message was routed in a loop between carriers.", Responsible: ResponsibleCarrier, NextStep: nextLater},
	"70":         {Description: "The recipient is permanently unreachable.", Responsible: ResponsibleRecipient, NextStep: nextCheckNumber},
	"80":         {Description: "The recipient is temporarily unreachable: the phone may be off or out of coverage.", Responsible: ResponsibleRecipient, NextStep: nextLater},
	"90":         {Description: "No route to the recipient's carrier was available.", Responsible: ResponsibleCarrier, NextStep: "Resend it once, later. If it fails again, tell the operator."},
	"100":        {Description: "The carrier prohibits or does not support this kind of message.", Responsible: ResponsibleCarrier, NextStep: "Reach the recipient another way, for example by a plain text message or at another number."},
	"110":        {Description: "The message is too long.", Responsible: ResponsibleMessage, NextStep: "Shorten the text, and send a new message."},
	TooLargeCode: {Description: "The pictures together are too large.", Responsible: ResponsibleMessage, NextStep: "Wait a minute: the history says whether Postcard has resent it with smaller pictures. If not, make them smaller (every carrier accepts 600 kB), and send a new message."},
	OptedOutCode: {Description: "The recipient has opted out of messages from this sender.", Responsible: ResponsibleRecipient, NextStep: nextRespectOptOut},
	"420":        {Description: "The message waited too long in Plivo's queue and expired.", Responsible: ResponsiblePlivo, NextStep: "Resend it if it is still useful. If this happens often, the operator should lower SENDER_RATE."},
	"450":        {Description: "The recipient's country is not enabled for this Plivo account.", Responsible: ResponsibleOperator, NextStep: nextOperator},
	"900":        {Description: "The Plivo account had no credit left.", Responsible: ResponsibleOperator, NextStep: nextOperator},
	"1000":       {Description: "Plivo gave no reason.", Responsible: ResponsibleUnknown, NextStep: nextLater},
}

// ErrorCode returns Plivo's error code, or "" for the code that means that there was no
// error: 000 (Plivo docs, message object), also as the number 0.
func ErrorCode(code string) string {
	if strings.Trim(code, "0") == "" {
		return ""
	}
	return code
}

// ExplainPlivoCode explains a Plivo error code. It also has an explanation for
// an unknown code and for none.
func ExplainPlivoCode(code string) CodeMeaning {
	code = ErrorCode(code)
	meaning, ok := codeMeanings[code]
	switch {
	case code == "":
		meaning = CodeMeaning{Description: "No reason was given.", Responsible: ResponsibleUnknown, NextStep: nextLater}
	case !ok:
		meaning = CodeMeaning{
			Description: fmt.Sprintf("Plivo's error code is %s; its meaning is not published.", code), Responsible: ResponsibleUnknown,
			NextStep: "Ask Plivo's support what the code means before you resend the message.",
		}
	}
	meaning.Code = code
	return meaning
}

// Explain describes what happened, with the code if its meaning is known.
func (c CodeMeaning) Explain() string {
	if _, ok := codeMeanings[c.Code]; ok {
		return fmt.Sprintf("%s (Plivo's code %s)", c.Description, c.Code)
	}
	return c.Description
}
