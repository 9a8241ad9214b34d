// Package queue is asynq, both ends: it hands message ids from the api to the
// workers. A task is a hint that says "look at this message" and carries
// nothing else; Postgres has the truth. No other package speaks asynq.
package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/webhook"
)

// Name is the name of the queue of messages with normal priority, and taskType
// the kind of the tasks, as operators see them in asynqmon.
const (
	Name     = "messages"
	taskType = "mms:send"
)

// queues are the queues by the priority of their messages, as operators see
// them, and how often workers look into each: of ten looks, six go to the first.
// None can starve another.
var queues = map[mms.Priority]struct {
	name   string
	weight int
}{
	mms.High:   {Name + "-high", 6},
	mms.Normal: {Name, 3},
	mms.Bulk:   {Name + "-bulk", 1},
}

// Events of webhooks have a queue and workers of their own: a receiver that
// stalls holds up no message.
const (
	webhookQueue = "webhooks"
	webhookTask  = "webhook:deliver"
)

func queueOf(t mms.Task) string { return queues[t.Priority].name }

// maxRetry only has to be large: how often a message is tried is counted in
// Postgres, and a task that asynq gave up on would be put back by the relay.
const maxRetry = 10_000

// dialTimeout and answerTimeout bound how long a Redis that is away, or hangs, can hold
// anybody up.
const (
	dialTimeout     = time.Second
	responseTimeout = time.Second
)

// Connect makes a client for the Redis at the URL (redis, rediss, redis-socket
// or redis-sentinel). It does not wait for Redis.
func Connect(url string) (redis.UniversalClient, error) {
	opt, err := asynq.ParseRedisURI(url)
	if err != nil {
		return nil, errors.New("reading REDIS_URL: it is not a Redis URL") // the cause would repeat its password
	}
	switch o := opt.(type) {
	case asynq.RedisClientOpt:
		o.DialTimeout, o.ReadTimeout, o.WriteTimeout = dialTimeout, responseTimeout, responseTimeout
		opt = o
	case asynq.RedisFailoverClientOpt:
		o.DialTimeout, o.ReadTimeout, o.WriteTimeout = dialTimeout, responseTimeout, responseTimeout
		opt = o
	}
	client, ok := opt.MakeRedisClient().(redis.UniversalClient)
	if !ok {
		return nil, fmt.Errorf("connecting to Redis: unexpected client %T", client)
	}
	return client, nil
}

// Client puts tasks into the queue.
type Client struct {
	redis     redis.UniversalClient
	tasks     *asynq.Client
	inspector *asynq.Inspector
}

// NewClient makes a Client on a connection that stays the caller's to close.
func NewClient(c redis.UniversalClient) *Client {
	c = &pipelined{UniversalClient: c}
	return &Client{redis: c, tasks: asynq.NewClientFromRedisClient(c), inspector: asynq.NewInspectorFromRedisClient(c)}
}

// Ping asks whether Redis answers.
func (c *Client) Ping(ctx context.Context) error {
	if err := c.redis.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("pinging Redis: %w", err)
	}
	return nil
}

// markerKey is a key that lives as long as the queue's tasks do: when it is gone,
// Redis was emptied or restarted without its data, and the tasks are gone too.
const markerKey = "postcard:marker"

// HasMarker reports whether Redis still has what Remind wrote.
func (c *Client) HasMarker(ctx context.Context) (bool, error) {
	n, err := c.redis.Exists(ctx, markerKey).Result()
	if err != nil {
		return false, fmt.Errorf("asking Redis for its memory: %w", err)
	}
	return n == 1, nil
}

// SetMarker writes the key that Remembers asks for.
func (c *Client) SetMarker(ctx context.Context) error {
	if err := c.redis.Set(ctx, markerKey, "1", 0).Err(); err != nil {
		return fmt.Errorf("writing Redis's memory: %w", err)
	}
	return nil
}

// Enqueue puts a task into the queue, to be looked at now. That it is there
// already is fine.
func (c *Client) Enqueue(ctx context.Context, t mms.Task) error {
	_, err := c.put(ctx, t, 0)
	return err
}

// EnsureTask sees to it that a task which ought to be in the queue is there.
func (c *Client) EnsureTask(ctx context.Context, item mms.TaskCheck) (mms.TaskState, error) {
	state, found, err := c.inspect(item.Task)
	if err != nil || found {
		return state, err
	}
	added, err := c.put(ctx, item.Task, item.Wait)
	if err != nil {
		return 0, err
	}
	if !added { // somebody else was quicker
		return mms.TaskPresent, nil
	}
	return mms.TaskAdded, nil
}

func (c *Client) put(ctx context.Context, t mms.Task, wait time.Duration) (added bool, err error) {
	id, err := t.MessageID.MarshalText()
	if err != nil {
		return false, fmt.Errorf("writing a message id: %w", err)
	}
	_, err = c.tasks.EnqueueContext(ctx, asynq.NewTask(taskType, id),
		asynq.TaskID(taskID(t)), asynq.Queue(queueOf(t)), asynq.MaxRetry(maxRetry), asynq.ProcessIn(wait))
	if errors.Is(err, asynq.ErrTaskIDConflict) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("enqueueing message %s: %w", t.MessageID, err)
	}
	return true, nil
}

// inspect tells a task that will run from one that never will. A task that is
// active although its message waits has just been taken, or is an orphan that
// asynq never starts again (its upstream issue 1144): a second task beside it
// is harmless in the first case and needed in the other.
func (c *Client) inspect(t mms.Task) (state mms.TaskState, found bool, err error) {
	info, err := c.inspector.GetTaskInfo(queueOf(t), taskID(t))
	if errors.Is(err, asynq.ErrTaskNotFound) || errors.Is(err, asynq.ErrQueueNotFound) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("inspecting the task of message %s: %w", t.MessageID, err)
	}
	switch info.State {
	case asynq.TaskStatePending, asynq.TaskStateScheduled, asynq.TaskStateRetry:
		return mms.TaskPresent, true, nil
	default:
		return mms.TaskStuck, true, nil
	}
}

// EnqueueWebhook puts an event of a webhook into the queue, to be looked at now.
// That it is there already is fine.
func (c *Client) EnqueueWebhook(ctx context.Context, t webhook.Task) error {
	id, err := t.EventID.MarshalText()
	if err != nil {
		return fmt.Errorf("writing an event id: %w", err)
	}
	_, err = c.tasks.EnqueueContext(ctx, asynq.NewTask(webhookTask, id),
		asynq.TaskID(fmt.Sprintf("%s:%d", t.EventID, t.Generation)), asynq.Queue(webhookQueue), asynq.MaxRetry(maxRetry))
	if err != nil && !errors.Is(err, asynq.ErrTaskIDConflict) {
		return fmt.Errorf("enqueueing webhook event %s: %w", t.EventID, err)
	}
	return nil
}

// taskID is unique for a message and generation, so that a second enqueue of
// the same is refused by asynq.
func taskID(t mms.Task) string { return fmt.Sprintf("%s:%d", t.MessageID, t.Generation) }
