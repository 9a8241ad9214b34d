package queue_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/queue"
	"github.com/postcard-mms/postcard/internal/testkit"
)

// Names of keys in Redis.
const (
	pendingList  = "asynq:{messages}:pending"
	scheduledSet = "asynq:{messages}:scheduled"
	retrySet     = "asynq:{messages}:retry"
	activeList   = "asynq:{messages}:active"
	leaseSet     = "asynq:{messages}:lease"
)

func taskKey(task mms.Task) string { return "asynq:{messages}:t:" + task.MessageID.String() + ":1" }

// addDelayed adds a task that waits for an hour.
func addDelayed(t *testing.T, q testQueue, task mms.Task) {
	t.Helper()
	if added, err := q.client.AddTask(t.Context(), mms.TaskCheck{Task: task, Wait: time.Hour}); err != nil || !added {
		t.Fatalf("AddTask() = %v, %v, want true", added, err)
	}
}

// setLease makes the lease of an active task end in the given time.
func (q testQueue) setLease(t *testing.T, task mms.Task, in time.Duration) {
	t.Helper()
	lease := redis.Z{Score: float64(time.Now().Add(in).Unix()), Member: task.MessageID.String() + ":1"}
	if err := q.redis.ZAddXX(t.Context(), leaseSet, lease).Err(); err != nil {
		t.Fatal(err)
	}
}

func (q testQueue) delete(t *testing.T, keys ...string) {
	t.Helper()
	if n, err := q.redis.Del(t.Context(), keys...).Result(); err != nil || n != int64(len(keys)) {
		t.Fatalf("deleting %v: %d, %v", keys, n, err)
	}
}

