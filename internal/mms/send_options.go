package mms

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/postcard-mms/postcard/internal/invalid"
)

// Priority orders messages that wait for the same sender or worker. Lower values
// go first.
type Priority int

// The priorities.
const (
	High   Priority = 1
	Normal Priority = 2
	Bulk   Priority = 3
)

var priorityNames = map[Priority]string{High: "high", Normal: "normal", Bulk: "bulk"}

// String is the priority's name in the API.
func (p Priority) String() string { return priorityNames[p] }

// parsePriority reads a priority's name. It returns fallback for an empty name.
func parsePriority(name string, fallback Priority, violations *invalid.Fields) Priority {
	if name == "" {
		return fallback
	}
	for _, p := range []Priority{High, Normal, Bulk} {
		if name == p.String() {
			return p
		}
	}
	violations.Add("priority", "one_of", "must be high, normal or bulk")
	return fallback
}

// MaxAhead is how far ahead a message can be scheduled. Postcard chose it; Plivo
// schedules nothing.
const MaxAhead = 30 * 24 * time.Hour

// lateGrace is how far in the past SendAt may lie, since the request itself takes
// time. An earlier time is most likely a mistake about time zones.
const lateGrace = time.Minute

// parseSendAt reads the time to send at; nil means immediately. now is the
// database's time.
func parseSendAt(value string, now time.Time, violations *invalid.Fields) *time.Time {
	if value == "" {
		return nil
	}
	at, err := ParseTime(value)
	switch {
	case err != nil:
		violations.Add("sendAt", "time", err.Error())
	case at.Before(now.Add(-lateGrace)):
		violations.Add("sendAt", "range", "must not be in the past (it is "+now.UTC().Format(time.RFC3339)+" now)")
	case at.After(now.Add(MaxAhead)):
		violations.Add("sendAt", "range", "must be at most 30 days ahead (it is "+now.UTC().Format(time.RFC3339)+" now)")
	case at.After(now):
		return &at
	}
	return nil
}

// Limits of a message's metadata, which Plivo never gets.
const (
	MaxMetadata      = 20  // entries
	MaxMetadataKey   = 40  // characters
	MaxMetadataValue = 500 // characters
)

// ValidateMetadata adds the violations of a map of metadata.
func ValidateMetadata(metadata map[string]string, violations *invalid.Fields) {
	if len(metadata) > MaxMetadata {
		violations.Add("metadata", "max_items", fmt.Sprintf("must have at most %d entries", MaxMetadata))
		return
	}
	for _, key := range slices.Sorted(maps.Keys(metadata)) {
		field := "metadata." + clip(key, MaxMetadataKey)
		switch value := metadata[key]; {
		case key == "" || utf8.RuneCountInString(key) > MaxMetadataKey || !IsPrintable(key):
			violations.Add(field, "metadata_key", fmt.Sprintf("must have a key of 1 to %d printable characters", MaxMetadataKey))
		case !utf8.ValidString(value) || strings.ContainsRune(value, 0):
			violations.Add(field, "control", "must be valid UTF-8 without NUL characters")
		case utf8.RuneCountInString(value) > MaxMetadataValue:
			violations.Add(field, "max_length", fmt.Sprintf("must be at most %d characters long", MaxMetadataValue))
		}
	}
}

// IsPrintable reports whether s is valid UTF-8 of printable characters only.
func IsPrintable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}
