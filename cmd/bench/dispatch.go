package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/hibiken/asynq"

	"github.com/postcard-mms/postcard/internal/plivosim"
)

// dispatched is how many messages the dispatch scenarios send.
const dispatched = 20_000

// benchDispatch measures how many queued messages per second one worker sends to a
// simulator that answers immediately, and how many tasks per second asynq processes with
// an empty handler.
func benchDispatch(ctx context.Context, s *stack, r *report) error {
	before, err := s.emptyHandler(ctx, maxInFlight)
	if err != nil {
		return err
	}
	c, err := s.dispatch(ctx, sending{workers: 1, inFlight: maxInFlight, messages: dispatched})
	if err != nil {
		return err
	}
	c.add(r, "", "")
	after, err := s.emptyHandler(ctx, maxInFlight) // the machine's speed varies over time
	if err != nil {
		return err
	}
	floor := (before + after) / 2
	r.add("asynq with an empty handler", floor, "tasks/s", "")
	r.add("sent", c.perSecond, "messages/s", "")
	r.add("sent / empty handler", c.perSecond/floor, "", "≥ 0.35")
	return nil
}

// benchWorkers compares four workers with one on the same machine. One is measured
// before and after, because the machine's speed varies over time.
func benchWorkers(ctx context.Context, s *stack, r *report) error {
	sent := map[int]float64{}
	for _, workers := range []int{1, 4, 1} {
		c, err := s.dispatch(ctx, sending{workers: workers, inFlight: maxInFlight, messages: dispatched})
		if err != nil {
			return err
		}
		c.add(r, fmt.Sprintf(", workers: %d", workers), "")
		sent[workers] += c.perSecond
	}
	one, four := sent[1]/2, sent[4]
	r.add("sent by one worker", one, "messages/s", "")
	r.add("sent by four workers", four, "messages/s", "")
	r.add("four / one", four/one, "", "≥ 1")
	return nil
}

// maxInFlight is how many calls to Plivo a worker has in flight: the maximum that the
// configuration allows.
const maxInFlight = 100

// emptyHandler returns how many tasks per second asynq processes when the handler does
// nothing.
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
	start := time.Now()
	if err := server.Start(asynq.HandlerFunc(func(context.Context, *asynq.Task) error { done.Add(1); return nil })); err != nil {
		return 0, fmt.Errorf("starting asynq: %w", err)
	}
	for done.Load() < dispatched && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	took := time.Since(start)
	server.Shutdown()
	return dispatched / took.Seconds(), ctx.Err()
}

// sending configures dispatch and minimal.
type sending struct {
	workers         int
	inFlight        int           // calls to Plivo of each worker
	messages        int           // to send
	latency         time.Duration // of the simulator
	emptyStatistics bool          // the planner's statistics are older than the messages
}

// cost is how fast messages were sent, and what that cost. Its counts are per message.
type cost struct {
	counts
	workers   float64   // CPU seconds of the workers per message
	perSecond float64   // messages
	queued    latencies // how long each message waited after the first one began
}

// cpu returns the CPU seconds per message of everything but the simulator.
func (c cost) cpu() float64 { return c.workers + c.postgres + c.redis }

// add adds the cost to the report. name is the suffix of the metrics' names.
func (c cost) add(r *report, name, walBar string) {
	r.add("SQL statements"+name, c.statements, "/message", "")
	r.add("writing transactions"+name, c.writes, "/message", "")
	r.add("WAL"+name, c.wal, "bytes/message", walBar)
	r.add("Redis commands, including those in scripts"+name, c.commands, "/message", "")
	r.add("worker CPU"+name, 1e6*c.workers, "µs/message", "")
	r.add("Postgres CPU"+name, 1e6*c.postgres, "µs/message", "")
	r.add("Redis CPU"+name, 1e6*c.redis, "µs/message", "")
	r.add("simulator CPU"+name, 1e6*c.simulator, "µs/message", "")
	r.add("time in the queue, p50"+name, c.queued.at(0.5), "ms", "")
	r.add("time in the queue, p99"+name, c.queued.at(0.99), "ms", "")
}

