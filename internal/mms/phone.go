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

// PhoneNumber is a phone number in E.164 form, like "+14155550123". The results of
// ParsePhoneNumber and ParseTypedPhoneNumber are valid.
type PhoneNumber string

// Violations of a phone number, shown behind the field's name.
var (
	errNotE164            = errors.New("must be a phone number in E.164 form: a plus sign, the country code and the number, like +14155550123")
	errNotPhoneNumber     = errors.New("must be a phone number, like (415) 555-0123, or with a plus sign and the country code, like +14155550123")
	errInvalidPhoneNumber = errors.New("is not a valid phone number: check the area code and the number of digits")
)

// e164 is the format of a number, with up to 15 digits (ITU-T E.164). Whether the
// number is valid is for the phonenumbers package to decide.
var e164 = regexp.MustCompile(`^\+[1-9][0-9]{6,14}$`)

// ParsePhoneNumber parses a number that must be in E.164 form.
func ParsePhoneNumber(s string) (PhoneNumber, error) {
	n, _, err := parseE164(s)
	return n, err
}

// parseE164 is ParsePhoneNumber, and also returns the number's country as an ISO
// 3166 code.
func parseE164(s string) (n PhoneNumber, country string, err error) {
	if !e164.MatchString(s) {
		return "", "", errNotE164
	}
	return parseTyped(s)
}

// ParseTypedPhoneNumber parses a number as people in the US and Canada type it,
// like "(415) 555-0123", or in E.164 form.
func ParseTypedPhoneNumber(s string) (PhoneNumber, error) {
	n, _, err := parseTyped(s)
	return n, err
}

// parseTyped is ParseTypedPhoneNumber, and also returns the number's country. It
// looks the country up only once: besides HTTP and JSON, that look-up is most of
// the cost of creating a message.
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

// International formats the number for people, like "+1 415-555-0123".
func (n PhoneNumber) International() string {
	parsed, err := phonenumbers.Parse(string(n), "")
	if err != nil {
		return string(n)
	}
	return phonenumbers.Format(parsed, phonenumbers.INTERNATIONAL)
}

// DefaultInterval is the shortest interval between two messages of the sender that
// Plivo does not queue: 2 MMS a second for a toll-free number, 15 a minute for a
// long code (Plivo docs, MMS rate limits).
func (n PhoneNumber) DefaultInterval() time.Duration {
	parsed, err := phonenumbers.Parse(string(n), "")
	if err == nil && phonenumbers.GetNumberType(parsed) == phonenumbers.TOLL_FREE {
		return IntervalForRate(120)
	}
	return IntervalForRate(15)
}

// IntervalForRate returns the interval between two messages at a rate per minute,
// plus half a percent for network jitter. A rate of 0 means no limit, and gives 0.
func IntervalForRate(perMinute float64) time.Duration {
	if perMinute == 0 {
		return 0
	}
	return time.Duration(1.005 * float64(time.Minute) / perMinute)
}

// LogValue masks all but the last two digits, since logs must not contain full
// phone numbers.
func (n PhoneNumber) LogValue() slog.Value {
	if len(n) < 2 {
		return slog.StringValue("…")
	}
	return slog.StringValue("…" + string(n[len(n)-2:]))
}

// validateCountry returns the violation if a country is not allowed.
func validateCountry(country string, allowed []string) error {
	if slices.Contains(allowed, country) {
		return nil
	}
	return fmt.Errorf("is not in a country that picture messages can be sent to (%s)", strings.Join(allowed, ", "))
}
