package postgres_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/postgres"
)

// suppressions returns all suppressions, without their times.
func suppressions(t *testing.T, store *postgres.Store) []mms.Suppression {
	t.Helper()
	list, _, err := store.Suppressions(t.Context(), "", mms.Suppression{}, 100)
	if err != nil {
		t.Fatal(err)
	}
	for i := range list {
		list[i].CreatedAt = time.Time{}
	}
	return list
}

func TestSuppressedRecipientIsNotSentTo(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	m, other := create(t, store, workspace), create(t, store, workspace)
	if _, err := store.AddSuppressions(t.Context(), []mms.Suppression{{Sender: m.Sender, Recipient: m.Recipient, Reason: mms.SuppressedByAdmin}}); err != nil {
		t.Fatal(err)
	}
	if _, claimed, err := store.Claim(t.Context(), m.ID, token(), time.Minute); err != nil || claimed {
		t.Errorf("Claim() = %v, %v, want false", claimed, err)
	}
	if blocker, err := store.ClaimBlocker(t.Context(), m.ID); err != nil || !blocker.Suppressed {
		t.Errorf("ClaimBlocker() = %+v, %v, want suppressed", blocker, err)
	}
	for _, id := range []uuid.UUID{m.ID, other.ID} { // only the suppressed one fails
		if err := store.FailSuppressed(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	h := read(t, store, m)
	wantEvents(t, h, mms.Failed, "created>queued suppressed>failed")
	if h.Reason != mms.ReasonOptedOut {
		t.Errorf("got reason %q, want %q", h.Reason, mms.ReasonOptedOut)
	}
	wantEvents(t, read(t, store, other), mms.Queued, "created>queued")
	for _, want := range []bool{true, false} {
		if removed, err := store.RemoveSuppression(t.Context(), m.Sender, m.Recipient); err != nil || removed != want {
			t.Errorf("RemoveSuppression() = %v, %v, want %v", removed, err, want)
		}
	}
	claim(t, store, createFor(t, store, workspace, m.Recipient).ID)
}

func TestPagesOfSuppressions(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	var all []mms.Suppression
	for _, recipient := range []mms.PhoneNumber{"+14155550123", "+14155550124", "+14155550125"} {
		for _, sender := range []mms.PhoneNumber{"+14155550100", "+14155550101"} {
			all = append(all, mms.Suppression{Sender: sender, Recipient: recipient, Reason: mms.SuppressedByAdmin})
		}
	}
	if n, err := store.AddSuppressions(t.Context(), all); err != nil || n != len(all) {
		t.Fatalf("AddSuppressions() = %d, %v, want %d", n, err, len(all))
	}
	var got []mms.Suppression
	after := mms.Suppression{}
	for more := true; more; {
		var list []mms.Suppression
		var err error
		if list, more, err = store.Suppressions(t.Context(), "", after, 4); err != nil || len(list) == 0 {
			t.Fatalf("Suppressions() = %v, %v, want some", list, err)
		}
		after = list[len(list)-1]
		for _, s := range list {
			s.CreatedAt = time.Time{}
			got = append(got, s)
		}
	}
	if diff := cmp.Diff(all, got); diff != "" {
		t.Errorf("pages (-want +got):\n%s", diff)
	}
	if list, _, err := store.Suppressions(t.Context(), "+14155550124", mms.Suppression{}, 10); err != nil || len(list) != 2 {
		t.Errorf("Suppressions() of one recipient = %v, %v, want 2", list, err)
	}
}
