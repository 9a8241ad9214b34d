package queue

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// waitingClient is the Redis client of an asynq server. It makes asynq's polling
// cheap: a queue that was found empty is polled again only after a wake-up, or
// after the poll interval in case the wake-up was lost. While all queues are
// empty, the dequeue waits; to asynq it looks like a slow call.
//
// Only the one goroutine of asynq that dequeues uses empty, expiry and pause. It has no
// call in flight while it waits, so no wake-up can lose a dequeued task. Its calls
// bypass the pipeline; all other scripts go through it.
type waitingClient struct {
	redis.UniversalClient

	pipeline *pipelinedClient
	queues   int // of the server
	interval time.Duration
	wakeUps  chan struct{} // with room for one, so that none is lost during a dequeue
	stopped  chan struct{} // closed when the server stops

	empty  map[string]bool // the queues found empty, by their key
	expiry *time.Timer     // of the oldest entry in empty
	pause  time.Duration   // after the last dequeue, if that failed
}

func newWaitingClient(c redis.UniversalClient, queues int, interval time.Duration) *waitingClient {
	return &waitingClient{
		UniversalClient: c, pipeline: &pipelinedClient{UniversalClient: c}, queues: queues, interval: interval,
		wakeUps: make(chan struct{}, 1), stopped: make(chan struct{}),
		empty: map[string]bool{}, expiry: time.NewTimer(interval),
	}
}

// wake makes the server poll all its queues.
func (c *waitingClient) wake() {
	select {
	case c.wakeUps <- struct{}{}:
	default: // one is pending
	}
}

// EvalSha implements redis.Scripter.
func (c *waitingClient) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	if !isDequeue(keys) {
		cmd := c.pipeline.EvalSha(ctx, sha, keys, args...)
		if isForward(keys) {
			if moved, err := cmd.Int(); err == nil && moved > 0 {
				c.wake()
			}
		}
		return cmd
	}
	if !c.shouldPoll(keys[0]) {
		cmd := redis.NewCmd(ctx)
		cmd.SetErr(redis.Nil)
		return cmd
	}
	cmd := c.UniversalClient.EvalSha(ctx, sha, keys, args...)
	c.noteResult(ctx, keys, cmd.Err())
	return cmd
}

// Eval implements redis.Scripter. asynq loads a script with it that EvalSha has not
// found; when that fails too, it starts again with EvalSha.
func (c *waitingClient) Eval(ctx context.Context, script string, keys []string, args ...any) *redis.Cmd {
	cmd := c.UniversalClient.Eval(ctx, script, keys, args...)
	if isDequeue(keys) {
		c.noteResult(ctx, keys, cmd.Err())
	}
	return cmd
}

// noteResult notes how a dequeue with these keys ended, and pauses if it failed.
func (c *waitingClient) noteResult(ctx context.Context, keys []string, err error) {
	switch {
	case redis.HasErrorPrefix(err, "NOSCRIPT"): // Eval follows
		return
	case err == nil:
	case errors.Is(err, redis.Nil):
		if !c.hasMore(ctx, keys) {
			c.noteEmpty(keys[0])
		}
	default:
		c.pauseAfterError()
		return
	}
	c.pause = 0
}

// hasMore reports whether a queue that gave no task has others. A dequeue also finds
// nothing when Redis has evicted the task's hash and kept its entry in the list: thousands
// of such entries would otherwise hold up the tasks behind them, each for an interval.
func (c *waitingClient) hasMore(ctx context.Context, keys []string) bool {
	if n, err := c.LLen(ctx, keys[0]).Result(); err != nil || n == 0 {
		return false
	}
	paused, err := c.Exists(ctx, keys[1]).Result()
	return err == nil && paused == 0
}

// shouldPoll reports whether the queue may have a task. If all queues are empty, it
// first waits until one may have. After the server has stopped it reports false.
func (c *waitingClient) shouldPoll(queue string) bool {
	if len(c.empty) == c.queues {
		select {
		case <-c.wakeUps:
		case <-c.expiry.C:
		case <-c.stopped:
		}
		clear(c.empty)
	}
	select {
	case <-c.stopped:
		return false
	case <-c.wakeUps:
		clear(c.empty)
	case <-c.expiry.C:
		clear(c.empty)
	default:
	}
	return !c.empty[queue]
}

func (c *waitingClient) noteEmpty(queue string) {
	if len(c.empty) == 0 {
		c.expiry.Reset(c.interval)
	}
	c.empty[queue] = true
}

// pauseAfterError waits, longer after each error: asynq would try again immediately.
func (c *waitingClient) pauseAfterError() {
	c.pause = grow(c.pause)
	select {
	case <-time.After(c.pause):
	case <-c.stopped:
	}
}

// isDequeue recognizes the script that dequeues a task in asynq v0.26 by its keys:
// the pending list, paused flag, active list and leases of one queue. With a version
// that uses other keys, the server would poll all the time, and a test would fail.
func isDequeue(keys []string) bool {
	return len(keys) == 4 && strings.HasSuffix(keys[0], ":pending") && strings.HasSuffix(keys[1], ":paused")
}

// isForward recognizes the script that moves due tasks to the pending list and
// returns their number. Its keys are the scheduled or retried tasks and that list.
func isForward(keys []string) bool {
	return len(keys) == 2 && strings.HasSuffix(keys[1], ":pending") &&
		(strings.HasSuffix(keys[0], ":scheduled") || strings.HasSuffix(keys[0], ":retry"))
}
