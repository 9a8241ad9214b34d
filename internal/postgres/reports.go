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

// AttemptByToken returns the attempt whose callback URL contains the token, and its
// Plivo UUID, empty if not known yet; or mms.ErrNotFound.
func (s *Store) AttemptByToken(ctx context.Context, token string) (mms.AttemptRef, string, error) {
	var row struct {
		MessageID uuid.UUID `db:"message_id"`
		Ordinal   int       `db:"ordinal"`
		PlivoUUID string    `db:"plivo_uuid"`
	}
	err := s.db.GetContext(ctx, &row, selectAttemptByToken, token)
	if errors.Is(err, sql.ErrNoRows) {
		return mms.AttemptRef{}, "", mms.ErrNotFound
	}
	return mms.AttemptRef{MessageID: row.MessageID, Ordinal: row.Ordinal}, row.PlivoUUID, wrapError(err, "reading an attempt by its token")
}

// applyReport moves the message to the reported status $3 if its status is one of
// $5, the statuses that may precede it. Details such as units and cost are stored in
// any order. A state unknown to Postcard ($3 is empty) leaves the status alone and is
// recorded as an event once. An opt-out adds a suppression.
//
// The time of the first report that arrives at the callback is recorded, whatever the
// report says, and also for a duplicate: from these times DOUBT_SILENCE learns how soon
// reports come. Counting the rows of old makes Postgres lock the message before the
// attempt.
const applyReport = `
WITH old AS (
    SELECT id, status = ANY ($5) AS moves, $3 = '' AND NOT EXISTS (
        SELECT FROM message_events WHERE message_id = $1 AND kind = $6 AND detail = $7) AS new_state
    FROM messages WHERE id = $1 AND plivo_uuid = $2 FOR UPDATE
), first_report AS (
    UPDATE attempts SET first_report_at = clock_timestamp()
    WHERE message_id = $1 AND ordinal = $12 AND plivo_uuid = $2 AND first_report_at IS NULL AND $6 = '` + string(mms.EventReport) + `'
      AND (SELECT count(*) FROM old) >= 0
), m AS (
    UPDATE messages SET version = version + (moves OR new_state)::int,
        updated_at = CASE WHEN moves OR new_state THEN now() ELSE updated_at END,
        status = CASE WHEN moves THEN $3 ELSE status END,
        plivo_code = CASE WHEN moves THEN $4 ELSE plivo_code END,
        reason = CASE WHEN NOT moves THEN reason WHEN $3 = 'failed' THEN 'reported' ELSE '' END,
        final_at = CASE WHEN NOT moves THEN final_at WHEN $3 IN ('delivered', 'undelivered', 'failed') THEN now() END,
        poll_base_at = CASE WHEN NOT moves THEN poll_base_at WHEN $3 NOT IN ('delivered', 'undelivered', 'failed') THEN now() END,
        units = coalesce($8, units), cost = coalesce($9::numeric, cost),
        carrier_sent_at = coalesce($10, carrier_sent_at), carrier_report_at = coalesce($11, carrier_report_at)
    FROM old WHERE messages.id = old.id AND (moves OR new_state
        OR (units, cost, carrier_sent_at, carrier_report_at) IS DISTINCT FROM
           (coalesce($8, units), coalesce($9::numeric, cost), coalesce($10, carrier_sent_at), coalesce($11, carrier_report_at)))
    RETURNING messages.id, status, sender, recipient, moves, moves OR new_state AS recorded
), event AS (
    INSERT INTO message_events (message_id, kind, status, attempt, detail)
    SELECT id, $6, status, $12, $7 FROM m WHERE recorded
), opted_out AS (
    INSERT INTO suppressions (sender, recipient, reason) SELECT sender, recipient, 'plivo' FROM m
    WHERE moves AND $4 = '` + mms.OptedOutCode + `' AND $3 IN ('failed', 'undelivered')
    ON CONFLICT DO NOTHING
)
SELECT id FROM m WHERE recorded`

// ApplyReport applies a report of Plivo to the attempt's message and records an
// event of the given kind. A report that is out of order, or about another Plivo
// UUID than the message's, does not change the status. It returns true when it
// recorded an event.
func (s *Store) ApplyReport(ctx context.Context, ref mms.AttemptRef, r mms.Report, kind mms.EventKind) (bool, error) {
	before := []mms.Status{}
	to, known := mms.StatusFromReport(r.State)
	switch {
	case known:
		before = mms.StatusesBefore(to)
	case r.State == "queued":
		to = mms.Submitted // no status precedes it here: before stays empty
	}
	changed, err := s.exec(ctx, "applying a delivery report", applyReport,
		ref.MessageID, r.PlivoUUID, string(to), r.ShortCode(), pq.Array(before), string(kind), r.Summary(),
		r.Units, nullIfEmpty(r.Cost), r.SentAt, r.ReportedAt, ref.Ordinal)
	return changed == 1, err
}

