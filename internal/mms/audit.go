package mms

import (
	"time"

	"github.com/google/uuid"
)

// Finding is the result of one check of an invariant.
type Finding struct {
	Invariant string // I1 to I8
	What      string // what was counted, in plain words
	Count     int
	Broken    bool // the count must be 0 and is not
}

// Figures count the messages that are not with a carrier yet.
type Figures struct {
	Messages map[Status]int // queued, sending, in doubt, submitted
	InLine   int            // of the queued, waiting for their sender's turn or the end of a pause
	Held     int            // of the doubtful, waiting for a person
}

// AttemptRecord is an attempt as an audit compares it with Plivo's side.
type AttemptRecord struct {
	MessageID uuid.UUID
	Number    int
	Begun     time.Time
	PlivoUUID string
	Outcome   Outcome
	Status    Status // of the message
	Resent    int    // times that the message was queued again after a doubt, by policy or by a person
}

// LedgerEntry is a message as the simulator has it: Plivo itself tells less.
type LedgerEntry struct {
	PlivoUUID string
	Token     string // of the attempt, from the callback URL; empty where it has none
	State     string
}
