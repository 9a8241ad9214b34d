package postgres

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/postcard-mms/postcard/internal/mms"
)

const selectAttemptByToken = `
SELECT message_id, ordinal, coalesce(plivo_uuid, '') AS plivo_uuid FROM attempts WHERE token = $1`

// AttemptByToken returns the attempt that a callback URL names, with the UUID
// known for it so far, or mms.ErrNotFound.
func (s *Store) AttemptByToken(ctx context.Context, token string) (mms.AttemptRef, string, error) {
	var row struct {
		MessageID uuid.UUID `db:"message_id"`
		Number    int       `db:"ordinal"`
		PlivoUUID string    `db:"plivo_uuid"`
	}
	err := s.db.GetContext(ctx, &row, selectAttemptByToken, token)
	if errors.Is(err, sql.ErrNoRows) {
		return mms.AttemptRef{}, "", mms.ErrNotFound
	}
	return mms.AttemptRef{MessageID: row.MessageID, Ordinal: row.Number}, row.PlivoUUID, wrapError(err, "reading an attempt by its token")
}

// applyReport moves the message on if its status may come before the reported
// one, and keeps what else was told, whenever it was told. $5 lists the statuses
// that may come before. A state that Postcard does not know ($3 is empty) moves
// nothing and is noted once. An opt-out is remembered.
const applyReport = `
WITH old AS (
    SELECT id, status = ANY ($5) AS moves, $3 = '' AND NOT EXISTS (
        SELECT FROM message_events WHERE message_id = $1 AND kind = $6 AND detail = $7) AS notes
    FROM messages WHERE id = $1 AND plivo_uuid = $2 FOR UPDATE
), m AS (
    UPDATE messages SET version = version + (moves OR notes)::int,
        updated_at = CASE WHEN moves OR notes THEN now() ELSE updated_at END,
        status = CASE WHEN moves THEN $3 ELSE status END,
        plivo_code = CASE WHEN moves THEN $4 ELSE plivo_code END,
        reason = CASE WHEN NOT moves THEN reason WHEN $3 = 'failed' THEN 'reported' ELSE '' END,
        final_at = CASE WHEN NOT moves THEN final_at WHEN $3 IN ('delivered', 'undelivered', 'failed') THEN now() END,
        unreported_since = CASE WHEN NOT moves THEN unreported_since WHEN $3 NOT IN ('delivered', 'undelivered', 'failed') THEN now() END,
        units = coalesce($8, units), cost = coalesce($9::numeric, cost),
        carrier_sent_at = coalesce($10, carrier_sent_at), carrier_report_at = coalesce($11, carrier_report_at)
    FROM old WHERE messages.id = old.id AND (moves OR notes
        OR (units, cost, carrier_sent_at, carrier_report_at) IS DISTINCT FROM
           (coalesce($8, units), coalesce($9::numeric, cost), coalesce($10, carrier_sent_at), coalesce($11, carrier_report_at)))
    RETURNING messages.id, status, sender, recipient, moves, moves OR notes AS told
), event AS (
    INSERT INTO message_events (message_id, kind, status, attempt, detail)
    SELECT id, $6, status, $12, $7 FROM m WHERE told
), opted_out AS (
    INSERT INTO suppressions (sender, recipient, reason) SELECT sender, recipient, 'plivo' FROM m
    WHERE moves AND $4 = '` + mms.OptedOutCode + `' AND $3 IN ('failed', 'undelivered')
    ON CONFLICT DO NOTHING
)
SELECT id FROM m WHERE told`

// ApplyReport takes the attempt's message to the reported status, unless it is
// that far already or is another of Plivo's than the one reported on, and keeps
// what else the report tells. The event is of the given kind. It reports whether
// there is news.
func (s *Store) ApplyReport(ctx context.Context, ref mms.AttemptRef, r mms.Report, kind mms.EventKind) (bool, error) {
	before := []mms.Status{}
	to, known := mms.StatusFromReport(r.State)
	switch {
	case known:
		before = mms.StatusesBefore(to)
	case r.State == "queued":
		to = mms.Submitted // which it is already, and nothing leads back to
	}
	changed, err := s.exec(ctx, "applying a delivery report", applyReport,
		ref.MessageID, r.PlivoUUID, string(to), r.ShortCode(), pq.Array(before), string(kind), r.Summary(),
		r.Units, nullIfEmpty(r.Cost), r.SentAt, r.ReportedAt, ref.Ordinal)
	return changed == 1, err
}

