package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/postgres"
	"github.com/postcard-mms/postcard/internal/testkit"
)

func batchOrder(owner uuid.UUID) mms.BatchRequest {
	return mms.BatchRequest{Batch: mms.Batch{ID: uuid.Must(uuid.NewV7()), Owner: owner, Name: "spring"}}
}

// fill adds n messages to a batch in two parts.
func fill(ctx context.Context, w mms.BatchWriter, o mms.BatchRequest, n int) error {
	var messages []mms.Message
	for i := range n {
		m := order(o.Owner).Message
		m.Priority, m.BatchID, m.BatchRow, m.Metadata = mms.Bulk, o.ID, i+1, map[string]string{"row": fmt.Sprint(i + 1)}
		messages = append(messages, m)
	}
	return errors.Join(w.Add(ctx, messages[:n/2]), w.Add(ctx, messages[n/2:]))
}

// createBatch creates a batch of n messages.
func createBatch(ctx context.Context, store *postgres.Store, o mms.BatchRequest, n int, rowErrors ...mms.RowError) (mms.BatchResult, error) {
	w, replayed, err := store.BeginBatch(ctx, o)
	if err != nil {
		return mms.BatchResult{}, err
	}
	if replayed != nil {
		return *replayed, nil
	}
	defer w.Rollback()
	if err := fill(ctx, w, o, n); err != nil {
		return mms.BatchResult{}, err
	}
	return w.Commit(ctx, mms.RowErrors{Errors: rowErrors, Rejected: len(rowErrors)})
}

var aFault = mms.RowError{Row: 3, Field: invalid.Field{Name: "to", Rule: "e164", Message: "must be a phone number"}}

func takeBatch(t *testing.T, store *postgres.Store, owner uuid.UUID, n int) mms.Batch {
	t.Helper()
	o := batchOrder(owner)
	taken, err := createBatch(t.Context(), store, o, n)
	if err != nil {
		t.Fatal(err)
	}
	return taken.Batch
}

func TestABatchIsStoredWhole(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	o := batchOrder(owner)
	o.Caps = []mms.Cap{{Holder: owner, Messages: 10}}
	taken, err := createBatch(t.Context(), store, o, 5, aFault)
	if err != nil || taken.Created != 5 || taken.Rejected != 1 || taken.State != mms.BatchRunning {
		t.Fatalf("%+v, %v", taken, err)
	}
	got, err := store.Batch(t.Context(), owner, o.ID)
	if diff := cmp.Diff(map[mms.Status]int{mms.Queued: 5}, got.Counts); diff != "" || err != nil || got.Open() != 5 {
		t.Errorf("%s %v", diff, err)
	}
	if !got.HasUnsent || got.Paused != "" {
		t.Errorf("left: %t, paused: %q", got.HasUnsent, got.Paused)
	}
	if _, err := store.DB().Exec(`INSERT INTO pauses (cause, detail, probe_at) VALUES ('plivo_credit', '', now())`); err != nil {
		t.Fatal(err)
	}
	if list, _, err := store.Batches(t.Context(), owner, uuid.Nil, 10); err != nil || len(list) != 1 || !list[0].HasUnsent || list[0].Paused != mms.ReasonCredit {
		t.Errorf("the list during a pause: %+v, %v", list, err)
	}
	if _, err := store.Batch(t.Context(), uuid.New(), o.ID); !errors.Is(err, mms.ErrBatchNotFound) {
		t.Errorf("another's: %v", err)
	}
	faults, more, err := store.BatchErrors(t.Context(), owner, o.ID, 0, 10)
	if diff := cmp.Diff([]mms.RowError{aFault}, faults); diff != "" || more || err != nil {
		t.Errorf("%s %v", diff, err)
	}
	list, next, err := store.Messages(t.Context(), owner, mms.Page{Filter: mms.Filter{Batch: o.ID}, Limit: 2})
	if err != nil || len(list) != 2 || next != list[1].ID || list[0].Metadata["row"] != "5" || len(list[0].MediaURLs) != 1 {
		t.Errorf("%+v, %v", list, err)
	}
	h := read(t, store, list[0])
	wantStory(t, h, mms.Queued, "created>queued")
	if n := count(t, store, `SELECT sum(messages) FROM daily_counts WHERE holder = $1`, owner); n != 5 {
		t.Errorf("%d messages count for today", n)
	}
}

