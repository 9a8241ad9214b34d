package postgres_test

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
)

// TestWhyAMessageWaits checks that every way to read a message says what stops it, while
// it is queued.
func TestWhyAMessageWaits(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	batch := createBatch(t, store, workspace, 1)
	create(t, store, workspace)
	_, ref := submitted(t, store, workspace)
	since := time.Date(2026, 3, 9, 7, 5, 0, 0, time.UTC)
	for _, statement := range []string{
		`INSERT INTO pauses (cause, detail, since, probe_at) VALUES ('plivo_credentials', '', '2026-03-09 08:05Z', now()), ('plivo_credit', '', '2026-03-09 07:05Z', now())`,
		`UPDATE batches SET state = 'paused'`,
	} {
		if _, err := store.DB().Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	list, _, err := store.Messages(t.Context(), workspace, mms.Page{Limit: 10})
	if err != nil || len(list) != 3 {
		t.Fatalf("got %d messages, %v, want 3", len(list), err)
	}
	for _, listed := range list {
		read, err := store.Message(t.Context(), workspace, listed.ID)
		if err != nil {
			t.Fatal(err)
		}
		for name, m := range map[string]mms.Message{"listed": listed, "read": read.Message} {
			var cause mms.Reason
			var state mms.BatchState
			if m.ID != ref.MessageID {
				cause = mms.ReasonCredit
			}
			if m.BatchID == batch.ID {
				state = mms.BatchPaused
			}
			if m.Pause.Cause != cause || m.BatchState != state || cause != "" && !m.Pause.Since.Equal(since) {
				t.Errorf("%s, %s: got pause %+v and batch state %q, want the oldest pause %q and %q", name, m.Status, m.Pause, m.BatchState, cause, state)
			}
		}
	}
}

// TestCodeThatIsNoError checks that 000 is not kept, and not shown where a previous
// version stored it.
func TestCodeThatIsNoError(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	m, ref := submitted(t, store, workspace)
	report(t, store, ref, mms.Report{PlivoUUID: "u-1", State: "delivered", Code: "000"}, true)
	var stored string
	if err := store.DB().QueryRow(`SELECT plivo_code FROM messages WHERE id = $1`, m.ID).Scan(&stored); err != nil || stored != "" {
		t.Errorf("stored: got code %q, %v, want none", stored, err)
	}
	if _, err := store.DB().Exec(`UPDATE messages SET plivo_code = '000', status = 'failed', reason = 'reported' WHERE id = $1`, m.ID); err != nil {
		t.Fatal(err)
	}
	history, err := store.Message(t.Context(), workspace, m.ID)
	if err != nil || history.PlivoCode != "" {
		t.Errorf("read: got code %q, %v, want none", history.PlivoCode, err)
	}
	overview, err := store.Overview(t.Context(), uuid.Nil, 1)
	if err != nil || len(overview.Reasons) != 1 || overview.Reasons[0].PlivoCode != "" {
		t.Errorf("overview: got reasons %+v, %v, want one without a code", overview.Reasons, err)
	}
}
