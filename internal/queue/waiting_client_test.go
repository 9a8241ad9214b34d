package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
)

// fakeRedis answers scripts by their first key, and counts them.
type fakeRedis struct {
	redis.UniversalClient
	errs  map[string]error
	moved int    // result of a script without an error
	hook  func() // called during each script
	calls map[string]int
}

func (r *fakeRedis) EvalSha(ctx context.Context, _ string, keys []string, _ ...any) *redis.Cmd {
	r.calls[keys[0]]++
	if r.hook != nil {
		r.hook()
	}
	cmd := redis.NewCmd(ctx)
	cmd.SetVal(int64(r.moved))
	cmd.SetErr(r.errs[keys[0]])
	return cmd
}

func (r *fakeRedis) Eval(ctx context.Context, script string, keys []string, args ...any) *redis.Cmd {
	return r.EvalSha(ctx, script, keys, args...)
}

// LLen says that the list is empty.
func (r *fakeRedis) LLen(ctx context.Context, _ string) *redis.IntCmd { return redis.NewIntCmd(ctx) }

func dequeueKeys(queue string) []string {
	prefix := "asynq:{" + queue + "}:"
	return []string{prefix + "pending", prefix + "paused", prefix + "active", prefix + "lease"}
}

func forwardKeys(queue, set string) []string {
	return []string{"asynq:{" + queue + "}:" + set, "asynq:{" + queue + "}:pending"}
}

const testInterval = time.Hour

// The server has another queue, so that polling this one never waits.
func TestEmptyQueueIsPolledAfterWakeUpOrInterval(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		keys []string
		err  error
		want []int // calls of Redis so far, after two polls, a wake-up and a poll, an interval and a poll
	}{
		"empty queue":      {dequeueKeys("a"), redis.Nil, []int{1, 2, 3}},
		"queue with tasks": {dequeueKeys("a"), nil, []int{2, 3, 4}},
		"Redis fails":      {dequeueKeys("a"), errors.New("connection reset"), []int{2, 3, 4}},
		"missing script":   {dequeueKeys("a"), redisError("NOSCRIPT No matching script"), []int{2, 3, 4}},
		"another script":   {[]string{"asynq:{a}:t:1", "asynq:{a}:pending"}, redis.Nil, []int{2, 3, 4}},
		"other four keys":  {[]string{"asynq:{a}:active", "asynq:{a}:lease", "asynq:{a}:t:1", "asynq:{a}:processed"}, redis.Nil, []int{2, 3, 4}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := &fakeRedis{errs: map[string]error{tt.keys[0]: tt.err}, calls: map[string]int{}}
				c := newWaitingClient(r, 2, testInterval)
				poll := func() {
					t.Helper()
					if err := c.EvalSha(t.Context(), "sha", tt.keys).Err(); !errors.Is(err, tt.err) {
						t.Errorf("got %v, want %v", err, tt.err)
					}
				}
				var got []int
				poll()
				poll()
				got = append(got, r.calls[tt.keys[0]])
				c.wake()
				poll()
				got = append(got, r.calls[tt.keys[0]])
				time.Sleep(testInterval)
				poll()
				got = append(got, r.calls[tt.keys[0]])
				if fmt.Sprint(got) != fmt.Sprint(tt.want) {
					t.Errorf("got %v calls of Redis, want %v", got, tt.want)
				}
			})
		})
	}
}

func TestDequeueWaitsWhileAllQueuesAreEmpty(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		end  func(*waitingClient)
		wait time.Duration
		poll bool // Redis is polled after the wait
	}{
		"wake-up":   {func(c *waitingClient) { c.wake() }, time.Minute, true},
		"due tasks": {func(c *waitingClient) { c.EvalSha(context.Background(), "sha", forwardKeys("a", "retry")) }, time.Minute, true},
		"stop":      {func(c *waitingClient) { close(c.stopped) }, time.Minute, false},
		"interval":  {func(*waitingClient) {}, testInterval, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a, b := dequeueKeys("a"), dequeueKeys("b")
				r := &fakeRedis{errs: map[string]error{a[0]: redis.Nil, b[0]: redis.Nil}, moved: 1, calls: map[string]int{}}
				c := newWaitingClient(r, 2, testInterval)
				c.EvalSha(t.Context(), "sha", a)
				c.EvalSha(t.Context(), "sha", b)
				time.AfterFunc(time.Minute, func() { tt.end(c) })
				start := time.Now()
				for _, keys := range [][]string{b, a} { // both after one wait
					if err := c.EvalSha(t.Context(), "sha", keys).Err(); !errors.Is(err, redis.Nil) {
						t.Errorf("got %v, want no task", err)
					}
					if waited := time.Since(start); waited != tt.wait {
						t.Errorf("waited %v, want %v", waited, tt.wait)
					}
				}
				want := 1
				if tt.poll {
					want = 2
				}
				if r.calls[a[0]] != want || r.calls[b[0]] != want {
					t.Errorf("got %d and %d polls, want %d of each", r.calls[a[0]], r.calls[b[0]], want)
				}
			})
		})
	}
}