const pollSoon = `UPDATE messages SET poll_base_at = '-infinity' WHERE id = $1 AND plivo_uuid IS NOT NULL`

// PollSoon makes the attempt's message due for the next poll of Plivo.
func (s *Store) PollSoon(ctx context.Context, ref mms.AttemptRef) error {
	_, err := s.db.ExecContext(ctx, pollSoon, ref.MessageID)
	return wrapError(err, "making a message due for a poll")
}

// takeUnreported returns messages without a report for $1 seconds. The ids are
// compared as an array, and the attempt is looked up per message, because Postgres
// may turn the joins into scans of whole tables.
const takeUnreported = `
WITH due AS (
    SELECT id FROM messages WHERE poll_base_at <= now() - $1 * interval '1 second'
    ORDER BY poll_base_at LIMIT $2 FOR UPDATE SKIP LOCKED
), m AS (
    UPDATE messages SET poll_base_at = CASE WHEN final_at IS NULL THEN now() END
    WHERE id = ANY (ARRAY(SELECT id FROM due))
    RETURNING id, sender, recipient, plivo_uuid
)
SELECT m.id, a.ordinal, m.plivo_uuid, m.sender, m.recipient
FROM m, LATERAL (SELECT ordinal FROM attempts WHERE plivo_uuid = m.plivo_uuid LIMIT 1) a`

// TakeUnreported returns up to limit messages that Plivo has accepted and not
// reported on for wait. Each is returned again after wait, plus the time that
// BackOffUnreported adds, until it is final.
func (s *Store) TakeUnreported(ctx context.Context, wait time.Duration, limit int) ([]mms.Unreported, error) {
	var rows []struct {
		ID        uuid.UUID `db:"id"`
		Ordinal   int       `db:"ordinal"`
		PlivoUUID string    `db:"plivo_uuid"`
		Sender    string    `db:"sender"`
		Recipient string    `db:"recipient"`
	}
	if err := s.db.SelectContext(ctx, &rows, takeUnreported, wait.Seconds(), limit); err != nil {
		return nil, wrapError(err, "taking unreported messages")
	}
	unreported := make([]mms.Unreported, len(rows))
	for i, r := range rows {
		unreported[i] = mms.Unreported{
			AttemptRef: mms.AttemptRef{MessageID: r.ID, Ordinal: r.Ordinal}, PlivoUUID: r.PlivoUUID,
			Sender: mms.PhoneNumber(r.Sender), Recipient: mms.PhoneNumber(r.Recipient),
		}
	}
	return unreported, nil
}

const backOffUnreported = `
UPDATE messages SET poll_base_at = now() + least(now() - updated_at, interval '30 minutes')
WHERE id = $1 AND poll_base_at IS NOT NULL AND final_at IS NULL`

// BackOffUnreported delays the next poll of a message further, because the last one
// brought nothing new: by as long as the message has not changed, 30 minutes at most.
func (s *Store) BackOffUnreported(ctx context.Context, ref mms.AttemptRef) error {
	_, err := s.db.ExecContext(ctx, backOffUnreported, ref.MessageID)
	return wrapError(err, "postponing the poll of a message")
}

const closeUnreported = `
WITH due AS (
    SELECT id FROM messages WHERE poll_base_at IS NOT NULL AND status IN ('submitted', 'sent') AND final_at IS NULL
      AND updated_at < now() - $1 * interval '1 second'
    LIMIT $2 FOR UPDATE SKIP LOCKED
), m AS (
    UPDATE messages SET final_at = now(), poll_base_at = NULL, version = version + 1, updated_at = now()
    WHERE id = ANY (ARRAY(SELECT id FROM due)) RETURNING id, status
), event AS (
    INSERT INTO message_events (message_id, kind, status) SELECT id, 'closed', status FROM m
)
SELECT id FROM m`

// CloseUnreported makes up to limit messages final that last changed longer ago than age,
// after which Plivo sends no report any more. It returns how many.
func (s *Store) CloseUnreported(ctx context.Context, age time.Duration, limit int) (int, error) {
	return s.exec(ctx, "closing unreported messages", closeUnreported, age.Seconds(), limit)
}

func nullIfEmpty(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
