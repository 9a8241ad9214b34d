package postgres

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestGroups has statements that take from nothing to seconds, in a time of their own,
// and callers who come at any moment, some of whom do not wait for long: everybody gets
// their own answer, once, and at rest nothing is left over.
func TestGroups(t *testing.T) {
	t.Parallel()
	for seed := range 60 {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &manyCallers{t: t, random: rand.New(rand.NewPCG(uint64(seed), 1)), groups: newGroups[int](seed%2 == 1), done: map[int]int{}}
				m.call(1 + m.draw(3000))
			})
		})
	}
}

type manyCallers struct {
	t      *testing.T
	groups *groups[int]

	mu      sync.Mutex
	random  *rand.Rand
	done    map[int]int
	running int
}

func (m *manyCallers) draw(n int) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.random.IntN(n)
}

// run is a statement.
func (m *manyCallers) run(_ context.Context, group []*pending[int]) {
	keys := map[string]bool{}
	m.mu.Lock()
	m.running++
	if m.running > maxOverdue+1 || len(group) > groupMax {
		m.t.Errorf("%d statements at a time, one for %d", m.running, len(group))
	}
	for _, p := range group {
		if p.key != "" && keys[p.key] {
			m.t.Errorf("two of key %q in a group", p.key)
		}
		keys[p.key] = true
		m.done[p.what]++
	}
	m.mu.Unlock()
	took := time.Duration(m.draw(30)) * time.Millisecond
	switch m.draw(10) {
	case 0:
		took *= 100
	case 1:
		took = statementOverdue
	}
	time.Sleep(took)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.running--
	for _, p := range group {
		p.what, p.ok = -p.what, true
	}
}

func (m *manyCallers) call(callers int) {
	var all sync.WaitGroup
	for i := 1; i <= callers; i++ {
		key, comes, patience := "", time.Duration(m.draw(2000))*time.Millisecond, time.Hour
		if m.draw(3) == 0 {
			key = fmt.Sprint(m.draw(20))
		}
		if m.draw(10) == 0 {
			patience = time.Duration(1+m.draw(100)) * time.Millisecond
		}
		all.Go(func() {
			time.Sleep(comes)
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			got, ok := m.groups.do(ctx, i, key, m.run)
			m.mu.Lock()
			defer m.mu.Unlock()
			if ok && got != -i || !ok && ctx.Err() == nil || m.done[i] > 1 || ok && m.done[i] != 1 {
				m.t.Errorf("caller %d got %d, %t; it was done %d times", i, got, ok, m.done[i])
			}
		})
	}
	all.Wait()
	time.Sleep(time.Minute)
	synctest.Wait()
	g := m.groups
	if g.busy || g.overdue != 0 || len(g.waiting) != 0 || m.running != 0 {
		m.t.Errorf("at rest: busy %t, %d overdue, %d waiting, %d running", g.busy, g.overdue, len(g.waiting), m.running)
	}
}

// TestWhoIsGoneHasNothingDone has a caller give up while a statement for another is
// under way.
func TestWhoIsGoneHasNothingDone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroups[string](false)
		over := make(chan struct{})
		var done []string
		run := func(_ context.Context, group []*pending[string]) {
			for _, p := range group {
				done = append(done, p.what)
				p.ok = true
			}
			<-over
		}
		go g.do(t.Context(), "first", "", run)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, ok := g.do(ctx, "gone", "", run); ok {
			t.Error("it was done for somebody who was gone")
		}
		close(over)
		synctest.Wait()
		if len(done) != 1 {
			t.Errorf("done: %v", done)
		}
	})
}
