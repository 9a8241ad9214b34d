package postgres

import "context"

const expireQueued = `
WITH due AS (
    SELECT id FROM messages WHERE status = 'queued' AND expires_at <= now()
    ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED
), changed AS (
    UPDATE messages SET status = 'failed', reason = 'expired', next_attempt_at = NULL, task_check_at = NULL, backlog_state = NULL,
        version = version + 1, updated_at = now(), final_at = now()
    FROM due WHERE messages.id = due.id
    RETURNING messages.id, messages.status
), event AS (
    INSERT INTO message_events (message_id, kind, status) SELECT id, 'expired', status FROM changed
)
SELECT id FROM changed`

// ExpireQueued fails up to limit queued messages that have expired, and returns their
// number.
func (s *Store) ExpireQueued(ctx context.Context, limit int) (int, error) {
	return s.exec(ctx, "expiring messages", expireQueued, limit)
}
