package postgres

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
)

const addToBacklog = `
WITH before AS (
    SELECT id, sender, backlog_state FROM messages WHERE id = $1 AND status = 'queued' AND backlog_state IS DISTINCT FROM 'waiting' FOR UPDATE
), rate_limit AS (
    INSERT INTO rate_limits (name, interval_seconds, next_arrival_at) SELECT sender, 4, now() FROM before ON CONFLICT DO NOTHING
), m AS (
    UPDATE messages SET backlog_state = 'waiting', task_check_at = 'infinity',
        version = version + CASE WHEN before.backlog_state IS NULL THEN 1 ELSE 0 END, updated_at = now()
    FROM before WHERE messages.id = before.id
    RETURNING messages.id, messages.status, before.backlog_state AS old
)
INSERT INTO message_events (message_id, kind, status) SELECT id, 'waiting', status FROM m WHERE old IS NULL
RETURNING message_id`

// AddToBacklog lets a message wait for its sender's gate, or for the end of a
// pause. It needs no task meanwhile: Release gives it one. A sender that nobody
// has set a pace for, because it is not configured any more, gets a safe one.
func (s *Store) AddToBacklog(ctx context.Context, id uuid.UUID) error {
	_, err := s.exec(ctx, "standing in line", addToBacklog, id)
	return err
}

// release lets the first in line go, with a task of a new generation (the old
// one may just be ending), for each sender whose gate opens within
// $1 seconds and who has nobody on the way yet. A gate that opens more often
// than we look lets several go at a time. One that somebody has locked holds up no
// other. Whether there is a line is asked for by its first message, and what was picked is
// looked up as an array: of EXISTS and of a join, Postgres makes a walk along the whole
// line, or the whole table.
const release = `
WITH ready AS (
    SELECT name, interval_seconds, next_arrival_at FROM rate_limits
    WHERE next_arrival_at <= now() + $1 * interval '1 second' AND released_until <= now()
      AND (SELECT true FROM messages w WHERE w.sender = rate_limits.name AND w.backlog_state = 'waiting' ORDER BY w.priority, w.id LIMIT 1)
      AND NOT EXISTS (SELECT FROM pauses)
    FOR UPDATE SKIP LOCKED
), picked AS (
    SELECT p.id, ready.name FROM ready, LATERAL (
        SELECT m.id FROM messages m
        WHERE m.sender = ready.name AND m.backlog_state = 'waiting' AND NOT ` + pairInFlight + `
        ORDER BY m.priority, m.id LIMIT CASE WHEN ready.interval_seconds <= 0.005 THEN 500 ELSE greatest(1, ceil($1 / ready.interval_seconds))::int END
        FOR UPDATE SKIP LOCKED
    ) p
), marked AS (
    UPDATE rate_limits SET released_until = greatest(now(), next_arrival_at) + interval '2 seconds'
    WHERE name IN (SELECT name FROM picked) AND interval_seconds > 0.005
)
` + releasePicked

// Release takes those out of the lines whose turn it is within ahead, and
// returns their tasks, to be enqueued.
func (s *Store) Release(ctx context.Context, ahead time.Duration) ([]mms.Task, error) {
	return s.tasks(ctx, "releasing messages from the line", release, ahead.Seconds())
}

// releasePicked lets go those that were picked.
const releasePicked = `
UPDATE messages SET backlog_state = 'released', task_check_at = now() + ` + taskCheckGrace + `, task_generation = task_generation + 1
WHERE messages.id = ANY (ARRAY(SELECT id FROM picked))
RETURNING messages.id, messages.task_generation, messages.priority`

// selectQueuePosition counts up to $3 messages.
const selectQueuePosition = `
SELECT (SELECT count(*) FROM (
        SELECT FROM messages w WHERE w.sender = m.sender AND w.backlog_state = 'waiting' AND (w.priority, w.id) < (m.priority, m.id) LIMIT $3) before) AS ahead,
    coalesce(g.interval_seconds, 0) AS interval_seconds,
    greatest(0, coalesce(extract(epoch FROM g.next_arrival_at - now()), 0)) AS rate_limit,
    ` + pauseCause + ` AS paused,
    coalesce((SELECT state FROM batches b WHERE b.id = m.batch_id), 'running') AS batch
FROM messages m LEFT JOIN rate_limits g ON g.name = m.sender
WHERE m.id = $1 AND m.user_id = $2 AND m.backlog_state IN ('waiting', 'parked')`

// QueuePosition returns how many stand before the owner's message in its sender's line,
// about how long it has to wait, and what holds it up; false when it stands in none.
func (s *Store) QueuePosition(ctx context.Context, owner, id uuid.UUID) (mms.QueuePosition, bool, error) {
	var row struct {
		Ahead   int     `db:"ahead"`
		Seconds float64 `db:"interval_seconds"`
		Gate    float64 `db:"rate_limit"`
		Paused  string  `db:"paused"`
		Batch   string  `db:"batch"`
	}
	err := s.db.GetContext(ctx, &row, selectQueuePosition, id, owner, mms.MaxCounted)
	if errors.Is(err, sql.ErrNoRows) {
		return mms.QueuePosition{}, false, nil
	}
	return mms.QueuePosition{
		Ahead: row.Ahead, Wait: seconds(row.Gate + float64(row.Ahead)*row.Seconds),
		Paused: mms.Reason(row.Paused), Batch: mms.BatchState(row.Batch),
	}, err == nil, wrapError(err, "reading a place in line")
}
