package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/hibiken/asynq"
)

const dispatched = 20_000

// fill stores queued messages past the api, as quickly as can be.
func (s *stack) fill(ctx context.Context, messages int, line string) error {
	_, err := s.db.ExecContext(ctx, `
WITH m AS (
    INSERT INTO messages (id, user_id, sender, recipient, text, status, next_attempt_at, relay_at, line, expires_at)
    SELECT (lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0') || '7' || substr(md5(i::text), 1, 3) || '8' || substr(md5(i::text), 4, 15))::uuid,
        (SELECT id FROM users LIMIT 1), $2, '+1416' || (2000000 + i), 'Greetings from the coast', 'queued', now(),
        CASE WHEN $3 = '' THEN now() + interval '10 minutes' ELSE 'infinity' END, nullif($3, ''), now() + interval '1 day'
    FROM generate_series(1, $1) AS i RETURNING id
), media AS (
    INSERT INTO message_media (message_id, position, url) SELECT id, 1, 'https://example.com/picture.jpg' FROM m
)
INSERT INTO message_events (message_id, kind, status) SELECT id, 'accepted', 'queued' FROM m`, messages, sender, line)
	if err != nil {
		return fmt.Errorf("storing messages: %w", err)
	}
	return nil
}

// enqueue puts the tasks of all queued messages into the queue.
func (s *stack) enqueue(ctx context.Context) error {
	rows, err := s.db.QueryContext(ctx, `SELECT id FROM messages WHERE status = 'queued'`)
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

// benchDispatch measures how many queued messages a second workers hand to a
// simulator that answers at once, or after 300 ms, beside asynq with a handler
// that does nothing.
func benchDispatch(ctx context.Context, s *stack, r *report) error {
	api, err := s.api(ctx) // it makes the schema and the user
	if err != nil {
		return err
	}
	api.kill()
	floor, err := s.emptyHandler(ctx, 100)
	if err != nil {
		return err
	}
	r.add("asynq with an empty handler", floor, "tasks/s", "")
	for _, workers := range []int{1, 4} {
		perSecond, err := s.dispatch(ctx, r, workers, 0, dispatched)
		if err != nil {
			return err
		}
		bar := ""
		if workers == 1 {
			bar = "≥ 0.35"
		}
		r.add(fmt.Sprintf("sent, workers=%d, 0 ms", workers), perSecond, "messages/s", "")
		r.add(fmt.Sprintf("sent / empty handler, workers=%d", workers), perSecond/floor, "", bar)
	}
	perSecond, err := s.dispatch(ctx, r, 1, 300*time.Millisecond, 4000)
	if err != nil {
		return err
	}
	r.add("sent, workers=1, 300 ms, 100 at a time", perSecond, "messages/s", "")
	r.add("sent / what 100 at a time allow", perSecond/(100/0.3), "", "")
	return nil
}

// emptyHandler has asynq work on tasks with a handler that does nothing.
func (s *stack) emptyHandler(ctx context.Context, concurrency int) (float64, error) {
	client := asynq.NewClientFromRedisClient(s.tasks)
	for i := range dispatched {
		if _, err := client.EnqueueContext(ctx, asynq.NewTask("empty", []byte(uuid.NewString())), asynq.TaskID(fmt.Sprint(i)), asynq.Queue("empty"), asynq.MaxRetry(10000)); err != nil {
			return 0, fmt.Errorf("enqueueing: %w", err)
		}
	}
	var done atomic.Int64
	server := asynq.NewServerFromRedisClient(s.tasks, asynq.Config{
		Concurrency: concurrency, Queues: map[string]int{"empty": 1}, TaskCheckInterval: 10 * time.Millisecond, LogLevel: asynq.FatalLevel,
	})
	begun := time.Now()
	if err := server.Start(asynq.HandlerFunc(func(context.Context, *asynq.Task) error { done.Add(1); return nil })); err != nil {
		return 0, fmt.Errorf("starting asynq: %w", err)
	}
	for done.Load() < dispatched && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	took := time.Since(begun)
	server.Shutdown()
	return dispatched / took.Seconds(), ctx.Err()
}

func (s *stack) dispatch(ctx context.Context, r *report, workers int, slow time.Duration, messages int) (float64, error) {
	if _, err := s.db.ExecContext(ctx, `TRUNCATE messages, message_media, message_search, attempts, message_events, webhook_events, idempotency_keys`); err != nil {
		return 0, fmt.Errorf("emptying the tables: %w", err)
	}
	if err := s.fill(ctx, messages, ""); err != nil {
		return 0, err
	}
	if err := s.enqueue(ctx); err != nil {
		return 0, err
	}
	if _, err := s.db.ExecContext(ctx, `ANALYZE`); err != nil {
		return 0, fmt.Errorf("analyzing: %w", err)
	}
	s.slow = slow
	statements, err := s.commits(ctx)
	if err != nil {
		return 0, err
	}
	commands, err := s.commands(ctx)
	if err != nil {
		return 0, err
	}
	before, err := s.usage(ctx)
	if err != nil {
		return 0, err
	}
	var started []*process
	for range workers {
		w, err := s.worker(ctx, "WORKER_CONCURRENCY=100")
		if err != nil {
			return 0, err
		}
		started = append(started, w)
	}
	var first, last time.Time
	for ctx.Err() == nil {
		var left int
		if err := s.db.QueryRowContext(ctx, `SELECT count(*) FROM messages WHERE plivo_uuid IS NULL`).Scan(&left); err != nil {
			return 0, fmt.Errorf("counting: %w", err)
		}
		if left == 0 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if err := s.db.QueryRowContext(ctx, `SELECT min(started_at), max(finished_at) FROM attempts`).Scan(&first, &last); err != nil {
		return 0, fmt.Errorf("reading attempts: %w", err)
	}
	if slow == 0 {
		after, err := s.commits(ctx)
		if err != nil {
			return 0, err
		}
		afterCommands, err := s.commands(ctx)
		if err != nil {
			return 0, err
		}
		used := 0.0
		for _, w := range started {
			used += cpu(w.command.Process.Pid)
		}
		r.add(fmt.Sprintf("commits, workers=%d", workers), (after-statements)/float64(messages), "/message", "")
		r.add(fmt.Sprintf("Redis commands, workers=%d", workers), (afterCommands-commands)/float64(messages), "/message", "")
		now, err := s.usage(ctx)
		if err != nil {
			return 0, err
		}
		parts := now.since(before)
		for _, part := range []struct {
			name string
			used float64
		}{{"workers'", used}, {"Postgres'", parts.postgres}, {"Redis'", parts.redis}, {"the simulator's", parts.simulator}} {
			r.add(fmt.Sprintf("%s CPU, workers=%d", part.name, workers), 1e6*part.used/float64(messages), "µs/message", "")
		}
	}
	for _, w := range started {
		w.kill()
	}
	return float64(messages) / last.Sub(first).Seconds(), nil
}

// benchIdle sends one message at a time to workers that have nothing else to do,
// and measures how long it takes from the request to its arrival at the simulator.
func benchIdle(ctx context.Context, s *stack, r *report) error {
	api, key, _, err := s.apiWithKey(ctx)
	if err != nil {
		return err
	}
	if _, err := s.worker(ctx); err != nil {
		return err
	}
	call, err := poster(api.url, "/api/send-mms", "Authorization: Bearer "+key+"\r\n", sendBody, http.StatusAccepted)()
	if err != nil {
		return err
	}
	var took latencies
	for n := range 300 {
		begun := time.Now()
		if err := call(int64(n)); err != nil {
			return err
		}
		for len(s.sim.Ledger()) <= n && ctx.Err() == nil {
			time.Sleep(200 * time.Microsecond)
		}
		ledger := s.sim.Ledger()
		if n >= 20 { // the first ones warm up
			took = append(took, ledger[n].AcceptedAt.Sub(begun))
		}
		time.Sleep(time.Duration(n%17) * time.Millisecond) // so that no rhythm of ours meets one of the worker's
	}
	before, err := s.commands(ctx)
	if err != nil {
		return err
	}
	commits, err := s.commits(ctx)
	if err != nil {
		return err
	}
	const rest = 3 * time.Second
	time.Sleep(rest)
	after, err := s.commands(ctx)
	if err != nil {
		return err
	}
	afterCommits, err := s.commits(ctx)
	if err != nil {
		return err
	}
	r.add("request to arrival, p50", took.at(0.5), "ms", "≤ 15")
	r.add("request to arrival, p99", took.at(0.99), "ms", "≤ 50")
	r.add("Redis at rest", (after-before)/rest.Seconds(), "commands/s", "")
	r.add("Postgres at rest", (afterCommits-commits)/rest.Seconds(), "commits/s", "")
	return nil
}

// benchPacing has four workers share one sender's pace.
func benchPacing(ctx context.Context, s *stack, r *report) error {
	api, err := s.api(ctx)
	if err != nil {
		return err
	}
	api.kill()
	const perMinute, length = 120, 30 * time.Second // what Plivo carries from a toll-free number
	if err := s.fill(ctx, perMinute, "waiting"); err != nil {
		return err
	}
	for range 4 {
		if _, err := s.worker(ctx, fmt.Sprintf("SENDER_RATE=%d", perMinute)); err != nil {
			return err
		}
	}
	time.Sleep(2 * time.Second) // until all of them are at work
	from := time.Now()
	time.Sleep(length)
	until := time.Now()
	var arrivals []time.Time
	for _, e := range s.sim.Ledger() {
		if e.AcceptedAt.After(from) && e.AcceptedAt.Before(until) {
			arrivals = append(arrivals, e.AcceptedAt)
		}
	}
	slices.SortFunc(arrivals, func(a, b time.Time) int { return a.Compare(b) })
	overruns := 0
	const window = 10 * time.Second
	const allowed = int(perMinute * window / time.Minute)
	for i := allowed; i < len(arrivals); i++ {
		if arrivals[i].Sub(arrivals[i-allowed]) < window {
			overruns++
		}
	}
	achieved := float64(len(arrivals)-1) / arrivals[len(arrivals)-1].Sub(arrivals[0]).Minutes()
	r.add("achieved / allowed, 4 workers", achieved/perMinute, "", "≥ 0.98")
	r.add("windows of 10 s with too many", float64(overruns), "", "0")
	return nil
}

// benchStart measures how long a process takes until it is ready, and what it
// needs at rest.
func benchStart(ctx context.Context, s *stack, r *report) error {
	if _, err := s.api(ctx); err != nil { // it makes the schema
		return err
	}
	for _, program := range []string{"api", "worker"} {
		p, err := s.start(ctx, program)
		if err != nil {
			return err
		}
		time.Sleep(time.Second)
		r.add(program+": start to ready", float64(p.took.Milliseconds()), "ms", "≤ 1000")
		r.add(program+": memory at rest", memory(p.command.Process.Pid), "MiB", "")
		r.add(program+": size", size(s.programs, program), "MB", "≤ 40")
	}
	return nil
}
