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

// newBatchRequest requests a batch without rows.
func newBatchRequest(workspace uuid.UUID) mms.BatchRequest {
	return mms.BatchRequest{Batch: mms.Batch{ID: uuid.Must(uuid.NewV7()), Workspace: workspace, CreatedBy: workspace, Name: "spring"}}
}

// fill adds n messages to a batch in two parts.
func fill(ctx context.Context, w mms.BatchWriter, r mms.BatchRequest, n int) error {
	var messages []mms.Message
	for i := range n {
		m := newRequest(r.Workspace).Message
		m.Priority, m.BatchID, m.BatchRow, m.Metadata = mms.Bulk, r.ID, i+1, map[string]string{"row": fmt.Sprint(i + 1)}
		messages = append(messages, m)
	}
	return errors.Join(w.Add(ctx, messages[:n/2]), w.Add(ctx, messages[n/2:]))
}

// commitBatch creates a batch of n messages.
func commitBatch(ctx context.Context, store *postgres.Store, r mms.BatchRequest, n int, rowErrors ...mms.RowError) (mms.BatchResult, error) {
	w, replayed, err := store.BeginBatch(ctx, r)
	if err != nil {
		return mms.BatchResult{}, err
	}
	if replayed != nil {
		return *replayed, nil
	}
	defer w.Rollback()
	if err := fill(ctx, w, r, n); err != nil {
		return mms.BatchResult{}, err
	}
	return w.Commit(ctx, mms.RowErrors{Errors: rowErrors, Rejected: len(rowErrors)})
}

var rowError = mms.RowError{Row: 3, Field: invalid.Field{Name: "to", Rule: "e164", Message: "must be a phone number"}}

// createBatch creates a batch of n messages.
func createBatch(t *testing.T, store *postgres.Store, workspace uuid.UUID, n int) mms.Batch {
	t.Helper()
	r := newBatchRequest(workspace)
	result, err := commitBatch(t.Context(), store, r, n)
	if err != nil {
		t.Fatal(err)
	}
	return result.Batch
}

func TestBatchIsStored(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	r := newBatchRequest(workspace)
	r.Caps = []mms.Cap{{Holder: workspace, Messages: 10}}
	result, err := commitBatch(t.Context(), store, r, 5, rowError)
	if err != nil || result.Created != 5 || result.Rejected != 1 || result.State != mms.BatchRunning {
		t.Fatalf("%+v, %v", result, err)
	}
	got, err := store.Batch(t.Context(), workspace, r.ID)
	if diff := cmp.Diff(map[mms.Status]int{mms.Queued: 5}, got.Counts); diff != "" || err != nil || got.Remaining() != 5 {
		t.Errorf("Batch(): counts (-want +got):\n%s%d open, %v", diff, got.Remaining(), err)
	}
	if !got.HasUnsent || got.Pause.Active() {
		t.Errorf("got HasUnsent %t, pause %+v, want true and none", got.HasUnsent, got.Pause)
	}
	if _, err := store.DB().Exec(`INSERT INTO pauses (cause, detail, probe_at) VALUES ('plivo_credit', '', now())`); err != nil {
		t.Fatal(err)
	}
	if list, _, err := store.Batches(t.Context(), workspace, uuid.Nil, 10); err != nil || len(list) != 1 || !list[0].HasUnsent || list[0].Pause.Cause != mms.ReasonCredit || list[0].Pause.Since.IsZero() {
		t.Errorf("Batches() during a pause = %+v, %v, want one batch paused for credit", list, err)
	}
	if _, err := store.Batch(t.Context(), uuid.New(), r.ID); !errors.Is(err, mms.ErrBatchNotFound) {
		t.Errorf("another user's batch: got %v, want ErrBatchNotFound", err)
	}
	errs, more, err := store.BatchErrors(t.Context(), workspace, r.ID, 0, 10)
	if diff := cmp.Diff([]mms.RowError{rowError}, errs); diff != "" || more || err != nil {
		t.Errorf("BatchErrors() (-want +got):\n%smore %t, %v", diff, more, err)
	}
	list, next, err := store.Messages(t.Context(), workspace, mms.Page{Filter: mms.Filter{Batch: r.ID}, Limit: 2})
	if err != nil || len(list) != 2 || next != list[1].ID || list[0].Metadata["row"] != "5" || len(list[0].MediaURLs) != 1 {
		t.Errorf("Messages() of the batch = %+v, %v, want rows 5 and 4", list, err)
	}
	h := read(t, store, list[0])
	wantEvents(t, h, mms.Queued, "created>queued")
	if n := count(t, store, `SELECT sum(messages) FROM daily_counts WHERE holder = $1`, workspace); n != 5 {
		t.Errorf("got %d messages counted for today, want 5", n)
	}
}

