package main

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/hibiken/asynq"
	"github.com/lib/pq"
)

// queued describes messages to insert directly into the database. Their ordinals, above
// from and up to to, determine their recipients; workspaces take turns.
type queued struct {
	workspaces   []uuid.UUID
	from, to     int
	backlogState string // "waiting"; empty: they have tasks
}

// insertQueued stores queued messages without the api.
func (s *stack) insertQueued(ctx context.Context, q queued) error {
	_, err := s.db.ExecContext(ctx, `
WITH m AS (
    INSERT INTO messages (id, workspace_id, sender, recipient, text, status, next_attempt_at, task_check_at, backlog_state, expires_at)
    SELECT (lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0') || '7' || substr(md5(i::text), 1, 3) || '8' || substr(md5(i::text), 4, 15))::uuid,
        ($1::uuid[])[1 + i % cardinality($1::uuid[])], $2, '+1416' || (2000000 + i), 'Greetings from the coast', 'queued', now(),
        CASE WHEN $5 = '' THEN now() + interval '10 minutes' ELSE 'infinity' END, nullif($5, ''), now() + interval '1 day'
    FROM generate_series($3::int + 1, $4::int) AS i RETURNING id
), media AS (
    INSERT INTO message_media (message_id, position, url) SELECT id, 1, 'https://example.com/picture.jpg' FROM m
)
INSERT INTO message_events (message_id, kind, status) SELECT id, 'created', 'queued' FROM m`, pq.Array(q.workspaces), sender, q.from, q.to, q.backlogState)
	if err != nil {
		return fmt.Errorf("inserting messages: %w", err)
	}
	return nil
}

// enqueueAll enqueues the tasks of all queued messages, oldest first.
func (s *stack) enqueueAll(ctx context.Context) error {
	rows, err := s.db.QueryContext(ctx, `SELECT id FROM messages WHERE status = 'queued' ORDER BY id`)
	if err != nil {
		return fmt.Errorf("reading messages: %w", err)
	}
	defer rows.Close()
	client := asynq.NewClientFromRedisClient(s.tasks)
	for rows.Next() {
		var id uuid.UUID
		if err := rows.Scan(&id); err != nil {
			return err
		}
		text, _ := id.MarshalText()
		if _, err := client.Enqueue(asynq.NewTask("mms:send", text), asynq.TaskID(id.String()+":1"), asynq.Queue("messages"), asynq.MaxRetry(10000)); err != nil {
			return fmt.Errorf("enqueueing: %w", err)
		}
	}
	return rows.Err()
}