// TestBatchThatIsNotCommittedLeavesNothing in any of its tables.
func TestBatchThatIsNotCommittedLeavesNothing(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	for name, caps := range map[string][]mms.Cap{
		"over the cap": {{Holder: owner, Messages: 3}},
		"rolled back":  nil,
	} {
		o := batchOrder(owner)
		o.Idempotency, o.Caps = mms.Idempotency{Key: name, Fingerprint: [32]byte{1}}, caps
		w, _, err := store.BeginBatch(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if err := fill(t.Context(), w, o, 4); err != nil {
			t.Fatal(err)
		}
		if caps != nil {
			var capError mms.CapError
			if _, err := w.Commit(t.Context(), mms.RowErrors{}); !errors.As(err, &capError) || capError.Requested != 4 || capError.Remaining != 3 {
				t.Errorf("%s: got error %v, want a CapError for 4 of 3 messages", name, err)
			}
		}
		w.Rollback()
	}
	if n := count(t, store, `SELECT (SELECT count(*) FROM messages) + (SELECT count(*) FROM batches) + (SELECT count(*) FROM idempotency_keys) + (SELECT count(*) FROM daily_counts)`); n != 0 {
		t.Errorf("got %d rows, want none", n)
	}
}

func TestABatchUnderAKey(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	o := batchOrder(owner)
	o.Idempotency = mms.Idempotency{Key: "k", Fingerprint: [32]byte{1}}
	w, _, err := store.BeginBatch(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	again := batchOrder(owner)
	again.Idempotency = o.Idempotency
	if _, err := createBatch(t.Context(), store, again, 1); !errors.Is(err, mms.ErrInFlight) {
		t.Errorf("in flight: %v", err)
	}
	if _, err := store.CreateMessage(t.Context(), under("k", 1, order(owner))); !errors.Is(err, mms.ErrInFlight) {
		t.Errorf("in flight, a message: %v", err)
	}
	if err := fill(t.Context(), w, o, 3); err != nil {
		t.Fatal(err)
	}
	first, err := w.Commit(t.Context(), mms.RowErrors{})
	if err != nil {
		t.Fatal(err)
	}
	second, err := createBatch(t.Context(), store, again, 3)
	if diff := cmp.Diff(first.Batch, second.Batch); diff != "" || err != nil || !second.Replayed {
		t.Errorf("repeated: %s %v", diff, err)
	}
	again.Idempotency.Fingerprint = [32]byte{2}
	if _, err := createBatch(t.Context(), store, again, 3); !errors.Is(err, mms.ErrKeyReused) {
		t.Errorf("another batch: %v", err)
	}
	if _, err := store.CreateMessage(t.Context(), under("k", 1, order(owner))); !errors.Is(err, mms.ErrKeyReused) {
		t.Errorf("a message under a batch's key: %v", err)
	}
	if n := count(t, store, `SELECT count(*) FROM messages`); n != 3 {
		t.Errorf("%d messages", n)
	}
}

func syncBatch(t *testing.T, store *postgres.Store) {
	t.Helper()
	for more := true; more; {
		var err error
		if more, err = store.SyncBatch(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
	}
}

func TestABatchThatIsPausedSendsNothing(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	batch := takeBatch(t, store, owner, 5)
	released, err := store.Release(t.Context(), time.Second)
	if err != nil || len(released) != 5 || released[0].Priority != mms.Bulk {
		t.Fatalf("%v, %v", released, err)
	}
	// Two were let out of the line before, the others wait.
	if _, err := store.DB().Exec(`UPDATE messages SET backlog_state = 'waiting', task_check_at = 'infinity' WHERE batch_row > 2`); err != nil {
		t.Fatal(err)
	}
	if err := store.SetBatchState(t.Context(), owner, batch.ID, mms.BatchPaused); err != nil {
		t.Fatal(err)
	}
	for _, task := range released {
		if _, claimed, err := store.Claim(t.Context(), task.MessageID, token(), lease); claimed || err != nil {
			t.Errorf("a message of a paused batch is claimed: %v", err)
		}
	}
	if o, err := store.ClaimBlocker(t.Context(), released[0].MessageID); !o.Parked || err != nil {
		t.Errorf("what keeps it: %+v, %v", o, err)
	}
	syncBatch(t, store)
	for _, task := range released { // as their worker does; it does no harm to the others
		if done, err := store.Park(t.Context(), task.MessageID); err != nil || !done {
			t.Errorf("setting aside: %t %v", done, err)
		}
	}
	if place, waits, err := store.QueuePosition(t.Context(), owner, released[0].MessageID); !waits || place.Batch != mms.BatchPaused || err != nil {
		t.Errorf("its place: %+v, %t, %v", place, waits, err)
	}
	if n := count(t, store, `SELECT count(*) FROM messages WHERE backlog_state = 'parked' AND task_check_at = 'infinity'`); n != 5 {
		t.Errorf("%d messages are set aside", n)
	}
	if err := store.CheckAllTasks(t.Context()); err != nil {
		t.Fatal(err)
	}
	if items, err := store.TakeForTaskCheck(t.Context(), 10); len(items) != 0 || err != nil {
		t.Errorf("the relay takes what is set aside: %v %v", items, err)
	}
	if err := store.SetBatchState(t.Context(), owner, batch.ID, mms.BatchRunning); err != nil {
		t.Fatal(err)
	}
	if done, err := store.Park(t.Context(), released[0].MessageID); done || err != nil {
		t.Errorf("a worker that is late sets aside what goes on: %v", err)
	}
	syncBatch(t, store)
	if tasks, err := store.Release(t.Context(), time.Second); len(tasks) != 5 || err != nil {
		t.Errorf("let out after the pause: %v, %v", tasks, err)
	}
}

func TestABatchThatIsCanceled(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	batch := takeBatch(t, store, owner, 5)
	released, err := store.Release(t.Context(), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	sending, _ := claim(t, store, released[0].MessageID)
	if err := store.SetBatchState(t.Context(), uuid.New(), batch.ID, mms.BatchCanceled); !errors.Is(err, mms.ErrBatchNotFound) {
		t.Errorf("by another: %v", err)
	}
	for range 2 {
		if err := store.SetBatchState(t.Context(), owner, batch.ID, mms.BatchCanceled); err != nil {
			t.Fatal(err)
		}
	}
	syncBatch(t, store)
	got, err := store.Batch(t.Context(), owner, batch.ID)
	if diff := cmp.Diff(map[mms.Status]int{mms.Canceled: 4, mms.Sending: 1}, got.Counts); diff != "" || err != nil {
		t.Errorf("%s %v", diff, err)
	}
	if err := store.SetBatchState(t.Context(), owner, batch.ID, mms.BatchRunning); !errors.Is(err, mms.ErrBatchCanceled) {
		t.Errorf("resumed: %v", err)
	}
	// The one that was under way is refused for now, and comes back too late.
	if _, err := store.RecordTransientFailure(t.Context(), sending.AttemptRef, mms.Verdict{Outcome: mms.TransientFailure}, mms.Transition{Status: mms.Queued}); err != nil {
		t.Fatal(err)
	}
	if done, err := store.Park(t.Context(), sending.MessageID); !done || err != nil {
		t.Errorf("%t %v", done, err)
	}
	if h := read(t, store, mms.Message{ID: sending.MessageID, Owner: owner}); h.Status != mms.Canceled || !h.Final() {
		t.Errorf("it is %s", h.Status)
	}
}

func TestAScheduledBatchStandsInLine(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	o := batchOrder(owner)
	now, err := store.Now(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	at := now.Add(time.Hour)
	w, _, err := store.BeginBatch(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	m := order(owner).Message
	m.SendAt, m.Priority, m.BatchID, m.BatchRow = &at, mms.Bulk, o.ID, 1
	if err := w.Add(t.Context(), []mms.Message{m}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(t.Context(), mms.RowErrors{}); err != nil {
		t.Fatal(err)
	}
	if _, err := store.DB().Exec(`UPDATE messages SET send_at = now()`); err != nil {
		t.Fatal(err)
	}
	if n, tasks, err := store.QueueScheduled(t.Context(), 10); n != 1 || len(tasks) != 0 || err != nil {
		t.Errorf("%d %v %v", n, tasks, err)
	}
	if tasks, err := store.Release(t.Context(), time.Second); len(tasks) != 1 || err != nil {
		t.Errorf("%v %v", tasks, err)
	}
}

// TestAKeyOfABatchIsFreeAfterADay uses it for a message.
func TestAKeyOfABatchIsFreeAfterADay(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	b := batchOrder(owner)
	b.Idempotency = mms.Idempotency{Key: "k", Fingerprint: [32]byte{1}}
	if _, err := createBatch(t.Context(), store, b, 2); err != nil {
		t.Fatal(err)
	}
	if _, err := store.DB().Exec(`UPDATE idempotency_keys SET created_at = now() - interval '24 hours 1 minute'`); err != nil {
		t.Fatal(err)
	}
	if _, err := store.CreateMessage(t.Context(), under("k", 2, order(owner))); err != nil {
		t.Errorf("the key of an old batch, for a message: %v", err)
	}
}

// TestSettlingComesBackToALockedMessage has somebody lock a message of a batch while
// it is settled, beside another batch.
func TestSettlingComesBackToALockedMessage(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	for range 2 {
		batch := takeBatch(t, store, owner, 3)
		for _, state := range []mms.BatchState{mms.BatchPaused, mms.BatchRunning} {
			syncBatch(t, store)
			if err := store.SetBatchState(t.Context(), owner, batch.ID, state); err != nil {
				t.Fatal(err)
			}
		}
	}
	tx, err := store.DB().Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.Exec(`SELECT FROM messages WHERE id = (SELECT id FROM messages WHERE backlog_state = 'parked' LIMIT 1) FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	const aside = `SELECT count(*) FROM messages WHERE backlog_state = 'parked'`
	testkit.Eventually(t, "all but the locked one stand in line", func() bool {
		syncBatch(t, store)
		return count(t, store, aside) == 1
	})
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "everything is settled", func() bool {
		syncBatch(t, store)
		return count(t, store, aside)+count(t, store, `SELECT count(*) FROM batches WHERE sync_pending`) == 0
	})
}
