package postgres_test

import (
	"errors"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
)

func TestCancel(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	m := create(t, store, workspace)
	if err := store.Cancel(t.Context(), uuid.New(), m.ID); !errors.Is(err, mms.ErrNotFound) {
		t.Errorf("other user: got error %v, want ErrNotFound", err)
	}
	for range 2 {
		if err := store.Cancel(t.Context(), workspace, m.ID); err != nil {
			t.Fatal(err)
		}
	}
	wantEvents(t, read(t, store, m), mms.Canceled, "created>queued canceled>canceled")
	if _, claimed, err := store.Claim(t.Context(), m.ID, token(), lease); claimed || err != nil {
		t.Errorf("Claim of a canceled message: got %t, %v, want false", claimed, err)
	}
	sending := create(t, store, workspace)
	claim(t, store, sending.ID)
	if err := store.Cancel(t.Context(), workspace, sending.ID); !errors.Is(err, mms.ErrTooLate) {
		t.Errorf("sending message: got error %v, want ErrTooLate", err)
	}
}

// TestCancelAndClaimExcludeEachOther runs both concurrently.
func TestCancelAndClaimExcludeEachOther(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	for range 20 {
		m := create(t, store, workspace)
		var claimed bool
		var cancelErr error
		var group sync.WaitGroup
		group.Go(func() { _, claimed, _ = store.Claim(t.Context(), m.ID, token(), lease) })
		group.Go(func() { cancelErr = store.Cancel(t.Context(), workspace, m.ID) })
		group.Wait()
		if claimed == (cancelErr == nil) {
			t.Fatalf("got claimed %t and cancel error %v, want one of them to succeed", claimed, cancelErr)
		}
	}
}
