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
	"github.com/lib/pq"

	"github.com/postcard-mms/postcard/internal/plivosim"
)

const dispatched = 20_000

// queued are messages that are to be stored past the api: those with numbers above
// from and up to to, which are their recipients' and are not used twice, each of the
// next owner.
type queued struct {
	owners   []uuid.UUID
	from, to int
	waiting  string // where they stand in line; empty: they have tasks
}

// fill stores queued messages, as quickly as can be.
func (s *stack) fill(ctx context.Context, q queued) error {
	_, err := s.db.ExecContext(ctx, `
WITH m AS (
    INSERT INTO messages (id, user_id, sender, recipient, text, status, next_attempt_at, task_check_at, backlog_state, expires_at)
    SELECT (lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0') || '7' || substr(md5(i::text), 1, 3) || '8' || substr(md5(i::text), 4, 15))::uuid,
        ($1::uuid[])[1 + i % cardinality($1::uuid[])], $2, '+1416' || (2000000 + i), 'Greetings from the coast', 'queued', now(),
        CASE WHEN $5 = '' THEN now() + interval '10 minutes' ELSE 'infinity' END, nullif($5, ''), now() + interval '1 day'
    FROM generate_series($3::int + 1, $4::int) AS i RETURNING id
), media AS (
    INSERT INTO message_media (message_id, position, url) SELECT id, 1, 'https://example.com/picture.jpg' FROM m
)
INSERT INTO message_events (message_id, kind, status) SELECT id, 'created', 'queued' FROM m`, pq.Array(q.owners), sender, q.from, q.to, q.waiting)
	if err != nil {
		return fmt.Errorf("storing messages: %w", err)
	}
	return nil
}

