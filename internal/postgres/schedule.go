package postgres

import (
	"context"

	"github.com/postcard-mms/postcard/internal/mms"
)

var queueScheduled = `
WITH due AS MATERIALIZED (
    SELECT m.id, m.batch_id IS NULL AS alone, ` + unprepared("$2", "$3") + ` AS unprepared
    FROM messages m WHERE m.status = 'scheduled' AND m.send_at <= now() ORDER BY m.send_at LIMIT $1 FOR UPDATE SKIP LOCKED
), changed AS (
    UPDATE messages SET status = 'queued', next_attempt_at = now(), version = version + 1, updated_at = now(),
        task_check_at = CASE WHEN due.alone AND NOT due.unprepared THEN now() + ` + taskCheckGrace + ` ELSE 'infinity' END,
        backlog_state = CASE WHEN due.unprepared THEN 'preparing' WHEN NOT due.alone THEN 'waiting' END,
        prepare_at = CASE WHEN due.unprepared THEN now() END
    FROM due WHERE messages.id = due.id
    RETURNING messages.id, messages.status, messages.task_generation, messages.priority, messages.backlog_state
), event AS (
    INSERT INTO message_events (message_id, kind, status) SELECT id, 'due', status FROM changed
)
SELECT id, task_generation, priority, backlog_state IS NOT NULL AS in_backlog FROM changed`

// QueueScheduled queues up to limit scheduled messages that are due. It returns their
// number and the tasks to enqueue; messages of batches, and those whose media are not ready,
// get theirs later.
func (s *Store) QueueScheduled(ctx context.Context, limit int) (int, []mms.Task, error) {
	rows, err := s.queued(ctx, "queueing scheduled messages", queueScheduled, limit, s.plivoAccount, s.checksMedia)
	return len(rows), tasksOf(rows), err
}

// queuedRow is a message that was queued, with a task to enqueue unless it has to wait.
type queuedRow struct {
	taskRow
	InBacklog bool `db:"in_backlog"`
}

// queued runs a statement that returns queuedRows.
func (s *Store) queued(ctx context.Context, doing, query string, args ...any) ([]queuedRow, error) {
	var rows []queuedRow
	if err := s.db.SelectContext(ctx, &rows, query, args...); err != nil {
		return nil, wrapError(err, doing)
	}
	for _, row := range rows {
		s.noteChanged(row.ID)
	}
	return rows, nil
}

// tasksOf returns the tasks to enqueue.
func tasksOf(rows []queuedRow) []mms.Task {
	var tasks []mms.Task
	for _, row := range rows {
		if !row.InBacklog {
			tasks = append(tasks, row.task())
		}
	}
	return tasks
}
