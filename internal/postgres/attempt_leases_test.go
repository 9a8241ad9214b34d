package postgres_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postcard-mms/postcard/internal/mms"
)

func TestExpiredLeasePutsMessageInDoubt(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	lost, alive := create(t, store, workspace), create(t, store, workspace)
	if _, ok, err := store.Claim(t.Context(), lost.ID, token(), -time.Second); err != nil || !ok {
		t.Fatal(ok, err)
	}
	claim(t, store, alive.ID)
	if n, err := store.ReapLeases(t.Context(), 10); err != nil || n != 1 {
		t.Errorf("ReapLeases: got %d, %v, want 1", n, err)
	}
	h := read(t, store, lost)
	wantEvents(t, h, mms.InDoubt, "created>queued attempt_started>sending in_doubt>in_doubt")
	if h.Reason != mms.ReasonWorkerLost || h.AttemptList[0].Outcome != mms.Unknown {
		t.Errorf("got message %+v with attempt %+v, want an unknown outcome because the worker was lost", h.Message, h.AttemptList[0])
	}
	wantEvents(t, read(t, store, alive), mms.Sending, "created>queued attempt_started>sending")
}

func TestOnlyUnexpiredLeasesAreRenewed(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	m, lost := create(t, store, workspace), create(t, store, workspace)
	_, open := claim(t, store, m.ID)
	expired := token()
	if _, _, err := store.Claim(t.Context(), lost.ID, expired, -time.Second); err != nil {
		t.Fatal(err)
	}
	renewed, err := store.RenewLeases(t.Context(), []string{open, expired, "unknown"}, lease)
	if err != nil || len(renewed) != 1 || renewed[0] != open {
		t.Errorf("RenewLeases: got %v, %v, want the unexpired lease alone", renewed, err)
	}
}

// TestRenewalSkipsLockedAttempts renews two leases while the outcome of one of the
// attempts is being recorded.
func TestRenewalSkipsLockedAttempts(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	first, firstToken := claim(t, store, create(t, store, workspace).ID)
	_, secondToken := claim(t, store, create(t, store, workspace).ID)
	tx, err := store.DB().Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.Exec(`UPDATE attempts SET detail = '' WHERE message_id = $1`, first.MessageID); err != nil {
		t.Fatal(err)
	}
	renewed, err := store.RenewLeases(t.Context(), []string{firstToken, secondToken}, time.Minute)
	if diff := cmp.Diff([]string{secondToken}, renewed); diff != "" || err != nil {
		t.Errorf("renewed (-want +got):\n%s%v", diff, err)
	}
}
