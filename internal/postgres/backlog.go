package postgres

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
)

const selectClaimBlocker = `
SELECT extract(epoch FROM m.next_attempt_at - now()) AS wait, m.expires_at <= now() AS expired,
    EXISTS (SELECT FROM suppressions s WHERE s.sender = m.sender AND s.recipient = m.recipient) AS suppressed,
    coalesce(m.backlog_state, '') = 'released' AS released,
    EXISTS (SELECT FROM batches b WHERE b.id = m.batch_id AND b.state <> 'running') AS parked,
    coalesce(extract(epoch FROM g.next_arrival_at - clock_timestamp()), 0) AS rate_limit,
    EXISTS (
        SELECT FROM messages o WHERE o.sender = m.sender AND o.recipient = m.recipient
        AND (o.status = 'sending' OR (o.status = 'in_doubt' AND NOT o.held))
    ) AS pair_in_flight
FROM messages m LEFT JOIN rate_limits g ON g.name = m.sender
WHERE m.id = $1 AND m.status = 'queued'`

// ClaimBlocker says what keeps a message from being claimed.
func (s *Store) ClaimBlocker(ctx context.Context, id uuid.UUID) (mms.ClaimBlocker, error) {
	var row struct {
		Wait       float64 `db:"wait"`
		Expired    bool    `db:"expired"`
		Suppressed bool    `db:"suppressed"`
		Released   bool    `db:"released"`
		SetAside   bool    `db:"parked"`
		Gate       float64 `db:"rate_limit"`
		PairBusy   bool    `db:"pair_in_flight"`
	}
	err := s.db.GetContext(ctx, &row, selectClaimBlocker, id)
	if errors.Is(err, sql.ErrNoRows) {
		return mms.ClaimBlocker{Gone: true}, nil
	}
	return mms.ClaimBlocker{
		DueIn: max(0, seconds(row.Wait)), Expired: row.Expired, Suppressed: row.Suppressed, Released: row.Released, Parked: row.SetAside,
		RateLimited: max(0, seconds(row.Gate)), PairInFlight: row.PairBusy,
	}, wrapError(err, "asking why a message cannot be claimed")
}

const setRateLimit = `
INSERT INTO rate_limits (name, interval_seconds, next_arrival_at) VALUES ($1, $2, now())
ON CONFLICT (name) DO UPDATE SET interval_seconds = EXCLUDED.interval_seconds,
    next_arrival_at = least(rate_limits.next_arrival_at, now() + EXCLUDED.interval_seconds * interval '1 second')`

// SetRateLimit sets the least time between two messages of a sender; 0 for none.
func (s *Store) SetRateLimit(ctx context.Context, sender mms.PhoneNumber, pace time.Duration) error {
	_, err := s.db.ExecContext(ctx, setRateLimit, string(sender), pace.Seconds())
	return wrapError(err, "setting a sender's pace")
}

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

// pairInFlight is true of a message m whose sender and recipient have another
// message under way or in doubt.
const pairInFlight = `EXISTS (
        SELECT FROM messages o WHERE o.sender = m.sender AND o.recipient = m.recipient
        AND (o.status = 'sending' OR (o.status = 'in_doubt' AND NOT o.held))
    )`

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

// probe lets one message pass a pause, less and less often the longer it lasts,
// and each time one that was tried the fewest times, of the first and the last hundred in
// each line: the trouble may be of some messages alone.
const probe = `
WITH due AS (
    UPDATE pauses SET probe_at = now() + interval '10 seconds' + least(now() - since, interval '5 minutes')
    WHERE probe_at <= now() RETURNING cause
), picked AS (
    SELECT c.id FROM messages c
    WHERE c.id = ANY (ARRAY(
        SELECT f.id FROM rate_limits, LATERAL (
            (SELECT m.id FROM messages m WHERE m.sender = rate_limits.name AND m.backlog_state = 'waiting' AND NOT ` + pairInFlight + `
                ORDER BY m.priority, m.id LIMIT 100)
            UNION ALL
            (SELECT m.id FROM messages m WHERE m.sender = rate_limits.name AND m.backlog_state = 'waiting' AND NOT ` + pairInFlight + `
                ORDER BY m.priority DESC, m.id DESC LIMIT 100)
        ) f WHERE EXISTS (SELECT FROM due)))
      AND c.backlog_state = 'waiting'
    ORDER BY c.attempts, c.priority, c.id LIMIT 1 FOR UPDATE SKIP LOCKED
)` + releasePicked

