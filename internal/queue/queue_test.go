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

// testQueue is a queue for one test, with an asynq inspector to look into it.
type testQueue struct {
	url       string
	redis     redis.UniversalClient
	client    *queue.Client
	inspector *asynq.Inspector
}

func newTestQueue(t *testing.T) testQueue {
	t.Helper()
	url := testkit.Redis(t)
	c, err := queue.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return testQueue{url, c, queue.NewClient(c), asynq.NewInspectorFromRedisClient(c)}
}

func newTask() mms.Task {
	return mms.Task{MessageID: uuid.Must(uuid.NewV7()), Generation: 1, Priority: mms.Normal}
}

// serve processes tasks until the test ends.
func (q testQueue) serve(t *testing.T, process func(context.Context, uuid.UUID) mms.TaskResult) {
	t.Helper()
	server := queue.NewServer(q.redis, process, queue.ServerOptions{
		Concurrency: 4, ShutdownTimeout: 5 * time.Second, Logger: slog.New(slog.DiscardHandler),
	})
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
}

func (q testQueue) info(t *testing.T, task mms.Task) *asynq.TaskInfo {
	t.Helper()
	info, err := q.inspector.GetTaskInfo(queue.MessageQueue, task.MessageID.String()+":1")
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func TestTaskContainsOnlyTheMessageID(t *testing.T) {
	t.Parallel()
	q := newTestQueue(t)
	task := newTask()
	for range 3 { // repeated calls are harmless
		if err := q.client.Enqueue(t.Context(), task); err != nil {
			t.Fatal(err)
		}
	}
	info, err := q.inspector.GetQueueInfo(queue.MessageQueue)
	if err != nil || info.Size != 1 {
		t.Fatalf("got queue %+v, %v, want one task", info, err)
	}
	if got := q.info(t, task).Payload; string(got) != task.MessageID.String() {
		t.Errorf("got payload %q, want %q", got, task.MessageID)
	}
}

func TestServerProcessesAndRemovesTask(t *testing.T) {
	t.Parallel()
	q := newTestQueue(t)
	got := make(chan uuid.UUID, 1)
	q.serve(t, func(_ context.Context, id uuid.UUID) mms.TaskResult { got <- id; return mms.TaskResult{} })
	task := newTask()
	if err := q.client.Enqueue(t.Context(), task); err != nil {
		t.Fatal(err)
	}
	select {
	case id := <-got:
		if id != task.MessageID {
			t.Errorf("got %s, want %s", id, task.MessageID)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the task was not processed within 10 s")
	}
	testkit.Eventually(t, "the task is gone", func() bool {
		_, err := q.inspector.GetTaskInfo(queue.MessageQueue, task.MessageID.String()+":1")
		return errors.Is(err, asynq.ErrTaskNotFound)
	})
}

func TestTaskResultDecidesTaskState(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		result  mms.TaskResult
		state   asynq.TaskState
		retried int
		lastErr string
	}{
		"retry":    {mms.TaskResult{Action: mms.TaskRetry, Wait: time.Hour, Reason: mms.ReasonRateLimited}, asynq.TaskStateRetry, 1, "rate_limited"},
		"postpone": {mms.TaskResult{Action: mms.TaskPostpone, Wait: time.Hour}, asynq.TaskStateRetry, 0, "postponed"},
		"fail":     {mms.TaskResult{Action: mms.TaskFail, Reason: mms.ReasonRejected}, asynq.TaskStateArchived, 0, "rejected_by_plivo"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q := newTestQueue(t)
			q.serve(t, func(context.Context, uuid.UUID) mms.TaskResult { return tt.result })
			task := newTask()
			if err := q.client.Enqueue(t.Context(), task); err != nil {
				t.Fatal(err)
			}
			testkit.Eventually(t, "the task is "+tt.state.String(), func() bool { return q.info(t, task).State == tt.state })
			info := q.info(t, task)
			if info.Retried != tt.retried || !strings.HasPrefix(info.LastErr, tt.lastErr) {
				t.Errorf("got %d retries and error %q, want %d and %q", info.Retried, info.LastErr, tt.retried, tt.lastErr)
			}
			if wait := time.Until(info.NextProcessAt); tt.state == asynq.TaskStateRetry && (wait < 59*time.Minute || wait > 61*time.Minute) {
				t.Errorf("got next run in %v, want 1h", wait)
			}
		})
	}
}

