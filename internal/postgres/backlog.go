package postgres

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
)

const (
	// unconfiguredInterval is the rate limit, in seconds, of a sender that is not
	// configured any more.
	unconfiguredInterval = `4`

	// A sender with an interval up to negligibleInterval, in seconds, is not paced:
	// release takes up to maxReleased of its messages at a time.
	negligibleInterval = `0.005`
	maxReleased        = `500`

	// releasedFor is how long, in seconds, a released message may take to be claimed
	// once its sender may send. After that the next one is released.
	releasedFor = `2`
)

const addToBacklog = `
WITH target AS (
    SELECT id, sender, backlog_state FROM messages WHERE id = $1 AND status = 'queued' AND coalesce(backlog_state, '') NOT IN ('waiting', 'preparing') FOR UPDATE
), rate_limit AS (
    INSERT INTO rate_limits (name, interval_seconds, next_arrival_at) SELECT sender, ` + unconfiguredInterval + `, now() FROM target ON CONFLICT DO NOTHING
), changed AS (
    UPDATE messages SET backlog_state = 'waiting', task_check_at = 'infinity',
        version = version + CASE WHEN target.backlog_state IS NULL THEN 1 ELSE 0 END, updated_at = now()
    FROM target WHERE messages.id = target.id
    RETURNING messages.id, messages.status, target.backlog_state AS old_state
)
INSERT INTO message_events (message_id, kind, status) SELECT id, 'waiting', status FROM changed WHERE old_state IS NULL
RETURNING message_id`

// AddToBacklog makes a message wait for its sender's rate limit or the end of a pause.
// It has no task until Release gives it one. A sender without a rate limit, because it
// is not configured any more, gets a limit of one message every 4 seconds.
func (s *Store) AddToBacklog(ctx context.Context, id uuid.UUID) error {
	_, err := s.exec(ctx, "adding a message to the backlog", addToBacklog, id)
	return err
}

// release releases the first waiting messages of each sender whose rate limit allows a
// send within $1 seconds, unless the sender rests or a released message of it is still on
// its way.
// It releases several at a time for a sender with a shorter interval than $1. Each gets
// a task of a new generation, because the old task may still be running. Locked rows
// are skipped.
//
// The plan must not read a whole backlog, or all of messages. That is why the first row
// of the backlog is selected where EXISTS would do, and releasePicked compares with an
// array instead of joining.
const release = `
WITH ready AS (
    SELECT name, interval_seconds, next_arrival_at FROM rate_limits
    WHERE next_arrival_at <= now() + $1 * interval '1 second' AND released_until <= now() AND NOT resting
      AND (SELECT true FROM messages w WHERE w.sender = rate_limits.name AND w.backlog_state = 'waiting' ORDER BY w.priority, w.id LIMIT 1)
      AND NOT EXISTS (SELECT FROM pauses)
    FOR UPDATE SKIP LOCKED
), picked AS (
    SELECT first.id, ready.name FROM ready, LATERAL (
        SELECT m.id FROM messages m
        WHERE m.sender = ready.name AND m.backlog_state = 'waiting' AND NOT ` + pairInFlight + `
        ORDER BY m.priority, m.id LIMIT CASE WHEN ready.interval_seconds <= ` + negligibleInterval + ` THEN ` + maxReleased + ` ELSE greatest(1, ceil($1 / ready.interval_seconds))::int END
        FOR UPDATE SKIP LOCKED
    ) first
), marked AS (
    UPDATE rate_limits SET released_until = greatest(now(), next_arrival_at) + ` + releasedFor + ` * interval '1 second'
    WHERE name IN (SELECT name FROM picked) AND interval_seconds > ` + negligibleInterval + `
)
` + releasePicked

// releasePicked releases the messages of a CTE named picked. They are due from now on: see
// runnableSince.
const releasePicked = `
UPDATE messages SET backlog_state = 'released', next_attempt_at = now(), task_check_at = now() + ` + taskCheckGrace + `, task_generation = task_generation + 1
WHERE messages.id = ANY (ARRAY(SELECT id FROM picked))
RETURNING messages.id, messages.task_generation, messages.priority`

// Release releases the messages that may be sent within ahead, and returns the tasks to
// enqueue.
func (s *Store) Release(ctx context.Context, ahead time.Duration) ([]mms.Task, error) {
	return s.tasks(ctx, "releasing messages", release, ahead.Seconds())
}

// selectQueuePosition counts at most $3 messages.
const selectQueuePosition = `
SELECT (SELECT count(*) FROM (
        SELECT FROM messages w WHERE w.sender = m.sender AND w.backlog_state = 'waiting' AND (w.priority, w.id) < (m.priority, m.id) LIMIT $3) waiting) AS ahead,
    coalesce(rate_limits.interval_seconds, 0) AS interval_seconds,
    greatest(0, coalesce(extract(epoch FROM rate_limits.next_arrival_at - now()), 0)) AS rate_limited,
    EXISTS (SELECT FROM pauses) AS paused, coalesce(rate_limits.resting, false) AS resting,
    coalesce((SELECT state FROM batches b WHERE b.id = m.batch_id), 'running') AS batch
FROM messages m LEFT JOIN rate_limits ON rate_limits.name = m.sender
WHERE m.id = $1 AND m.workspace_id = $2 AND m.backlog_state IN ('waiting', 'parked')`

// QueuePosition returns how many messages of the same sender are ahead of the workspace's
// message, an estimate of its wait, and what else it waits for. It reports false when
// the message is not in the backlog.
func (s *Store) QueuePosition(ctx context.Context, workspace, id uuid.UUID) (mms.QueuePosition, bool, error) {
	var row struct {
		Ahead       int     `db:"ahead"`
		Interval    float64 `db:"interval_seconds"`
		RateLimited float64 `db:"rate_limited"`
		Paused      bool    `db:"paused"`
		Resting     bool    `db:"resting"`
		Batch       string  `db:"batch"`
	}
	err := s.db.GetContext(ctx, &row, selectQueuePosition, id, workspace, mms.MaxCounted)
	if errors.Is(err, sql.ErrNoRows) {
		return mms.QueuePosition{}, false, nil
	}
	return mms.QueuePosition{
		Ahead: row.Ahead, Wait: seconds(row.RateLimited + float64(row.Ahead)*row.Interval),
		Paused: row.Paused, Resting: row.Resting, Batch: mms.BatchState(row.Batch),
	}, err == nil, wrapError(err, "reading a queue position")
}
