package postgres_test

import (
	"context"
	"errors"
	"testing"

	"github.com/postcard-mms/postcard/internal/postgres"
	"github.com/postcard-mms/postcard/internal/testkit"
)

func TestLeaseIsHeldByOneProcess(t *testing.T) {
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
		t.Errorf("while the lease is held: got %d runs with the same lease and %d with another, %v, want 0 and 1", inner, other, err)
	}
	workErr := errors.New("work failed")
	if err := store.WithLease(t.Context(), "work", func(context.Context) error { return workErr }); !errors.Is(err, workErr) {
		t.Errorf("got error %v, want the work's error", err)
	}
	if err := store.WithLease(t.Context(), "work", count(&after)); err != nil || after != 1 {
		t.Errorf("after work that failed: got %d runs, %v, want 1", after, err)
	}
}

// TestExpiredLeaseIsTakenOver simulates a process that is stopped and continues later:
// its work must be canceled.
func TestExpiredLeaseIsTakenOver(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	err := store.WithLease(t.Context(), "work", func(stopped context.Context) error {
		if _, err := store.DB().Exec(`UPDATE leases SET expires_at = now()`); err != nil {
			return err
		}
		ran := false
		err := store.WithLease(t.Context(), "work", func(context.Context) error {
			ran = true
			testkit.Eventually(t, "the work of the first process is canceled", func() bool { return stopped.Err() != nil })
			return nil
		})
		if !ran {
			t.Error("got no run with the expired lease, want one")
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestLeaseOfCutOffProcess cuts a process off from the database. Its work must be canceled:
// another process takes the lease when it has expired.
func TestLeaseOfCutOffProcess(t *testing.T) {
	t.Parallel()
	database := testkit.Database(t)
	proxy := testkit.StartProxy(t, testkit.HostOf(t, database))
	store := openStore(t, proxy.URL(t, database), 2, postgres.StatementTimeout)
	err := store.WithLease(t.Context(), "work", func(cutOff context.Context) error {
		proxy.Lose()
		<-cutOff.Done()
		proxy.Heal()
		return context.Cause(cutOff)
	})
	if err == nil {
		t.Error("got no error, want that the lease is lost")
	}
}
