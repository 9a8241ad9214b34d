package queue

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// emptyTTL is how long a queue counts as empty after a dequeue found no task. It
// is shorter than the interval at which an idle server polls.
const emptyTTL = pollInterval / 3

// emptyQueueCache is a Redis client that remembers which queues were empty a
// moment ago and does not poll them again. For each task, asynq polls one queue
// after the other in a random order by their weights: without the cache, workers
// busy with one queue would poll the empty ones nearly as often. Dequeues bypass
// the pipeline, because only one goroutine of asynq makes them; all other scripts
// go through it.
type emptyQueueCache struct {
	redis.UniversalClient
	pipeline *pipelinedClient

	mu         sync.Mutex
	emptyUntil map[string]time.Time // by the queue's key
}

func newEmptyQueueCache(c redis.UniversalClient) *emptyQueueCache {
	return &emptyQueueCache{UniversalClient: c, pipeline: &pipelinedClient{UniversalClient: c}, emptyUntil: map[string]time.Time{}}
}

// EvalSha implements redis.Scripter.
func (c *emptyQueueCache) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	if !isDequeue(keys) {
		return c.pipeline.EvalSha(ctx, sha, keys, args...)
	}
	if c.isEmpty(keys[0]) {
		cmd := redis.NewCmd(ctx)
		cmd.SetErr(redis.Nil)
		return cmd
	}
	cmd := c.UniversalClient.EvalSha(ctx, sha, keys, args...)
	if errors.Is(cmd.Err(), redis.Nil) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.emptyUntil[keys[0]] = time.Now().Add(emptyTTL)
	}
	return cmd
}

func (c *emptyQueueCache) isEmpty(key string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Before(c.emptyUntil[key])
}

// isDequeue recognizes the script that dequeues a task in asynq v0.26 by its keys:
// the pending list, paused flag, active list and leases of one queue. If another
// version uses other keys, nothing is cached.
func isDequeue(keys []string) bool {
	return len(keys) == 4 && strings.HasSuffix(keys[0], ":pending") && strings.HasSuffix(keys[1], ":paused")
}
