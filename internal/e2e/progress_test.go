package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/plivosim"
	"github.com/postcard-mms/postcard/internal/testkit"
)

// TestEvictedQueueKeys removes keys as a Redis does that is full and evicts them
// (maxmemory-policy allkeys-lru). What is left of a task must not count as one that runs.
func TestEvictedQueueKeys(t *testing.T) {
	t.Parallel()
	tests := map[string]func(t *testing.T, c *redis.Client, messages []mms.Message){
		"the list of pending tasks": func(t *testing.T, c *redis.Client, _ []mms.Message) {
			deleteKeys(t, c, "asynq:{messages}:pending")
		},
		"some entries of the list": func(t *testing.T, c *redis.Client, messages []mms.Message) {
			for _, m := range messages[:len(messages)/2] {
				if n, err := c.LRem(t.Context(), "asynq:{messages}:pending", 0, m.ID.String()+":1").Result(); err != nil || n != 1 {
					t.Fatalf("removing an entry: %d, %v", n, err)
				}
			}
		},
		"tasks, but not the list": func(t *testing.T, c *redis.Client, messages []mms.Message) {
			for _, m := range messages {
				deleteKeys(t, c, "asynq:{messages}:t:"+m.ID.String()+":1")
			}
		},
		"the set of queues": func(t *testing.T, c *redis.Client, _ []mms.Message) {
			deleteKeys(t, c, "asynq:queues", "asynq:{messages}:pending")
		},
	}
	for name, evict := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := ownRedis(t)
			r := newRigOn(t, plivosim.Config{}, testkit.Database(t), server.URL)
			if err := r.queue.SetMarker(t.Context()); err != nil {
				t.Fatal(err)
			}
			messages := r.create(20)
			for _, m := range messages { // creating a message waits for Redis only briefly
				if err := r.queue.Enqueue(t.Context(), mms.Task{MessageID: m.ID, Generation: 1, Priority: m.Priority}); err != nil {
					t.Fatal(err)
				}
			}
			evict(t, redisClient(t, server.URL), messages)
			r.worker("")
			r.wantAllDelivered(messages)
		})
	}
}

// TestEvictedRetries removes the set of tasks that wait for their next attempt.
func TestEvictedRetries(t *testing.T) {
	t.Parallel()
	server := ownRedis(t)
	r := newRigOn(t, plivosim.Config{}, testkit.Database(t), server.URL)
	messages := r.rejectOnce(func() *process { return r.worker("") })
	deleteKeys(t, redisClient(t, server.URL), "asynq:{messages}:retry")
	r.worker("")
	r.wantAllDelivered(messages)
}

// healthyBacklog creates n messages an hour ago, all of which wait in the queue for a
// worker, and are due for a check of their tasks.
func healthyBacklog(t *testing.T, r *rig, n int) {
	t.Helper()
	if err := r.queue.SetMarker(t.Context()); err != nil {
		t.Fatal(err)
	}
	const most = 5000 // messages in a statement, which has a timeout
	for first := 1; first <= n; first += most {
		insertBacklog(t, r, first, min(n, first+most-1))
	}
}

// insertBacklog creates the messages to the first to the last recipient, and enqueues
// their tasks.
func insertBacklog(t *testing.T, r *rig, first, last int) {
	t.Helper()
	rows, err := r.store.DB().QueryContext(t.Context(), `
WITH m AS (
    INSERT INTO messages (id, workspace_id, sender, recipient, text, status, created_at, updated_at, next_attempt_at, task_check_at, expires_at)
    SELECT gen_random_uuid(), $1, $2, '+1416' || (2000000 + i), 'Hello', 'queued', now() - interval '1 hour', now() - interval '1 hour', now() - interval '1 hour', now(), now() + interval '7 days'
    FROM generate_series($3::int, $4::int) i RETURNING id
), media AS (
    INSERT INTO message_media (message_id, position, url) SELECT id, 1, 'https://example.com/a.jpg' FROM m
), event AS (
    INSERT INTO message_events (message_id, kind, status) SELECT id, 'created', 'queued' FROM m
)
SELECT id FROM m`, r.workspace, sender, first, last)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var group errgroup.Group
	group.SetLimit(64)
	for rows.Next() {
		var id uuid.UUID
		if err := rows.Scan(&id); err != nil {
			t.Fatal(err)
		}
		group.Go(func() error {
			return r.queue.Enqueue(t.Context(), mms.Task{MessageID: id, Generation: 1, Priority: mms.Normal})
		})
	}
	if err := errors.Join(rows.Err(), group.Wait()); err != nil {
		t.Fatal(err)
	}
}