func TestTaskWithoutMessageIDIsArchived(t *testing.T) {
	t.Parallel()
	q := newTestQueue(t)
	q.serve(t, func(context.Context, uuid.UUID) mms.TaskResult {
		t.Error("the task was processed")
		return mms.TaskResult{}
	})
	invalid, err := asynq.NewClientFromRedisClient(q.redis).Enqueue(asynq.NewTask("mms:send", []byte("nonsense")), asynq.Queue(queue.MessageQueue))
	if err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the task is archived", func() bool {
		info, err := q.inspector.GetTaskInfo(queue.MessageQueue, invalid.ID)
		return err == nil && info.State == asynq.TaskStateArchived
	})
}

func TestTaskIsRetriedAfterPanic(t *testing.T) {
	t.Parallel()
	q := newTestQueue(t)
	q.serve(t, func(context.Context, uuid.UUID) mms.TaskResult { panic("test") })
	task := newTask()
	if err := q.client.Enqueue(t.Context(), task); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the task waits for a retry", func() bool { return q.info(t, task).State == asynq.TaskStateRetry })
}

func enqueue(t *testing.T, q testQueue, task mms.Task) {
	t.Helper()
	if err := q.client.Enqueue(t.Context(), task); err != nil {
		t.Fatal(err)
	}
}

