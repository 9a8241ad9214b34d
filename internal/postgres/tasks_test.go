package postgres_test

import (
	"testing"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/postgres"
)

// makeTaskCheckDue makes a message due for a task check.
func makeTaskCheckDue(t *testing.T, store *postgres.Store, m mms.Message) {
	t.Helper()
	if _, err := store.DB().Exec(`UPDATE messages SET task_check_at = now() WHERE id = $1`, m.ID); err != nil {
		t.Fatal(err)
	}
}

func TestTakeForTaskCheckReturnsDueMessagesOnce(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	m, _, sending := create(t, store, owner), create(t, store, owner), create(t, store, owner)
	makeTaskCheckDue(t, store, m)
	claim(t, store, sending.ID)
	checks, err := store.TakeForTaskCheck(t.Context(), 10, false)
	if err != nil || len(checks) != 1 || checks[0].Task != (mms.Task{MessageID: m.ID, Generation: 1, Priority: mms.Normal}) || checks[0].Wait != 0 {
		t.Errorf("got %+v, %v, want %s alone", checks, err, m.ID)
	}
	if checks, err := store.TakeForTaskCheck(t.Context(), 10, false); err != nil || len(checks) != 0 {
		t.Errorf("second call: got %+v, %v, want none", checks, err)
	}
	if err := store.RecordRequeued(t.Context(), []uuid.UUID{m.ID}); err != nil {
		t.Fatal(err)
	}
	wantEvents(t, read(t, store, m), mms.Queued, "created>queued requeued>queued")
}

// A message that is queued again after a doubt has no task. It is taken before others,
// also when only such messages are.
func TestMessageWithoutTaskIsTakenFirst(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	due, retried := create(t, store, owner), create(t, store, owner)
	c, _ := claim(t, store, retried.ID)
	if _, err := store.RecordInDoubt(t.Context(), c.AttemptRef, mms.Verdict{Outcome: mms.Unknown}); err != nil {
		t.Fatal(err)
	}
	if ok, err := store.RetryInDoubt(t.Context(), c.AttemptRef); err != nil || !ok {
		t.Fatalf("got %t, %v, want true", ok, err)
	}
	makeTaskCheckDue(t, store, due)
	for _, want := range []int{1, 0} {
		checks, err := store.TakeForTaskCheck(t.Context(), 10, true)
		if err != nil || len(checks) != want || want == 1 && checks[0].Task.MessageID != retried.ID {
			t.Errorf("got %+v, %v, want %d messages without a task", checks, err, want)
		}
	}
}

func TestNextTaskGenerationIncrementsOnce(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	m := create(t, store, owner)
	task := mms.Task{MessageID: m.ID, Generation: 1, Priority: mms.Normal}
	if ok, err := store.AdvanceTaskGeneration(t.Context(), task); err != nil || !ok {
		t.Errorf("got %t, %v, want true", ok, err)
	}
	if ok, err := store.AdvanceTaskGeneration(t.Context(), task); err != nil || ok {
		t.Errorf("old generation: got %t, %v, want false", ok, err)
	}
	makeTaskCheckDue(t, store, m)
	if checks, err := store.TakeForTaskCheck(t.Context(), 10, false); err != nil || len(checks) != 1 || checks[0].Task.Generation != 2 {
		t.Errorf("got %+v, %v, want generation 2", checks, err)
	}
}