func TestOnlyMovedTasksWakeTheServer(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		keys  []string
		moved int
		want  int // wake-ups
	}{
		"scheduled tasks": {forwardKeys("a", "scheduled"), 3, 1},
		"retries":         {forwardKeys("a", "retry"), 1, 1},
		"none due":        {forwardKeys("a", "retry"), 0, 0},
		"another script":  {[]string{"asynq:{a}:t:1", "asynq:{a}:pending"}, 1, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newWaitingClient(&fakeRedis{moved: tt.moved, calls: map[string]int{}}, 1, testInterval)
			c.EvalSha(t.Context(), "sha", tt.keys)
			if got := len(c.wakeUps); got != tt.want {
				t.Errorf("got %d wake-ups, want %d", got, tt.want)
			}
		})
	}
}

// A task that is enqueued while its queue is polled may have come too late for it.
func TestWakeUpDuringDequeueIsKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		keys := dequeueKeys("a")
		r := &fakeRedis{errs: map[string]error{keys[0]: redis.Nil}, calls: map[string]int{}}
		c := newWaitingClient(r, 1, testInterval)
		r.hook = func() {
			c.wake()
			r.hook = nil
		}
		start := time.Now()
		for range 2 {
			c.EvalSha(t.Context(), "sha", keys)
		}
		if waited := time.Since(start); r.calls[keys[0]] != 2 || waited > 0 {
			t.Errorf("got %d polls in %v, want 2 without a wait", r.calls[keys[0]], waited)
		}
	})
}

func TestFailedDequeuesPauseLongerEachTime(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		err  string
		stop bool
		want []time.Duration
	}{
		"Redis fails":         {"OOM command not allowed", false, []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond, 1600 * time.Millisecond, maxPause, maxPause}},
		"the server stops":    {"OOM command not allowed", true, []time.Duration{minPause / 2, 0}},
		"a script is missing": {"NOSCRIPT No matching script", false, []time.Duration{0, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				keys := dequeueKeys("a")
				c := newWaitingClient(&fakeRedis{errs: map[string]error{keys[0]: redisError(tt.err)}, calls: map[string]int{}}, 1, testInterval)
				if tt.stop {
					time.AfterFunc(minPause/2, func() { close(c.stopped) })
				}
				var got []time.Duration
				for range tt.want {
					start := time.Now()
					c.EvalSha(t.Context(), "sha", keys)
					got = append(got, time.Since(start))
				}
				if !slices.Equal(got, tt.want) {
					t.Errorf("got pauses %v, want %v", got, tt.want)
				}
			})
		})
	}
}

// A user who may run EVALSHA but not EVAL never gets past the missing script.
func TestFailedLoadOfTheDequeueScriptPauses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		keys := dequeueKeys("a")
		r := &fakeRedis{errs: map[string]error{keys[0]: redisError("NOPERM this user has no permissions to run the 'eval' command")}, calls: map[string]int{}}
		c := newWaitingClient(r, 1, testInterval)
		start := time.Now()
		c.Eval(t.Context(), "script", keys)
		c.Eval(t.Context(), "script", keys)
		if got, want := time.Since(start), minPause+2*minPause; got != want {
			t.Errorf("got pauses of %v, want %v", got, want)
		}
		r.errs[keys[0]] = redis.Nil
		c.Eval(t.Context(), "script", keys)
		if c.pause != 0 || !c.empty[keys[0]] {
			t.Errorf("after an empty queue: got pause %v, empty %v, want no pause and an empty queue", c.pause, c.empty[keys[0]])
		}
	})
}

// redisError is an answer of Redis.
type redisError string

func (e redisError) Error() string { return string(e) }
func (redisError) RedisError()     {}