// dispatch sends queued messages with the given number of workers.
func (s *stack) dispatch(ctx context.Context, how sending) (c cost, err error) {
	if err := s.prepare(ctx); err != nil {
		return c, err
	}
	if err := s.emptyTables(ctx); err != nil {
		return c, err
	}
	if how.emptyStatistics {
		restore, err := s.freezeStatistics(ctx)
		if err != nil {
			return c, err
		}
		defer func() { err = errors.Join(err, restore()) }()
	}
	workspace, err := s.workspace(ctx)
	if err != nil {
		return c, err
	}
	if err := s.insertQueued(ctx, queued{workspaces: []uuid.UUID{workspace}, to: how.messages}); err != nil {
		return c, err
	}
	if err := s.enqueueAll(ctx); err != nil {
		return c, err
	}
	if !how.emptyStatistics {
		if err := s.analyze(ctx); err != nil {
			return c, err
		}
	}
	c, started, err := s.send(ctx, how, "messages", s.profiles, func() (*process, error) {
		return s.worker(ctx, fmt.Sprintf("WORKER_CONCURRENCY=%d", how.inFlight))
	})
	if err != nil {
		return c, err
	}
	c.perSecond, c.queued, err = s.sent(ctx, how.messages)
	for _, w := range started {
		w.kill()
	}
	return c, err
}

// emptyTables deletes all messages.
func (s *stack) emptyTables(ctx context.Context) error {
	if _, err := s.db.ExecContext(ctx, `TRUNCATE `+strings.Join(messageTables, ", ")); err != nil {
		return fmt.Errorf("emptying the tables: %w", err)
	}
	return nil
}

// messageTables are the tables with a row for each message, or several.
var messageTables = []string{"messages", "message_media", "message_search", "attempts", "message_events", "webhook_events", "idempotency_keys", "silence_retries"}

func (s *stack) analyze(ctx context.Context) error {
	if _, err := s.db.ExecContext(ctx, `ANALYZE`); err != nil {
		return fmt.Errorf("analyzing: %w", err)
	}
	return nil
}

// send starts workers and lets them process a queue of asynq that already has a task for
// each message. The simulator sends no delivery reports: scenario scale measures those.
// The workers are still running when send returns, and record the last outcomes.
func (s *stack) send(ctx context.Context, how sending, queue string, p profiles, start func() (*process, error)) (c cost, started []*process, err error) {
	s.sim.Reset()
	if err := s.sim.SetFault(plivosim.Fault{Scenario: plivosim.CallbacksLost}); err != nil {
		return c, nil, err
	}
	s.latency = how.latency
	s.arrived.Store(0)
	inspector := asynq.NewInspectorFromRedisClient(s.tasks)
	if err := inspector.PauseQueue(queue); err != nil {
		return c, nil, fmt.Errorf("pausing the queue: %w", err)
	}
	for range how.workers {
		w, err := start()
		if err != nil {
			return c, nil, err
		}
		started = append(started, w)
	}
	if err := pause(ctx, time.Second); err != nil { // until the workers have finished starting
		return c, nil, err
	}
	usedCPU := s.workersCPU(started)
	before, err := s.counts(ctx)
	if err != nil {
		return c, nil, err
	}
	if err := inspector.UnpauseQueue(queue); err != nil {
		return c, nil, fmt.Errorf("unpausing the queue: %w", err)
	}
	finish, err := p.start(ctx, started[0])
	if err != nil {
		return c, nil, err
	}
	for s.arrived.Load() < int64(how.messages) {
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return c, nil, err
		}
	}
	after, err := s.counts(ctx)
	if err != nil {
		return c, nil, err
	}
	usedCPU = s.workersCPU(started) - usedCPU
	messages := float64(how.messages)
	return cost{counts: after.since(before, messages), workers: usedCPU / messages}, started, finish(s)
}

func (s *stack) workersCPU(workers []*process) (seconds float64) {
	for _, w := range workers {
		seconds += cpu(w.command.Process.Pid)
	}
	return seconds
}

// sent waits until all outcomes are recorded. It returns how many messages were sent per
// second, and how long each waited for its attempt after the first one began.
func (s *stack) sent(ctx context.Context, messages int) (perSecond float64, wait latencies, err error) {
	for left := 1; left > 0; {
		if err := s.db.QueryRowContext(ctx, `SELECT count(*) FROM attempts WHERE outcome IS NULL`).Scan(&left); err != nil {
			return 0, nil, fmt.Errorf("counting open attempts: %w", err)
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
	return float64(messages) / last.Sub(first).Seconds(), wait, rows.Err()
}
