package postgres

import (
	"context"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"postcard/internal/mms"
)

const takeForRelay = `
UPDATE messages SET relay_at = now() + least(greatest(now() - created_at, interval '10 seconds'), interval '2 minutes')
WHERE id IN (
    SELECT id FROM messages WHERE relay_at <= now() AND status = 'queued'
    ORDER BY relay_at LIMIT $1 FOR UPDATE SKIP LOCKED
)
RETURNING id, task_generation, priority, greatest(0, extract(epoch FROM next_attempt_at - now())) AS wait`

// TakeForRelay returns up to limit queued messages whose task has to be looked
// at. Each comes up again later, until a worker has claimed it.
func (s *Store) TakeForRelay(ctx context.Context, limit int) ([]mms.RelayItem, error) {
	var rows []struct {
		taskRow
		Wait float64 `db:"wait"`
	}
	if err := s.db.SelectContext(ctx, &rows, takeForRelay, limit); err != nil {
		return nil, translate(err, "taking messages for the relay")
	}
	items := make([]mms.RelayItem, len(rows))
	for i, row := range rows {
		items[i] = mms.RelayItem{Task: row.task(), Wait: seconds(row.Wait)}
	}
	return items, nil
}

const nextGeneration = `
UPDATE messages SET task_generation = task_generation + 1
WHERE id = $1 AND task_generation = $2 AND status = 'queued'`

// NextGeneration makes room for a new task of the message beside one that is
// stuck or dead. It reports false when the message has moved on.
func (s *Store) NextGeneration(ctx context.Context, t mms.Task) (bool, error) {
	result, err := s.db.ExecContext(ctx, nextGeneration, t.MessageID, t.Generation)
	if err != nil {
		return false, translate(err, "counting up a task's generation")
	}
	n, err := result.RowsAffected()
	return n == 1, translate(err, "counting up a task's generation")
}

const noteRelayed = `
WITH m AS (
    UPDATE messages SET version = version + 1, updated_at = now()
    WHERE id = ANY ($1) AND status = 'queued' RETURNING id, status
)
INSERT INTO message_events (message_id, kind, status) SELECT id, 'relayed', status FROM m RETURNING message_id`

// NoteRelayed records that the messages' tasks were missing from the queue and
// were put there again.
func (s *Store) NoteRelayed(ctx context.Context, ids []uuid.UUID) error {
	_, err := s.change(ctx, "noting relayed messages", noteRelayed, pq.Array(ids))
	return err
}

// relayAll leaves out whom others have locked: they are being claimed, or looked at.
const relayAll = `
UPDATE messages SET relay_at = now() WHERE id IN (
    SELECT id FROM messages WHERE relay_at > now() AND relay_at < 'infinity' AND status = 'queued'
    ORDER BY relay_at LIMIT $1 FOR UPDATE SKIP LOCKED
)`

// RelayAll makes the task of every queued message that ought to have one be looked
// at now: the queue has lost its memory. It takes some at a time, so that nobody has
// to wait for all.
func (s *Store) RelayAll(ctx context.Context) error {
	const some = 2000
	for {
		result, err := s.db.ExecContext(ctx, relayAll, some)
		if err != nil {
			return translate(err, "having all tasks looked at")
		}
		if n, err := result.RowsAffected(); err != nil || n < some {
			return translate(err, "having all tasks looked at")
		}
	}
}
