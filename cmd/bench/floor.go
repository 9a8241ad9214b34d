package main

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/google/uuid"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

// floorResult is the speed and cost of the floor.
type floorResult struct {
	perSecond, p99          float64
	postgres, writes, bytes float64 // per message; postgres is in CPU seconds
}

// mean returns the average of two measurements.
func (f floorResult) mean(g floorResult) floorResult {
	return floorResult{
		perSecond: (f.perSecond + g.perSecond) / 2, p99: (f.p99 + g.p99) / 2,
		postgres: (f.postgres + g.postgres) / 2, writes: (f.writes + g.writes) / 2, bytes: (f.bytes + g.bytes) / 2,
	}
}

func (f floorResult) add(r *report, concurrency int) {
	add := func(name string, value float64, unit string) {
		r.add(fmt.Sprintf("floor%s, c=%d", name, concurrency), value, unit, "")
	}
	add("", f.perSecond, "messages/s")
	add(": p99", f.p99, "ms")
	add(": Postgres CPU", 1e6*f.postgres, "µs/message")
	add(": WAL", f.bytes, "bytes/message")
	add(": writing transactions", f.writes, "/message")
}

// floor measures a loop that only inserts messages and enqueues their tasks, from
// concurrent callers. It tries few and many connections to Postgres and returns the
// better result, because which is faster depends on the machine.
func (s *stack) floor(ctx context.Context, concurrency int) (best floorResult, err error) {
	for _, connections := range slices.Compact([]int{min(concurrency, 16), min(concurrency, 90)}) {
		f, err := s.floorOver(ctx, concurrency, connections)
		if err != nil {
			return floorResult{}, fmt.Errorf("over %d connections: %w", connections, err)
		}
		if f.perSecond > best.perSecond {
			best = f
		}
	}
	return best, nil
}

// floorOver measures the floor with the given number of connections to Postgres, and one
// to Redis for each caller.
func (s *stack) floorOver(ctx context.Context, concurrency, connections int) (f floorResult, err error) {
	pool, err := sql.Open("postgres", s.postgres.URL)
	if err != nil {
		return f, fmt.Errorf("opening the database: %w", err)
	}
	defer pool.Close()
	pool.SetMaxOpenConns(connections)
	pool.SetMaxIdleConns(connections)
	options, err := redis.ParseURL(s.redis.URL)
	if err != nil {
		return f, fmt.Errorf("opening Redis: %w", err)
	}
	options.PoolSize = concurrency
	tasks := redis.NewClient(options)
	defer tasks.Close()
	workspace, err := s.workspace(ctx)
	if err != nil {
		return f, err
	}
	call, err := storeAndEnqueue(ctx, pool, tasks, workspace)
	if err != nil {
		return f, err
	}
	var calls atomic.Int64
	before, err := s.counts(ctx)
	if err != nil {
		return f, err
	}
	perSecond, took, err := load(ctx, concurrency, loadLength, func() (caller, error) {
		return func(n int64) error { calls.Add(1); return call(n) }, nil
	})
	if err != nil {
		return f, err
	}
	after, err := s.counts(ctx)
	if err != nil {
		return f, err
	}
	total := float64(calls.Load())
	return floorResult{
		perSecond: perSecond, p99: took.at(0.99),
		postgres: (after.postgres - before.postgres) / total, writes: (after.writes - before.writes) / total, bytes: (after.wal - before.wal) / total,
	}, nil
}

// insertMessage inserts the rows of one message.
const insertMessage = `
WITH m AS (
    INSERT INTO messages (id, workspace_id, sender, recipient, text, status, next_attempt_at, task_check_at)
    VALUES ($1, $2, $3, $4, $5, 'queued', now(), 'infinity') RETURNING id
), media AS (
    INSERT INTO message_media (message_id, position, url) SELECT id, 1, $6 FROM m
)
INSERT INTO message_events (message_id, kind, status) SELECT id, 'created', 'queued' FROM m`

// storeAndEnqueue returns a caller that inserts one message in a transaction and enqueues
// its task.
func storeAndEnqueue(ctx context.Context, pool *sql.DB, tasks *redis.Client, workspace uuid.UUID) (caller, error) {
	statement, err := pool.PrepareContext(ctx, insertMessage)
	if err != nil {
		return nil, fmt.Errorf("preparing the insert: %w", err)
	}
	client := asynq.NewClientFromRedisClient(tasks)
	return func(n int64) error {
		id, err := uuid.NewV7()
		if err != nil {
			return fmt.Errorf("creating an id: %w", err)
		}
		if _, err := statement.Exec(id, workspace, sender, fmt.Sprintf("+1416%07d", 2000000+n%8000000), "Greetings from the coast", "https://example.com/picture.jpg"); err != nil {
			return fmt.Errorf("inserting a message: %w", err)
		}
		text, _ := id.MarshalText()
		_, err = client.Enqueue(asynq.NewTask("bench", text), asynq.TaskID(id.String()+":1"), asynq.Queue("floor"), asynq.MaxRetry(10000))
		return err
	}, nil
}
