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
WHERE workspace_id = $1 AND key = $2 AND created_at > now() - interval '24 hours'`

// idempotencyRow names what was created under an idempotency key: a message or a
// batch.
type idempotencyRow struct {
	Fingerprint []byte        `db:"fingerprint"`
	MessageID   uuid.NullUUID `db:"message_id"`
	BatchID     uuid.NullUUID `db:"batch_id"`
}

// createdUnder returns what the workspace created under an idempotency key. It reports
// false when the key is empty or free, and returns mms.ErrKeyReused when the key
// belongs to a request with another fingerprint.
func (s *Store) createdUnder(ctx context.Context, workspace uuid.UUID, idempotency mms.Idempotency) (idempotencyRow, bool, error) {
	var row idempotencyRow
	if idempotency.Key == "" {
		return row, false, nil
	}
	err := s.db.GetContext(ctx, &row, selectIdempotencyKey, workspace, idempotency.Key)
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

// settledUnder is like createdUnder, and returns mms.ErrInFlight while a request with the key
// is in progress.
func (s *Store) settledUnder(ctx context.Context, workspace uuid.UUID, idempotency mms.Idempotency) (idempotencyRow, bool, error) {
	var free bool
	if err := s.db.GetContext(ctx, &free, tryKeyLock, workspace, idempotency.Key); err != nil {
		return idempotencyRow{}, false, wrapError(err, "looking for a request in progress")
	}
	if !free {
		return idempotencyRow{}, false, mms.ErrInFlight
	}
	return s.createdUnder(ctx, workspace, idempotency)
}

// MessageCreatedUnder returns the message that its workspace created under an idempotency key,
// or mms.ErrNotFound. It returns mms.ErrKeyReused if the key belongs to another request, and
// mms.ErrInFlight while a request with the key is in progress.
func (s *Store) MessageCreatedUnder(ctx context.Context, workspace uuid.UUID, idempotency mms.Idempotency) (mms.CreateResult, error) {
	earlier, found, err := s.settledUnder(ctx, workspace, idempotency)
	switch {
	case err != nil:
		return mms.CreateResult{}, err
	case !found:
		return mms.CreateResult{}, mms.ErrNotFound
	case !earlier.MessageID.Valid:
		return mms.CreateResult{}, mms.ErrKeyReused
	}
	var row messageRow
	err = s.db.GetContext(ctx, &row, selectMessage, earlier.MessageID.UUID, workspace)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return mms.CreateResult{}, mms.ErrNotFound
	case err != nil:
		return mms.CreateResult{}, wrapError(err, "reading a message that was created earlier")
	}
	m := row.message().AsCreated()
	m.Copies = copiesOf(m)
	return mms.CreateResult{Message: m, Replayed: true}, nil
}

// BatchCreatedUnder returns the batch that its workspace created under an idempotency key, or
// mms.ErrBatchNotFound. Its other errors are those of MessageCreatedUnder.
func (s *Store) BatchCreatedUnder(ctx context.Context, workspace uuid.UUID, idempotency mms.Idempotency) (mms.BatchResult, error) {
	earlier, found, err := s.settledUnder(ctx, workspace, idempotency)
	switch {
	case err != nil:
		return mms.BatchResult{}, err
	case !found:
		return mms.BatchResult{}, mms.ErrBatchNotFound
	case !earlier.BatchID.Valid:
		return mms.BatchResult{}, mms.ErrKeyReused
	}
	batch, err := readBatch(ctx, s.db, workspace, earlier.BatchID.UUID)
	if err != nil {
		return mms.BatchResult{}, err
	}
	rowErrors, _, err := s.BatchErrors(ctx, workspace, batch.ID, 0, mms.MaxPage)
	return mms.BatchResult{Batch: batch, Errors: rowErrors, Replayed: true}, err
}
