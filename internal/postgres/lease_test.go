package postgres_test

import (
	"context"
	"errors"
	"testing"

	"github.com/postcard-mms/postcard/internal/testkit"
)

func TestTurns(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	inner, other, after := 0, 0, 0
	count := func(n *int) func(context.Context) error {
		return func(context.Context) error { *n++; return nil }
	}
	err := store.WithLease(t.Context(), "work", func(ctx context.Context) error {
		return errors.Join(store.WithLease(ctx, "work", count(&inner)), store.WithLease(ctx, "other work", count(&other)))
	})
	if err != nil || inner != 0 || other != 1 {
		t.Errorf("beside the first: the same work ran %d times, other work %d times, %v", inner, other, err)
	}
	broken := errors.New("broken")
	if err := store.WithLease(t.Context(), "work", func(context.Context) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("InTurn() = %v, want the work's own error", err)
	}
	if err := store.WithLease(t.Context(), "work", count(&after)); err != nil || after != 1 {
		t.Errorf("after a turn that failed: ran %d times, %v", after, err)
	}
}

// TestATurnThatIsOverIsTaken plays a process that was killed or stopped, and
// goes on later.
func TestATurnThatIsOverIsTaken(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	err := store.WithLease(t.Context(), "work", func(stopped context.Context) error {
		if _, err := store.DB().Exec(`UPDATE leases SET expires_at = now()`); err != nil {
			return err
		}
		ran := false
		err := store.WithLease(t.Context(), "work", func(context.Context) error {
			ran = true
			testkit.Eventually(t, "the first process stops its work", func() bool { return stopped.Err() != nil })
			return nil
		})
		if !ran {
			t.Error("nobody could take over")
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
