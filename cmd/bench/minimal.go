package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/google/uuid"
	"github.com/hibiken/asynq"
)

// minimalQueue is asynq's default queue, which only the minimal worker uses.
const minimalQueue = "default"

// createMinimal creates the table of the minimal worker. Its index is for finding messages
// that are stuck.
const createMinimal = `
CREATE TABLE minimal_messages (
    id uuid PRIMARY KEY,
    sender text NOT NULL,
    recipient text NOT NULL,
    text text NOT NULL,
    media text[] NOT NULL,
    status text NOT NULL DEFAULT 'queued',
    attempts int NOT NULL DEFAULT 0,
    plivo_uuid text,
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON minimal_messages (status)`

const insertMinimal = `
INSERT INTO minimal_messages (id, sender, recipient, text, media)
SELECT gen_random_uuid(), $1, '+1416' || (2000000 + i), 'Greetings from the coast', ARRAY['https://example.com/picture.jpg']
FROM generate_series(1, $2::int) AS i RETURNING id`

// minimal sends messages with the minimal worker, as dispatch does with ours. Each of them
// starts without the other's rows, so that autovacuum does not clean them up meanwhile.
func (s *stack) minimal(ctx context.Context, how sending) (c cost, err error) {
	if err := s.prepare(ctx); err != nil {
		return c, err
	}
	if err := s.emptyTables(ctx); err != nil {
		return c, err
	}
	if _, err := s.db.ExecContext(ctx, createMinimal); err != nil {
		return c, fmt.Errorf("creating the table: %w", err)
	}
	if err := s.enqueueMinimal(ctx, how.messages); err != nil {
		return c, err
	}
	if err := s.analyze(ctx); err != nil {
		return c, err
	}
	c, started, err := s.send(ctx, how, minimalQueue, "", func() (*process, error) {
		return s.minimalWorker(ctx, how.inFlight)
	})
	if err != nil {
		return c, err
	}
	last, err := s.minimalSent(ctx)
	if err != nil {
		return c, err
	}
	for _, w := range started {
		w.kill()
	}
	first := s.sim.Requests()[0].At.Add(-how.latency)
	c.perSecond = float64(how.messages) / last.Sub(first).Seconds()
	if _, err := s.db.ExecContext(ctx, `DROP TABLE minimal_messages`); err != nil {
		return c, fmt.Errorf("dropping the table: %w", err)
	}
	return c, nil
}

// enqueueMinimal inserts messages of the minimal worker and enqueues their tasks.
func (s *stack) enqueueMinimal(ctx context.Context, messages int) error {
	rows, err := s.db.QueryContext(ctx, insertMinimal, sender, messages)
	if err != nil {
		return fmt.Errorf("inserting messages: %w", err)
	}
	defer rows.Close()
	client := asynq.NewClientFromRedisClient(s.tasks)
	for rows.Next() {
		var id uuid.UUID
		if err := rows.Scan(&id); err != nil {
			return fmt.Errorf("inserting messages: %w", err)
		}
		if _, err := client.EnqueueContext(ctx, asynq.NewTask(minimalTask, []byte(id.String()))); err != nil {
			return fmt.Errorf("enqueueing: %w", err)
		}
	}
	return rows.Err()
}

// minimalWorker starts the minimal worker, which is this program, and waits until it is
// ready.
func (s *stack) minimalWorker(ctx context.Context, inFlight int) (*process, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding this program: %w", err)
	}
	return s.startCommand(ctx, minimalWorker, exec.Command(path, minimalWorker), fmt.Sprintf("WORKER_CONCURRENCY=%d", inFlight))
}

// minimalSent waits until the minimal worker has recorded all messages and completed all
// tasks, and returns when it recorded the last message.
func (s *stack) minimalSent(ctx context.Context) (last time.Time, err error) {
	inspector := asynq.NewInspectorFromRedisClient(s.tasks)
	for left := 1; left > 0; {
		queue, err := inspector.GetQueueInfo(minimalQueue)
		if err != nil {
			return last, fmt.Errorf("reading the queue: %w", err)
		}
		left = queue.Size
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return last, err
		}
	}
	var unsent int
	err = s.db.QueryRowContext(ctx, `SELECT max(updated_at), count(*) FILTER (WHERE status <> 'submitted') FROM minimal_messages`).Scan(&last, &unsent)
	if err != nil {
		return last, fmt.Errorf("reading the messages: %w", err)
	}
	if unsent > 0 {
		return last, fmt.Errorf("the minimal worker did not send %d messages", unsent)
	}
	return last, nil
}
