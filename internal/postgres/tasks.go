package postgres

import (
	"context"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/postcard-mms/postcard/internal/mms"
)

// taskCheckGrace is how long a message may be due before the relay looks whether
// it still has its task. An idle worker needs milliseconds.
const taskCheckGrace = "interval '10 seconds'"

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

const takeForTaskCheck = `
UPDATE messages SET task_check_at = now() + least(greatest(now() - created_at, interval '10 seconds'), interval '2 minutes')
WHERE id IN (
    SELECT id FROM messages WHERE task_check_at <= now() AND status = 'queued'
    ORDER BY task_check_at LIMIT $1 FOR UPDATE SKIP LOCKED
)
RETURNING id, task_generation, priority, greatest(0, extract(epoch FROM next_attempt_at - now())) AS wait`

// TakeForTaskCheck returns up to limit queued messages whose task has to be looked
// at. Each comes up again later, until a worker has claimed it.
func (s *Store) TakeForTaskCheck(ctx context.Context, limit int) ([]mms.TaskCheck, error) {
	var rows []struct {
		taskRow
		Wait float64 `db:"wait"`
	}
	if err := s.db.SelectContext(ctx, &rows, takeForTaskCheck, limit); err != nil {
		return nil, wrapError(err, "taking messages for the relay")
	}
	items := make([]mms.TaskCheck, len(rows))
	for i, row := range rows {
		items[i] = mms.TaskCheck{Task: row.task(), Wait: seconds(row.Wait)}
	}
	return items, nil
}

const nextTaskGeneration = `
UPDATE messages SET task_generation = task_generation + 1
WHERE id = $1 AND task_generation = $2 AND status = 'queued'`

// NextTaskGeneration makes room for a new task of the message beside one that is
// stuck or dead. It reports false when the message has moved on.
func (s *Store) NextTaskGeneration(ctx context.Context, t mms.Task) (bool, error) {
	result, err := s.db.ExecContext(ctx, nextTaskGeneration, t.MessageID, t.Generation)
	if err != nil {
		return false, wrapError(err, "counting up a task's generation")
	}
	n, err := result.RowsAffected()
	return n == 1, wrapError(err, "counting up a task's generation")
}

const recordRequeued = `
WITH m AS (
    UPDATE messages SET version = version + 1, updated_at = now()
    WHERE id = ANY ($1) AND status = 'queued' RETURNING id, status
)
INSERT INTO message_events (message_id, kind, status) SELECT id, 'requeued', status FROM m RETURNING message_id`

// RecordRequeued records that the messages' tasks were missing from the queue and
// were put there again.
func (s *Store) RecordRequeued(ctx context.Context, ids []uuid.UUID) error {
	_, err := s.exec(ctx, "noting relayed messages", recordRequeued, pq.Array(ids))
	return err
}

// checkAllTasks leaves out whom others have locked: they are being claimed, or looked at.
const checkAllTasks = `
UPDATE messages SET task_check_at = now() WHERE id IN (
    SELECT id FROM messages WHERE task_check_at > now() AND task_check_at < 'infinity' AND status = 'queued'
    ORDER BY task_check_at LIMIT $1 FOR UPDATE SKIP LOCKED
)`

// CheckAllTasks makes the task of every queued message that ought to have one be looked
// at now: the queue has lost its memory. It takes some at a time, so that nobody has
// to wait for all.
func (s *Store) CheckAllTasks(ctx context.Context) error {
	const some = 2000
	for {
		result, err := s.db.ExecContext(ctx, checkAllTasks, some)
		if err != nil {
			return wrapError(err, "having all tasks looked at")
		}
		if n, err := result.RowsAffected(); err != nil || n < some {
			return wrapError(err, "having all tasks looked at")
		}
	}
}