// wantNoneRequeued waits until the tasks of some messages of a healthy backlog have been
// checked, and expects that none has got another task, and that an audit and the health
// check find no message without progress.
func wantNoneRequeued(t *testing.T, r *rig, w *process, checked int) {
	t.Helper()
	testkit.EventuallyWithin(t, 10*time.Minute, "tasks have been checked", func() bool {
		// The first check was due when the message was inserted, an hour after created_at.
		return r.count(`SELECT count(*) FROM messages WHERE status = 'queued' AND task_check_at > created_at + interval '61 minutes'`) >= checked
	})
	if n := r.count(`SELECT count(*) FROM messages WHERE task_generation > 1`); n > 0 {
		t.Errorf("got %d messages with another task, want none", n)
	}
	findings, err := r.store.Audit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range findings {
		if f.Broken {
			t.Errorf("invariant %s is broken: %d %s", f.Invariant, f.Count, f.What)
		}
	}
	if _, body, err := get(t.Context(), w.metrics+"/readyz"); err != nil || !strings.Contains(body, `"queue":"ok"`) {
		t.Errorf("/readyz: got %s (error %v), want an ok queue", body, err)
	}
}

// slowPlivo makes each call to Plivo take a while, so that a backlog lasts.
func slowPlivo(t *testing.T, r *rig) {
	t.Helper()
	target, err := url.Parse(r.plivoURL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		time.Sleep(200 * time.Millisecond)
		proxy.ServeHTTP(w, request)
	}))
	t.Cleanup(server.Close)
	r.plivoURL = server.URL
}

func TestHealthyBacklogIsNotRequeued(t *testing.T) {
	t.Parallel()
	r := newRigOn(t, plivosim.Config{}, testkit.Database(t), ownRedis(t).URL)
	slowPlivo(t, r)
	healthyBacklog(t, r, 5000)
	w := r.worker("", "WORKER_CONCURRENCY=1")
	testkit.Eventually(t, "some messages are sent", func() bool { return len(r.sim.Ledger()) > 5 })
	wantNoneRequeued(t, r, w, 1000)
}

// TestQueueFaultsAreNamed has another program overwrite a key of the queue, and an
// operator pause a queue.
func TestQueueFaultsAreNamed(t *testing.T) {
	t.Parallel()
	server := ownRedis(t)
	r := newRigOn(t, plivosim.Config{}, testkit.Database(t), server.URL)
	c := redisClient(t, server.URL)
	inspector := asynq.NewInspectorFromRedisClient(c)
	if err := errors.Join(c.Set(t.Context(), "asynq:{messages}:pending", "x", 0).Err(), inspector.PauseQueue("webhooks")); err != nil {
		t.Fatal(err)
	}
	messages := r.create(3)
	if _, err := r.store.DB().Exec(`UPDATE messages SET updated_at = updated_at - interval '1 hour', next_attempt_at = next_attempt_at - interval '1 hour'`); err != nil {
		t.Fatal(err)
	}
	w := r.worker("")
	w.awaitLog("listening")
	const want = `"queue":"wrong type of key: asynq:{messages}:pending; paused: webhooks; messages without progress"`
	if _, body, err := get(t.Context(), w.metrics+"/readyz"); err != nil || !strings.Contains(body, want) {
		t.Errorf("/readyz: got %s (error %v), want %s", body, err, want)
	}
	deleteKeys(t, c, "asynq:{messages}:pending")
	r.wantAllDelivered(messages)
}

// rejectOnce creates messages that Plivo rejects for now, and ends the worker that tried to
// send them. Their tasks wait in Redis for the next attempt.
func (r *rig) rejectOnce(start func() *process) []mms.Message {
	r.t.Helper()
	if err := r.sim.SetFault(plivosim.Fault{Scenario: plivosim.RateLimitedNoHint, Probability: 1}); err != nil {
		r.t.Fatal(err)
	}
	if err := r.queue.SetMarker(r.t.Context()); err != nil { // or the worker checks all tasks at its start
		r.t.Fatal(err)
	}
	messages := r.create(20)
	worker := start()
	testkit.Eventually(r.t, "all attempts have failed", func() bool {
		return r.count(`SELECT count(*) FROM messages WHERE status = 'queued' AND attempts > 0`) == len(messages)
	})
	worker.end()
	r.sim.ClearFaults()
	return messages
}

func deleteKeys(t *testing.T, c *redis.Client, keys ...string) {
	t.Helper()
	if n, err := c.Del(t.Context(), keys...).Result(); err != nil || n != int64(len(keys)) {
		t.Fatalf("deleting %s: %d, %v", fmt.Sprint(keys), n, err)
	}
}
