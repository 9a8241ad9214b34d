package mms

import (
	"fmt"
	"strings"

	"github.com/postcard-mms/postcard/internal/invalid"
)

// Idempotency is a client's promise that requests with the same key are the
// same request. The statement or transaction that creates the message or batch
// claims the key (package postgres: the CTE keys in message_create.go, claimBatchKey).
type Idempotency struct {
	Key         string   // empty for none
	Fingerprint [32]byte // of the request
}

// IdempotencyHeader is the field name in violations of the key.
const IdempotencyHeader = "Idempotency-Key"

// MaxIdempotencyKey is the longest key, in characters.
const MaxIdempotencyKey = 255

// Validate adds the violations of the key.
func (i Idempotency) Validate(violations *invalid.Fields) {
	unprintable := func(r rune) bool { return r < ' ' || r > '~' }
	if len(i.Key) > MaxIdempotencyKey || strings.ContainsFunc(i.Key, unprintable) {
		violations.Add(IdempotencyHeader, "idempotency_key", fmt.Sprintf("must be 1 to %d printable ASCII characters", MaxIdempotencyKey))
	}
}
