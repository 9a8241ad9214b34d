package mms

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/pasted"
)

// Rules are what this installation allows.
type Rules struct {
	Countries         []string      // ISO 3166 codes of the countries that recipients may be in
	Senders           []PhoneNumber // the numbers it sends from, without those that rest
	Resting           []PhoneNumber // may contain Senders too: those of both that are not in Senders rest
	AllowPrivateMedia bool          // permit pictures on private and local hosts, for local trials
	RefuseFictional   bool          // refuse recipients whose number is fictional (see PhoneNumber.IsFictional): messages go to Plivo
}

// Validate makes a message of p, queued or scheduled, or returns all violations
// as invalid.Fields, with the API's field names. It looks up no MediaIDs: whoever stores the
// message adds their uploads. now is the database's time; it
// is needed only if p has SendAt.
func (r Rules) Validate(p CreateParams, id, workspace uuid.UUID, now time.Time) (Message, error) {
	var violations invalid.Fields
	recipient := r.validateRecipient(p.To, &violations)
	sender := r.validateSender(p.From, recipient, &violations)
	text := validateText(p.Text, &violations)
	media := r.validateMedia(p, &violations)
	ParseMediaIDs(p.MediaIDs, &violations)
	fit := validateFit(p.Fit, &violations)
	validFor := validateValidFor(p.ValidFor, &violations)
	sendAt := parseSendAt(p.SendAt, now, &violations)
	priority := parsePriority(p.Priority, Normal, &violations)
	ValidateMetadata(p.Metadata, &violations)
	p.Idempotency.Validate(&violations)
	if err := violations.Err(); err != nil {
		return Message{}, err
	}
	m := Message{
		ID: id, Workspace: workspace,
		Sender: sender, Recipient: recipient,
		Text: text, MediaURLs: media, Uploads: p.Uploads, Fit: fit,
		Status: Queued, Version: 1, ValidFor: validFor,
		Priority: priority, SendAt: sendAt, Metadata: p.Metadata,
	}
	if sendAt != nil {
		m.Status = Scheduled
	}
	return m, nil
}

func (r Rules) validateRecipient(to string, violations *invalid.Fields) PhoneNumber {
	if pasted.Clean(to) == "" {
		violations.Add("to", "required", "is missing: enter the recipient's phone number")
		return ""
	}
	n, country, err := parseTyped(to)
	if err != nil {
		violations.Add("to", "e164", err.Error())
		return ""
	}
	if err := n.checkReachable(); err != nil {
		violations.Add("to", "unreachable", err.Error())
		return ""
	}
	if err := validateCountry(country, r.Countries); err != nil {
		violations.Add("to", "country", err.Error())
		return ""
	}
	if r.RefuseFictional && n.IsFictional() {
		violations.Add("to", "fictional", "is a number for films and examples (555-0100 to 555-0199), which belongs to nobody")
		return ""
	}
	return n
}

// validateSender checks the submitted sender, or chooses one if from is empty.
func (r Rules) validateSender(from string, recipient PhoneNumber, violations *invalid.Fields) PhoneNumber {
	if from == "" {
		return r.chooseSender(recipient, violations)
	}
	n, ok := findSender(from, r.Senders)
	if !ok {
		violations.Add("from", "sender", r.whyNoSender(from))
		return ""
	}
	if n == recipient {
		violations.Add("to", "not_sender", "must not be the sender's own number")
	}
	return n
}

// findSender returns the sender that from names, and false if it is none of them.
func findSender(from string, senders []PhoneNumber) (PhoneNumber, bool) {
	n, err := ParseTypedPhoneNumber(from)
	return n, err == nil && slices.Contains(senders, n)
}

// whyNoSender says why messages cannot be sent from a number.
func (r Rules) whyNoSender(from string) string {
	if _, ok := findSender(from, r.Resting); ok {
		return "rests: an admin has taken this sender out of use"
	}
	return notASender
}

const notASender = "is not one of the senders of this installation"

// plainBreaks replaces the line breaks of every system and program by \n: CR, the vertical
// tab of word processors, and those of Unicode. A tab becomes a space, since phones have no
// tab stops.
var plainBreaks = strings.NewReplacer("\r\n", "\n", "\r", "\n", "\v", "\n", "\u2028", "\n", "\u2029", "\n", "\t", " ")

// validateText normalizes line breaks and tabs, and rejects text that a phone cannot show.
func validateText(text string, violations *invalid.Fields) string {
	if !utf8.ValidString(text) {
		violations.Add("text", "utf8", "must be valid UTF-8")
		return ""
	}
	text = plainBreaks.Replace(text)
	if strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) && r != '\n' }) {
		violations.Add("text", "control", "must not contain control characters other than line breaks")
	}
	if n := utf8.RuneCountInString(text); n > MaxText {
		violations.Add("text", "max_length", fmt.Sprintf("must be at most %d characters long (it has %d)", MaxText, n))
	}
	return text
}

func validateValidFor(seconds *int, violations *invalid.Fields) time.Duration {
	if seconds == nil {
		return DefaultValidFor
	}
	least, most := int(MinValidFor.Seconds()), int(MaxValidFor.Seconds())
	if *seconds < least || *seconds > most {
		violations.Add("validFor", "range", fmt.Sprintf("must be from %d to %d seconds", least, most))
		return 0
	}
	return time.Duration(*seconds) * time.Second
}

func (r Rules) validateMedia(p CreateParams, violations *invalid.Fields) []string {
	urls, field := p.MediaURLs, func(i int) string { return fmt.Sprintf("mediaUrls[%d]", i) }
	switch {
	case p.MediaURL != "" && len(p.MediaURLs) > 0:
		violations.Add("mediaUrls", "exclusive", "must not be given together with mediaUrl: use one of the two")
		return nil
	case len(p.MediaURLs)+len(p.MediaIDs)+len(p.Uploads) > MaxMedia || p.MediaURL != "" && len(p.MediaIDs)+len(p.Uploads) >= MaxMedia:
		violations.Add("mediaUrls", "max_items", fmt.Sprintf("must list at most %d pictures, with those of mediaIds", MaxMedia))
		return nil
	case p.MediaURL != "":
		urls, field = []string{p.MediaURL}, func(int) string { return "mediaUrl" }
	case len(p.MediaURLs) == 0 && len(p.MediaIDs) == 0 && len(p.Uploads) == 0:
		violations.Add("mediaUrl", "required", "is missing: a picture message needs at least one picture")
		return nil
	}
	media := make([]string, len(urls))
	for i, u := range urls {
		var err error
		if media[i], err = r.ParseMediaURL(u); err != nil {
			violations.Add(field(i), "media_url", err.Error())
		}
	}
	return media
}

// ParseMediaIDs returns the ids of uploads, and adds the violations of those that are none.
func ParseMediaIDs(ids []string, violations *invalid.Fields) []uuid.UUID {
	parsed := make([]uuid.UUID, len(ids))
	for i, id := range ids {
		var err error
		if parsed[i], err = uuid.Parse(pasted.Clean(id)); err != nil {
			violations.Add(fmt.Sprintf("mediaIds[%d]", i), "uuid", "must be the id of an upload, like 0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b")
		}
	}
	return parsed
}

func validateFit(fit string, violations *invalid.Fields) Fit {
	switch f := Fit(fit); f {
	case "":
		return FitAuto
	case FitAuto, FitAlways, FitNever:
		return f
	}
	violations.Add("fit", "one_of", "must be auto, always or never")
	return FitAuto
}
