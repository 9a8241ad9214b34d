package queue_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/queue"
	"github.com/postcard-mms/postcard/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// rig is a queue of the test's own, with asynq's own view of it beside ours.
type rig struct {
	url       string
	redis     redis.UniversalClient
	client    *queue.Client
	inspector *asynq.Inspector
}

func newRig(t *testing.T) rig {
	t.Helper()
	url := testkit.Redis(t)
	c, err := queue.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return rig{url, c, queue.NewClient(c), asynq.NewInspectorFromRedisClient(c)}
}

func task() mms.Task {
	return mms.Task{MessageID: uuid.Must(uuid.NewV7()), Generation: 1, Priority: mms.Normal}
}

// serve works on tasks until the test ends.
func (r rig) serve(t *testing.T, process func(context.Context, uuid.UUID) mms.TaskResult) {
	t.Helper()
	server := queue.NewServer(r.redis, process, queue.ServerOptions{
		Concurrency: 4, ShutdownTimeout: 5 * time.Second, Logger: slog.New(slog.DiscardHandler),
	})
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
}

func (r rig) info(t *testing.T, task mms.Task) *asynq.TaskInfo {
	t.Helper()
	info, err := r.inspector.GetTaskInfo(queue.Name, task.MessageID.String()+":1")
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func TestATaskCarriesTheIDAndNothingElse(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	task := task()
	for range 3 { // to enqueue it again is harmless
		if err := r.client.Enqueue(t.Context(), task); err != nil {
			t.Fatal(err)
		}
	}
	queues, err := r.inspector.GetQueueInfo(queue.Name)
	if err != nil || queues.Size != 1 {
		t.Fatalf("the queue has %+v, %v, want one task", queues, err)
	}
	if got := r.info(t, task).Payload; string(got) != task.MessageID.String() {
		t.Errorf("payload = %q, want the message's id", got)
	}
}

func TestAProcessGetsTheMessage(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	got := make(chan uuid.UUID, 1)
	r.serve(t, func(_ context.Context, id uuid.UUID) mms.TaskResult { got <- id; return mms.TaskResult{} })
	task := task()
	if err := r.client.Enqueue(t.Context(), task); err != nil {
		t.Fatal(err)
	}
	select {
	case id := <-got:
		if id != task.MessageID {
			t.Errorf("got %s, want %s", id, task.MessageID)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the task was not worked on")
	}
	testkit.Eventually(t, "the task is gone", func() bool {
		_, err := r.inspector.GetTaskInfo(queue.Name, task.MessageID.String()+":1")
		return errors.Is(err, asynq.ErrTaskNotFound)
	})
}

func TestDisposals(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		disposal mms.TaskResult
		state    asynq.TaskState
		retried  int
		words    string
	}{
		"retry":   {mms.TaskResult{Action: mms.TaskRetry, Wait: time.Hour, Reason: mms.ReasonRateLimited}, asynq.TaskStateRetry, 1, "rate_limited"},
		"put off": {mms.TaskResult{Action: mms.TaskPostpone, Wait: time.Hour}, asynq.TaskStateRetry, 0, "put off"},
		"dead":    {mms.TaskResult{Action: mms.TaskFail, Reason: mms.ReasonRejected}, asynq.TaskStateArchived, 0, "rejected_by_plivo"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.serve(t, func(context.Context, uuid.UUID) mms.TaskResult { return tt.disposal })
			task := task()
			if err := r.client.Enqueue(t.Context(), task); err != nil {
				t.Fatal(err)
			}
			testkit.Eventually(t, "the task is "+tt.state.String(), func() bool { return r.info(t, task).State == tt.state })
			info := r.info(t, task)
			if info.Retried != tt.retried || !strings.HasPrefix(info.LastErr, tt.words) {
				t.Errorf("task retried %d times for %q, want %d for %q", info.Retried, info.LastErr, tt.retried, tt.words)
			}
			if wait := time.Until(info.NextProcessAt); tt.state == asynq.TaskStateRetry && (wait < 59*time.Minute || wait > 61*time.Minute) {
				t.Errorf("next look in %v, want an hour", wait)
			}
		})
	}
}

func TestATaskThatNamesNoMessageIsDead(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.serve(t, func(context.Context, uuid.UUID) mms.TaskResult { t.Error("it was worked on"); return mms.TaskResult{} })
	foreign, err := asynq.NewClientFromRedisClient(r.redis).Enqueue(asynq.NewTask("mms:send", []byte("nonsense")), asynq.Queue(queue.Name))
	if err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the task is archived", func() bool {
		info, err := r.inspector.GetTaskInfo(queue.Name, foreign.ID)
		return err == nil && info.State == asynq.TaskStateArchived
	})
}

func TestAPanicIsTriedAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.serve(t, func(context.Context, uuid.UUID) mms.TaskResult { panic("a fault of ours") })
	task := task()
	if err := r.client.Enqueue(t.Context(), task); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the task waits for another look", func() bool { return r.info(t, task).State == asynq.TaskStateRetry })
}

func TestEnsure(t *testing.T) {
	t.Parallel()
	busy := make(chan struct{})
	tests := map[string]struct {
		prepare func(*testing.T, rig, mms.Task)
		want    mms.TaskState
	}{
		"missing": {func(*testing.T, rig, mms.Task) {}, mms.TaskAdded},
		"pending": {func(t *testing.T, r rig, task mms.Task) { enqueue(t, r, task) }, mms.TaskPresent},
		"scheduled": {func(t *testing.T, r rig, task mms.Task) {
			if _, err := r.client.EnsureTask(t.Context(), mms.TaskCheck{Task: task, Wait: time.Hour}); err != nil {
				t.Fatal(err)
			}
		}, mms.TaskPresent},
		"waiting for a retry": {func(t *testing.T, r rig, task mms.Task) {
			r.serve(t, func(context.Context, uuid.UUID) mms.TaskResult {
				return mms.TaskResult{Action: mms.TaskPostpone, Wait: time.Hour}
			})
			enqueue(t, r, task)
			testkit.Eventually(t, "it waits", func() bool { return r.info(t, task).State == asynq.TaskStateRetry })
		}, mms.TaskPresent},
		"archived by hand": {func(t *testing.T, r rig, task mms.Task) {
			enqueue(t, r, task)
			if err := r.inspector.ArchiveTask(queue.Name, task.MessageID.String()+":1"); err != nil {
				t.Fatal(err)
			}
		}, mms.TaskStuck},
		"active": {func(t *testing.T, r rig, task mms.Task) {
			r.serve(t, func(context.Context, uuid.UUID) mms.TaskResult { <-busy; return mms.TaskResult{} })
			t.Cleanup(func() { close(busy) })
			enqueue(t, r, task)
			testkit.Eventually(t, "it is active", func() bool { return r.info(t, task).State == asynq.TaskStateActive })
		}, mms.TaskStuck},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, task := newRig(t), task()
			tt.prepare(t, r, task)
			got, err := r.client.EnsureTask(t.Context(), mms.TaskCheck{Task: task})
			if err != nil || got != tt.want {
				t.Errorf("Ensure() = %v, %v, want %v", got, err, tt.want)
			}
			next := mms.Task{MessageID: task.MessageID, Generation: 2, Priority: mms.Normal}
			if got, err := r.client.EnsureTask(t.Context(), mms.TaskCheck{Task: next}); err != nil || got != mms.TaskAdded {
				t.Errorf("Ensure() of the next generation = %v, %v, want it added", got, err)
			}
		})
	}
}

func enqueue(t *testing.T, r rig, task mms.Task) {
	t.Helper()
	if err := r.client.Enqueue(t.Context(), task); err != nil {
		t.Fatal(err)
	}
}

