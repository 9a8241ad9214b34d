package postgres_test

import (
	"testing"
	"time"

	"github.com/alexedwards/scs/v2"
)

func TestSessions(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	var sessions scs.CtxStore = store.Sessions()
	if _, found, err := sessions.FindCtx(t.Context(), "a"); err != nil || found {
		t.Errorf("unknown session: got %v, %v, want none", found, err)
	}
	for _, data := range []string{"first", "second"} {
		if err := sessions.CommitCtx(t.Context(), "a", []byte(data), time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		if got, found, err := sessions.FindCtx(t.Context(), "a"); err != nil || !found || string(got) != data {
			t.Errorf("got session %q, %v, %v, want %q", got, found, err, data)
		}
	}
	if err := sessions.CommitCtx(t.Context(), "old", []byte("x"), time.Now().Add(-time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, found, err := sessions.FindCtx(t.Context(), "old"); err != nil || found {
		t.Errorf("expired session: got %v, %v, want none", found, err)
	}
	if err := store.Sessions().DeleteExpired(t.Context()); err != nil {
		t.Fatal(err)
	}
	var left int
	if err := store.DB().QueryRow(`SELECT count(*) FROM sessions`).Scan(&left); err != nil || left != 1 {
		t.Errorf("after DeleteExpired(): got %d sessions, %v, want 1", left, err)
	}
	for range 2 {
		if err := sessions.DeleteCtx(t.Context(), "a"); err != nil {
			t.Errorf("DeleteCtx() = %v", err)
		}
	}
	if _, found, err := sessions.FindCtx(t.Context(), "a"); err != nil || found {
		t.Errorf("deleted session: got %v, %v, want none", found, err)
	}
}
