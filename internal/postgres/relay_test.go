package postgres_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"

	"postcard/internal/mms"
	"postcard/internal/postgres"
)

// overdue lets a message's time for a look by the relay come.
func overdue(t *testing.T, store *postgres.Store, m mms.Message) {
	t.Helper()
	if _, err := store.DB().Exec(`UPDATE messages SET relay_at = now() WHERE id = $1`, m.ID); err != nil {
		t.Fatal(err)
	}
}

func TestTheRelayTakesWhatIsOverdueOnce(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	m, fresh, sending := accept(t, store, owner), accept(t, store, owner), accept(t, store, owner)
	overdue(t, store, m)
	claim(t, store, sending.ID)
	items, err := store.TakeForRelay(t.Context(), 10)
	if err != nil || len(items) != 1 || items[0].Task != (mms.Task{MessageID: m.ID, Generation: 1}) || items[0].Wait != 0 {
		t.Errorf("TakeForRelay() = %+v, %v, want %s alone; fresh is %s", items, err, m.ID, fresh.ID)
	}
	if items, err := store.TakeForRelay(t.Context(), 10); err != nil || len(items) != 0 {
		t.Errorf("TakeForRelay() again = %+v, %v, want none", items, err)
	}
	if err := store.NoteRelayed(t.Context(), []uuid.UUID{m.ID}); err != nil {
		t.Fatal(err)
	}
	wantStory(t, read(t, store, m), mms.Queued, "accepted>queued relayed>queued")
}

func TestGenerationsGrowOnce(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	m := accept(t, store, owner)
	task := mms.Task{MessageID: m.ID, Generation: 1}
	if ok, err := store.NextGeneration(t.Context(), task); err != nil || !ok {
		t.Errorf("NextGeneration() = %v, %v, want true", ok, err)
	}
	if ok, err := store.NextGeneration(t.Context(), task); err != nil || ok {
		t.Errorf("NextGeneration() of an old one = %v, %v, want false", ok, err)
	}
	overdue(t, store, m)
	if items, err := store.TakeForRelay(t.Context(), 10); err != nil || len(items) != 1 || items[0].Task.Generation != 2 {
		t.Errorf("TakeForRelay() = %+v, %v, want generation 2", items, err)
	}
}

func TestReportsMoveAMessageForwardOnly(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	m := accept(t, store, owner)
	c, secret := claim(t, store, m.ID)
	if _, _, err := store.AttemptByToken(t.Context(), token()); !errors.Is(err, mms.ErrNotFound) {
		t.Errorf("an unknown token: %v, want ErrNotFound", err)
	}
	ref, known, err := store.AttemptByToken(t.Context(), secret)
	if err != nil || ref != c.AttemptRef || known != "" {
		t.Errorf("AttemptByToken() = %v, %q, %v", ref, known, err)
	}
	if _, err := adopt(t.Context(), store, ref, "u-1"); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		to      mms.Status
		uuid    string
		changes bool
	}{
		{mms.Sent, "u-2", false}, // another message's
		{mms.Sent, "u-1", true},
		{mms.Sent, "u-1", false},
		{mms.Failed, "u-1", true},
		{mms.Sent, "u-1", false},
		{mms.Undelivered, "u-1", true},
		{mms.Failed, "u-1", false},
		{mms.Delivered, "u-1", true},
		{mms.Undelivered, "u-1", false},
	} {
		report := mms.Report{PlivoUUID: step.uuid, State: string(step.to), Code: "30"}
		changed, err := store.ApplyReport(t.Context(), ref, report, step.to)
		if err != nil || changed != step.changes {
			t.Errorf("report %s for %s: %v, %v, want %v", step.to, step.uuid, changed, err, step.changes)
		}
	}
	h := read(t, store, m)
	wantStory(t, h, mms.Delivered, "accepted>queued attempt_started>sending submitted>submitted report>sent report>failed report>undelivered report>delivered")
	if h.FinalAt == nil || time.Since(*h.FinalAt) > time.Hour {
		t.Errorf("final at %v", h.FinalAt)
	}
	if err := store.NoteReport(t.Context(), ref, mms.Report{PlivoUUID: "u-1", State: "read\x00"}); err != nil {
		t.Errorf("noting a report of an unknown state: %v", err)
	}
}