// Probe takes one message out of the line during a pause whose time for a
// probe has come, and returns its task, to be enqueued.
func (s *Store) Probe(ctx context.Context) ([]mms.Task, error) {
	return s.tasks(ctx, "probing a pause", probe)
}

// taskRow is a task to be enqueued.
type taskRow struct {
	ID         uuid.UUID `db:"id"`
	Generation int       `db:"task_generation"`
	Priority   int       `db:"priority"`
}

func (r taskRow) task() mms.Task {
	return mms.Task{MessageID: r.ID, Generation: r.Generation, Priority: mms.Priority(r.Priority)}
}

func (s *Store) tasks(ctx context.Context, doing, query string, args ...any) ([]mms.Task, error) {
	var rows []taskRow
	if err := s.db.SelectContext(ctx, &rows, query, args...); err != nil {
		return nil, wrapError(err, doing)
	}
	tasks := make([]mms.Task, len(rows))
	for i, row := range rows {
		tasks[i] = row.task()
	}
	return tasks, nil
}

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

const expireQueued = `
WITH due AS (
    SELECT id FROM messages WHERE status = 'queued' AND expires_at <= now()
    ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED
), m AS (
    UPDATE messages SET status = 'failed', reason = 'expired', next_attempt_at = NULL, task_check_at = NULL, backlog_state = NULL,
        version = version + 1, updated_at = now(), final_at = now()
    FROM due WHERE messages.id = due.id
    RETURNING messages.id, messages.status
), event AS (
    INSERT INTO message_events (message_id, kind, status) SELECT id, 'expired', status FROM m
)
SELECT id FROM m`

// ExpireQueued fails up to limit queued messages that could not be sent in time, and
// returns how many.
func (s *Store) ExpireQueued(ctx context.Context, limit int) (int, error) {
	return s.exec(ctx, "expiring messages", expireQueued, limit)
}

// pauseCause is why nothing is sent at present; empty while sending goes on.
const pauseCause = `coalesce((SELECT cause FROM pauses ORDER BY since LIMIT 1), '')`

const selectPauses = `SELECT cause, detail, since FROM pauses ORDER BY since`

// Pauses returns why nothing is sent at present; nothing while sending goes on.
func (s *Store) Pauses(ctx context.Context) ([]mms.Pause, error) {
	var rows []struct {
		Cause  string    `db:"cause"`
		Detail string    `db:"detail"`
		Since  time.Time `db:"since"`
	}
	if err := s.db.SelectContext(ctx, &rows, selectPauses); err != nil {
		return nil, wrapError(err, "reading pauses")
	}
	pauses := make([]mms.Pause, len(rows))
	for i, row := range rows {
		pauses[i] = mms.Pause{Cause: mms.Reason(row.Cause), Detail: row.Detail, Since: row.Since}
	}
	return pauses, nil
}

const resume = `DELETE FROM pauses WHERE cause = $1`

// Resume ends a pause by a person's word. It reports false when there is none
// for the cause.
func (s *Store) Resume(ctx context.Context, cause mms.Reason) (bool, error) {
	result, err := s.db.ExecContext(ctx, resume, string(cause))
	if err != nil {
		return false, wrapError(err, "ending a pause")
	}
	n, err := result.RowsAffected()
	return n == 1, wrapError(err, "ending a pause")
}
