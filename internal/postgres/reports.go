package postgres

import (
	"context"
	"database/sql"
	"errors"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"postcard/internal/mms"
)

const selectAttemptByToken = `
SELECT message_id, number, coalesce(plivo_uuid, '') AS plivo_uuid FROM attempts WHERE token = $1`

// AttemptByToken returns the attempt that a callback URL names, with the UUID
// known for it so far, or mms.ErrNotFound.
func (s *Store) AttemptByToken(ctx context.Context, token string) (mms.AttemptRef, string, error) {
	var row struct {
		MessageID uuid.UUID `db:"message_id"`
		Number    int       `db:"number"`
		PlivoUUID string    `db:"plivo_uuid"`
	}
	err := s.db.GetContext(ctx, &row, selectAttemptByToken, token)
	if errors.Is(err, sql.ErrNoRows) {
		return mms.AttemptRef{}, "", mms.ErrNotFound
	}
	return mms.AttemptRef{MessageID: row.MessageID, Number: row.Number}, row.PlivoUUID, translate(err, "reading an attempt by its token")
}

const applyReport = `
WITH m AS (
    UPDATE messages SET status = $4, plivo_code = $5, reason = CASE WHEN $4 = 'failed' THEN 'reported' ELSE '' END,
        version = version + 1, updated_at = now(),
        final_at = CASE WHEN $4 IN ('delivered', 'undelivered', 'failed') THEN now() END
    WHERE id = $1 AND plivo_uuid = $3 AND status = ANY ($6)
    RETURNING id, status
), event AS (
    INSERT INTO message_events (message_id, kind, status, attempt, detail)
    SELECT id, 'report', status, $2, $7 FROM m
)
SELECT id FROM m`

// ApplyReport takes the attempt's message to the reported status, from one of
// the statuses that may come before it. It reports false when the message is
// that far already, or is another of Plivo's than the one reported on.
func (s *Store) ApplyReport(ctx context.Context, ref mms.AttemptRef, r mms.Report, to mms.Status) (bool, error) {
	changed, err := s.change(ctx, "applying a delivery report", applyReport,
		ref.MessageID, ref.Number, r.PlivoUUID, string(to), r.Code, pq.Array(mms.Before(to)), r.Words())
	return changed == 1, err
}

const noteReport = `
WITH m AS (
    UPDATE messages SET version = version + 1, updated_at = now()
    WHERE id = $1 AND plivo_uuid = $2 RETURNING id, status
)
INSERT INTO message_events (message_id, kind, status, attempt, detail) SELECT id, 'report', status, $3, $4 FROM m`

// NoteReport records a delivery report whose state Postcard does not know.
func (s *Store) NoteReport(ctx context.Context, ref mms.AttemptRef, r mms.Report) error {
	_, err := s.db.ExecContext(ctx, noteReport, ref.MessageID, r.PlivoUUID, ref.Number, r.Words())
	return translate(err, "noting a delivery report")
}
