package postgres_test

import (
	"testing"
	"time"

	"github.com/postcard-mms/postcard/internal/testkit"
)

func TestShorterIntervalTakesEffectImmediately(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	if err := store.SetRateLimit(t.Context(), "+14155550100", 1000*time.Hour); err != nil {
		t.Fatal(err)
	}
	claim(t, store, create(t, store, owner).ID)
	next := create(t, store, owner)
	if tryClaim(t, store, next.ID) {
		t.Fatal("got a claim within the interval")
	}
	if err := store.SetRateLimit(t.Context(), "+14155550100", time.Millisecond); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the next message is claimed", func() bool {
		release(t, store)
		return tryClaim(t, store, next.ID)
	})
}

func TestReserveListCallSpacesCalls(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	var waits []time.Duration
	for range 3 {
		wait, err := store.ReserveListCall(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		waits = append(waits, wait)
	}
	if waits[0] > 100*time.Millisecond || waits[1] < 2*time.Second || waits[2] < 5*time.Second {
		t.Errorf("got waits %v, want 0, then 3 s more each", waits)
	}
}
