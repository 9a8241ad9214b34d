package mms

import (
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/pasted"
)

// Inbound is a message that somebody sent to one of the sender numbers.
type Inbound struct {
	ID         uuid.UUID // UUIDv7
	PlivoUUID  string
	From       PhoneNumber
	To         PhoneNumber // one of our senders
	Text       string
	MediaURLs  []string
	Keyword    Keyword
	ReceivedAt time.Time
}

// OptOutScope says for which senders an opt-out holds.
type OptOutScope string

// The scopes.
const (
	OptOutsOfEverySender OptOutScope = "all"    // whichever sender the recipient opted out from
	OptOutsOfOneSender   OptOutScope = "sender" // the one that the recipient opted out from
)

// Suppression is an opt-out: it forbids sending from a sender to a recipient, or from every
// sender with OptOutsOfEverySender.
type Suppression struct {
	Sender    PhoneNumber // from which the recipient opted out, or that an admin chose; empty: every sender, whatever the scope
	Recipient PhoneNumber
	Reason    SuppressionReason
	CreatedAt time.Time
}

// SuppressionReason is why a suppression exists.
type SuppressionReason string

// The reasons.
const (
	SuppressedByPlivo     SuppressionReason = "plivo"     // Plivo reported that the recipient had opted out
	SuppressedByRecipient SuppressionReason = "recipient" // the recipient texted STOP
	SuppressedByAdmin     SuppressionReason = "admin"     // an admin added it
)

// Description explains the reason for people.
func (r SuppressionReason) Description() string {
	switch r {
	case SuppressedByPlivo:
		return "Plivo reported that the recipient opted out"
	case SuppressedByRecipient:
		return "The recipient texted STOP"
	default:
		return "Added by an admin"
	}
}

// ParseSuppressions parses phone numbers that an admin enters, one per line. They
// are suppressed for the given sender, or for every sender, future ones included, if it is
// empty. Up to maxLineErrors violations are returned as invalid.Fields.
func ParseSuppressions(numbers, sender string, senders []PhoneNumber) ([]Suppression, error) {
	var violations invalid.Fields
	var selected PhoneNumber // empty for every sender
	if sender != "" {
		var ok bool
		if selected, ok = findSender(sender, senders); !ok {
			violations.Add("sender", "sender", notASender)
		}
	}
	var suppressions []Suppression
	lineNumber := 0
	for line := range strings.Lines(numbers) {
		lineNumber++
		line = strings.Trim(pasted.Clean(line), " ,;\"")
		if line == "" {
			continue
		}
		recipient, err := ParseTypedPhoneNumber(line)
		if err != nil {
			violations.Add("numbers", "e164", fmt.Sprintf("line %d %s", lineNumber, err))
			if len(violations) >= maxLineErrors {
				break
			}
			continue
		}
		suppressions = append(suppressions, Suppression{Sender: selected, Recipient: recipient, Reason: SuppressedByAdmin})
	}
	if len(suppressions) == 0 && len(violations) == 0 {
		violations.Add("numbers", "required", "are missing: enter one phone number per line")
	}
	return suppressions, violations.Err()
}

// maxLineErrors bounds how many violations ParseSuppressions returns.
const maxLineErrors = 10
