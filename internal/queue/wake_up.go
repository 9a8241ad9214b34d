package queue

import (
	"context"
	"errors"
	"net"
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

// pingInterval is how soon a subscription notices that its connection is dead: it sends a
// ping when it has received nothing for so long, and ends when nothing follows in the
// same time.
const pingInterval = 10 * time.Second

// receiveWakeUps calls wake at each wake-up, until stopped is closed. It also does so
// after each connection, because wake-ups may have been missed before. It subscribes
// anew after an error, with a growing pause, and after connectionLifetime, because after
// a failover the server of the connection may no longer be the one that publishes.
func receiveWakeUps(c redis.UniversalClient, channel string, wake func(), stopped <-chan struct{}) {
	var pause time.Duration
	received := func() {
		pause = 0
		wake()
	}
	for {
		receiveFrom(c.Subscribe(context.Background(), channel), received, stopped)
		pause = grow(pause)
		select {
		case <-time.After(pause):
		case <-stopped:
			return
		}
	}
}

// receiveFrom calls received for each message and confirmation of the subscription,
// until that fails, is too old or stopped is closed.
func receiveFrom(s *redis.PubSub, received func(), stopped <-chan struct{}) {
	ctx := context.Background()
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-stopped:
		case <-time.After(connectionLifetime):
		case <-ended:
		}
		_ = s.Close() // it is not used any more
	}()
	for pinged := false; ; {
		message, err := s.ReceiveTimeout(ctx, pingInterval)
		var timeout net.Error
		switch {
		case err == nil:
			pinged = false
			if _, ok := message.(*redis.Pong); !ok {
				received()
			}
		case errors.As(err, &timeout) && timeout.Timeout() && !pinged:
			pinged = true
			if s.Ping(ctx) != nil {
				return
			}
		default:
			return
		}
	}
}
