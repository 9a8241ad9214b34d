package postgres

import (
	"context"

	"github.com/postcard-mms/postcard/internal/mms"
)

const queueScheduled = `
WITH due AS (
    SELECT id FROM messages WHERE status = 'scheduled' AND send_at <= now() ORDER BY send_at LIMIT $1 FOR UPDATE SKIP LOCKED
), changed AS (
    UPDATE messages SET status = 'queued', next_attempt_at = now(), version = version + 1, updated_at = now(),
        task_check_at = CASE WHEN batch_id IS NULL THEN now() + ` + taskCheckGrace + ` ELSE 'infinity' END,
        backlog_state = CASE WHEN batch_id IS NOT NULL THEN 'waiting' END
    FROM due WHERE messages.id = due.id
    RETURNING messages.id, messages.status, messages.task_generation, messages.priority, messages.backlog_state
), event AS (
    INSERT INTO message_events (message_id, kind, status) SELECT id, 'due', status FROM changed
)
SELECT id, task_generation, priority, backlog_state IS NOT NULL AS in_backlog FROM changed`

// QueueScheduled queues up to limit scheduled messages that are due. It returns their
// number and the tasks to enqueue; messages of batches go to the backlog instead.
func (s *Store) QueueScheduled(ctx context.Context, limit int) (int, []mms.Task, error) {
	var rows []struct {
		taskRow
		InBacklog bool `db:"in_backlog"`
	}
	if err := s.db.SelectContext(ctx, &rows, queueScheduled, limit); err != nil {
		return 0, nil, wrapError(err, "queueing scheduled messages")
	}
	var tasks []mms.Task
	for _, row := range rows {
		s.noteChanged(row.ID)
		if !row.InBacklog {
			tasks = append(tasks, row.task())
		}
	}
	return len(rows), tasks, nil
}
