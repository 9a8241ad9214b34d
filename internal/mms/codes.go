package mms

import "fmt"

// OptedOutCode is Plivo's error code for a recipient who has opted out of
// messages from the sender.
const OptedOutCode = "200"

// Responsible is whose matter a failure is.
type Responsible string

// The sides.
const (
	ResponsibleMessage   Responsible = "message"   // the message itself, or the number it went to
	ResponsibleOperator  Responsible = "operator"  // this installation and its Plivo account
	ResponsiblePlivo     Responsible = "plivo"     // Plivo
	ResponsibleCarrier   Responsible = "carrier"   // the recipient's carrier
	ResponsibleRecipient Responsible = "recipient" // the recipient, or the phone
	ResponsibleUnknown   Responsible = "unknown"
)

var responsibleDescriptions = map[Responsible]string{
	ResponsibleMessage: "the message", ResponsibleOperator: "this installation or its Plivo account", ResponsiblePlivo: "Plivo",
	ResponsibleCarrier: "the recipient's carrier", ResponsibleRecipient: "the recipient or the phone", ResponsibleUnknown: "not known",
}

// Description names the side.
func (s Responsible) Description() string { return responsibleDescriptions[s] }

// CodeMeaning explains a Plivo error code.
type CodeMeaning struct {
	Code        string // "" where none was given
	Description string // what happened
	Responsible Responsible
	NextStep    string // what to do
}

const (
	nextCheckNumber = "Check the number with the recipient before you send again."
	nextLater       = "Send it again later."
	nextOperator    = "Tell the operator; then send it again."
)

// codeMeanings are the error codes whose meaning Plivo has published (Plivo
// docs, messaging error codes; support articles on message expiry, opt-out, geo
// permissions, file sizes and credit). The list is open.
var codeMeanings = map[string]CodeMeaning{
	"10":   {Description: "The carrier called the message invalid.", Responsible: ResponsibleMessage, NextStep: "Change the text or the pictures, and send it again."},
	"20":   {Description: "The carrier's network had an error.", Responsible: ResponsibleCarrier, NextStep: nextLater},
	"30":   {Description: "The carrier's filter took it for spam.", Responsible: ResponsibleMessage, NextStep: "Do not send it again as it is: change the text and its links. If it happens often, tell the operator to check the sender's registration."},
	"40":   {Description: "The sender's number is not valid or not enabled for this.", Responsible: ResponsibleOperator, NextStep: nextOperator},
	"50":   {Description: "The recipient's number is not valid, or not a mobile phone.", Responsible: ResponsibleMessage, NextStep: nextCheckNumber},
	"60":   {Description: "The carriers passed the message round in a circle.", Responsible: ResponsibleCarrier, NextStep: nextLater},
	"70":   {Description: "The recipient cannot be reached, permanently.", Responsible: ResponsibleRecipient, NextStep: nextCheckNumber},
	"80":   {Description: "The recipient cannot be reached at present: the phone may be off or without coverage.", Responsible: ResponsibleRecipient, NextStep: nextLater},
	"90":   {Description: "No route to the recipient's carrier was available.", Responsible: ResponsibleCarrier, NextStep: "Send it again later, once."},
	"100":  {Description: "The carrier does not allow or support such messages.", Responsible: ResponsibleCarrier, NextStep: "Send a text without a picture by other means, or use another number of the recipient."},
	"110":  {Description: "The message is too long.", Responsible: ResponsibleMessage, NextStep: "Shorten the text, and send it again."},
	"120":  {Description: "The pictures are too large in total.", Responsible: ResponsibleMessage, NextStep: "Make the pictures smaller (600 KB is safe for every carrier), and send it again."},
	"200":  {Description: "The recipient has opted out of messages from this sender.", Responsible: ResponsibleRecipient, NextStep: "Do not send to this number unless the recipient asks for it, by texting START to the sender's number."},
	"420":  {Description: "The message waited too long in Plivo's queue and expired.", Responsible: ResponsiblePlivo, NextStep: "Send it again if it still makes sense. If it happens often, the operator should lower SENDER_RATE."},
	"450":  {Description: "The recipient's country is not enabled for this Plivo account.", Responsible: ResponsibleOperator, NextStep: nextOperator},
	"900":  {Description: "The Plivo account had no credit left.", Responsible: ResponsibleOperator, NextStep: nextOperator},
	"1000": {Description: "Plivo gave no reason.", Responsible: ResponsibleUnknown, NextStep: nextLater},
}

// ExplainPlivoCode explains a Plivo error code, and says so where nobody has
// published what it means.
func ExplainPlivoCode(code string) CodeMeaning {
	if code == "000" {
		code = ""
	}
	meaning, ok := codeMeanings[code]
	switch {
	case code == "":
		meaning = CodeMeaning{Description: "No reason was given.", Responsible: ResponsibleUnknown, NextStep: nextLater}
	case !ok:
		meaning = CodeMeaning{
			Description: fmt.Sprintf("Plivo's code is %s, whose meaning is not published.", code), Responsible: ResponsibleUnknown,
			NextStep: "Do not send it again at once; Plivo's support can tell what the code means.",
		}
	}
	meaning.Code = code
	return meaning
}

// Explain is what happened, with the code where it has a meaning.
func (c CodeMeaning) Explain() string {
	if _, ok := codeMeanings[c.Code]; ok {
		return fmt.Sprintf("%s (Plivo's code %s)", c.Description, c.Code)
	}
	return c.Description
}
