package postgres_test

import (
	"errors"
	"testing"
	"time"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/postgres"
	"github.com/postcard-mms/postcard/internal/testkit"
)

// TestStatementThatTimedOutIsNotExecuted locks a table for longer than a statement may
// take. The statement must not take effect after its caller got an error: a message
// whose request failed with 503 would be sent, or a claim would have no worker.
func TestStatementThatTimedOutIsNotExecuted(t *testing.T) {
	t.Parallel()
	url := testkit.Database(t)
	store := openStore(t, url, 10, time.Second)
	if err := store.SetRateLimit(t.Context(), "+14155550100", 0); err != nil {
		t.Fatal(err)
	}
	workspace := addUser(t, store, "ada@example.com")
	claimer := openStore(t, url, 1, time.Second)
	claim(t, claimer, create(t, store, workspace).ID) // prepares the statement
	queued := create(t, store, workspace)

	tx := lockMessageTable(t, url, "SHARE") // as CREATE INDEX does
	rejected := newRequest(workspace)
	if _, err := store.CreateMessage(t.Context(), rejected); !errors.Is(err, mms.ErrUnavailable) {
		t.Errorf("CreateMessage: got error %v, want ErrUnavailable", err)
	}
	if _, claimed, err := claimer.Claim(t.Context(), queued.ID, token(), lease); claimed || !errors.Is(err, mms.ErrUnavailable) {
		t.Errorf("Claim: got %t, %v, want ErrUnavailable", claimed, err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "no statement is running", func() bool {
		return count(t, store, `SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() AND datname = current_database()`) == 0
	})
	if n := count(t, store, `SELECT count(*) FROM messages WHERE id = $1`, rejected.ID); n != 0 {
		t.Error("got a message whose creation failed, want none")
	}
	if h := read(t, store, queued); h.Status != mms.Queued {
		t.Errorf("got status %s after a failed claim, want queued", h.Status)
	}
}

// TestIdleTransactionLosesItsLocks leaves a transaction open, like a process that is
// stopped in the middle of it.
func TestIdleTransactionLosesItsLocks(t *testing.T) {
	t.Parallel()
	url := testkit.Database(t)
	stopped := openStore(t, url, 2, time.Second)
	m := create(t, stopped, addUser(t, stopped, "ada@example.com"))
	tx, err := stopped.DB().Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.Exec(`SELECT FROM messages WHERE id = $1 FOR UPDATE`, m.ID); err != nil {
		t.Fatal(err)
	}
	other := openStore(t, url, 2, postgres.StatementTimeout)
	if err := other.Cancel(t.Context(), m.Workspace, m.ID); err != nil {
		t.Errorf("Cancel while another process is stopped: got error %v, want none", err)
	}
}