// enqueue puts the tasks of all queued messages into the queue, the oldest first.
func (s *stack) enqueue(ctx context.Context) error {
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

// benchDispatch measures how many queued messages a second one worker hands to a
// simulator that answers at once, beside asynq with a handler that does nothing.
func benchDispatch(ctx context.Context, s *stack, r *report) error {
	before, err := s.emptyHandler(ctx, callsAtOnce)
	if err != nil {
		return err
	}
	perSecond, err := s.dispatch(ctx, r, sending{workers: 1})
	if err != nil {
		return err
	}
	after, err := s.emptyHandler(ctx, callsAtOnce) // machines are not equally fast all the time
	if err != nil {
		return err
	}
	floor := (before + after) / 2
	r.add("asynq with an empty handler", floor, "tasks/s", "")
	r.add("sent", perSecond, "messages/s", "")
	r.add("sent / empty handler", perSecond/floor, "", "≥ 0.35")
	return nil
}

// benchWorkers has four workers do what one does, on the same machine. One is
// measured before and after, since machines are not equally fast all the time.
func benchWorkers(ctx context.Context, s *stack, r *report) error {
	sent := map[int]float64{}
	for _, workers := range []int{1, 4, 1} {
		perSecond, err := s.dispatch(ctx, r, sending{workers: workers, name: fmt.Sprintf(", workers: %d", workers)})
		if err != nil {
			return err
		}
		sent[workers] += perSecond
	}
	one, four := sent[1]/2, sent[4]
	r.add("sent by one", one, "messages/s", "")
	r.add("sent by four", four, "messages/s", "")
	r.add("four / one", four/one, "", "≥ 1")
	return nil
}

// callsAtOnce is how many calls to Plivo a worker has under way at most; it is the
// most that the configuration allows.
const callsAtOnce = 100

// benchSlow has a Plivo that takes 300 ms for each answer: what is sent is bound by
// how many calls are under way.
func benchSlow(ctx context.Context, s *stack, r *report) error {
	const slow = 300 * time.Millisecond
	for _, workers := range []int{1, 4} {
		calls := workers * callsAtOnce
		perSecond, err := s.dispatch(ctx, r, sending{workers: workers, slow: slow, name: fmt.Sprintf(", %d at a time", calls)})
		if err != nil {
			return err
		}
		r.add(fmt.Sprintf("sent, %d at a time", calls), perSecond, "messages/s", "")
		r.add(fmt.Sprintf("sent / what %d at a time allow", calls), perSecond*slow.Seconds()/float64(calls), "", "")
	}
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

// sending is how queued messages are sent.
type sending struct {
	workers int
	slow    time.Duration // what Plivo takes for its answer
	name    string        // ends the names of the figures
}

// dispatch has workers send queued messages, and returns how many a second. What it
// costs is added to the report.
func (s *stack) dispatch(ctx context.Context, r *report, how sending) (float64, error) {
	if err := s.prepare(ctx); err != nil {
		return 0, err
	}
	if _, err := s.db.ExecContext(ctx, `TRUNCATE messages, message_media, message_search, attempts, message_events, webhook_events, idempotency_keys`); err != nil {
		return 0, fmt.Errorf("emptying the tables: %w", err)
	}
	owner, err := s.owner(ctx)
	if err != nil {
		return 0, err
	}
	if err := s.fill(ctx, queued{owners: []uuid.UUID{owner}, to: dispatched}); err != nil {
		return 0, err
	}
	if err := s.enqueue(ctx); err != nil {
		return 0, err
	}
	if _, err := s.db.ExecContext(ctx, `ANALYZE`); err != nil {
		return 0, fmt.Errorf("analyzing: %w", err)
	}
	// What is measured is sending: reports have a scenario of their own.
	if err := s.sim.SetFault(plivosim.Fault{Scenario: plivosim.CallbacksLost}); err != nil {
		return 0, err
	}
	s.slow = how.slow
	s.arrived.Store(0)
	queue := asynq.NewInspectorFromRedisClient(s.tasks)
	if err := queue.PauseQueue("messages"); err != nil {
		return 0, fmt.Errorf("pausing the queue: %w", err)
	}
	var started []*process
	for range how.workers {
		w, err := s.worker(ctx, fmt.Sprintf("WORKER_CONCURRENCY=%d", callsAtOnce))
		if err != nil {
			return 0, err
		}
		started = append(started, w)
	}
	if err := pause(ctx, time.Second); err != nil { // until what a start takes is over
		return 0, err
	}
	used := s.workersCPU(started)
	before, err := s.counts(ctx)
	if err != nil {
		return 0, err
	}
	if err := queue.UnpauseQueue("messages"); err != nil {
		return 0, fmt.Errorf("letting the queue go: %w", err)
	}
	finish, err := s.profiles.take(ctx, started[0])
	if err != nil {
		return 0, err
	}
	for s.arrived.Load() < dispatched {
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return 0, err
		}
	}
	after, err := s.counts(ctx)
	if err != nil {
		return 0, err
	}
	used = s.workersCPU(started) - used
	perSecond, wait, err := s.sent(ctx)
	if err != nil {
		return 0, err
	}
	if err := finish(s); err != nil {
		return 0, err
	}
	for _, w := range started {
		w.kill()
	}
	each := func(name string, used, unit float64, of string) {
		r.add(name+how.name, unit*used/dispatched, of, "")
	}
	each("SQL statements", after.statements-before.statements, 1, "/message")
	each("writing transactions", after.writes-before.writes, 1, "/message")
	each("Postgres' log", after.wal-before.wal, 1, "bytes/message")
	each("Redis commands, those of scripts included", after.commands-before.commands, 1, "/message")
	each("workers' CPU", used, 1e6, "µs/message")
	each("Postgres' CPU", after.postgres-before.postgres, 1e6, "µs/message")
	each("Redis' CPU", after.redis-before.redis, 1e6, "µs/message")
	each("the simulator's CPU", after.simulator-before.simulator, 1e6, "µs/message")
	r.add("wait in the queue, p50"+how.name, wait.at(0.5), "ms", "")
	r.add("wait in the queue, p99"+how.name, wait.at(0.99), "ms", "")
	return perSecond, nil
}

func (s *stack) workersCPU(workers []*process) (seconds float64) {
	for _, w := range workers {
		seconds += cpu(w.command.Process.Pid)
	}
	return seconds
}

// sent waits until all messages have been recorded, and returns how many there were
// in a second and how long each had waited since the workers began.
func (s *stack) sent(ctx context.Context) (perSecond float64, wait latencies, err error) {
	for left := 1; left > 0; {
		if err := s.db.QueryRowContext(ctx, `SELECT count(*) FROM attempts WHERE outcome IS NULL`).Scan(&left); err != nil {
			return 0, nil, fmt.Errorf("counting: %w", err)
		}
	}
	var first, last time.Time
	if err := s.db.QueryRowContext(ctx, `SELECT min(started_at), max(finished_at) FROM attempts WHERE outcome = 'accepted'`).Scan(&first, &last); err != nil {
		return 0, nil, fmt.Errorf("reading attempts: %w", err)
	}
	rows, err := s.db.QueryContext(ctx, `SELECT 1e6 * extract(epoch FROM started_at - $1) FROM attempts`, first)
	if err != nil {
		return 0, nil, fmt.Errorf("reading attempts: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var µs float64
		if err := rows.Scan(&µs); err != nil {
			return 0, nil, fmt.Errorf("reading attempts: %w", err)
		}
		wait = append(wait, time.Duration(µs)*time.Microsecond)
	}
	return dispatched / last.Sub(first).Seconds(), wait, rows.Err()
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
	call, err := poster(api.url, "/api/send-mms", bearer(key), sendBody, http.StatusAccepted)()
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
	before, err := s.counts(ctx)
	if err != nil {
		return err
	}
	const rest = 3 * time.Second
	if err := pause(ctx, rest); err != nil {
		return err
	}
	after, err := s.counts(ctx)
	if err != nil {
		return err
	}
	r.add("request to arrival, p50", took.at(0.5), "ms", "≤ 15")
	r.add("request to arrival, p99", took.at(0.99), "ms", "≤ 50")
	r.add("Redis at rest", (after.commands-before.commands)/rest.Seconds(), "commands/s", "")
	r.add("Postgres at rest", (after.statements-before.statements)/rest.Seconds(), "SQL statements/s", "")
	r.add("Postgres at rest, writing", (after.writes-before.writes)/rest.Seconds(), "transactions/s", "")
	return nil
}

// benchRateLimit has four workers share one sender's pace.
func benchRateLimit(ctx context.Context, s *stack, r *report) error {
	if err := s.prepare(ctx); err != nil {
		return err
	}
	owner, err := s.owner(ctx)
	if err != nil {
		return err
	}
	const perMinute, length = 120, 30 * time.Second // what Plivo carries from a toll-free number
	if err := s.fill(ctx, queued{owners: []uuid.UUID{owner}, to: perMinute, waiting: "waiting"}); err != nil {
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
