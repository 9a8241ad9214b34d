package mms

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/invalid"
)

// CreateParams is a message as somebody wrote it down, not yet checked.
type CreateParams struct {
	To        string   // E.164
	From      string   // E.164; empty lets Postcard choose among the senders
	Text      string   // may be empty
	MediaURL  string   // the one picture ...
	MediaURLs []string // ... or several; not both
	ValidFor  *int     // for how many seconds it may wait to be sent; nil for DefaultValidFor
	SendAt    string   // RFC 3339; empty for at once
	Priority  string   // empty for normal
	Metadata  map[string]string

	Idempotency Idempotency
}

// What would come too late is not sent at all.
const (
	DefaultValidFor = 3 * time.Hour
	MinValidFor     = time.Minute
	MaxValidFor     = 30 * 24 * time.Hour
)

// Rules are what this installation allows.
type Rules struct {
	Countries         []string      // ISO 3166 codes that recipients may be in
	Senders           []PhoneNumber // the numbers it may send from; at least one
	AllowPrivateMedia bool          // pictures on private and local hosts, for trying things out
}

// Validate makes a message of the draft, queued or scheduled, or returns every
// fault as invalid.Fields, named by the fields of the API. now is the database's
// time, which only a draft with SendAt needs.
func (r Rules) Validate(d CreateParams, id, owner uuid.UUID, now time.Time) (Message, error) {
	var faults invalid.Fields
	recipient := r.validateRecipient(d.To, &faults)
	sender := r.validateSender(d.From, recipient, &faults)
	text := validateText(d.Text, &faults)
	media := r.validateMedia(d, &faults)
	validFor := validateValidFor(d.ValidFor, &faults)
	sendAt := parseSendAt(d.SendAt, now, &faults)
	priority := parsePriority(d.Priority, Normal, &faults)
	ValidateMetadata(d.Metadata, &faults)
	d.Idempotency.Validate(&faults)
	if err := faults.Err(); err != nil {
		return Message{}, err
	}
	m := Message{
		ID: id, Owner: owner,
		Sender: sender, Recipient: recipient,
		Text: text, MediaURLs: media,
		Status: Queued, Version: 1, ValidFor: validFor,
		Priority: priority, SendAt: sendAt, Metadata: d.Metadata,
	}
	if sendAt != nil {
		m.Status = Scheduled
	}
	return m, nil
}

func (r Rules) validateRecipient(to string, faults *invalid.Fields) PhoneNumber {
	if to == "" {
		faults.Add("to", "required", "is missing: the recipient's phone number")
		return ""
	}
	n, country, err := parseWithCountry(to)
	if err != nil {
		faults.Add("to", "e164", err.Error())
		return ""
	}
	if err := validateCountry(country, r.Countries); err != nil {
		faults.Add("to", "country", err.Error())
		return ""
	}
	return n
}

// validateSender checks the sender that was asked for, or chooses one: always the
// same for a recipient, so that a person sees one conversation.
func (r Rules) validateSender(from string, recipient PhoneNumber, faults *invalid.Fields) PhoneNumber {
	if from == "" {
		return r.chooseSender(recipient, faults)
	}
	n := PhoneNumber(from)
	if !slices.Contains(r.Senders, n) {
		faults.Add("from", "sender", "is not one of the senders of this installation")
		return ""
	}
	if n == recipient {
		faults.Add("to", "not_sender", "must not be the sender's own number")
	}
	return n
}

func (r Rules) chooseSender(recipient PhoneNumber, faults *invalid.Fields) PhoneNumber {
	if recipient == "" {
		return "" // its own fault is already noted
	}
	others := slices.DeleteFunc(slices.Clone(r.Senders), func(n PhoneNumber) bool { return n == recipient })
	if len(others) == 0 {
		faults.Add("to", "not_sender", "must not be the sender's own number")
		return ""
	}
	h := fnv.New32a()
	h.Write([]byte(recipient))
	return others[int(h.Sum32()%uint32(len(others)))]
}

// validateText brings line ends to \n and refuses what a phone cannot show.
func validateText(text string, faults *invalid.Fields) string {
	if !utf8.ValidString(text) {
		faults.Add("text", "utf8", "must be valid UTF-8")
		return ""
	}
	text = strings.ReplaceAll(text, "\r\n", "\n")
	if strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) && r != '\n' }) {
		faults.Add("text", "control", "must not contain control characters other than line breaks")
	}
	if n := utf8.RuneCountInString(text); n > MaxText {
		faults.Add("text", "max_length", fmt.Sprintf("must be at most %d characters long (it has %d)", MaxText, n))
	}
	return text
}

func validateValidFor(seconds *int, faults *invalid.Fields) time.Duration {
	if seconds == nil {
		return DefaultValidFor
	}
	least, most := int(MinValidFor.Seconds()), int(MaxValidFor.Seconds())
	if *seconds < least || *seconds > most {
		faults.Add("validFor", "range", fmt.Sprintf("must be from %d to %d seconds", least, most))
		return 0
	}
	return time.Duration(*seconds) * time.Second
}

func (r Rules) validateMedia(d CreateParams, faults *invalid.Fields) []string {
	urls, field := d.MediaURLs, func(i int) string { return fmt.Sprintf("mediaUrls[%d]", i) }
	switch {
	case d.MediaURL != "" && len(d.MediaURLs) > 0:
		faults.Add("mediaUrls", "one_of", "must not be given together with mediaUrl: use one of the two")
		return nil
	case d.MediaURL != "":
		urls, field = []string{d.MediaURL}, func(int) string { return "mediaUrl" }
	case len(d.MediaURLs) == 0:
		faults.Add("mediaUrl", "required", "is missing: a picture message needs at least one picture")
		return nil
	case len(d.MediaURLs) > MaxMedia:
		faults.Add("mediaUrls", "max_items", fmt.Sprintf("must list at most %d pictures", MaxMedia))
		return nil
	}
	for i, u := range urls {
		if err := validateMediaURL(u, r.AllowPrivateMedia); err != nil {
			faults.Add(field(i), "media_url", err.Error())
		}
	}
	return urls
}
