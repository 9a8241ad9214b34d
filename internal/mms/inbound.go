package mms

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/invalid"
)

// Inbound is a message that somebody sent to one of our numbers.
type Inbound struct {
	ID         uuid.UUID // UUIDv7
	PlivoUUID  string
	From       PhoneNumber // who wrote it
	To         PhoneNumber // the number of ours that it went to
	Text       string
	MediaURLs  []string
	Keyword    Keyword
	ReceivedAt time.Time
}

// Keyword is what a text means for opting out and in, if it is nothing but that.
type Keyword string

// The keywords.
const (
	NoKeyword    Keyword = ""
	KeywordStop  Keyword = "stop"
	KeywordStart Keyword = "start"
	KeywordHelp  Keyword = "help"
)

// keywords are the words that Plivo itself acts on for long codes and toll-free
// numbers (Plivo docs, DND service): the whole message, in any case.
var keywords = map[string]Keyword{
	"STOP": KeywordStop, "STOPALL": KeywordStop, "STOP ALL": KeywordStop, "END": KeywordStop, "QUIT": KeywordStop,
	"CANCEL": KeywordStop, "UNSUBSCRIBE": KeywordStop, "UNSUB": KeywordStop,
	"START": KeywordStart, "YES": KeywordStart, "RESUME": KeywordStart, "UNSTOP": KeywordStart, "GO": KeywordStart,
	"HELP": KeywordHelp, "INFO": KeywordHelp,
}

// KeywordIn recognises a keyword.
func KeywordIn(text string) Keyword {
	return keywords[strings.ToUpper(strings.Join(strings.Fields(text), " "))]
}

// Suppression is a pair of numbers between which nothing is sent.
type Suppression struct {
	Sender    PhoneNumber
	Recipient PhoneNumber
	Reason    SuppressionReason
	CreatedAt time.Time
}

// SuppressionReason is why a pair is suppressed.
type SuppressionReason string

// The reasons.
const (
	SuppressedByPlivo     SuppressionReason = "plivo"     // Plivo refused a message because the recipient had opted out
	SuppressedByRecipient SuppressionReason = "recipient" // the recipient texted STOP
	SuppressedByAdmin     SuppressionReason = "admin"
)

// Description says why.
func (r SuppressionReason) Description() string {
	switch r {
	case SuppressedByPlivo:
		return "Plivo says that the recipient opted out"
	case SuppressedByRecipient:
		return "The recipient texted STOP"
	default:
		return "An admin entered it"
	}
}

// ParseSuppressions reads numbers that an admin enters, one per line, for one of
// the senders, or for all of them where it is empty. All faults are returned, up
// to maxLineFaults.
func ParseSuppressions(numbers, sender string, senders []PhoneNumber) ([]Suppression, error) {
	var faults invalid.Fields
	chosen := senders
	if sender != "" {
		chosen = []PhoneNumber{PhoneNumber(sender)}
		if !slices.Contains(senders, PhoneNumber(sender)) {
			faults.Add("sender", "sender", "is not one of the senders of this installation")
		}
	}
	var list []Suppression
	n := 0
	for line := range strings.Lines(numbers) {
		n++
		line = strings.Trim(line, " \t\r\n,;")
		if line == "" {
			continue
		}
		recipient, err := ParseTypedPhoneNumber(line)
		if err != nil {
			faults.Add("numbers", "e164", fmt.Sprintf("line %d %s", n, err))
			if len(faults) >= maxLineErrors {
				break
			}
			continue
		}
		for _, s := range chosen {
			list = append(list, Suppression{Sender: s, Recipient: recipient, Reason: SuppressedByAdmin})
		}
	}
	if len(list) == 0 && len(faults) == 0 {
		faults.Add("numbers", "required", "are missing: enter one phone number per line")
	}
	return list, faults.Err()
}

// maxLineErrors is how many faults of an import are told at a time.
const maxLineErrors = 10