func TestMarkerIsLostWithTheTasks(t *testing.T) {
	t.Parallel()
	q := newTestQueue(t)
	checkMarker := func(want bool) {
		t.Helper()
		if got, err := q.client.HasMarker(t.Context()); err != nil || got != want {
			t.Errorf("HasMarker() = %v, %v, want %v", got, err, want)
		}
	}
	checkMarker(false)
	if err := q.client.SetMarker(t.Context()); err != nil {
		t.Fatal(err)
	}
	checkMarker(true)
	if err := q.redis.FlushDB(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	checkMarker(false)
}

func TestUnreachableRedisIsAnError(t *testing.T) {
	t.Parallel()
	c, err := queue.Connect("redis://127.0.0.1:1/0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	client := queue.NewClient(c)
	_, hasMarkerErr := client.HasMarker(t.Context())
	_, statesErr := client.TaskStates(t.Context(), []mms.TaskCheck{{Task: newTask()}})
	_, addErr := client.AddTask(t.Context(), mms.TaskCheck{Task: newTask()})
	_, faultsErr := client.Faults(t.Context())
	for method, err := range map[string]error{
		"CheckWritable": client.CheckWritable(t.Context()), "Enqueue": client.Enqueue(t.Context(), newTask()),
		"HasMarker": hasMarkerErr, "TaskStates": statesErr, "AddTask": addErr, "RemoveTask": client.RemoveTask(t.Context(), newTask()),
		"Faults": faultsErr, "SetMarker": client.SetMarker(t.Context()),
	} {
		if err == nil {
			t.Errorf("%s() succeeded, want an error", method)
		}
	}
}

func TestDashboardChangesTasksOnlyIfWritable(t *testing.T) {
	t.Parallel()
	for _, writable := range []bool{false, true} {
		q, task := newTestQueue(t), newTask()
		enqueue(t, q, task)
		connection, err := queue.Open(q.url, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { connection.Close() })
		dashboard := queue.NewDashboard(connection, "/postcard", "/admin/queues", writable)
		request := func(method, path string) *httptest.ResponseRecorder {
			w := httptest.NewRecorder()
			dashboard.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, "/admin/queues"+path, nil))
			return w
		}
		if w := request(http.MethodGet, "/queues/messages"); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `src="/postcard/admin/queues/static/js/main.`) {
			t.Errorf("page: got %d, want 200 with links to the path that browsers see", w.Code)
		}
		if w := request(http.MethodGet, "/api/queues/messages/pending_tasks"); w.Code != http.StatusOK || !bytes.Contains(w.Body.Bytes(), []byte(task.MessageID.String())) {
			t.Errorf("pending tasks: got %d %s, want 200 with the message id", w.Code, w.Body)
		}
		request(http.MethodDelete, "/api/queues/messages/pending_tasks/"+task.MessageID.String()+":1")
		_, err = q.inspector.GetTaskInfo(queue.MessageQueue, task.MessageID.String()+":1")
		if deleted := errors.Is(err, asynq.ErrTaskNotFound); deleted != writable {
			t.Errorf("writable %v: got deleted %v", writable, deleted)
		}
		if err := dashboard.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestStopWaitsForRunningTask(t *testing.T) {
	t.Parallel()
	q := newTestQueue(t)
	started, release := make(chan struct{}), make(chan struct{})
	var finished atomic.Bool
	server := queue.NewServer(q.redis, func(context.Context, uuid.UUID) mms.TaskResult {
		close(started)
		<-release
		finished.Store(true)
		return mms.TaskResult{}
	}, queue.ServerOptions{Concurrency: 1, ShutdownTimeout: 30 * time.Second, Logger: slog.New(slog.DiscardHandler)})
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	enqueue(t, q, newTask())
	<-started
	stopped := make(chan struct{})
	go func() {
		server.Stop()
		close(stopped)
	}()
	close(release)
	<-stopped
	if !finished.Load() {
		t.Error("Stop() returned before the task had finished")
	}
}

// Concurrent scripts share pipelines, but each caller gets its own result.
func TestConcurrentCallersGetTheirOwnResults(t *testing.T) {
	t.Parallel()
	q := newTestQueue(t)
	tasks := make([]mms.Task, 300)
	for i := range tasks {
		tasks[i] = newTask()
	}
	var group sync.WaitGroup
	added := make([]bool, 2*len(tasks))
	for i := range added {
		group.Go(func() {
			var err error
			if added[i], err = q.client.AddTask(t.Context(), mms.TaskCheck{Task: tasks[i/2]}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	for i := range tasks {
		if added[2*i] == added[2*i+1] {
			t.Errorf("task %d, enqueued twice: got %v and %v, want it added once", i, added[2*i], added[2*i+1])
		}
	}
	if n, err := q.redis.LLen(t.Context(), "asynq:{messages}:pending").Result(); err != nil || n != int64(len(tasks)) {
		t.Errorf("got %d pending tasks, %v, want %d", n, err, len(tasks))
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := q.client.Enqueue(canceled, newTask()); err == nil {
		t.Error("Enqueue() with a canceled context succeeded, want an error")
	}
}

// The servers are busy with one queue and have found the urgent one empty many
// times.
func TestUrgentTaskOvertakesOthers(t *testing.T) {
	t.Parallel()
	q := newTestQueue(t)
	const tasks = 2000
	for range tasks {
		enqueue(t, q, newTask())
	}
	urgent := newTask()
	urgent.Priority = mms.High
	var processed, position atomic.Int64
	q.serve(t, func(_ context.Context, id uuid.UUID) mms.TaskResult {
		n := processed.Add(1)
		if n == tasks/4 {
			enqueue(t, q, urgent)
		}
		if id == urgent.MessageID {
			position.Store(n)
		}
		return mms.TaskResult{}
	})
	testkit.Eventually(t, "all tasks are processed", func() bool { return processed.Load() == tasks+1 })
	if position.Load() > tasks*3/4 {
		t.Errorf("got the urgent task processed as number %d of %d, want at most three quarters: it was enqueued after one quarter", position.Load(), tasks)
	}
}
