package queue

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/postcard-mms/postcard/internal/devstack"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/testkit"
	"github.com/postcard-mms/postcard/internal/webhook"
)

// ownRedis starts a Redis for one test, because all logical databases of a server
// share its channels and its counts of commands.
func ownRedis(t *testing.T) redis.UniversalClient {
	t.Helper()
	server, err := devstack.StartRedis(t.Context(), devstack.RedisOptions{
		StateDir: testkit.StateDir(t), RequireReal: true, DieWithUs: true, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := Connect(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		if err := server.Kill(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// commands returns how often each command was executed, also by scripts.
func commands(t *testing.T, c redis.UniversalClient) map[string]int {
	t.Helper()
	info, err := c.Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	for line := range strings.Lines(info) {
		name, rest, ok := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":calls=")
		if !ok {
			continue
		}
		digits, _, _ := strings.Cut(rest, ",")
		if counts[name], err = strconv.Atoi(digits); err != nil {
			t.Fatal(err)
		}
	}
	return counts
}

// awaitIdle waits until the server has polled its queues and found them empty.
func awaitIdle(t *testing.T, c redis.UniversalClient, queues int) {
	t.Helper()
	before := commands(t, c)["rpoplpush"]
	testkit.Eventually(t, "the server has polled its queues", func() bool {
		polls := commands(t, c)["rpoplpush"]
		idle := polls >= queues && polls == before
		before = polls
		return idle
	})
}

// serve processes tasks until the test ends, and returns the ids that it processes.
func serve(t *testing.T, c redis.UniversalClient, interval time.Duration) chan uuid.UUID {
	t.Helper()
	processed := make(chan uuid.UUID, 100)
	weights := map[string]int{}
	for _, q := range queues {
		weights[q.name] = q.weight
	}
	server := newServer(c, pace{poll: interval, delayedTasks: quickly.delayedTasks}, weights, messageWakeUps,
		func(_ context.Context, id uuid.UUID) mms.TaskResult { processed <- id; return mms.TaskResult{} },
		ServerOptions{Concurrency: 4, ShutdownTimeout: 5 * time.Second, Logger: slog.New(slog.DiscardHandler)})
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	return processed
}

func wantProcessed(t *testing.T, processed <-chan uuid.UUID, want uuid.UUID) {
	t.Helper()
	select {
	case got := <-processed:
		if got != want {
			t.Errorf("got %s processed, want %s", got, want)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the task was not processed within 20 s")
	}
}

// enqueueSilently enqueues a task as a process does whose wake-up is lost.
func enqueueSilently(t *testing.T, c redis.UniversalClient, id uuid.UUID) {
	t.Helper()
	text, _ := id.MarshalText()
	if _, err := asynq.NewClientFromRedisClient(c).Enqueue(asynq.NewTask(messageTaskType, text), asynq.Queue(MessageQueue)); err != nil {
		t.Fatal(err)
	}
}

// A Redis that is full may evict the hashes of tasks and keep the list with their ids.
func TestEvictedTasksDoNotHoldUpOthers(t *testing.T) {
	t.Parallel()
	c := ownRedis(t)
	for range 100 {
		enqueueSilently(t, c, uuid.New())
	}
	evicted, err := c.Keys(t.Context(), queueKey(MessageQueue, taskKeyPart)+"*").Result()
	if err != nil || len(evicted) != 100 {
		t.Fatalf("got %d tasks, %v, want 100", len(evicted), err)
	}
	if err := c.Del(t.Context(), evicted...).Err(); err != nil {
		t.Fatal(err)
	}
	id := uuid.New()
	enqueueSilently(t, c, id)
	wantProcessed(t, serve(t, c, testInterval), id)
}

func TestPausedQueueIsNotPolledWithoutEnd(t *testing.T) {
	t.Parallel()
	c := ownRedis(t)
	enqueueSilently(t, c, uuid.New())
	if err := asynq.NewInspectorFromRedisClient(c).PauseQueue(MessageQueue); err != nil {
		t.Fatal(err)
	}
	serve(t, c, testInterval)
	awaitIdle(t, c, len(queues)-1)
}

// The test counts seconds by asynq's checks for delayed tasks: two a second for each
// queue, except that of slow webhooks, whose server adds two in five seconds.
func TestIdleServersSendFewCommands(t *testing.T) {
	t.Parallel()
	c := ownRedis(t)
	nothing := func(context.Context, uuid.UUID) mms.TaskResult { return mms.TaskResult{} }
	options := ServerOptions{Concurrency: 4, ShutdownTimeout: 5 * time.Second, Logger: slog.New(slog.DiscardHandler)}
	for _, server := range []*Server{NewServer(c, nothing, options), NewWebhookServer(c, nothing, options), NewSlowWebhookServer(c, nothing, options)} {
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(server.Stop)
	}
	const checksPerSecond, seconds, limit = 2 * 4, 3, 55
	count := func() (checks, all int) {
		counts := commands(t, c)
		for name, n := range counts {
			if name != "info" {
				all += n
			}
		}
		return counts["zrangebyscore"], all
	}
	awaitChecks := func(n int) (checks, all int) {
		testkit.Eventually(t, "the servers have checked for delayed tasks", func() bool {
			checks, all = count()
			return checks >= n
		})
		return checks, all
	}
	checks, before := awaitChecks(checksPerSecond)
	_, after := awaitChecks(checks + seconds*checksPerSecond)
	if got := after - before; got > seconds*limit {
		t.Errorf("got %d commands in about %d s, want at most %d a second", got, seconds, limit)
	}
}

func TestWakeUpEndsTheWait(t *testing.T) {
	t.Parallel()
	c := ownRedis(t)
	processed := serve(t, c, testInterval)
	client := NewClient(c)
	for _, priority := range []mms.Priority{mms.Normal, mms.High, mms.Bulk, mms.Normal} {
		awaitIdle(t, c, len(queues))
		task := mms.Task{MessageID: uuid.New(), Generation: 1, Priority: priority}
		if err := client.Enqueue(t.Context(), task); err != nil {
			t.Fatal(err)
		}
		wantProcessed(t, processed, task.MessageID)
	}
}

func TestWebhookEventWakesItsServer(t *testing.T) {
	t.Parallel()
	c := ownRedis(t)
	processed := make(chan uuid.UUID, 1)
	server := newServer(c, pace{poll: testInterval, delayedTasks: quickly.delayedTasks}, map[string]int{webhookQueue: 1}, webhookWakeUps,
		func(_ context.Context, id uuid.UUID) mms.TaskResult { processed <- id; return mms.TaskResult{} },
		ServerOptions{Concurrency: 4, ShutdownTimeout: 5 * time.Second, Logger: slog.New(slog.DiscardHandler)})
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	awaitIdle(t, c, 1)
	task := webhook.Task{EventID: uuid.New(), Generation: 1}
	if err := NewClient(c).EnqueueWebhook(t.Context(), task); err != nil {
		t.Fatal(err)
	}
	wantProcessed(t, processed, task.EventID)
}

func TestTaskWithoutWakeUpIsFoundAtTheInterval(t *testing.T) {
	t.Parallel()
	c := ownRedis(t)
	processed := serve(t, c, 100*time.Millisecond)
	for range 3 {
		id := uuid.New()
		enqueueSilently(t, c, id)
		wantProcessed(t, processed, id)
	}
}

// A task may have been enqueued while the server could not be woken.
func TestReconnectionWakesTheServer(t *testing.T) {
	t.Parallel()
	c := ownRedis(t)
	processed := serve(t, c, testInterval)
	awaitIdle(t, c, len(queues))
	id := uuid.New()
	enqueueSilently(t, c, id)
	if err := c.Do(t.Context(), "CLIENT", "KILL", "TYPE", "pubsub").Err(); err != nil {
		t.Fatal(err)
	}
	wantProcessed(t, processed, id)
}

func TestDelayedTaskWakesTheServer(t *testing.T) {
	t.Parallel()
	c := ownRedis(t)
	processed := serve(t, c, testInterval)
	task := mms.Task{MessageID: uuid.New(), Generation: 1, Priority: mms.Normal}
	if _, err := NewClient(c).AddTask(t.Context(), mms.TaskCheck{Task: task, Wait: 2 * time.Second}); err != nil {
		t.Fatal(err)
	}
	wantProcessed(t, processed, task.MessageID)
}

func TestPausedQueueResumes(t *testing.T) {
	t.Parallel()
	c := ownRedis(t)
	processed := serve(t, c, 100*time.Millisecond)
	inspector := asynq.NewInspectorFromRedisClient(c)
	task := mms.Task{MessageID: uuid.New(), Generation: 1, Priority: mms.Normal}
	if err := inspector.PauseQueue(MessageQueue); err != nil {
		t.Fatal(err)
	}
	if err := NewClient(c).Enqueue(t.Context(), task); err != nil {
		t.Fatal(err)
	}
	polls := commands(t, c)["exists"]
	testkit.Eventually(t, "the queues have been polled", func() bool { return commands(t, c)["exists"] >= polls+2*len(queues) })
	if len(processed) > 0 {
		t.Error("a task of a paused queue was processed")
	}
	if err := inspector.UnpauseQueue(MessageQueue); err != nil {
		t.Fatal(err)
	}
	wantProcessed(t, processed, task.MessageID)
}

func TestStopEndsTheWait(t *testing.T) {
	t.Parallel()
	c := ownRedis(t)
	server := newServer(c, pace{poll: testInterval, delayedTasks: quickly.delayedTasks}, map[string]int{webhookQueue: 1}, webhookWakeUps, nil,
		ServerOptions{Concurrency: 4, ShutdownTimeout: time.Hour, Logger: slog.New(slog.DiscardHandler)})
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	awaitIdle(t, c, 1)
	stopped := make(chan struct{})
	go func() {
		server.Stop()
		close(stopped)
	}()
	select {
	case <-stopped:
	case <-time.After(20 * time.Second):
		t.Fatal("Stop() did not return within 20 s")
	}
}

// publishCounter counts publications and does something during each.
type publishCounter struct {
	redis.UniversalClient
	count atomic.Int64
	hook  func()
}

func (p *publishCounter) Publish(ctx context.Context, _ string, _ any) *redis.IntCmd {
	p.count.Add(1)
	p.hook()
	return redis.NewIntCmd(ctx)
}

func TestWakeUpsOfManyTasksAreMerged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		counter := &publishCounter{hook: func() {}}
		w := &waker{redis: counter, channel: "test"}
		w.wake()
		synctest.Wait()
		if got := counter.count.Load(); got != 1 {
			t.Errorf("got %d wake-ups published immediately, want 1", got)
		}
		for range 1000 {
			w.wake()
		}
		time.Sleep(time.Second)
		if got := counter.count.Load(); got != 2 {
			t.Errorf("got %d wake-ups published for all tasks, want 2", got)
		}
		w.wake()
		synctest.Wait()
		if got := counter.count.Load(); got != 3 {
			t.Errorf("got %d wake-ups published for a later task, want 3", got)
		}
		time.Sleep(time.Second)
	})
}

// Servers may have polled before a task that is enqueued while a wake-up is published.
func TestTaskDuringWakeUpIsFollowedByAnother(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		counter := &publishCounter{}
		w := &waker{redis: counter, channel: "test"}
		counter.hook = func() {
			if counter.count.Load() == 1 {
				w.wake()
			}
		}
		w.wake()
		time.Sleep(time.Second)
		if got := counter.count.Load(); got != 2 {
			t.Errorf("got %d wake-ups, want 2", got)
		}
	})
}
