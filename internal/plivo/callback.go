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

// DecodeReport reads the fields of a delivery report (Plivo docs, message
// status callbacks). Only the UUID and the status are required; whatever else
// is missing, empty, unreadable or unknown is tolerated. Of a field that comes
// more than once the first counts.
func DecodeReport(token string, fields url.Values) (mms.Report, error) {
	r := mms.Report{
		Token:     token,
		PlivoUUID: fields.Get("MessageUUID"),
		State:     fields.Get("Status"),
		Code:      fields.Get("ErrorCode"),
		Details:   details(fields.Get("Units"), fields.Get("TotalAmount"), fields.Get("SentTime"), fields.Get("DeliveryReportTime")),
	}
	if r.PlivoUUID == "" || r.State == "" {
		return mms.Report{}, errors.New("the report lacks MessageUUID or Status")
	}
	if !plausibleUUID.MatchString(r.PlivoUUID) {
		return mms.Report{}, errors.New("the report's MessageUUID cannot be one")
	}
	return r, nil
}

// DecodeInbound reads the fields of a message that somebody sent to one of our
// numbers (Plivo docs, receive a message). Numbers come as digits.
func DecodeInbound(fields url.Values) (mms.Inbound, error) {
	in := mms.Inbound{
		PlivoUUID: fields.Get("MessageUUID"),
		From:      mms.PhoneNumber(plus(fields.Get("From"))),
		To:        mms.PhoneNumber(plus(fields.Get("To"))),
		Text:      storable(fields.Get("Text"), maxInboundText),
	}
	if !plausibleUUID.MatchString(in.PlivoUUID) || !author.MatchString(string(in.From)) || !e164.MatchString(string(in.To)) {
		return mms.Inbound{}, errors.New("the message lacks MessageUUID, From or To")
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

// Bounds of what is kept of an inbound message; Plivo allows ten pictures.
const (
	maxInboundText  = 10_000 // characters
	maxInboundMedia = 10
	maxMediaURL     = 2000
)

var (
	e164   = regexp.MustCompile(`^\+[1-9][0-9]{6,14}$`)
	author = regexp.MustCompile(`^\+?[0-9A-Za-z]{1,20}$`) // a short code or a name, too
)

// plus puts the plus sign before the digits of a full number.
func plus(number string) string {
	if e164.MatchString("+" + number) {
		return "+" + number
	}
	return number
}

// storable cuts a text to valid UTF-8 without NUL.
func storable(text string, limit int) string {
	runes := []rune(strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", ""), ""))
	return string(runes[:min(len(runes), limit)])
}

// details keeps of the fields what can be read.
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

// plausibleUUID is what mms.Judge takes for a UUID too: the form is Plivo's to
// choose.
var plausibleUUID = regexp.MustCompile(`^[!-~]{1,100}$`)

// maxUnits and decimal bound what is believed of an amount.
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
