// Package groupcommit carries out concurrent calls in batches. A database statement
// and its commit cost nearly the same for one row as for a hundred, so calls that
// arrive while a statement runs are collected and carried out by the next one. A lone
// call runs immediately; under load a batch waits for more calls if Options say so.
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
	maxBatch = 128 // items in one batch

	// loadedFor is how long a Committer counts as loaded after a batch of several items.
	loadedFor = 500 * time.Millisecond

	// slowAfter is when the next batch stops waiting for a running commit, which may
	// itself wait for a single locked row. maxSlow bounds how many slow commits run
	// at a time, and so how many connections they occupy.
	slowAfter = 200 * time.Millisecond
	maxSlow   = 8
)

// Options configure a Committer.
type Options struct {
	Timeout time.Duration // of one commit

	// While the Committer is loaded, a batch starts when it has FullBatch items, at
	// the latest after Delay. Batches are then fewer and larger, which trades latency
	// for throughput. With a FullBatch of 0 or 1 there is no delay.
	FullBatch int
	Delay     time.Duration
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
	shared  time.Time     // when the last batch of several items was committed
	running bool          // a goroutine takes batches from waiting; false again when its commit becomes slow, so that another may start
	slow    int           // commits in progress that have run for longer than slowAfter
	full    chan struct{} // receives a value when FullBatch items wait, which ends a delay
}

// New returns an idle Committer.
func New[T any](options Options) *Committer[T] {
	return &Committer[T]{options: options, full: make(chan struct{}, 1)}
}

// Do adds value to a batch, waits until commit has processed it, and returns its
// Item.Value and Item.OK. Every call of a Committer must pass the same commit
// function. A batch never has two items with the same key, unless the key is empty.
//
// When ctx ends first, Do returns ok false. A call that is not in a batch yet is dropped;
// running reports that the call is in a batch, whose commit goes on.
func (c *Committer[T]) Do(ctx context.Context, value T, key string, commit CommitFunc[T]) (result T, ok, running bool) {
	item := &Item[T]{Value: value, key: key, done: make(chan struct{})}
	c.mu.Lock()
	c.waiting = append(c.waiting, item)
	c.start(commit)
	if len(c.waiting) == c.options.FullBatch {
		select {
		case c.full <- struct{}{}:
		default:
		}
	}
	c.mu.Unlock()
	select {
	case <-item.done:
		return item.Value, item.OK, false
	case <-ctx.Done():
	}
	if c.drop(item) {
		return value, false, false
	}
	select {
	case <-item.done: // at the same moment as ctx
		return item.Value, item.OK, false
	default:
		return value, false, true
	}
}

// drop removes an item that is still waiting, and reports whether it was.
func (c *Committer[T]) drop(item *Item[T]) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.Index(c.waiting, item)
	if i >= 0 {
		c.waiting = slices.Delete(c.waiting, i, i+1)
	}
	return i >= 0
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
		c.collect()
		batch := c.next()
		if batch == nil {
			return
		}
		slow := c.commit(batch, commit)
		for _, item := range batch {
			close(item.done)
		}
		if slow {
			return
		}
	}
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
	if len(batch) > 1 {
		c.shared = time.Now()
	}
	if slow {
		c.slow--
		c.start(commit)
	}
	return slow
}

// collect waits, under load, until a full batch is waiting or the delay is over.
func (c *Committer[T]) collect() {
	c.mu.Lock()
	select {
	case <-c.full: // left over from an earlier batch
	default:
	}
	ready := len(c.waiting) == 0 || len(c.waiting) >= c.options.FullBatch || time.Since(c.shared) > loadedFor
	c.mu.Unlock()
	if ready {
		return
	}
	select {
	case <-time.After(c.options.Delay):
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
