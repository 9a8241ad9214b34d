package postgres

import (
	"context"
	"time"

	"github.com/lib/pq"
)

// reapLeases finds attempts whose lease has expired. A lease is the worker's sign of
// life; the worker chooses its length and renews it (internal/worker/heartbeat.go).
const reapLeases = `
WITH lost AS (
    SELECT m.id FROM messages m JOIN attempts a ON a.message_id = m.id AND a.ordinal = m.attempts
    WHERE a.outcome IS NULL AND a.lease_until < now() AND m.status = 'sending'
    ORDER BY a.lease_until LIMIT $1 FOR UPDATE OF m SKIP LOCKED
), changed AS (
    UPDATE messages SET status = 'in_doubt', reason = 'worker_lost', version = version + 1, updated_at = now()
    FROM lost WHERE messages.id = lost.id
    RETURNING messages.id, messages.attempts, messages.status
), attempt AS (
    UPDATE attempts a SET outcome = 'unknown', finished_at = now(), next_check_at = now() + interval '5 seconds'
    FROM changed WHERE a.message_id = changed.id AND a.ordinal = changed.attempts
), event AS (
    INSERT INTO message_events (message_id, kind, status, attempt, detail)
    SELECT id, 'in_doubt', status, attempts, 'worker_lost' FROM changed
)
SELECT id FROM changed`

// finishLost finishes lost attempts of messages that have moved on without them,
// because evidence about another attempt came first. Locked messages wait for the next run.
const finishLost = `
WITH lost AS (
    SELECT a.message_id, a.ordinal FROM messages m JOIN attempts a ON a.message_id = m.id
    WHERE a.outcome IS NULL AND a.lease_until < now() AND (m.status <> 'sending' OR m.attempts <> a.ordinal)
    FOR UPDATE OF m SKIP LOCKED
)
UPDATE attempts a SET outcome = 'unknown', finished_at = now() FROM lost
WHERE a.message_id = lost.message_id AND a.ordinal = lost.ordinal AND a.outcome IS NULL`

// ReapLeases puts up to limit messages in doubt whose attempt's lease has expired,
// because its worker was lost, and returns their number.
func (s *Store) ReapLeases(ctx context.Context, limit int) (int, error) {
	if _, err := s.db.ExecContext(ctx, finishLost); err != nil {
		return 0, wrapError(err, "closing lost attempts")
	}
	return s.exec(ctx, "reaping leases", reapLeases, limit)
}

// renewLeases skips locked attempts. Their outcome is being recorded, so they need no
// lease any more, and waiting for several locks could deadlock.
const renewLeases = `
WITH open AS (
    SELECT token FROM attempts WHERE token = ANY ($1) AND outcome IS NULL AND lease_until > now()
    FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE attempts SET lease_until = now() + $2 * interval '1 second'
FROM open WHERE attempts.token = open.token
RETURNING attempts.token`

// RenewLeases extends the leases of the open attempts with these tokens, except
// expired leases, and returns the tokens whose lease it extended.
func (s *Store) RenewLeases(ctx context.Context, tokens []string, length time.Duration) ([]string, error) {
	var renewed []string
	err := s.db.SelectContext(ctx, &renewed, renewLeases, pq.Array(tokens), length.Seconds())
	return renewed, wrapError(err, "renewing leases")
}
