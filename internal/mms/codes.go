package mms

import "fmt"

// OptedOutCode is Plivo's error code for a recipient who has opted out of
// messages from the sender.
const OptedOutCode = "200"

// Side is whose matter a failure is.
type Side string

// The sides.
const (
	SideSender    Side = "sender"    // the message itself, or the number it went to
	SideOperator  Side = "operator"  // this installation and its Plivo account
	SidePlivo     Side = "plivo"     // Plivo
	SideCarrier   Side = "carrier"   // the recipient's carrier
	SideRecipient Side = "recipient" // the recipient, or the phone
	SideUnknown   Side = "unknown"
)

var sideWords = map[Side]string{
	SideSender: "the message", SideOperator: "this installation or its Plivo account", SidePlivo: "Plivo",
	SideCarrier: "the recipient's carrier", SideRecipient: "the recipient or the phone", SideUnknown: "not known",
}

// Words names the side.
func (s Side) Words() string { return sideWords[s] }

// CodeMeaning explains a Plivo error code.
type CodeMeaning struct {
	Code string // "" where none was given
	What string // what happened
	Side Side
	Next string // what to do
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
	"10":   {What: "The carrier called the message invalid.", Side: SideSender, Next: "Change the text or the pictures, and send it again."},
	"20":   {What: "The carrier's network had an error.", Side: SideCarrier, Next: nextLater},
	"30":   {What: "The carrier's filter took it for spam.", Side: SideSender, Next: "Do not send it again as it is: change the text and its links. If it happens often, tell the operator to check the sender's registration."},
	"40":   {What: "The sender's number is not valid or not enabled for this.", Side: SideOperator, Next: nextOperator},
	"50":   {What: "The recipient's number is not valid, or not a mobile phone.", Side: SideSender, Next: nextCheckNumber},
	"60":   {What: "The carriers passed the message round in a circle.", Side: SideCarrier, Next: nextLater},
	"70":   {What: "The recipient cannot be reached, permanently.", Side: SideRecipient, Next: nextCheckNumber},
	"80":   {What: "The recipient cannot be reached at present: the phone may be off or without coverage.", Side: SideRecipient, Next: nextLater},
	"90":   {What: "No route to the recipient's carrier was available.", Side: SideCarrier, Next: "Send it again later, once."},
	"100":  {What: "The carrier does not allow or support such messages.", Side: SideCarrier, Next: "Send a text without a picture by other means, or use another number of the recipient."},
	"110":  {What: "The message is too long.", Side: SideSender, Next: "Shorten the text, and send it again."},
	"120":  {What: "The pictures are too large in total.", Side: SideSender, Next: "Make the pictures smaller (600 KB is safe for every carrier), and send it again."},
	"200":  {What: "The recipient has opted out of messages from this sender.", Side: SideRecipient, Next: "Do not send to this number unless the recipient asks for it, by texting START to the sender's number."},
	"420":  {What: "The message waited too long in Plivo's queue and expired.", Side: SidePlivo, Next: "Send it again if it still makes sense. If it happens often, the operator should lower SENDER_RATE."},
	"450":  {What: "The recipient's country is not enabled for this Plivo account.", Side: SideOperator, Next: nextOperator},
	"900":  {What: "The Plivo account had no credit left.", Side: SideOperator, Next: nextOperator},
	"1000": {What: "Plivo gave no reason.", Side: SideUnknown, Next: nextLater},
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
		meaning = CodeMeaning{What: "No reason was given.", Side: SideUnknown, Next: nextLater}
	case !ok:
		meaning = CodeMeaning{
			What: fmt.Sprintf("Plivo's code is %s, whose meaning is not published.", code), Side: SideUnknown,
			Next: "Do not send it again at once; Plivo's support can tell what the code means.",
		}
	}
	meaning.Code = code
	return meaning
}

// Words is what happened, with the code where it has a meaning.
func (c CodeMeaning) Words() string {
	if _, ok := codeMeanings[c.Code]; ok {
		return fmt.Sprintf("%s (Plivo's code %s)", c.What, c.Code)
	}
	return c.What
}