const pollSoon = `UPDATE messages SET unreported_since = '-infinity' WHERE id = $1 AND plivo_uuid IS NOT NULL`

// PollSoon has Plivo asked about the attempt's message at once.
func (s *Store) PollSoon(ctx context.Context, ref mms.AttemptRef) error {
	_, err := s.db.ExecContext(ctx, pollSoon, ref.MessageID)
	return wrapError(err, "having Plivo asked about a message")
}

// takeUnreported takes messages of which nothing has been heard for $1 seconds.
const takeUnreported = `
WITH due AS (
    SELECT id FROM messages WHERE unreported_since <= now() - $1 * interval '1 second'
    ORDER BY unreported_since LIMIT $2 FOR UPDATE SKIP LOCKED
), m AS (
    UPDATE messages SET unreported_since = CASE WHEN final_at IS NULL THEN now() END
    FROM due WHERE messages.id = due.id
    RETURNING messages.id, sender, recipient, plivo_uuid
)
SELECT m.id, a.ordinal, m.plivo_uuid, m.sender, m.recipient FROM m JOIN attempts a ON a.plivo_uuid = m.plivo_uuid`

// TakeUnreported returns up to limit messages at Plivo of which nothing has been
// heard for a while. Each comes up again after as long a while, until it is final.
func (s *Store) TakeUnreported(ctx context.Context, wait time.Duration, limit int) ([]mms.Unreported, error) {
	var rows []struct {
		ID        uuid.UUID `db:"id"`
		Number    int       `db:"ordinal"`
		PlivoUUID string    `db:"plivo_uuid"`
		Sender    string    `db:"sender"`
		Recipient string    `db:"recipient"`
	}
	if err := s.db.SelectContext(ctx, &rows, takeUnreported, wait.Seconds(), limit); err != nil {
		return nil, wrapError(err, "taking silent messages")
	}
	silent := make([]mms.Unreported, len(rows))
	for i, r := range rows {
		silent[i] = mms.Unreported{
			AttemptRef: mms.AttemptRef{MessageID: r.ID, Ordinal: r.Number}, PlivoUUID: r.PlivoUUID,
			Sender: mms.PhoneNumber(r.Sender), Recipient: mms.PhoneNumber(r.Recipient),
		}
	}
	return silent, nil
}

const backOffUnreported = `
UPDATE messages SET unreported_since = now() + least(now() - updated_at, interval '30 minutes')
WHERE id = $1 AND unreported_since IS NOT NULL AND final_at IS NULL`

// BackOffUnreported lets a message rest that Plivo had no news of: the longer, the
// longer there has been none.
func (s *Store) BackOffUnreported(ctx context.Context, ref mms.AttemptRef) error {
	_, err := s.db.ExecContext(ctx, backOffUnreported, ref.MessageID)
	return wrapError(err, "letting a silent message rest")
}

const closeUnreported = `
WITH due AS (
    SELECT id FROM messages WHERE unreported_since IS NOT NULL AND status IN ('submitted', 'sent') AND final_at IS NULL
      AND updated_at < now() - $1 * interval '1 second'
    LIMIT $2 FOR UPDATE SKIP LOCKED
), m AS (
    UPDATE messages SET final_at = now(), unreported_since = NULL, version = version + 1, updated_at = now()
    FROM due WHERE messages.id = due.id RETURNING messages.id, status
), event AS (
    INSERT INTO message_events (message_id, kind, status) SELECT id, 'closed', status FROM m
)
SELECT id FROM m`

// CloseUnreported closes up to limit messages of which nothing has been heard for
// so long that no further report is expected, and returns how many.
func (s *Store) CloseUnreported(ctx context.Context, silence time.Duration, limit int) (int, error) {
	return s.exec(ctx, "closing silent messages", closeUnreported, silence.Seconds(), limit)
}

func nullIfEmpty(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
