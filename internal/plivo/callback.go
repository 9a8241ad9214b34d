package plivo

import (
	"errors"
	"net/url"

	"postcard/internal/mms"
)

// DecodeReport reads the fields of a delivery report (Plivo docs, message
// status callbacks). Only the UUID and the status are required; whatever else
// is missing, empty or unknown is tolerated.
func DecodeReport(token string, fields url.Values) (mms.Report, error) {
	r := mms.Report{
		Token:     token,
		PlivoUUID: fields.Get("MessageUUID"),
		State:     fields.Get("Status"),
		Code:      fields.Get("ErrorCode"),
	}
	if r.PlivoUUID == "" || r.State == "" {
		return mms.Report{}, errors.New("the report lacks MessageUUID or Status")
	}
	return r, nil
}
