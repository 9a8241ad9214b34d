package postgres

import (
	"context"
	"database/sql"
	"errors"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
)

const selectIdempotencyKey = `
SELECT fingerprint, message_id, batch_id FROM idempotency_keys
WHERE user_id = $1 AND key = $2 AND created_at > now() - interval '24 hours'`

// idempotencyRow names what was created under an idempotency key: a message or a
// batch.
type idempotencyRow struct {
	Fingerprint []byte        `db:"fingerprint"`
	MessageID   uuid.NullUUID `db:"message_id"`
	BatchID     uuid.NullUUID `db:"batch_id"`
}

// createdUnder returns what the owner created under an idempotency key. It reports
// false when the key is empty or free, and returns mms.ErrKeyReused when the key
// belongs to a request with another fingerprint.
func (s *Store) createdUnder(ctx context.Context, owner uuid.UUID, idempotency mms.Idempotency) (idempotencyRow, bool, error) {
	var row idempotencyRow
	if idempotency.Key == "" {
		return row, false, nil
	}
	err := s.db.GetContext(ctx, &row, selectIdempotencyKey, owner, idempotency.Key)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return row, false, nil
	case err != nil:
		return row, false, wrapError(err, "reading an idempotency key")
	case [32]byte(row.Fingerprint) != idempotency.Fingerprint:
		return row, false, mms.ErrKeyReused
	}
	return row, true, nil
}
