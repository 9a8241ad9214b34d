package queue

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
)

// fakeRedis answers scripts with an error by their first key, and counts them.
type fakeRedis struct {
	redis.UniversalClient
	errs  map[string]error
	calls map[string]int
}

func (r *fakeRedis) EvalSha(ctx context.Context, _ string, keys []string, _ ...any) *redis.Cmd {
	r.calls[keys[0]]++
	cmd := redis.NewCmd(ctx)
	cmd.SetErr(r.errs[keys[0]])
	return cmd
}

func dequeueKeys(queue string) []string {
	prefix := "asynq:{" + queue + "}:"
	return []string{prefix + "pending", prefix + "paused", prefix + "active", prefix + "lease"}
}

func TestEmptyQueueIsNotPolledForAMoment(t *testing.T) {
	t.Parallel()
	errBroken := errors.New("connection reset")
	tests := map[string]struct {
		keys []string
		err  error
		want []int // calls of Redis after the first, second and third poll
	}{
		"empty queue":       {dequeueKeys("a"), redis.Nil, []int{1, 1, 2}},
		"queue with tasks":  {dequeueKeys("a"), nil, []int{1, 2, 3}},
		"unreachable Redis": {dequeueKeys("a"), errBroken, []int{1, 2, 3}},
		"other script":      {[]string{"asynq:{a}:t:1", "asynq:{a}:pending"}, redis.Nil, []int{1, 2, 3}},
		"other four keys":   {[]string{"asynq:{a}:active", "asynq:{a}:lease", "asynq:{a}:t:1", "asynq:{a}:processed"}, redis.Nil, []int{1, 2, 3}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := &fakeRedis{errs: map[string]error{tt.keys[0]: tt.err}, calls: map[string]int{}}
				cache := newEmptyQueueCache(r)
				for i, wait := range []time.Duration{0, 0, emptyTTL} {
					time.Sleep(wait)
					if err := cache.EvalSha(t.Context(), "sha", tt.keys).Err(); !errors.Is(err, tt.err) {
						t.Errorf("poll %d: got %v, want %v", i+1, err, tt.err)
					}
					if got := r.calls[tt.keys[0]]; got != tt.want[i] {
						t.Errorf("poll %d: got %d calls of Redis, want %d", i+1, got, tt.want[i])
					}
				}
				other := dequeueKeys("b")
				if _ = cache.EvalSha(t.Context(), "sha", other); r.calls[other[0]] != 1 {
					t.Errorf("other queue: got %d calls of Redis, want 1", r.calls[other[0]])
				}
			})
		})
	}
}
