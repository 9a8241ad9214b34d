package postgres_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestThrottleCountsConcurrentHits(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	key := [32]byte{1}
	var allowed atomic.Int32
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			wait, err := store.Throttle(t.Context(), key, 5, time.Hour)
			if err != nil {
				t.Error(err)
			}
			if wait == 0 {
				allowed.Add(1)
			} else if wait > time.Hour {
				t.Errorf("got wait %v, want an hour at most", wait)
			}
		})
	}
	group.Wait()
	if allowed.Load() != 5 {
		t.Errorf("got %d hits allowed, want 5", allowed.Load())
	}
	if wait, err := store.Throttle(t.Context(), [32]byte{2}, 5, time.Hour); err != nil || wait != 0 {
		t.Errorf("another key: got wait %v, %v, want 0", wait, err)
	}
	if err := store.Unthrottle(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if wait, err := store.Throttle(t.Context(), key, 5, time.Hour); err != nil || wait != 0 {
		t.Errorf("after Unthrottle(): got wait %v, %v, want 0", wait, err)
	}
}

func TestThrottleWindowEnds(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	for range 3 { // each window ends immediately
		if wait, err := store.Throttle(t.Context(), [32]byte{1}, 1, 0); err != nil || wait != 0 {
			t.Errorf("Throttle() = %v, %v, want 0", wait, err)
		}
	}
}
