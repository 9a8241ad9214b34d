package postgres

import (
	"context"
	"slices"
	"sync"
	"time"
)

// groups has what is asked for at the same time done with one statement, since a
// statement and its commit cost nearly the same for one as for many. Who comes
// alone does not wait: it is done at once, by the statement for one, which is
// quicker. What is asked for while a statement is under way is done together by the
// next.
type groups[T any] struct {
	gathers bool // those who work rest after several things, so that more come together

	mu      sync.Mutex
	waiting []*pending[T]
	busy    bool          // somebody works, and is not overdue
	overdue int           // statements that take so long that nobody waits for them any more
	enough  chan struct{} // ends the rest
}

const (
	groupMax    = 128 // how much one statement does
	groupEnough = 64  // how much is worth no more rest: what a statement costs is spread over that many
	longestRest = 80 * time.Millisecond
	restShare   = 4 // see restAfter

	// statementOverdue is when the next group no longer waits for a statement: it may
	// itself wait for one message that somebody has locked. maxOverdue bounds how many
	// connections can be tied up like that.
	statementOverdue = 200 * time.Millisecond
	maxOverdue       = 8
)

func newGroups[T any](gathers bool) *groups[T] {
	return &groups[T]{gathers: gathers, enough: make(chan struct{}, 1)}
}

// pending is something that somebody waits for.
type pending[T any] struct {
	what T
	key  string // of those with the same, a group has one; empty: any number
	ok   bool   // it was done
	done chan struct{}
}

// statement carries out what a group asks for.
type statement[T any] func(context.Context, []*pending[T])

// do has what is asked for done together with others, by run. It reports false
// when it was not done, for whatever reason: alone it will be found out. What a caller
// who is gone asked for is not begun with.
func (g *groups[T]) do(ctx context.Context, what T, key string, run statement[T]) (T, bool) {
	p := &pending[T]{what: what, key: key, done: make(chan struct{})}
	g.mu.Lock()
	g.waiting = append(g.waiting, p)
	g.begin(run)
	if len(g.waiting) == groupEnough {
		select {
		case g.enough <- struct{}{}:
		default:
		}
	}
	g.mu.Unlock()
	select {
	case <-p.done:
		return p.what, p.ok
	case <-ctx.Done():
		g.leave(p)
		return what, false
	}
}

// leave takes back what nobody has begun with: who is gone may ask again elsewhere.
func (g *groups[T]) leave(p *pending[T]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if i := slices.Index(g.waiting, p); i >= 0 {
		g.waiting = slices.Delete(g.waiting, i, i+1)
	}
}

// begin has somebody work if there is work that nobody will come to. It needs the
// lock.
func (g *groups[T]) begin(run statement[T]) {
	if len(g.waiting) > 0 && !g.busy && g.overdue < maxOverdue {
		g.busy = true
		go g.work(run)
	}
}

// work goes on until nobody waits, or others have gone on without it.
func (g *groups[T]) work(run statement[T]) {
	for {
		group := g.next()
		if group == nil {
			return
		}
		begun := time.Now()
		inTime := g.carryOut(group, run)
		for _, p := range group {
			close(p.done)
		}
		if !inTime {
			return
		}
		if g.gathers {
			g.gather(restAfter(len(group), time.Since(begun)))
		}
	}
}

// restAfter is a quarter of what the statement took for each thing beside the first: the
// busier the database is, and be it for others, the fewer and larger the statements. For
// little it is next to nothing.
func restAfter(things int, took time.Duration) time.Duration {
	return min(took*time.Duration(things-1)/restShare, longestRest)
}

// carryOut runs the statement for a group, and reports whether it was in time.
func (g *groups[T]) carryOut(group []*pending[T], run statement[T]) bool {
	over, inTime := false, true // guarded by g.mu
	late := time.AfterFunc(statementOverdue, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if over {
			return
		}
		inTime, g.busy = false, false
		g.overdue++
		g.begin(run)
	})
	defer late.Stop()
	// Nobody's request ends it: each waits for others, too.
	ctx, cancel := context.WithTimeout(context.Background(), StatementTimeout)
	defer cancel()
	run(ctx, group)
	g.mu.Lock()
	defer g.mu.Unlock()
	over = true
	if !inTime {
		g.overdue--
		g.begin(run)
	}
	return inTime
}

// gather lets a group come together.
func (g *groups[T]) gather(length time.Duration) {
	if length == 0 {
		return
	}
	g.mu.Lock()
	select {
	case <-g.enough: // by those of the group before
	default:
	}
	enough := len(g.waiting) >= groupEnough
	g.mu.Unlock()
	if enough {
		return
	}
	select {
	case <-time.After(length):
	case <-g.enough:
	}
}

// next takes those who wait. It is nil when nobody does: then the work is over.
func (g *groups[T]) next() []*pending[T] {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.waiting) == 0 {
		g.busy = false
		return nil
	}
	var group, left []*pending[T]
	keys := map[string]bool{}
	for _, p := range g.waiting {
		if len(group) == groupMax || p.key != "" && keys[p.key] {
			left = append(left, p)
			continue
		}
		keys[p.key] = true
		group = append(group, p)
	}
	g.waiting = left
	return group
}

// shared reports whether a failure is that of everybody in the group: each would meet
// it again alone, and wait for it. Of any other each learns the cause alone.
func shared(err error, doing string) (error, bool) {
	return wrapError(err, doing), isUnavailable(err)
}
