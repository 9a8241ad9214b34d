package queue

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
)

// askedRedis answers scripts and notes by their first key how often it was asked.
type askedRedis struct {
	redis.UniversalClient
	answers map[string]error
	asked   map[string]int
}

func (r *askedRedis) EvalSha(ctx context.Context, _ string, keys []string, _ ...any) *redis.Cmd {
	r.asked[keys[0]]++
	cmd := redis.NewCmd(ctx)
	cmd.SetErr(r.answers[keys[0]])
	return cmd
}

func takeFrom(queue string) []string {
	prefix := "asynq:{" + queue + "}:"
	return []string{prefix + "pending", prefix + "paused", prefix + "active", prefix + "lease"}
}

// TestAnEmptyQueueIsLeftAloneForAMoment asks several queues twice at once and once
// later: only the empty one is spared a question, and only for a moment.
func TestAnEmptyQueueIsLeftAloneForAMoment(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken off")
	for name, tt := range map[string]struct {
		keys   []string
		answer error
		want   []int // questions after each
	}{
		"empty":            {takeFrom("a"), redis.Nil, []int{1, 1, 2}},
		"with tasks":       {takeFrom("a"), nil, []int{1, 2, 3}},
		"out of reach":     {takeFrom("a"), broken, []int{1, 2, 3}},
		"an other script":  {[]string{"asynq:{a}:t:1", "asynq:{a}:pending"}, redis.Nil, []int{1, 2, 3}},
		"one of four keys": {[]string{"asynq:{a}:active", "asynq:{a}:lease", "asynq:{a}:t:1", "asynq:{a}:processed"}, redis.Nil, []int{1, 2, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := &askedRedis{answers: map[string]error{tt.keys[0]: tt.answer}, asked: map[string]int{}}
				k := newEmptyQueueCache(r)
				for i, wait := range []time.Duration{0, 0, emptyFor} {
					time.Sleep(wait)
					if err := k.EvalSha(t.Context(), "sha", tt.keys).Err(); !errors.Is(err, tt.answer) {
						t.Errorf("question %d was answered %v", i, err)
					}
					if r.asked[tt.keys[0]] != tt.want[i] {
						t.Errorf("%d questions after %d, want %d", r.asked[tt.keys[0]], i+1, tt.want[i])
					}
				}
				if _ = k.EvalSha(t.Context(), "sha", takeFrom("b")); r.asked[takeFrom("b")[0]] != 1 {
					t.Error("another queue was not asked")
				}
			})
		})
	}
}
