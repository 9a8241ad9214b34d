package audit

import (
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
)

// Finding is the result of one check.
type Finding struct {
	Invariant string // such as I1; ARCHITECTURE.md lists them
	What      string // what was counted, printed by "postcard verify"
	Count     int
	Broken    bool // the count must be 0 and is not
}

// AttemptRecord is what the audit needs to know about an attempt.
type AttemptRecord struct {
	MessageID uuid.UUID
	Ordinal   int
	StartedAt time.Time
	PlivoUUID string
	Outcome   mms.Outcome
	Status    mms.Status // of the message
	Retries   int        // how often the message was queued again after a doubt
}

// LedgerEntry is a message in a simulator's ledger. Plivo itself lists no tokens.
type LedgerEntry struct {
	PlivoUUID string
	Token     string // of the attempt, from the callback URL; empty without one
	State     string
}
