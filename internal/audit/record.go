package audit

import (
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
)

// Finding is the result of checking one invariant.
type Finding struct {
	Invariant string // I1 to I8
	What      string // what was counted, in plain words
	Count     int
	Broken    bool // the count has to be 0 and is not
}

// AttemptRecord is an attempt as it is compared with the provider's side.
type AttemptRecord struct {
	MessageID uuid.UUID
	Ordinal   int
	StartedAt time.Time
	PlivoUUID string
	Outcome   mms.Outcome
	Status    mms.Status // of the message
	Resends   int        // how often the message was queued again after a doubt
}

// LedgerEntry is a message as the simulator has it; Plivo itself tells less.
type LedgerEntry struct {
	PlivoUUID string
	Token     string // of the attempt, from the callback URL; empty without one
	State     string
}
