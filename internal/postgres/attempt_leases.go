package postgres

import (
	"context"
	"time"

	"github.com/lib/pq"
)

const reapLeases = `
WITH lapsed AS (
    SELECT m.id FROM messages m JOIN attempts a ON a.message_id = m.id AND a.ordinal = m.attempts
    WHERE a.outcome IS NULL AND a.lease_until < now() AND m.status = 'sending'
    ORDER BY a.lease_until LIMIT $1 FOR UPDATE OF m SKIP LOCKED
), m AS (
    UPDATE messages SET status = 'in_doubt', reason = 'worker_lost', version = version + 1, updated_at = now()
    FROM lapsed WHERE messages.id = lapsed.id
    RETURNING messages.id, messages.attempts, messages.status
), attempt AS (
    UPDATE attempts a SET outcome = 'unknown', finished_at = now(), next_check_at = now() + interval '5 seconds'
    FROM m WHERE a.message_id = m.id AND a.ordinal = m.attempts
), event AS (
    INSERT INTO message_events (message_id, kind, status, attempt, detail)
    SELECT id, 'in_doubt', status, attempts, 'worker_lost' FROM m
)
SELECT id FROM m`

// closeReaped finishes lost attempts of messages that are not being sent any
// more, because evidence about another attempt was quicker.
const closeReaped = `
UPDATE attempts a SET outcome = 'unknown', finished_at = now() FROM messages m
WHERE m.id = a.message_id AND a.outcome IS NULL AND a.lease_until < now() AND (m.status <> 'sending' OR m.attempts <> a.ordinal)`

// ReapLeases puts up to limit messages in doubt whose worker was lost in the
// middle of an attempt, and returns how many.
func (s *Store) ReapLeases(ctx context.Context, limit int) (int, error) {
	if _, err := s.db.ExecContext(ctx, closeReaped); err != nil {
		return 0, wrapError(err, "closing lost attempts")
	}
	return s.exec(ctx, "looking for lost attempts", reapLeases, limit)
}

// renewLeases waits for nobody: whose outcome is being recorded needs no lease any
// more, and two statements that lock many attempts would wait for each other.
const renewLeases = `
WITH held AS (
    SELECT token FROM attempts WHERE token = ANY ($1) AND outcome IS NULL AND lease_until > now()
    FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE attempts SET lease_until = now() + $2 * interval '1 second'
FROM held WHERE attempts.token = held.token
RETURNING attempts.token`

// RenewLeases extends the leases of the open attempts with these tokens, except
// those that are over, and returns the tokens of those it extended.
func (s *Store) RenewLeases(ctx context.Context, tokens []string, length time.Duration) ([]string, error) {
	var renewed []string
	err := s.db.SelectContext(ctx, &renewed, renewLeases, pq.Array(tokens), length.Seconds())
	return renewed, wrapError(err, "renewing leases")
}
