package plivo

import (
	"errors"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/postcard-mms/postcard/internal/mms"
)

// DecodeReport decodes the fields of a delivery report (Plivo docs, message
// status callbacks). Only MessageUUID and Status are required; other fields may
// be missing, empty or malformed, and unknown fields are ignored. If a field is
// repeated, its first value counts.
func DecodeReport(token string, fields url.Values) (mms.Report, error) {
	r := mms.Report{
		Token:     token,
		PlivoUUID: fields.Get("MessageUUID"),
		State:     fields.Get("Status"),
		Code:      fields.Get("ErrorCode"),
		Details:   details(fields.Get("Units"), fields.Get("TotalAmount"), fields.Get("SentTime"), fields.Get("DeliveryReportTime")),
	}
	if r.PlivoUUID == "" || r.State == "" {
		return mms.Report{}, errors.New("the report has no MessageUUID or no Status")
	}
	if !plausibleUUID.MatchString(r.PlivoUUID) {
		return mms.Report{}, errors.New("the report's MessageUUID is malformed")
	}
	return r, nil
}

// DecodeInbound decodes the fields of a message to one of our numbers (Plivo
// docs, receive a message). Plivo sends phone numbers without the plus sign.
func DecodeInbound(fields url.Values) (mms.Inbound, error) {
	in := mms.Inbound{
		PlivoUUID: fields.Get("MessageUUID"),
		From:      mms.PhoneNumber(addPlus(fields.Get("From"))),
		To:        mms.PhoneNumber(addPlus(fields.Get("To"))),
		Text:      storable(fields.Get("Text"), maxInboundText),
	}
	if !plausibleUUID.MatchString(in.PlivoUUID) || !inboundSender.MatchString(string(in.From)) || !e164.MatchString(string(in.To)) {
		return mms.Inbound{}, errors.New("the message has no valid MessageUUID, From or To")
	}
	for i := range maxInboundMedia {
		media := fields.Get("Media" + strconv.Itoa(i))
		if u, err := url.Parse(media); err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && len(media) <= maxMediaURL {
			in.MediaURLs = append(in.MediaURLs, media)
		}
	}
	in.Keyword = mms.KeywordIn(in.Text)
	return in, nil
}

// Limits of an inbound message that is stored. Plivo sends up to ten media
// (Plivo docs, receive a message).
const (
	maxInboundText  = 10_000 // characters
	maxInboundMedia = 10
	maxMediaURL     = 2000 // bytes
)

var (
	e164          = regexp.MustCompile(`^\+[1-9][0-9]{6,14}$`)
	inboundSender = regexp.MustCompile(`^\+?[0-9A-Za-z]{1,20}$`) // may be a short code or an alphanumeric id
)

// addPlus returns the number in E.164 form if its digits are a full number, and
// unchanged otherwise.
func addPlus(number string) string {
	if e164.MatchString("+" + number) {
		return "+" + number
	}
	return number
}

// storable returns the first limit characters of text as valid UTF-8 without NUL,
// which Postgres cannot store.
func storable(text string, limit int) string {
	runes := []rune(strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", ""), ""))
	return string(runes[:min(len(runes), limit)])
}

// details decodes optional fields and drops malformed ones.
func details(units, cost, sent, reported string) mms.Details {
	var d mms.Details
	if n, err := strconv.Atoi(units); err == nil && n >= 0 && n <= maxUnits {
		d.Units = &n
	}
	if decimal.MatchString(cost) {
		d.Cost = cost
	}
	d.SentAt, d.ReportedAt = optionalTime(sent), optionalTime(reported)
	return d
}

// plausibleUUID agrees with mms.Judge. It is wider than a UUID, because Plivo may
// change the form.
var plausibleUUID = regexp.MustCompile(`^[!-~]{1,100}$`)

// maxUnits and decimal limit which amounts are trusted.
const maxUnits = 10_000

var decimal = regexp.MustCompile(`^[0-9]{1,6}(\.[0-9]{1,6})?$`)

func optionalTime(s string) *time.Time {
	at, err := parseTime(s)
	if err != nil {
		return nil
	}
	at = at.UTC()
	return &at
}
