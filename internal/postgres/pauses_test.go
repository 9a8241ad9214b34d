package postgres_test

import (
	"testing"

	"github.com/postcard-mms/postcard/internal/mms"
)

func TestAccountErrorPausesSendingUntilAProbeSucceeds(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	earlier, failing, other := create(t, store, workspace), create(t, store, workspace), create(t, store, workspace)
	earlierClaim, _ := claim(t, store, earlier.ID)
	c, _ := claim(t, store, failing.ID)
	accountError := mms.Verdict{Outcome: mms.AccountError, Reason: mms.ReasonCredentials, HTTPStatus: 401, Detail: "no"}
	if ok, err := store.RecordAccountError(t.Context(), c.AttemptRef, accountError); err != nil || !ok {
		t.Fatal(ok, err)
	}
	pauses, err := store.Pauses(t.Context())
	if err != nil || len(pauses) != 1 || pauses[0].Cause != mms.ReasonCredentials || pauses[0].Detail != "no" {
		t.Errorf("Pauses: got %+v, %v, want one for the credentials", pauses, err)
	}
	if tryClaim(t, store, other.ID) {
		t.Error("got a claim during a pause")
	}
	wantIDs(t, "released during a pause", release(t, store))
	if tasks, err := store.Probe(t.Context()); err != nil || len(tasks) != 0 {
		t.Errorf("Probe before it is due: got %v, %v, want none", tasks, err)
	}
	if _, err := store.DB().Exec(`UPDATE pauses SET probe_at = now()`); err != nil {
		t.Fatal(err)
	}
	tasks, err := store.Probe(t.Context())
	if err != nil || len(tasks) != 1 || tasks[0].MessageID != other.ID {
		t.Fatalf("Probe: got %v, %v, want the message without attempts", tasks, err)
	}
	if tasks, err := store.Probe(t.Context()); err != nil || len(tasks) != 0 {
		t.Errorf("second Probe: got %v, %v, want none", tasks, err)
	}
	if got, err := store.RecordSubmitted(t.Context(), earlierClaim.AttemptRef, mms.Verdict{PlivoUUID: "u-0", HTTPStatus: 202}, mms.EventSubmitted); err != nil || got != mms.Adopted {
		t.Fatal(got, err)
	}
	if pauses, err := store.Pauses(t.Context()); err != nil || len(pauses) != 1 {
		t.Errorf("Pauses after a response to an attempt from before the pause: got %+v, %v, want one", pauses, err)
	}
	c, _ = claim(t, store, other.ID)
	if _, err := adopt(t.Context(), store, c.AttemptRef, "u-1"); err != nil {
		t.Fatal(err)
	}
	if pauses, err := store.Pauses(t.Context()); err != nil || len(pauses) != 0 {
		t.Errorf("Pauses after an accepted attempt: got %+v, %v, want none", pauses, err)
	}
	wantIDs(t, "released after the pause", release(t, store), failing.ID)
	c, _ = claim(t, store, failing.ID)
	if c.OwnAccountErrors != 1 {
		t.Errorf("got claim %+v, want one account error of its own", c)
	}
}

// TestEvidenceEndsAPause records a delivery report, and then the response.
func TestEvidenceEndsAPause(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	failing, probed := create(t, store, workspace), create(t, store, workspace)
	c, _ := claim(t, store, failing.ID)
	if ok, err := store.RecordAccountError(t.Context(), c.AttemptRef, mms.Verdict{Outcome: mms.AccountError, Reason: mms.ReasonCredentials, HTTPStatus: 401}); err != nil || !ok {
		t.Fatal(ok, err)
	}
	if tryClaim(t, store, probed.ID) {
		t.Error("got a claim during a pause")
	}
	if _, err := store.DB().Exec(`UPDATE pauses SET probe_at = now()`); err != nil {
		t.Fatal(err)
	}
	if tasks, err := store.Probe(t.Context()); err != nil || len(tasks) != 1 || tasks[0].MessageID != probed.ID {
		t.Fatalf("Probe: got %v, %v, want the waiting message", tasks, err)
	}
	c, _ = claim(t, store, probed.ID)
	if got, err := store.RecordSubmitted(t.Context(), c.AttemptRef, mms.Verdict{PlivoUUID: "u-1"}, mms.EventReport); err != nil || got != mms.Adopted {
		t.Fatal(got, err)
	}
	if pauses, err := store.Pauses(t.Context()); err != nil || len(pauses) != 0 {
		t.Errorf("Pauses after a delivery report: got %+v, %v, want none", pauses, err)
	}
	if got, err := store.RecordSubmitted(t.Context(), c.AttemptRef, mms.Verdict{PlivoUUID: "u-1", HTTPStatus: 202}, mms.EventSubmitted); err != nil || got != mms.AlreadyKnown {
		t.Fatal(got, err)
	}
}

func TestResume(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	c, _ := claim(t, store, create(t, store, workspace).ID)
	if _, err := store.RecordAccountError(t.Context(), c.AttemptRef, mms.Verdict{Outcome: mms.AccountError, Reason: mms.ReasonCredit}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []bool{true, false} {
		if ended, err := store.Resume(t.Context(), mms.ReasonCredit); err != nil || ended != want {
			t.Errorf("Resume: got %t, %v, want %t", ended, err, want)
		}
	}
}
