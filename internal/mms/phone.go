package mms

import (
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/nyaruka/phonenumbers"
)

// PhoneNumber is a phone number in E.164 form, e.g. "+14155550123". One that comes
// from ParseNumber or ReadNumber is valid.
type PhoneNumber string

// What can be wrong with a number; the texts are shown to people.
var (
	errNotE164            = errors.New("must be a phone number in E.164 form: a plus sign, the country code and the number, like +14155550123")
	errNotPhoneNumber     = errors.New("must be a phone number, like (415) 555-0123, or with a plus sign and the country code, like +14155550123")
	errInvalidPhoneNumber = errors.New("is not a phone number that exists: check the area code and the number of digits")
)

// e164 is the shape; phonenumbers decides on the rest. ITU-T E.164 allows 15 digits.
var e164 = regexp.MustCompile(`^\+[1-9][0-9]{6,14}$`)

// ParsePhoneNumber reads a number that must already stand in E.164 form.
func ParsePhoneNumber(s string) (PhoneNumber, error) {
	n, _, err := parseWithCountry(s)
	return n, err
}

// parseWithCountry is ParseNumber, and says in which country the number is, by its ISO 3166
// code.
func parseWithCountry(s string) (n PhoneNumber, country string, err error) {
	if !e164.MatchString(s) {
		return "", "", errNotE164
	}
	return parseTyped(s)
}

// ParseTypedPhoneNumber reads a number as people in the US and Canada write it, e.g.
// "(415) 555-0123", or as E.164.
func ParseTypedPhoneNumber(s string) (PhoneNumber, error) {
	n, _, err := parseTyped(s)
	return n, err
}

// parseTyped finds the country once for the check and for its caller: it is most of
// what taking on a message costs beside HTTP and JSON.
func parseTyped(s string) (n PhoneNumber, country string, err error) {
	parsed, err := phonenumbers.Parse(strings.TrimSpace(s), "US")
	if err != nil {
		return "", "", errNotPhoneNumber
	}
	if parsed.GetExtension() != "" {
		return "", "", errors.New("must not have an extension: picture messages reach phone numbers only")
	}
	country = phonenumbers.GetRegionCodeForNumber(parsed)
	if !phonenumbers.IsValidNumberForRegion(parsed, country) {
		return "", "", errInvalidPhoneNumber
	}
	return PhoneNumber(phonenumbers.Format(parsed, phonenumbers.E164)), country, nil
}

// International writes the number for people, e.g. "+1 415-555-0123".
func (n PhoneNumber) International() string {
	parsed, err := phonenumbers.Parse(string(n), "")
	if err != nil {
		return string(n)
	}
	return phonenumbers.Format(parsed, phonenumbers.INTERNATIONAL)
}

// DefaultInterval is the least time between two messages of the sender that Plivo carries
// without queueing them: toll-free numbers 2 MMS a second, long codes 15 a
// minute (Plivo docs, MMS rate limits). A little is added, so that jitter on
// the way makes no window overfull.
func (n PhoneNumber) DefaultInterval() time.Duration {
	parsed, err := phonenumbers.Parse(string(n), "")
	if err == nil && phonenumbers.GetNumberType(parsed) == phonenumbers.TOLL_FREE {
		return IntervalForRate(120)
	}
	return IntervalForRate(15)
}

// IntervalForRate is the least time between two messages at a rate per minute; 0 for a
// rate of 0, which means no limit.
func IntervalForRate(perMinute float64) time.Duration {
	if perMinute == 0 {
		return 0
	}
	return time.Duration(1.005 * float64(time.Minute) / perMinute)
}

// LogValue masks the number: logs never carry a full one.
func (n PhoneNumber) LogValue() slog.Value {
	if len(n) < 2 {
		return slog.StringValue("…")
	}
	return slog.StringValue("…" + string(n[len(n)-2:]))
}

// validateCountry says why a country is not allowed, or nil.
func validateCountry(country string, allowed []string) error {
	if slices.Contains(allowed, country) {
		return nil
	}
	return fmt.Errorf("is not in a country that picture messages can be sent to (%s)", strings.Join(allowed, ", "))
}
