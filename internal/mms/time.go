package mms

import (
	"errors"
	"regexp"
	"strings"
	"time"
)

// rfc3339 is the grammar of RFC 3339, section 5.6, with the space that it allows instead
// of the T. time.Parse also reads T1:00:00, a comma in the seconds and offsets of more
// than 24 hours, and neither lower-case letters nor leap seconds.
var rfc3339 = regexp.MustCompile(`^([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:)([0-9]{2})(\.[0-9]+)?([Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])$`)

const leapSecond = "60"

// errNoTime is the violation of a text that is not a time, shown behind the field's name.
var errNoTime = errors.New("must be a time in RFC 3339 form with its zone, like 2026-12-24T18:00:00-05:00 or 2026-12-24T23:00:00Z")

// ParseTime reads a time in RFC 3339 form. A leap second is read as the second after it,
// as by POSIX. The year can be 0 to 9999: callers must compare before they compute.
func ParseTime(text string) (time.Time, error) {
	parts := rfc3339.FindStringSubmatch(text)
	if parts == nil {
		return time.Time{}, errNoTime
	}
	date, clock, seconds, fraction, zone := parts[1], parts[2], parts[3], parts[4], strings.ToUpper(parts[5])
	leap := seconds == leapSecond
	if leap {
		seconds = "59"
	}
	at, err := time.Parse(time.RFC3339, date+"T"+clock+seconds+fraction+zone)
	if err != nil {
		return time.Time{}, errNoTime
	}
	if !leap {
		return at, nil
	}
	if at = at.Add(time.Second); at.Truncate(time.Second).UTC().Format(time.TimeOnly) != "00:00:00" {
		return time.Time{}, errNoTime // leap seconds end a day of UTC
	}
	return at, nil
}