// TestTaskStates puts a task into each state, and loses parts of it as a Redis does that
// is full and evicts keys. The message of the task is due unless a case says otherwise.
func TestTaskStates(t *testing.T) {
	t.Parallel()
	postpone := func(t *testing.T, q testQueue, task mms.Task) {
		q.serve(t, func(context.Context, uuid.UUID) mms.TaskResult {
			return mms.TaskResult{Action: mms.TaskPostpone, Wait: time.Hour}
		})
		enqueue(t, q, task)
		testkit.Eventually(t, "the task waits for a retry", func() bool { return q.info(t, task).State == asynq.TaskStateRetry })
	}
	run := func(t *testing.T, q testQueue, task mms.Task) {
		release := make(chan struct{})
		q.serve(t, func(context.Context, uuid.UUID) mms.TaskResult { <-release; return mms.TaskResult{} })
		t.Cleanup(func() { close(release) })
		enqueue(t, q, task)
		testkit.Eventually(t, "the task is active", func() bool { return q.info(t, task).State == asynq.TaskStateActive })
	}
	tests := map[string]struct {
		prepare func(*testing.T, testQueue, mms.Task)
		wait    time.Duration // until the message is due
		want    mms.TaskState
	}{
		"missing": {func(*testing.T, testQueue, mms.Task) {}, 0, mms.TaskMissing},
		"pending": {enqueue, 0, mms.TaskPresent},
		"pending, with a full list": {func(t *testing.T, q testQueue, task mms.Task) {
			enqueue(t, q, task)
			for page := range 3 {
				ids := make([]any, 1000)
				for i := range ids {
					ids[i] = fmt.Sprint("other:", page, i)
				}
				if err := q.redis.LPush(t.Context(), pendingList, ids...).Err(); err != nil {
					t.Fatal(err)
				}
			}
		}, 0, mms.TaskPresent},
		"pending, without the list": {func(t *testing.T, q testQueue, task mms.Task) {
			enqueue(t, q, task)
			q.delete(t, pendingList)
		}, 0, mms.TaskLost},
		"pending, and only others in the list": {func(t *testing.T, q testQueue, task mms.Task) {
			enqueue(t, q, task)
			q.delete(t, pendingList)
			enqueue(t, q, newTask())
		}, 0, mms.TaskLost},
		"pending, and a list of the wrong type": {func(t *testing.T, q testQueue, task mms.Task) {
			enqueue(t, q, task)
			if err := q.redis.Set(t.Context(), pendingList, "x", 0).Err(); err != nil {
				t.Fatal(err)
			}
		}, 0, mms.TaskPresent},
		"in the list, without its hash": {func(t *testing.T, q testQueue, task mms.Task) {
			enqueue(t, q, task)
			q.delete(t, taskKey(task))
		}, 0, mms.TaskMissing},
		"a hash of the wrong type": {func(t *testing.T, q testQueue, task mms.Task) {
			if err := q.redis.Set(t.Context(), taskKey(task), "x", 0).Err(); err != nil {
				t.Fatal(err)
			}
		}, 0, mms.TaskLost},
		"a hash without data": {func(t *testing.T, q testQueue, task mms.Task) {
			if err := q.redis.HSet(t.Context(), taskKey(task), "state", "active").Err(); err != nil {
				t.Fatal(err)
			}
		}, 0, mms.TaskLost},
		"scheduled":                                    {addDelayed, time.Hour, mms.TaskPresent},
		"scheduled by a clock that is wrong":           {addDelayed, 0, mms.TaskLost},
		"scheduled, without the set":                   {func(t *testing.T, q testQueue, task mms.Task) { addDelayed(t, q, task); q.delete(t, scheduledSet) }, time.Hour, mms.TaskLost},
		"waiting for a retry":                          {postpone, time.Hour, mms.TaskPresent},
		"waiting for a retry by a clock that is wrong": {postpone, 0, mms.TaskLost},
		"waiting for a retry, without the set":         {func(t *testing.T, q testQueue, task mms.Task) { postpone(t, q, task); q.delete(t, retrySet) }, time.Hour, mms.TaskLost},
		"archived": {func(t *testing.T, q testQueue, task mms.Task) {
			enqueue(t, q, task)
			if err := q.inspector.ArchiveTask("messages", task.MessageID.String()+":1"); err != nil {
				t.Fatal(err)
			}
		}, 0, mms.TaskStuck},
		"active":                                   {run, 0, mms.TaskPresent},
		"active, without lease":                    {func(t *testing.T, q testQueue, task mms.Task) { run(t, q, task); q.delete(t, leaseSet) }, 0, mms.TaskStuck},
		"active, of a worker that died":            {func(t *testing.T, q testQueue, task mms.Task) { run(t, q, task); q.setLease(t, task, 15*time.Second) }, 0, mms.TaskStuck},
		"active, of a worker whose clock is ahead": {func(t *testing.T, q testQueue, task mms.Task) { run(t, q, task); q.setLease(t, task, time.Hour) }, 0, mms.TaskStuck},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q, task := newTestQueue(t), newTask()
			tt.prepare(t, q, task)
			got, err := q.client.TaskStates(t.Context(), []mms.TaskCheck{{Task: newTask()}, {Task: task, Wait: tt.wait}})
			if diff := cmp.Diff([]mms.TaskState{mms.TaskMissing, tt.want}, got); err != nil || diff != "" {
				t.Errorf("TaskStates() error %v, (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestRemoveTask(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		prepare func(*testing.T, testQueue, mms.Task)
		want    int64 // keys left
	}{
		"without its list": {func(t *testing.T, q testQueue, task mms.Task) { enqueue(t, q, task); q.delete(t, pendingList) }, 0},
		"delayed":          {addDelayed, 0},
		"dequeued after its hash was evicted": {func(t *testing.T, q testQueue, task mms.Task) {
			id := task.MessageID.String() + ":1"
			if err := errors.Join(q.redis.HSet(t.Context(), taskKey(task), "state", "active").Err(), q.redis.LPush(t.Context(), activeList, id).Err()); err != nil {
				t.Fatal(err)
			}
		}, 0},
		"running": {func(t *testing.T, q testQueue, task mms.Task) {
			id := task.MessageID.String() + ":1"
			if err := errors.Join(q.redis.HSet(t.Context(), taskKey(task), "state", "active", "msg", "x").Err(), q.redis.LPush(t.Context(), activeList, id).Err()); err != nil {
				t.Fatal(err)
			}
		}, 2},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q, task := newTestQueue(t), newTask()
			tt.prepare(t, q, task)
			if err := q.client.RemoveTask(t.Context(), task); err != nil {
				t.Fatal(err)
			}
			if n, err := q.redis.Exists(t.Context(), taskKey(task), pendingList, scheduledSet, activeList, leaseSet).Result(); err != nil || n != tt.want {
				t.Errorf("got %d keys left, %v, want %d", n, err, tt.want)
			}
		})
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	q := newTestQueue(t)
	enqueue(t, q, newTask())
	addDelayed(t, q, newTask())
	check := func(want queue.Faults) {
		t.Helper()
		faults, err := q.client.Faults(t.Context())
		if diff := cmp.Diff(want, faults); err != nil || diff != "" {
			t.Errorf("Faults() error %v, (-want +got):\n%s", err, diff)
		}
	}
	check(queue.Faults{})
	q.delete(t, pendingList)
	err := errors.Join(q.redis.Set(t.Context(), pendingList, "x", 0).Err(), q.redis.Set(t.Context(), "asynq:{webhooks-slow}:pending", "x", 0).Err(),
		q.inspector.PauseQueue("messages"), q.inspector.PauseQueue("webhooks-slow"))
	if err != nil {
		t.Fatal(err)
	}
	check(queue.Faults{WrongKeys: []string{pendingList, "asynq:{webhooks-slow}:pending"}, Paused: []string{"messages", "webhooks-slow"}})
}
