package plivo

import (
	"errors"
	"net/url"
	"regexp"
	"strconv"
	"time"

	"postcard/internal/mms"
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