func TestMemory(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	remembers := func(want bool) {
		t.Helper()
		if got, err := r.client.HasMarker(t.Context()); err != nil || got != want {
			t.Errorf("Remembers() = %v, %v, want %v", got, err, want)
		}
	}
	remembers(false)
	if err := r.client.SetMarker(t.Context()); err != nil {
		t.Fatal(err)
	}
	remembers(true)
	if err := r.redis.FlushDB(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	remembers(false)
}

func TestARedisThatIsAway(t *testing.T) {
	t.Parallel()
	c, err := queue.Connect("redis://127.0.0.1:1/0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	client := queue.NewClient(c)
	_, remembersErr := client.HasMarker(t.Context())
	_, ensureErr := client.EnsureTask(t.Context(), mms.TaskCheck{Task: task()})
	for what, err := range map[string]error{
		"Ping": client.Ping(t.Context()), "Enqueue": client.Enqueue(t.Context(), task()),
		"Remembers": remembersErr, "Ensure": ensureErr, "Remind": client.SetMarker(t.Context()),
	} {
		if err == nil {
			t.Errorf("%s() succeeded without a Redis", what)
		}
	}
}

func TestAURLThatIsNotRedis(t *testing.T) {
	t.Parallel()
	const secret = "hunter2secret"
	for _, url := range []string{"", "http://user:" + secret + "@localhost/", "redis://user:" + secret + "@local host:99/%zz"} {
		_, connectErr := queue.Connect(url)
		_, dashboardErr := queue.NewDashboard(url, "/q", false)
		for _, err := range []error{connectErr, dashboardErr} {
			if err == nil || !strings.Contains(err.Error(), "REDIS_URL") || strings.Contains(err.Error(), secret) {
				t.Errorf("for %q the error is %v; it has to name the variable and no password", url, err)
			}
		}
	}
}

func TestTheDashboardShowsAndChangesOnlyIfAllowed(t *testing.T) {
	t.Parallel()
	for _, writable := range []bool{false, true} {
		r, task := newRig(t), task()
		enqueue(t, r, task)
		dashboard, err := queue.NewDashboard(r.url, "/admin/queues", writable)
		if err != nil {
			t.Fatal(err)
		}
		ask := func(method, path string) *httptest.ResponseRecorder {
			w := httptest.NewRecorder()
			dashboard.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, "/admin/queues"+path, nil))
			return w
		}
		if w := ask(http.MethodGet, "/api/queues/messages/pending_tasks"); w.Code != http.StatusOK || !bytes.Contains(w.Body.Bytes(), []byte(task.MessageID.String())) {
			t.Errorf("the pending tasks are %d %s", w.Code, w.Body)
		}
		ask(http.MethodDelete, "/api/queues/messages/pending_tasks/"+task.MessageID.String()+":1")
		_, err = r.inspector.GetTaskInfo(queue.Name, task.MessageID.String()+":1")
		if deleted := errors.Is(err, asynq.ErrTaskNotFound); deleted != writable {
			t.Errorf("writable %v: deleted %v", writable, deleted)
		}
		if err := dashboard.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestStopFinishesWhatIsUnderWay has a task that is being worked on when the
// server is told to stop.
func TestStopFinishesWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	begun, goOn := make(chan struct{}), make(chan struct{})
	var finished atomic.Bool
	server := queue.NewServer(r.redis, func(context.Context, uuid.UUID) mms.TaskResult {
		close(begun)
		<-goOn
		finished.Store(true)
		return mms.TaskResult{}
	}, queue.ServerOptions{Concurrency: 1, ShutdownTimeout: 30 * time.Second, Logger: slog.New(slog.DiscardHandler)})
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	enqueue(t, r, task())
	<-begun
	stopped := make(chan struct{})
	go func() {
		server.Stop()
		close(stopped)
	}()
	close(goOn)
	<-stopped
	if !finished.Load() {
		t.Error("the server stopped in the middle of a task")
	}
}

// TestManyEnqueueAtOnce sends their scripts together, and each learns what became
// of its own.
func TestManyEnqueueAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	tasks := make([]mms.Task, 300)
	for i := range tasks {
		tasks[i] = task()
	}
	var group sync.WaitGroup
	added := make([]mms.TaskState, 2*len(tasks))
	for i := range added {
		group.Go(func() {
			var err error
			if added[i], err = r.client.EnsureTask(t.Context(), mms.TaskCheck{Task: tasks[i/2]}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	for i := range tasks {
		if added[2*i]+added[2*i+1] != mms.TaskAdded+mms.TaskPresent {
			t.Errorf("task %d, enqueued twice, is %v and %v", i, added[2*i], added[2*i+1])
		}
	}
	if n, err := r.redis.LLen(t.Context(), "asynq:{messages}:pending").Result(); err != nil || n != int64(len(tasks)) {
		t.Errorf("%d tasks are pending, %v", n, err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.client.Enqueue(gone, task()); err == nil {
		t.Error("somebody who is gone was waited for")
	}
}

// TestAnUrgentTaskPassesManyOthers comes to workers that are busy with another queue
// and have found its own empty many times.
func TestAnUrgentTaskPassesManyOthers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const tasks = 2000
	for range tasks {
		enqueue(t, r, task())
	}
	urgent := task()
	urgent.Priority = mms.High
	var done, place atomic.Int64
	r.serve(t, func(_ context.Context, id uuid.UUID) mms.TaskResult {
		n := done.Add(1)
		if n == tasks/4 {
			enqueue(t, r, urgent)
		}
		if id == urgent.MessageID {
			place.Store(n)
		}
		return mms.TaskResult{}
	})
	testkit.Eventually(t, "all tasks are worked on", func() bool { return done.Load() == tasks+1 })
	if place.Load() > tasks*3/4 {
		t.Errorf("the urgent task was number %d of %d although it came after a quarter of them", place.Load(), tasks)
	}
}
