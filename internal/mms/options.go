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

// Priority says who goes first where messages wait for the same sender or
// worker.
type Priority int

// The priorities, the first to go first.
const (
	High   Priority = 1
	Normal Priority = 2
	Bulk   Priority = 3
)

var priorityNames = map[Priority]string{High: "high", Normal: "normal", Bulk: "bulk"}

// String is the priority's name in the API.
func (p Priority) String() string { return priorityNames[p] }

func parsePriority(word string, otherwise Priority, faults *invalid.Fields) Priority {
	if word == "" {
		return otherwise
	}
	for _, p := range []Priority{High, Normal, Bulk} {
		if word == p.String() {
			return p
		}
	}
	faults.Add("priority", "one_of", "must be high, normal or bulk")
	return otherwise
}

// MaxAhead is how far ahead a message can be scheduled; our own limit.
const MaxAhead = 30 * 24 * time.Hour

// lateGrace is how long a set time may lie in the past: the request took its
// time. More is most likely a mistake about time zones.
const lateGrace = time.Minute

// parseSendAt reads when to send; nil for at once. now is the database's time.
func parseSendAt(value string, now time.Time, faults *invalid.Fields) *time.Time {
	if value == "" {
		return nil
	}
	at, err := time.Parse(time.RFC3339, value)
	switch {
	case err != nil:
		faults.Add("sendAt", "time", "must be a time in RFC 3339 form with its zone, like 2026-12-24T18:00:00-05:00")
	case at.Before(now.Add(-lateGrace)):
		faults.Add("sendAt", "range", "must not be in the past (it is "+now.UTC().Format(time.RFC3339)+" now)")
	case at.After(now.Add(MaxAhead)):
		faults.Add("sendAt", "range", "must be at most 30 days ahead (it is "+now.UTC().Format(time.RFC3339)+" now)")
	case at.After(now):
		return &at
	}
	return nil
}

// Limits of metadata; our own.
const (
	MaxMetadata      = 20  // entries
	MaxMetadataKey   = 40  // characters
	MaxMetadataValue = 500 // characters
)

// ValidateMetadata adds what is wrong with a map of metadata.
func ValidateMetadata(metadata map[string]string, faults *invalid.Fields) {
	if len(metadata) > MaxMetadata {
		faults.Add("metadata", "max_items", fmt.Sprintf("must have at most %d entries", MaxMetadata))
		return
	}
	for _, key := range slices.Sorted(maps.Keys(metadata)) {
		field := "metadata." + clip(key, MaxMetadataKey)
		switch value := metadata[key]; {
		case key == "" || utf8.RuneCountInString(key) > MaxMetadataKey || !IsPrintable(key):
			faults.Add(field, "metadata_key", fmt.Sprintf("must have a key of 1 to %d printable characters", MaxMetadataKey))
		case !utf8.ValidString(value) || strings.ContainsRune(value, 0):
			faults.Add(field, "control", "must be valid UTF-8 without NUL characters")
		case utf8.RuneCountInString(value) > MaxMetadataValue:
			faults.Add(field, "max_length", fmt.Sprintf("must be at most %d characters long", MaxMetadataValue))
		}
	}
}

func IsPrintable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// Idempotency is a client's promise that requests with the same key are the
// same request.
type Idempotency struct {
	Key         string   // "" for none
	Fingerprint [32]byte // of what is asked for
}

// IdempotencyHeader is the field that faults of the key are reported for.
const IdempotencyHeader = "Idempotency-Key"

// MaxIdempotencyKey is the longest key, in characters.
const MaxIdempotencyKey = 255

// Validate adds what is wrong with the key.
func (i Idempotency) Validate(faults *invalid.Fields) {
	foreign := func(r rune) bool { return r < ' ' || r > '~' }
	if len(i.Key) > MaxIdempotencyKey || strings.ContainsFunc(i.Key, foreign) {
		faults.Add(IdempotencyHeader, "idempotency_key", fmt.Sprintf("must be 1 to %d printable ASCII characters", MaxIdempotencyKey))
	}
}
