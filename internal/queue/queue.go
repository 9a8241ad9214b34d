// Package queue wraps asynq: clients enqueue tasks and servers process them. A
// task contains only the id of a message or webhook event. Postgres is the source
// of truth, so a lost or repeated task does no harm. No other package uses asynq.
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

// Names as operators see them in asynqmon.
const (
	MessageQueue    = "messages" // queue of messages with normal priority
	messageTaskType = "mms:send"
)

// queues are the queues by their messages' priority. A queue is polled in
// proportion to its weight, so that none can starve another.
var queues = map[mms.Priority]struct {
	name   string
	weight int
}{
	mms.High:   {MessageQueue + "-high", 6},
	mms.Normal: {MessageQueue, 3},
	mms.Bulk:   {MessageQueue + "-bulk", 1},
}

// Webhook events have their own queues and servers, so that a slow endpoint delays
// neither messages nor the events of other endpoints.
const (
	webhookQueue     = "webhooks"
	slowWebhookQueue = "webhooks-slow"
	webhookTaskType  = "webhook:deliver"
)

func queueOf(t mms.Task) string { return queues[t.Priority].name }

// maxRetry is large because Postgres counts the attempts. The task relay would
// replace a task that asynq gave up on.
const maxRetry = 10_000

// Client enqueues tasks. It is safe for concurrent use.
type Client struct {
	redis redis.UniversalClient
	tasks *asynq.Client

	messages, webhooks waker // wake the servers
}

// NewClient returns a Client that uses c. The caller closes c.
func NewClient(c redis.UniversalClient) *Client {
	c = &pipelinedClient{UniversalClient: c}
	return &Client{
		redis: c, tasks: asynq.NewClientFromRedisClient(c),
		messages: waker{redis: c, channel: messageWakeUps}, webhooks: waker{redis: c, channel: webhookWakeUps},
	}
}

// checkKey is the key that CheckWritable writes.
const checkKey = "postcard:writable"

// checkScript writes in a script, as asynq does, so that it needs the same rights.
var checkScript = redis.NewScript(`return redis.call("SET", KEYS[1], "1", "EX", 60)`)

// CheckWritable returns an error unless Redis accepts a write.
func (c *Client) CheckWritable(ctx context.Context) error {
	if err := checkScript.Run(ctx, c.redis, []string{checkKey}).Err(); err != nil {
		return fmt.Errorf("writing to Redis: %w", err)
	}
	return nil
}

// markerKey is a key without expiry. If it is missing, Redis was emptied or
// restarted without its data, and so lost the tasks as well.
const markerKey = "postcard:marker"

// HasMarker reports whether Redis still has the marker that SetMarker wrote.
func (c *Client) HasMarker(ctx context.Context) (bool, error) {
	n, err := c.redis.Exists(ctx, markerKey).Result()
	if err != nil {
		return false, fmt.Errorf("reading the queue's marker: %w", err)
	}
	return n == 1, nil
}

// SetMarker writes the marker that HasMarker reads.
func (c *Client) SetMarker(ctx context.Context) error {
	if err := c.redis.Set(ctx, markerKey, "1", 0).Err(); err != nil {
		return fmt.Errorf("writing the queue's marker: %w", err)
	}
	return nil
}

// Enqueue enqueues a task to be processed now. It succeeds if the task is in the
// queue already.
func (c *Client) Enqueue(ctx context.Context, t mms.Task) error {
	_, err := c.enqueueIn(ctx, t, 0)
	return err
}

// enqueueIn reports false if the task is in the queue already.
func (c *Client) enqueueIn(ctx context.Context, t mms.Task, wait time.Duration) (added bool, err error) {
	id, err := t.MessageID.MarshalText()
	if err != nil {
		return false, fmt.Errorf("encoding a message id: %w", err)
	}
	_, err = c.tasks.EnqueueContext(ctx, asynq.NewTask(messageTaskType, id),
		asynq.TaskID(taskID(t)), asynq.Queue(queueOf(t)), asynq.MaxRetry(maxRetry), asynq.ProcessIn(wait))
	if errors.Is(err, asynq.ErrTaskIDConflict) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("enqueueing message %s: %w", t.MessageID, err)
	}
	if wait == 0 {
		c.messages.wake()
	}
	return true, nil
}

// EnqueueWebhook enqueues the task of a webhook event to be processed now. It
// succeeds if the task is in the queue already.
func (c *Client) EnqueueWebhook(ctx context.Context, t webhook.Task) error {
	id, err := t.EventID.MarshalText()
	if err != nil {
		return fmt.Errorf("encoding an event id: %w", err)
	}
	queue := webhookQueue
	if t.Slow {
		queue = slowWebhookQueue
	}
	_, err = c.tasks.EnqueueContext(ctx, asynq.NewTask(webhookTaskType, id),
		asynq.TaskID(fmt.Sprintf("%s:%d", t.EventID, t.Generation)), asynq.Queue(queue), asynq.MaxRetry(maxRetry))
	if errors.Is(err, asynq.ErrTaskIDConflict) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("enqueueing webhook event %s: %w", t.EventID, err)
	}
	c.webhooks.wake()
	return nil
}

// taskID is unique for a message and generation: asynq rejects a second task with
// the same id.
func taskID(t mms.Task) string { return fmt.Sprintf("%s:%d", t.MessageID, t.Generation) }
