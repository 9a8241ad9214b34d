package postgres

import (
	"context"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/postcard-mms/postcard/internal/mms"
)

// taskCheckGrace is how long a message may be due before the task relay checks that it
// has its task. An idle worker claims it within milliseconds.
const taskCheckGrace = "interval '10 seconds'"

// noTask is the task check of a message that is known to have no task: the task relay
// gives it one before it checks any other message, however long the queue is.
const noTask = `'-infinity'`

// taskRow is a task to enqueue.
type taskRow struct {
	ID         uuid.UUID `db:"id"`
	Generation int       `db:"task_generation"`
	Priority   int       `db:"priority"`
}

func (r taskRow) task() mms.Task {
	return mms.Task{MessageID: r.ID, Generation: r.Generation, Priority: mms.Priority(r.Priority)}
}

// tasks runs a statement that returns taskRows.
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

// runnableSince is when a message m was last given to the queue, or the moment before:
// when it was created, due for its next attempt, released or requeued.
const runnableSince = `greatest(m.updated_at, m.next_attempt_at)`

// overtakenAfter is how much later another message must have been created to overtake a
// message that waits. A queue runs its tasks in order, except for those that are
// postponed for seconds: while the pair of numbers has another message in flight, for
// example.
const overtakenAfter = `interval '10 minutes'`

// inFlight is a CTE with the time at which the newest message in flight was created, for
// each priority, which is a queue of its own. It reads the attempts in progress and
// their messages by their ids alone, whatever the statistics say.
const inFlight = `in_flight AS MATERIALIZED (
    SELECT o.priority, max(o.created_at) AS created_at
    FROM attempts a, LATERAL (SELECT priority, created_at FROM messages WHERE id = a.message_id OFFSET 0) o
    WHERE a.outcome IS NULL AND a.lease_until > now() GROUP BY o.priority
)`

// overtaken is true for a queued message m that could be claimed and has not been, while
// messages that were created long after it became runnable are in flight. $3 says whether
// an opt-out holds for every sender, $4 is the Plivo account.
var overtaken = `CASE WHEN ` + runnableSince + ` < now() - ` + overtakenAfter + `
        AND ` + runnableSince + ` + ` + overtakenAfter + ` < (SELECT f.created_at FROM in_flight f WHERE f.priority = m.priority)
        THEN ` + wouldBeClaimed("$3", "$4") + ` ELSE false END`

var takeForTaskCheck = `
WITH ` + inFlight + `
UPDATE messages m SET task_check_at = now() + least(greatest(now() - created_at, interval '10 seconds'), interval '2 minutes')
WHERE id IN (
    SELECT id FROM messages WHERE task_check_at <= CASE WHEN $2 THEN ` + noTask + ` ELSE now() END AND status = 'queued'
    ORDER BY task_check_at LIMIT $1 FOR UPDATE SKIP LOCKED
)
RETURNING id, task_generation, priority, greatest(0, extract(epoch FROM next_attempt_at - now())) AS wait,
    ` + overtaken + ` AS overtaken`

// TakeForTaskCheck returns up to limit queued messages that are due for a check of
// their task, or only those known to have none, and schedules the next check of each.
func (s *Store) TakeForTaskCheck(ctx context.Context, limit int, onlyWithoutTask bool) ([]mms.TaskCheck, error) {
	var rows []struct {
		taskRow
		Wait      float64 `db:"wait"`
		Overtaken bool    `db:"overtaken"`
	}
	if err := s.db.SelectContext(ctx, &rows, takeForTaskCheck, limit, onlyWithoutTask, s.optOutsOfEverySender, s.plivoAccount); err != nil {
		return nil, wrapError(err, "taking messages for a task check")
	}
	checks := make([]mms.TaskCheck, len(rows))
	for i, row := range rows {
		checks[i] = mms.TaskCheck{Task: row.task(), Wait: seconds(row.Wait), Overtaken: row.Overtaken}
	}
	return checks, nil
}

const advanceTaskGeneration = `
UPDATE messages SET task_generation = task_generation + 1
WHERE id = $1 AND task_generation = $2 AND status = 'queued'`

// AdvanceTaskGeneration gives the message a new task id, so that a new task can be enqueued
// beside one that is stuck or dead. It reports false when the message is not queued any
// more or has a newer generation.
func (s *Store) AdvanceTaskGeneration(ctx context.Context, t mms.Task) (bool, error) {
	const doing = "incrementing a task generation"
	result, err := s.db.ExecContext(ctx, advanceTaskGeneration, t.MessageID, t.Generation)
	if err != nil {
		return false, wrapError(err, doing)
	}
	n, err := result.RowsAffected()
	return n == 1, wrapError(err, doing)
}

const recordRequeued = `
WITH locked AS (
    SELECT id FROM messages WHERE id = ANY ($1) AND status = 'queued' ORDER BY id FOR UPDATE
), changed AS (
    UPDATE messages SET version = version + 1, updated_at = now(),
        task_check_at = CASE WHEN isfinite(task_check_at) THEN greatest(task_check_at, now() + least(task_generation, 9) ^ 2 * interval '10 seconds') ELSE task_check_at END
    WHERE id = ANY (ARRAY(SELECT id FROM locked)) RETURNING id, status
)
INSERT INTO message_events (message_id, kind, status) SELECT id, 'requeued', status FROM changed RETURNING message_id`

// RecordRequeued records that the messages' tasks were missing from the queue, or did not
// run, and that they have new ones. It postpones the next check, the longer the more tasks
// a message has had, so that no message fills the queue.
func (s *Store) RecordRequeued(ctx context.Context, ids []uuid.UUID) error {
	_, err := s.exec(ctx, "recording requeued messages", recordRequeued, pq.Array(ids))
	return err
}

// makeAllTaskChecksDue skips locked messages: they are being claimed or checked.
const makeAllTaskChecksDue = `
UPDATE messages SET task_check_at = now() WHERE id IN (
    SELECT id FROM messages WHERE task_check_at > now() AND task_check_at < 'infinity' AND status = 'queued'
    ORDER BY task_check_at LIMIT $1 FOR UPDATE SKIP LOCKED
)`

// MakeAllTaskChecksDue schedules an immediate task check of every queued message
// outside the backlog, because the queue has lost its data. It proceeds in small
// statements, so that no other statement waits for long.
func (s *Store) MakeAllTaskChecksDue(ctx context.Context) error {
	const limit, doing = 2000, "scheduling task checks"
	for {
		result, err := s.db.ExecContext(ctx, makeAllTaskChecksDue, limit)
		if err != nil {
			return wrapError(err, doing)
		}
		if n, err := result.RowsAffected(); err != nil || n < limit {
			return wrapError(err, doing)
		}
	}
}
