// Package groupcommit carries out concurrent calls in batches. A database statement
// and its commit cost nearly the same for one row as for a hundred, so calls that
// arrive while a statement runs are collected and carried out by the next one. A lone
// call runs immediately.
//
// The package decides when a batch starts and which calls are in it. It knows neither
// SQL nor what the calls do.
package groupcommit

import (
	"context"
	"slices"
	"sync"
	"time"
)

const (
	maxBatch  = 128 // items in one batch
	fullBatch = 64  // waiting items that end a delay early: a larger batch hardly lowers the cost of an item

	maxDelay     = 80 * time.Millisecond // only with Options.Delay
	delayDivisor = 4                     // see delayAfter

	// slowAfter is when the next batch stops waiting for a running commit, which may
	// itself wait for a single locked row. maxSlow bounds how many slow commits run
	// at a time, and so how many connections they occupy.
	slowAfter = 200 * time.Millisecond
	maxSlow   = 8
)

// Options configure a Committer.
type Options struct {
	Timeout time.Duration // of one commit

	// Delay makes the next batch wait for a while after each commit of several items,
	// so that batches are fewer and larger. It trades latency for throughput.
	Delay bool
}

// Item is one call's value in a batch. The commit function sets OK when it has
// carried the call out, and may change Value to return a result.
type Item[T any] struct {
	Value T
	OK    bool

	key  string
	done chan struct{}
}

// CommitFunc carries out a batch.
type CommitFunc[T any] func(ctx context.Context, batch []*Item[T])

// Committer collects calls into batches. It is safe for concurrent use.
type Committer[T any] struct {
	options Options

	mu      sync.Mutex
	waiting []*Item[T]
	running bool          // a goroutine takes batches from waiting; false again when its commit becomes slow, so that another may start
	slow    int           // commits in progress that have run for longer than slowAfter
	full    chan struct{} // receives a value when fullBatch items wait, which ends a delay early
}

// New returns an idle Committer.
func New[T any](options Options) *Committer[T] {
	return &Committer[T]{options: options, full: make(chan struct{}, 1)}
}

// Do adds value to a batch, waits until commit has processed it, and returns its
// Item.Value and Item.OK. Every call of a Committer must pass the same commit
// function. A batch never has two items with the same key, unless the key is empty.
//
// When ctx ends, Do returns false; a call whose commit has not started is dropped.
func (c *Committer[T]) Do(ctx context.Context, value T, key string, commit CommitFunc[T]) (T, bool) {
	item := &Item[T]{Value: value, key: key, done: make(chan struct{})}
	c.mu.Lock()
	c.waiting = append(c.waiting, item)
	c.start(commit)
	if len(c.waiting) == fullBatch {
		select {
		case c.full <- struct{}{}:
		default:
		}
	}
	c.mu.Unlock()
	select {
	case <-item.done:
		return item.Value, item.OK
	case <-ctx.Done():
		c.drop(item)
		return value, false
	}
}

// drop removes an item that is still waiting.
func (c *Committer[T]) drop(item *Item[T]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.Index(c.waiting, item); i >= 0 {
		c.waiting = slices.Delete(c.waiting, i, i+1)
	}
}

// start starts a goroutine for the waiting items unless one is running or too many
// commits are slow. c.mu must be held.
func (c *Committer[T]) start(commit CommitFunc[T]) {
	if len(c.waiting) > 0 && !c.running && c.slow < maxSlow {
		c.running = true
		go c.run(commit)
	}
}

// run commits batches until no item waits, or until a commit was slow and another
// goroutine has taken over.
func (c *Committer[T]) run(commit CommitFunc[T]) {
	for {
		batch := c.next()
		if batch == nil {
			return
		}
		started := time.Now()
		slow := c.commit(batch, commit)
		for _, item := range batch {
			close(item.done)
		}
		if slow {
			return
		}
		if c.options.Delay {
			c.wait(delayAfter(len(batch), time.Since(started)))
		}
	}
}

// delayAfter grows with the size of the last batch and the time it took: a busier
// database, whatever causes the load, gets fewer and larger batches. It is zero after
// a batch of one.
func delayAfter(items int, took time.Duration) time.Duration {
	return min(took*time.Duration(items-1)/delayDivisor, maxDelay)
}

// commit runs commit for a batch and reports whether it was slow.
func (c *Committer[T]) commit(batch []*Item[T], commit CommitFunc[T]) bool {
	done, slow := false, false // guarded by c.mu
	timer := time.AfterFunc(slowAfter, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if done {
			return
		}
		slow, c.running = true, false
		c.slow++
		c.start(commit)
	})
	defer timer.Stop()
	// The context is no caller's: the end of one call must not cancel the others.
	ctx, cancel := context.WithTimeout(context.Background(), c.options.Timeout)
	defer cancel()
	commit(ctx, batch)
	c.mu.Lock()
	defer c.mu.Unlock()
	done = true
	if slow {
		c.slow--
		c.start(commit)
	}
	return slow
}

// wait returns after delay, or once a full batch is waiting.
func (c *Committer[T]) wait(delay time.Duration) {
	if delay == 0 {
		return
	}
	c.mu.Lock()
	select {
	case <-c.full: // left over from an earlier batch
	default:
	}
	full := len(c.waiting) >= fullBatch
	c.mu.Unlock()
	if full {
		return
	}
	select {
	case <-time.After(delay):
	case <-c.full:
	}
}

// next takes the next batch from the waiting items. It returns nil, and marks the
// Committer as idle, when there are none.
func (c *Committer[T]) next() []*Item[T] {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiting) == 0 {
		c.running = false
		return nil
	}
	var batch, rest []*Item[T]
	keys := map[string]bool{}
	for _, item := range c.waiting {
		if len(batch) == maxBatch || item.key != "" && keys[item.key] {
			rest = append(rest, item)
			continue
		}
		keys[item.key] = true
		batch = append(batch, item)
	}
	c.waiting = rest
	return batch
}
