package queue

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// emptyFor is how long a queue that was found empty is not asked again: less than a
// worker at rest waits between two looks.
const emptyFor = taskCheckInterval / 3

// emptyQueueCache remembers which queues were empty a moment ago. For each task it wants,
// asynq asks one queue after the other, in an order that it draws by their weights:
// workers that are busy with one queue would ask the empty ones nearly as often. One
// goroutine takes all tasks, so its questions are sent at once, and the others'
// scripts together.
type emptyQueueCache struct {
	redis.UniversalClient
	pipeline *pipelined

	mu    sync.Mutex
	until map[string]time.Time // by the key of the queue
}

func newEmptyQueueCache(c redis.UniversalClient) *emptyQueueCache {
	return &emptyQueueCache{UniversalClient: c, pipeline: &pipelined{UniversalClient: c}, until: map[string]time.Time{}}
}

// EvalSha implements redis.Scripter.
func (k *emptyQueueCache) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	if !takesTask(keys) {
		return k.pipeline.EvalSha(ctx, sha, keys, args...)
	}
	if k.isEmpty(keys[0]) {
		cmd := redis.NewCmd(ctx)
		cmd.SetErr(redis.Nil)
		return cmd
	}
	cmd := k.UniversalClient.EvalSha(ctx, sha, keys, args...)
	if errors.Is(cmd.Err(), redis.Nil) {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.until[keys[0]] = time.Now().Add(emptyFor)
	}
	return cmd
}

func (k *emptyQueueCache) isEmpty(queue string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return time.Now().Before(k.until[queue])
}

// takesTask recognises the script by which asynq v0.26 takes a task from one queue:
// its keys are the queue's pending, paused, active and leased tasks. One that it does
// not know is asked each time.
func takesTask(keys []string) bool {
	return len(keys) == 4 && strings.HasSuffix(keys[0], ":pending") && strings.HasSuffix(keys[1], ":paused")
}
