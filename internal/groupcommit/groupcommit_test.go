package groupcommit

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestRandomCalls runs thousands of calls, some of which give up early, against
// commits that take from nothing to seconds of simulated time. Every call gets its own
// result, no item is committed twice, and the Committer is idle afterwards.
func TestRandomCalls(t *testing.T) {
	t.Parallel()
	for seed := range 60 {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				options := Options{Timeout: 15 * time.Second}
				if seed%2 == 1 {
					options.FullBatch, options.Delay = seed, 50*time.Millisecond
				}
				s := &simulation{
					t: t, random: rand.New(rand.NewPCG(uint64(seed), 1)), commits: map[int]int{},
					committer: New[int](options),
				}
				s.run(1 + s.intN(3000))
			})
		})
	}
}

type simulation struct {
	t         *testing.T
	committer *Committer[int]

	mu      sync.Mutex
	random  *rand.Rand
	commits map[int]int // of each item
	running int
}

func (s *simulation) intN(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.random.IntN(n)
}

// commit negates every value of the batch.
func (s *simulation) commit(_ context.Context, batch []*Item[int]) {
	keys := map[string]bool{}
	s.mu.Lock()
	s.running++
	if s.running > maxSlow+1 || len(batch) > maxBatch {
		s.t.Errorf("got %d commits at a time and a batch of %d, want at most %d and %d", s.running, len(batch), maxSlow+1, maxBatch)
	}
	for _, item := range batch {
		if item.key != "" && keys[item.key] {
			s.t.Errorf("got two items with key %q in a batch", item.key)
		}
		keys[item.key] = true
		s.commits[item.Value]++
	}
	s.mu.Unlock()
	duration := time.Duration(s.intN(30)) * time.Millisecond
	switch s.intN(10) {
	case 0:
		duration *= 100
	case 1:
		duration = slowAfter
	}
	time.Sleep(duration)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running--
	for _, item := range batch {
		item.Value, item.OK = -item.Value, true
	}
}

func (s *simulation) run(calls int) {
	var group sync.WaitGroup
	for i := 1; i <= calls; i++ {
		key, start, timeout := "", time.Duration(s.intN(2000))*time.Millisecond, time.Hour
		if s.intN(3) == 0 {
			key = fmt.Sprint(s.intN(20))
		}
		if s.intN(10) == 0 {
			timeout = time.Duration(1+s.intN(100)) * time.Millisecond
		}
		group.Go(func() {
			time.Sleep(start)
			ctx, cancel := context.WithTimeout(context.Background(), timeout)
			defer cancel()
			got, ok, running := s.committer.Do(ctx, i, key, s.commit)
			s.mu.Lock()
			defer s.mu.Unlock()
			if ok && got != -i || !ok && ctx.Err() == nil || s.commits[i] > 1 || ok && s.commits[i] != 1 || !ok && !running && s.commits[i] != 0 {
				s.t.Errorf("call %d: got %d, %t, %t after %d commits, want %d, true after 1", i, got, ok, running, s.commits[i], -i)
			}
		})
	}
	group.Wait()
	time.Sleep(time.Minute)
	synctest.Wait()
	c := s.committer
	if c.running || c.slow != 0 || len(c.waiting) != 0 || s.running != 0 {
		s.t.Errorf("got running %t, %d slow, %d waiting, %d commits at the end, want an idle Committer", c.running, c.slow, len(c.waiting), s.running)
	}
}

func TestCallThatEndsWhileWaitingIsNotCommitted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := New[string](Options{Timeout: time.Minute})
		finish := make(chan struct{})
		var committed []string
		commit := func(_ context.Context, batch []*Item[string]) {
			for _, item := range batch {
				committed = append(committed, item.Value)
				item.OK = true
			}
			<-finish
		}
		go c.Do(t.Context(), "first", "", commit)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, ok, running := c.Do(ctx, "ended", "", commit); ok || running {
			t.Errorf("got %t, %t for a call whose context ended before its batch began, want false, false", ok, running)
		}
		close(finish)
		synctest.Wait()
		if len(committed) != 1 {
			t.Errorf("got %v committed, want the first call alone", committed)
		}
	})
}

func TestCallThatEndsDuringItsCommitIsRunning(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := New[int](Options{Timeout: time.Minute})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var committed atomic.Bool
		commit := func(context.Context, []*Item[int]) {
			time.Sleep(2 * time.Second)
			committed.Store(true)
		}
		if _, ok, running := c.Do(ctx, 1, "", commit); ok || !running || committed.Load() {
			t.Errorf("got %t, %t, committed %t, want false, true before the commit has ended", ok, running, committed.Load())
		}
		time.Sleep(2 * time.Second)
		if !committed.Load() {
			t.Error("the commit ended with its caller, want it to go on")
		}
	})
}

// TestBatchesUnderLoad checks when batches start and what is in them: a lone call runs at
// once; under load a batch waits until it is full, at the latest for the delay.
func TestBatchesUnderLoad(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const commitTime = 10 * time.Millisecond
		c := New[int](Options{Timeout: time.Minute, FullBatch: 3, Delay: 50 * time.Millisecond})
		start := time.Now()
		type batch struct {
			items int
			after time.Duration
		}
		var got []batch
		commit := func(_ context.Context, items []*Item[int]) {
			got = append(got, batch{len(items), time.Since(start)})
			time.Sleep(commitTime)
			for _, item := range items {
				item.OK = true
			}
		}
		callAt := func(after time.Duration, n int) {
			time.Sleep(after - time.Since(start))
			for range n {
				go c.Do(t.Context(), 0, "", commit)
				synctest.Wait()
			}
		}
		ms := time.Millisecond
		callAt(0, 1)       // alone
		callAt(5*ms, 2)    // during the commit: together, right after it
		callAt(15*ms, 1)   // during the commit, and then under load: waits for more
		callAt(40*ms, 2)   // the batch is full
		callAt(60*ms, 1)   // the delay ends first
		callAt(200*ms, 1)  // still under load
		callAt(2000*ms, 1) // not any more
		time.Sleep(time.Second)
		want := []batch{{1, 0}, {2, 10 * ms}, {3, 40 * ms}, {1, 110 * ms}, {1, 250 * ms}, {1, 2000 * ms}}
		if !slices.Equal(got, want) {
			t.Errorf("got batches %v, want %v", got, want)
		}
	})
}

// BenchmarkDo measures the overhead of one call without contention.
func BenchmarkDo(b *testing.B) {
	c := New[int](Options{Timeout: time.Minute})
	commit := func(_ context.Context, batch []*Item[int]) { batch[0].OK = true }
	b.ReportAllocs()
	for b.Loop() {
		c.Do(b.Context(), 1, "", commit)
	}
}

// BenchmarkDoParallel measures concurrent calls whose commits take a millisecond each,
// whatever the size of the batch, as those of a database do.
func BenchmarkDoParallel(b *testing.B) {
	for _, fullBatch := range []int{0, 32} {
		b.Run(fmt.Sprintf("full batch=%d", fullBatch), func(b *testing.B) {
			c := New[int](Options{Timeout: time.Minute, FullBatch: fullBatch, Delay: 50 * time.Millisecond})
			var commits atomic.Int64
			commit := func(_ context.Context, batch []*Item[int]) {
				time.Sleep(time.Millisecond)
				commits.Add(1)
				for _, item := range batch {
					item.OK = true
				}
			}
			b.SetParallelism(64)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					c.Do(b.Context(), 1, "", commit)
				}
			})
			b.ReportMetric(float64(b.N)/float64(commits.Load()), "items/commit")
		})
	}
}
