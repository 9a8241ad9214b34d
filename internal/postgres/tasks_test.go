package postgres_test

import (
	"testing"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/postgres"
)

// overdue lets a message's time for a look by the relay come.
func overdue(t *testing.T, store *postgres.Store, m mms.Message) {
	t.Helper()
	if _, err := store.DB().Exec(`UPDATE messages SET task_check_at = now() WHERE id = $1`, m.ID); err != nil {
		t.Fatal(err)
	}
}

func TestTheRelayTakesWhatIsOverdueOnce(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	m, fresh, sending := accept(t, store, owner), accept(t, store, owner), accept(t, store, owner)
	overdue(t, store, m)
	claim(t, store, sending.ID)
	items, err := store.TakeForTaskCheck(t.Context(), 10)
	if err != nil || len(items) != 1 || items[0].Task != (mms.Task{MessageID: m.ID, Generation: 1, Priority: mms.Normal}) || items[0].Wait != 0 {
		t.Errorf("TakeForRelay() = %+v, %v, want %s alone; fresh is %s", items, err, m.ID, fresh.ID)
	}
	if items, err := store.TakeForTaskCheck(t.Context(), 10); err != nil || len(items) != 0 {
		t.Errorf("TakeForRelay() again = %+v, %v, want none", items, err)
	}
	if err := store.RecordRequeued(t.Context(), []uuid.UUID{m.ID}); err != nil {
		t.Fatal(err)
	}
	wantStory(t, read(t, store, m), mms.Queued, "created>queued requeued>queued")
}

func TestGenerationsGrowOnce(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	m := accept(t, store, owner)
	task := mms.Task{MessageID: m.ID, Generation: 1, Priority: mms.Normal}
	if ok, err := store.NextTaskGeneration(t.Context(), task); err != nil || !ok {
		t.Errorf("NextGeneration() = %v, %v, want true", ok, err)
	}
	if ok, err := store.NextTaskGeneration(t.Context(), task); err != nil || ok {
		t.Errorf("NextGeneration() of an old one = %v, %v, want false", ok, err)
	}
	overdue(t, store, m)
	if items, err := store.TakeForTaskCheck(t.Context(), 10); err != nil || len(items) != 1 || items[0].Task.Generation != 2 {
		t.Errorf("TakeForRelay() = %+v, %v, want generation 2", items, err)
	}
}
