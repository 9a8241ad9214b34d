package mms

import (
	"errors"
	"log/slog"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/nyaruka/phonenumbers"
	"golang.org/x/text/width"

	"github.com/postcard-mms/postcard/internal/pasted"
)

// PhoneNumber is a phone number in E.164 form, like "+14155550123". The results of
// ParseTypedPhoneNumber are valid.
type PhoneNumber string

// Violations of a phone number, shown behind the field's name.
var (
	errNotPhoneNumber     = errors.New("must be a phone number, like (415) 555-0123, or with a plus sign and the country code, like +14155550123")
	errInvalidPhoneNumber = errors.New("is not a valid phone number: check the country code and the number of digits")
	errExtension          = errors.New("must not have an extension: picture messages reach phone numbers only")
	errScientific         = errors.New("is in scientific notation, like 1.41556E+10, as a spreadsheet shows long numbers, and has lost digits: format the column as text and enter the number again")
	errDecimal            = errors.New("is a decimal number, like 14155550123.0, as a spreadsheet or a program made it: format the column as text, without the point")
)

// Numbers as spreadsheets and programs rewrite them. Read as phone numbers, they would
// be other numbers.
var (
	scientific = regexp.MustCompile(`^[+-]?[0-9]+([.,][0-9]*)?[eE][+-]?[0-9]+$`)
	decimal    = regexp.MustCompile(`^[+-]?[0-9]{7,}[.,]0*$`)
)

// cutOff matches the beginning of what the phonenumbers package would drop: a second number
// or extension after a slash, and an ISDN subaddress.
var cutOff = regexp.MustCompile(`(?i)[\\/] *x|;isub=`)

// maxE164 is the length of a plus sign and 15 digits (ITU-T E.164). The phonenumbers
// package takes longer numbers of some countries.
const maxE164 = 16

// northAmerican is the E.164 form of a number with country code 1.
var northAmerican = regexp.MustCompile(`^\+1[0-9]{10}$`)

// ParseTypedPhoneNumber parses a number as people in the US and Canada type it, like
// "(415) 555-0123", or in E.164 form. It ignores the invisible characters of pasted
// numbers. It is the only parser of phone numbers from people, clients, files and the
// configuration.
func ParseTypedPhoneNumber(s string) (PhoneNumber, error) {
	n, _, err := parseTyped(s)
	return n, err
}

// parseTyped is ParseTypedPhoneNumber, and also returns the number's country as an ISO
// 3166 code; empty for an unknown number with country code 1.
// It looks the country up only once: besides HTTP and JSON, that look-up is most of
// the cost of creating a message.
func parseTyped(s string) (n PhoneNumber, country string, err error) {
	s = plainCharacters(s)
	switch {
	case northAmerican.MatchString(s): // the usual form needs no parser
		return parseNorthAmerican(s[len("+1"):])
	case scientific.MatchString(s):
		return "", "", errScientific
	case decimal.MatchString(s):
		return "", "", errDecimal
	case cutOff.MatchString(s):
		return "", "", errExtension
	}
	parsed, err := phonenumbers.Parse(s, "US")
	if err != nil {
		return "", "", errNotPhoneNumber
	}
	if parsed.GetExtension() != "" {
		return "", "", errExtension
	}
	if parsed.GetCountryCode() == 1 {
		return parseNorthAmerican(phonenumbers.GetNationalSignificantNumber(parsed))
	}
	country = phonenumbers.GetRegionCodeForNumber(parsed)
	n = PhoneNumber(phonenumbers.Format(parsed, phonenumbers.E164))
	if len(n) > maxE164 || !phonenumbers.IsValidNumberForRegion(parsed, country) {
		return "", "", errInvalidPhoneNumber
	}
	return n, country, nil
}

// plainCharacters removes what is invisible and replaces full-width digits and signs,
// and all kinds of dashes, by the ordinary ones.
func plainCharacters(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Pd, r) || r == '\u2212' { // dashes, and the minus sign
			return '-'
		}
		return r
	}, width.Fold.String(pasted.Clean(s)))
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
	return time.Duration(rateMargin * float64(time.Minute) / perMinute)
}

const rateMargin = 1.005

// DescribeRate says for people which rate an interval of IntervalForRate has, like
// "15 messages a minute".
func DescribeRate(interval time.Duration) string {
	if interval == 0 {
		return "no rate limit"
	}
	perMinute := strconv.FormatFloat(math.Round(100*rateMargin*float64(time.Minute)/float64(interval))/100, 'f', -1, 64)
	if perMinute == "1" {
		return "1 message a minute"
	}
	return perMinute + " messages a minute"
}

// LogValue masks all but the last two digits, since logs must not contain full
// phone numbers.
func (n PhoneNumber) LogValue() slog.Value {
	if len(n) < 2 {
		return slog.StringValue("…")
	}
	return slog.StringValue("…" + string(n[len(n)-2:]))
}