// TestBatchThatIsNotCommittedLeavesNothing in any of its tables.
func TestBatchThatIsNotCommittedLeavesNothing(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	for name, caps := range map[string][]mms.Cap{
		"over the cap": {{Holder: workspace, Messages: 3}},
		"rolled back":  nil,
	} {
		r := newBatchRequest(workspace)
		r.Idempotency, r.Caps = mms.Idempotency{Key: name, Fingerprint: [32]byte{1}}, caps
		w, _, err := store.BeginBatch(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if err := fill(t.Context(), w, r, 4); err != nil {
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

func TestBatchWithIdempotencyKey(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	r := newBatchRequest(workspace)
	r.Idempotency = mms.Idempotency{Key: "k", Fingerprint: [32]byte{1}}
	w, _, err := store.BeginBatch(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	again := newBatchRequest(workspace)
	again.Idempotency = r.Idempotency
	if _, err := commitBatch(t.Context(), store, again, 1); !errors.Is(err, mms.ErrInFlight) {
		t.Errorf("in flight: %v", err)
	}
	if _, err := store.CreateMessage(t.Context(), withKey("k", 1, newRequest(workspace))); !errors.Is(err, mms.ErrInFlight) {
		t.Errorf("in flight, a message: %v", err)
	}
	if err := fill(t.Context(), w, r, 3); err != nil {
		t.Fatal(err)
	}
	first, err := w.Commit(t.Context(), mms.RowErrors{})
	if err != nil {
		t.Fatal(err)
	}
	second, err := commitBatch(t.Context(), store, again, 3)
	if diff := cmp.Diff(first.Batch, second.Batch); diff != "" || err != nil || !second.Replayed {
		t.Errorf("same request again: replayed %t, %v, batch (-want +got):\n%s", second.Replayed, err, diff)
	}
	again.Idempotency.Fingerprint = [32]byte{2}
	if _, err := commitBatch(t.Context(), store, again, 3); !errors.Is(err, mms.ErrKeyReused) {
		t.Errorf("another batch: %v", err)
	}
	if _, err := store.CreateMessage(t.Context(), withKey("k", 1, newRequest(workspace))); !errors.Is(err, mms.ErrKeyReused) {
		t.Errorf("message with the key: got %v, want ErrKeyReused", err)
	}
	if n := count(t, store, `SELECT count(*) FROM messages`); n != 3 {
		t.Errorf("got %d messages, want 3", n)
	}
}

// syncBatches syncs batches until nothing more can be done.
func syncBatches(t *testing.T, store *postgres.Store) {
	t.Helper()
	for more := true; more; {
		var err error
		if more, err = store.SyncBatch(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPausedBatchIsNotSent(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	batch := createBatch(t, store, workspace, 5)
	released, err := store.Release(t.Context(), time.Second)
	if err != nil || len(released) != 5 || released[0].Priority != mms.Bulk {
		t.Fatalf("Release() = %v, %v, want 5 bulk messages", released, err)
	}
	// Two messages stay released; the others wait again.
	if _, err := store.DB().Exec(`UPDATE messages SET backlog_state = 'waiting', task_check_at = 'infinity' WHERE batch_row > 2`); err != nil {
		t.Fatal(err)
	}
	if err := store.SetBatchState(t.Context(), workspace, batch.ID, mms.BatchPaused); err != nil {
		t.Fatal(err)
	}
	for _, task := range released {
		if _, claimed, err := store.Claim(t.Context(), task.MessageID, token(), lease); claimed || err != nil {
			t.Errorf("Claim() in a paused batch = %v, %v, want false", claimed, err)
		}
	}
	if blocker, err := store.ClaimBlocker(t.Context(), released[0].MessageID); !blocker.BatchNotRunning || err != nil {
		t.Errorf("ClaimBlocker() = %+v, %v, want parked", blocker, err)
	}
	syncBatches(t, store)
	for _, task := range released { // as the worker does; parking a parked message is harmless
		if done, err := store.Park(t.Context(), task.MessageID); err != nil || !done {
			t.Errorf("Park() = %t, %v, want true", done, err)
		}
	}
	if position, waits, err := store.QueuePosition(t.Context(), workspace, released[0].MessageID); !waits || position.Batch != mms.BatchPaused || err != nil {
		t.Errorf("QueuePosition() = %+v, %t, %v, want waiting for a paused batch", position, waits, err)
	}
	if n := count(t, store, `SELECT count(*) FROM messages WHERE backlog_state = 'parked' AND task_check_at = 'infinity'`); n != 5 {
		t.Errorf("got %d parked messages, want 5", n)
	}
	if err := store.MakeAllTaskChecksDue(t.Context()); err != nil {
		t.Fatal(err)
	}
	if items, err := store.TakeForTaskCheck(t.Context(), 10, false); len(items) != 0 || err != nil {
		t.Errorf("TakeForTaskCheck() = %v, %v, want no parked messages", items, err)
	}
	if err := store.SetBatchState(t.Context(), workspace, batch.ID, mms.BatchRunning); err != nil {
		t.Fatal(err)
	}
	if done, err := store.Park(t.Context(), released[0].MessageID); done || err != nil {
		t.Errorf("Park() after resuming = %t, %v, want false", done, err)
	}
	syncBatches(t, store)
	if tasks, err := store.Release(t.Context(), time.Second); len(tasks) != 5 || err != nil {
		t.Errorf("Release() after the pause = %v, %v, want 5", tasks, err)
	}
}

func TestCanceledBatch(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	batch := createBatch(t, store, workspace, 5)
	released, err := store.Release(t.Context(), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	sending, _ := claim(t, store, released[0].MessageID)
	if err := store.SetBatchState(t.Context(), uuid.New(), batch.ID, mms.BatchCanceled); !errors.Is(err, mms.ErrBatchNotFound) {
		t.Errorf("another user: got %v, want ErrBatchNotFound", err)
	}
	for range 2 {
		if err := store.SetBatchState(t.Context(), workspace, batch.ID, mms.BatchCanceled); err != nil {
			t.Fatal(err)
		}
	}
	syncBatches(t, store)
	got, err := store.Batch(t.Context(), workspace, batch.ID)
	if diff := cmp.Diff(map[mms.Status]int{mms.Canceled: 4, mms.Sending: 1}, got.Counts); diff != "" || err != nil {
		t.Errorf("counts (-want +got):\n%s%v", diff, err)
	}
	if err := store.SetBatchState(t.Context(), workspace, batch.ID, mms.BatchRunning); !errors.Is(err, mms.ErrBatchCanceled) {
		t.Errorf("resuming: got %v, want ErrBatchCanceled", err)
	}
	// The message that was being sent is queued again after the batch was canceled.
	if _, err := store.RecordTransientFailure(t.Context(), sending.AttemptRef, mms.Verdict{Outcome: mms.TransientFailure}, mms.Transition{Status: mms.Queued}); err != nil {
		t.Fatal(err)
	}
	if done, err := store.Park(t.Context(), sending.MessageID); !done || err != nil {
		t.Errorf("Park() = %t, %v, want true", done, err)
	}
	if h := read(t, store, mms.Message{ID: sending.MessageID, Workspace: workspace}); h.Status != mms.Canceled || !h.Final() {
		t.Errorf("got status %s, final %t, want canceled, true", h.Status, h.Final())
	}
}

func TestScheduledBatchEntersBacklog(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	r := newBatchRequest(workspace)
	now, err := store.Now(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	at := now.Add(time.Hour)
	w, _, err := store.BeginBatch(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	m := newRequest(workspace).Message
	m.SendAt, m.Priority, m.BatchID, m.BatchRow = &at, mms.Bulk, r.ID, 1
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
		t.Errorf("QueueScheduled() = %d, %v, %v, want 1 message without a task", n, tasks, err)
	}
	if tasks, err := store.Release(t.Context(), time.Second); len(tasks) != 1 || err != nil {
		t.Errorf("Release() = %v, %v, want 1", tasks, err)
	}
}

func TestBatchKeyExpiresAfterADay(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	b := newBatchRequest(workspace)
	b.Idempotency = mms.Idempotency{Key: "k", Fingerprint: [32]byte{1}}
	if _, err := commitBatch(t.Context(), store, b, 2); err != nil {
		t.Fatal(err)
	}
	if _, err := store.DB().Exec(`UPDATE idempotency_keys SET created_at = now() - interval '24 hours 1 minute'`); err != nil {
		t.Fatal(err)
	}
	if _, err := store.CreateMessage(t.Context(), withKey("k", 2, newRequest(workspace))); err != nil {
		t.Errorf("message with the key of an old batch: got %v, want no error", err)
	}
}

// TestSyncReturnsToLockedMessage locks a message of one of two batches: everything else
// is synced meanwhile, and the locked message afterwards.
func TestSyncReturnsToLockedMessage(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	for range 2 {
		batch := createBatch(t, store, workspace, 3)
		for _, state := range []mms.BatchState{mms.BatchPaused, mms.BatchRunning} {
			syncBatches(t, store)
			if err := store.SetBatchState(t.Context(), workspace, batch.ID, state); err != nil {
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
	const countParked = `SELECT count(*) FROM messages WHERE backlog_state = 'parked'`
	testkit.Eventually(t, "only the locked message is parked", func() bool {
		syncBatches(t, store)
		return count(t, store, countParked) == 1
	})
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "everything is synced", func() bool {
		syncBatches(t, store)
		return count(t, store, countParked)+count(t, store, `SELECT count(*) FROM batches WHERE sync_pending`) == 0
	})
}
