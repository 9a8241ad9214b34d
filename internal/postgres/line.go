package postgres

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/google/uuid"

	"postcard/internal/mms"
)

const selectObstacle = `
SELECT extract(epoch FROM m.next_attempt_at - now()) AS wait, m.expires_at <= now() AS expired,
    EXISTS (SELECT FROM suppressions s WHERE s.sender = m.sender AND s.recipient = m.recipient) AS suppressed,
    coalesce(m.line, '') = 'released' AS released,
    EXISTS (SELECT FROM batches b WHERE b.id = m.batch_id AND b.state <> 'running') AS set_aside,
    coalesce(extract(epoch FROM g.next_at - clock_timestamp()), 0) AS gate,
    EXISTS (
        SELECT FROM messages o WHERE o.sender = m.sender AND o.recipient = m.recipient
        AND (o.status = 'sending' OR (o.status = 'in_doubt' AND NOT o.held))
    ) AS pair_busy
FROM messages m LEFT JOIN gates g ON g.name = m.sender
WHERE m.id = $1 AND m.status = 'queued'`

// Obstacle says what keeps a message from being claimed.
func (s *Store) Obstacle(ctx context.Context, id uuid.UUID) (mms.Obstacle, error) {
	var row struct {
		Wait       float64 `db:"wait"`
		Expired    bool    `db:"expired"`
		Suppressed bool    `db:"suppressed"`
		Released   bool    `db:"released"`
		SetAside   bool    `db:"set_aside"`
		Gate       float64 `db:"gate"`
		PairBusy   bool    `db:"pair_busy"`
	}
	err := s.db.GetContext(ctx, &row, selectObstacle, id)
	if errors.Is(err, sql.ErrNoRows) {
		return mms.Obstacle{Gone: true}, nil
	}
	return mms.Obstacle{
		NotDue: max(0, seconds(row.Wait)), Expired: row.Expired, Suppressed: row.Suppressed, Released: row.Released, SetAside: row.SetAside,
		Gate: max(0, seconds(row.Gate)), PairBusy: row.PairBusy,
	}, translate(err, "asking why a message cannot be claimed")
}

const setPace = `
INSERT INTO gates (name, seconds, next_at) VALUES ($1, $2, now())
ON CONFLICT (name) DO UPDATE SET seconds = EXCLUDED.seconds,
    next_at = least(gates.next_at, now() + EXCLUDED.seconds * interval '1 second')`

// SetPace sets the least time between two messages of a sender; 0 for none.
func (s *Store) SetPace(ctx context.Context, sender mms.Number, pace time.Duration) error {
	_, err := s.db.ExecContext(ctx, setPace, string(sender), pace.Seconds())
	return translate(err, "setting a sender's pace")
}

const standInLine = `
WITH before AS (
    SELECT id, sender, line FROM messages WHERE id = $1 AND status = 'queued' AND line IS DISTINCT FROM 'waiting' FOR UPDATE
), gate AS (
    INSERT INTO gates (name, seconds, next_at) SELECT sender, 4, now() FROM before ON CONFLICT DO NOTHING
), m AS (
    UPDATE messages SET line = 'waiting', relay_at = 'infinity',
        version = version + CASE WHEN before.line IS NULL THEN 1 ELSE 0 END, updated_at = now()
    FROM before WHERE messages.id = before.id
    RETURNING messages.id, messages.status, before.line AS old
)
INSERT INTO message_events (message_id, kind, status) SELECT id, 'in_line', status FROM m WHERE old IS NULL
RETURNING message_id`

// StandInLine lets a message wait for its sender's gate, or for the end of a
// pause. It needs no task meanwhile: Release gives it one. A sender that nobody
// has set a pace for, because it is not configured any more, gets a safe one.
func (s *Store) StandInLine(ctx context.Context, id uuid.UUID) error {
	_, err := s.change(ctx, "standing in line", standInLine, id)
	return err
}

// unsettledPair is true of a message m whose sender and recipient have another
// message under way or in doubt.
const unsettledPair = `EXISTS (
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
    SELECT name, seconds, next_at FROM gates
    WHERE next_at <= now() + $1 * interval '1 second' AND released_until <= now()
      AND (SELECT true FROM messages w WHERE w.sender = gates.name AND w.line = 'waiting' ORDER BY w.priority, w.id LIMIT 1)
      AND NOT EXISTS (SELECT FROM pauses)
    FOR UPDATE SKIP LOCKED
), picked AS (
    SELECT p.id, ready.name FROM ready, LATERAL (
        SELECT m.id FROM messages m
        WHERE m.sender = ready.name AND m.line = 'waiting' AND NOT ` + unsettledPair + `
        ORDER BY m.priority, m.id LIMIT CASE WHEN ready.seconds <= 0.005 THEN 500 ELSE greatest(1, ceil($1 / ready.seconds))::int END
        FOR UPDATE SKIP LOCKED
    ) p
), marked AS (
    UPDATE gates SET released_until = greatest(now(), next_at) + interval '2 seconds'
    WHERE name IN (SELECT name FROM picked) AND seconds > 0.005
)
` + releasePicked

