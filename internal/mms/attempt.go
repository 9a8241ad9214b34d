package mms

import (
	"log/slog"

	"github.com/google/uuid"
)

// AttemptRef identifies an attempt. The ordinal acts as a fencing token: what a
// worker records about an attempt changes the message only while that attempt is
// its newest.
type AttemptRef struct {
	MessageID uuid.UUID
	Ordinal   int // from 1
}

// LogAttr returns message_id and attempt as top-level attributes of a log record.
func (r AttemptRef) LogAttr() slog.Attr {
	return slog.Group("", slog.Any("message_id", r.MessageID), slog.Int("attempt", r.Ordinal))
}

// Claim is a message that exactly one worker is about to send to Plivo.
type Claim struct {
	AttemptRef
	Sender            PhoneNumber
	Recipient         PhoneNumber
	Text              string
	MediaURLs         []string
	MediaIDs          []string // Plivo's ids of uploads
	TransientFailures int      // earlier attempts that ended in a transient failure
	UnknownOutcomes   int      // earlier attempts whose outcome stayed unknown

	// OwnAccountErrors counts earlier attempts that ended in an account error
	// although other messages were accepted afterwards.
	OwnAccountErrors int
}

// SubmitResult is the effect of recording that Plivo accepted an attempt.
type SubmitResult int

// The effects.
const (
	AlreadyKnown SubmitResult = iota // nothing changed
	Adopted                          // the message was not known to be at Plivo; now it is
	Duplicate                        // Plivo has accepted the message more than once
)
