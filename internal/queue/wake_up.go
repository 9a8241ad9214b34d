package queue

import (
	"context"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// The Redis channels on which clients wake the servers of all processes, after they
// enqueued a task.
const (
	messageWakeUps = "postcard:wake:messages"
	webhookWakeUps = "postcard:wake:webhooks"
)

// wakeUpInterval is the least time between two wake-ups by a process. Clients that
// enqueue many tasks need only a few.
const wakeUpInterval = 5 * time.Millisecond

// waker publishes wake-ups on a channel. The first is published immediately.
type waker struct {
	redis   redis.UniversalClient
	channel string

	mu        sync.Mutex
	requested bool // a wake-up, since the last one was published
	running   bool // a goroutine is publishing
}

// wake makes servers poll their queues soon. It does not wait for Redis.
func (w *waker) wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.requested = true
	if !w.running {
		w.running = true
		go w.run()
	}
}

// run publishes until no wake-up is requested.
func (w *waker) run() {
	for w.next() {
		w.publish()
		time.Sleep(wakeUpInterval)
	}
}

func (w *waker) next() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running = w.requested
	w.requested = false
	return w.running
}

// publish ignores errors: servers also poll at an interval.
func (w *waker) publish() {
	ctx, cancel := context.WithTimeout(context.Background(), responseTimeout)
	defer cancel()
	_ = w.redis.Publish(ctx, w.channel, "").Err()
}

// receiveWakeUps calls wake at each wake-up, until stopped is closed. It also does so
// after each connection, because wake-ups may have been missed before.
func receiveWakeUps(c redis.UniversalClient, channel string, wake func(), stopped <-chan struct{}) {
	subscription := c.Subscribe(context.Background(), channel)
	defer subscription.Close()
	received := subscription.ChannelWithSubscriptions()
	for {
		select {
		case <-received:
			wake()
		case <-stopped:
			return
		}
	}
}