// Release takes those out of the lines whose turn it is within ahead, and
// returns their tasks, to be enqueued.
func (s *Store) Release(ctx context.Context, ahead time.Duration) ([]mms.Task, error) {
	return s.tasks(ctx, "releasing messages from the line", release, ahead.Seconds())
}

// releasePicked lets go those that were picked.
const releasePicked = `
UPDATE messages SET line = 'released', relay_at = now() + ` + relayGrace + `, task_generation = task_generation + 1
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
        SELECT f.id FROM gates, LATERAL (
            (SELECT m.id FROM messages m WHERE m.sender = gates.name AND m.line = 'waiting' AND NOT ` + unsettledPair + `
                ORDER BY m.priority, m.id LIMIT 100)
            UNION ALL
            (SELECT m.id FROM messages m WHERE m.sender = gates.name AND m.line = 'waiting' AND NOT ` + unsettledPair + `
                ORDER BY m.priority DESC, m.id DESC LIMIT 100)
        ) f WHERE EXISTS (SELECT FROM due)))
      AND c.line = 'waiting'
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
		return nil, translate(err, doing)
	}
	tasks := make([]mms.Task, len(rows))
	for i, row := range rows {
		tasks[i] = row.task()
	}
	return tasks, nil
}

// selectPlace counts up to $3 messages.
const selectPlace = `
SELECT (SELECT count(*) FROM (
        SELECT FROM messages w WHERE w.sender = m.sender AND w.line = 'waiting' AND (w.priority, w.id) < (m.priority, m.id) LIMIT $3) before) AS ahead,
    coalesce(g.seconds, 0) AS seconds,
    greatest(0, coalesce(extract(epoch FROM g.next_at - now()), 0)) AS gate,
    ` + causeOfPause + ` AS paused,
    coalesce((SELECT state FROM batches b WHERE b.id = m.batch_id), 'running') AS batch
FROM messages m LEFT JOIN gates g ON g.name = m.sender
WHERE m.id = $1 AND m.user_id = $2 AND m.line IN ('waiting', 'set_aside')`

// Place returns how many stand before the owner's message in its sender's line,
// about how long it has to wait, and what holds it up; false when it stands in none.
func (s *Store) Place(ctx context.Context, owner, id uuid.UUID) (mms.Place, bool, error) {
	var row struct {
		Ahead   int     `db:"ahead"`
		Seconds float64 `db:"seconds"`
		Gate    float64 `db:"gate"`
		Paused  string  `db:"paused"`
		Batch   string  `db:"batch"`
	}
	err := s.db.GetContext(ctx, &row, selectPlace, id, owner, mms.MaxCounted)
	if errors.Is(err, sql.ErrNoRows) {
		return mms.Place{}, false, nil
	}
	return mms.Place{
		Ahead: row.Ahead, Wait: seconds(row.Gate + float64(row.Ahead)*row.Seconds),
		Paused: mms.Reason(row.Paused), Batch: mms.BatchState(row.Batch),
	}, err == nil, translate(err, "reading a place in line")
}

const expireQueued = `
WITH due AS (
    SELECT id FROM messages WHERE status = 'queued' AND expires_at <= now()
    ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED
), m AS (
    UPDATE messages SET status = 'failed', reason = 'expired', next_attempt_at = NULL, relay_at = NULL, line = NULL,
        version = version + 1, updated_at = now(), final_at = now()
    FROM due WHERE messages.id = due.id
    RETURNING messages.id, messages.status
), event AS (
    INSERT INTO message_events (message_id, kind, status) SELECT id, 'expired', status FROM m
)
SELECT id FROM m`

// Expire fails up to limit queued messages that could not be sent in time, and
// returns how many.
func (s *Store) Expire(ctx context.Context, limit int) (int, error) {
	return s.change(ctx, "expiring messages", expireQueued, limit)
}

// causeOfPause is why nothing is sent at present; empty while sending goes on.
const causeOfPause = `coalesce((SELECT cause FROM pauses ORDER BY since LIMIT 1), '')`

const selectPauses = `SELECT cause, detail, since FROM pauses ORDER BY since`

// Paused returns why nothing is sent at present; nothing while sending goes on.
func (s *Store) Paused(ctx context.Context) ([]mms.Pause, error) {
	var rows []struct {
		Cause  string    `db:"cause"`
		Detail string    `db:"detail"`
		Since  time.Time `db:"since"`
	}
	if err := s.db.SelectContext(ctx, &rows, selectPauses); err != nil {
		return nil, translate(err, "reading pauses")
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
		return false, translate(err, "ending a pause")
	}
	n, err := result.RowsAffected()
	return n == 1, translate(err, "ending a pause")
}
