package postgres_test

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/postgres"
	"github.com/postcard-mms/postcard/internal/testkit"
)

// tryClaim claims at a pace, and stands in line where it cannot, as a worker does.
func tryClaim(t *testing.T, store *postgres.Store, id uuid.UUID) bool {
	t.Helper()
	_, ok, err := store.Claim(t.Context(), id, token(), lease)
	if err != nil {
		t.Fatal(err)
	}
	if !ok {
		if err := store.AddToBacklog(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	return ok
}

func setRateLimit(t *testing.T, store *postgres.Store, pace time.Duration) {
	t.Helper()
	if err := store.SetRateLimit(t.Context(), "+14155550100", pace); err != nil {
		t.Fatal(err)
	}
}

// openGates lets the pace's time pass.
func openGates(t *testing.T, store *postgres.Store) {
	t.Helper()
	if _, err := store.DB().Exec(`UPDATE rate_limits SET next_arrival_at = now(), released_until = '-infinity'`); err != nil {
		t.Fatal(err)
	}
}

func release(t *testing.T, store *postgres.Store) []uuid.UUID {
	t.Helper()
	tasks, err := store.Release(t.Context(), 300*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	var ids []uuid.UUID
	for _, task := range tasks {
		ids = append(ids, task.MessageID)
		if task.Generation < 2 {
			t.Errorf("a released task has the generation of the old one: %+v", task)
		}
	}
	return ids
}

func wantIDs(t *testing.T, what string, got []uuid.UUID, want ...uuid.UUID) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %v, want %v", what, got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
}

func TestALineIsLetOutInOrderOneAtATime(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	var ids []uuid.UUID
	for range 4 {
		ids = append(ids, accept(t, store, owner).ID)
	}
	setRateLimit(t, store, time.Hour)
	if !tryClaim(t, store, ids[1]) {
		t.Fatal("the first cannot pass an open gate")
	}
	for _, id := range []uuid.UUID{ids[3], ids[0], ids[2]} {
		if tryClaim(t, store, id) {
			t.Fatal("a second message passed the gate within the pace")
		}
	}
	wantIDs(t, "released while the gate is closed", release(t, store))
	for _, want := range []uuid.UUID{ids[0], ids[2], ids[3]} {
		openGates(t, store)
		wantIDs(t, "released", release(t, store), want)
		wantIDs(t, "released again while one is on the way", release(t, store))
		newcomer := accept(t, store, owner).ID
		if want != ids[3] && tryClaim(t, store, newcomer) {
			t.Error("a newcomer passed those in line")
		}
		if !tryClaim(t, store, want) {
			t.Error("the released one cannot pass")
		}
	}
}

func TestAGateLetsNoTwoPassAtOnce(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	setRateLimit(t, store, time.Hour)
	var ids []uuid.UUID
	for range 20 {
		ids = append(ids, accept(t, store, owner).ID)
	}
	if _, err := store.DB().Exec(`UPDATE messages SET backlog_state = 'released' WHERE status = 'queued'`); err != nil {
		t.Fatal(err)
	}
	var passed sync.Map
	var group sync.WaitGroup
	for _, id := range ids {
		group.Go(func() {
			if _, ok, err := store.Claim(t.Context(), id, token(), lease); err != nil {
				t.Error(err)
			} else if ok {
				passed.Store(id, true)
			}
		})
	}
	group.Wait()
	n := 0
	passed.Range(func(any, any) bool { n++; return true })
	if n != 1 {
		t.Errorf("%d messages passed the gate at once, want 1", n)
	}
}

func TestPlaceInLine(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	setRateLimit(t, store, 4*time.Second)
	first, second := accept(t, store, owner).ID, accept(t, store, owner).ID
	for _, id := range []uuid.UUID{first, second} {
		if err := store.AddToBacklog(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	place, ok, err := store.QueuePosition(t.Context(), owner, second)
	if err != nil || !ok || place.Ahead != 1 || place.Wait < 4*time.Second || place.Wait > 5*time.Second {
		t.Errorf("Place() = %+v, %v, %v, want 1 ahead and 4 s", place, ok, err)
	}
	if _, ok, err := store.QueuePosition(t.Context(), uuid.New(), second); err != nil || ok {
		t.Errorf("a stranger sees the place: %v, %v", ok, err)
	}
	if _, err := store.DB().Exec(`INSERT INTO pauses (cause, detail, probe_at) VALUES ('plivo_credit', '', now())`); err != nil {
		t.Fatal(err)
	}
	if place, ok, err := store.QueuePosition(t.Context(), owner, second); err != nil || !ok || place.Paused != mms.ReasonCredit {
		t.Errorf("Place() during a pause = %+v, %v, %v", place, ok, err)
	}
}

// TestALongLineIsNotCountedToItsEnd: what looking costs must not grow with the line.
func TestALongLineIsNotCountedToItsEnd(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	setRateLimit(t, store, 4*time.Second)
	first := accept(t, store, owner)
	// Twice as many messages are final, and come first in the table.
	tx, err := store.DB().Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.Exec(`SET LOCAL statement_timeout = 0`); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(`
		INSERT INTO messages (id, user_id, sender, recipient, text, status, backlog_state, next_attempt_at, task_check_at, expires_at, plivo_uuid, final_at)
		SELECT lpad(to_hex(i), 32, '0')::uuid, user_id, sender, '+1416' || (2000000 + i), '', CASE WHEN waits THEN 'queued' ELSE 'delivered' END,
			CASE WHEN waits THEN 'waiting' END, CASE WHEN waits THEN now() END, CASE WHEN waits THEN 'infinity'::timestamptz END, expires_at,
			CASE WHEN NOT waits THEN i::text END, CASE WHEN NOT waits THEN now() END
		FROM messages, generate_series(1, $1::int) AS i, LATERAL (SELECT i > $1::int * 2.0 / 3 AS waits) w`, 80_000); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := store.AddToBacklog(t.Context(), first.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := store.DB().Exec(`UPDATE rate_limits SET next_arrival_at = now()`); err != nil {
		t.Fatal(err)
	}
	least := mms.MaxCounted * 4 * time.Second
	place, ok, err := store.QueuePosition(t.Context(), owner, first.ID)
	if err != nil || !ok || place.Ahead != mms.MaxCounted || place.Wait < least {
		t.Errorf("Place() = %+v, %v, %v, want %d ahead", place, ok, err, mms.MaxCounted)
	}
	if f, err := store.Forecast(t.Context(), first); err != nil || f.Ahead != mms.MaxCounted {
		t.Errorf("Forecast() = %d ahead, %v", f.Ahead, err)
	}
	if _, err := store.DB().Exec(`ANALYZE`); err != nil {
		t.Fatal(err)
	}
	if pages := touched(t, store, postgres.ReleaseStatement, 0.3); pages > 60 {
		t.Errorf("releasing touches %d pages", pages)
	}
	if _, err := store.DB().Exec(`INSERT INTO pauses (cause, detail, probe_at) VALUES ('plivo_credit', '', now())`); err != nil {
		t.Fatal(err)
	}
	if pages := touched(t, store, postgres.ProbeStatement); pages > 1000 {
		t.Errorf("probing touches %d pages", pages)
	}
}

// touched carries a statement out, takes it back, and says how many pages it looked at.
func touched(t *testing.T, store *postgres.Store, query string, args ...any) int {
	t.Helper()
	tx, err := store.DB().Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	var text []byte
	if err := tx.QueryRow(`EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) `+query, args...).Scan(&text); err != nil {
		t.Fatal(err)
	}
	var plans []struct {
		Plan struct {
			Hit  int `json:"Shared Hit Blocks"`
			Read int `json:"Shared Read Blocks"`
		}
	}
	if err := json.Unmarshal(text, &plans); err != nil {
		t.Fatal(err)
	}
	return plans[0].Plan.Hit + plans[0].Plan.Read
}

func TestTwoMessagesBetweenTheSameNumbersGoOneAfterTheOther(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	first, second := acceptFor(t, store, owner, "+14155559999"), acceptFor(t, store, owner, "+14155559999")
	c, _ := claim(t, store, first.ID)
	if _, ok, err := store.Claim(t.Context(), second.ID, token(), lease); err != nil || ok {
		t.Errorf("Claim() of the second = %v, %v, want false", ok, err)
	}
	if o, err := store.ClaimBlocker(t.Context(), second.ID); err != nil || !o.PairInFlight {
		t.Errorf("Obstacle() = %+v, %v, want the pair busy", o, err)
	}
	if _, err := store.RecordInDoubt(t.Context(), c.AttemptRef, mms.Verdict{Outcome: mms.Unknown}); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := store.Claim(t.Context(), second.ID, token(), lease); err != nil || ok {
		t.Errorf("Claim() beside a doubt = %v, %v, want false", ok, err)
	}
	if _, err := store.Hold(t.Context(), c.AttemptRef, mms.ReasonAmbiguous); err != nil {
		t.Fatal(err)
	}
	claim(t, store, second.ID) // what a person has to decide holds up nobody
}

func TestOnePauseStopsAllAndOneProbeShowsItsEnd(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	earlier, broke, other := accept(t, store, owner), accept(t, store, owner), accept(t, store, owner)
	before, _ := claim(t, store, earlier.ID)
	c, _ := claim(t, store, broke.ID)
	trouble := mms.Verdict{Outcome: mms.AccountError, Reason: mms.ReasonCredentials, HTTPStatus: 401, Detail: "no"}
	if ok, err := store.RecordAccountError(t.Context(), c.AttemptRef, trouble); err != nil || !ok {
		t.Fatal(ok, err)
	}
	pauses, err := store.Pauses(t.Context())
	if err != nil || len(pauses) != 1 || pauses[0].Cause != mms.ReasonCredentials || pauses[0].Detail != "no" {
		t.Errorf("Paused() = %+v, %v", pauses, err)
	}
	if tryClaim(t, store, other.ID) {
		t.Error("a message was claimed during a pause")
	}
	wantIDs(t, "released during a pause", release(t, store))
	if tasks, err := store.Probe(t.Context()); err != nil || len(tasks) != 0 {
		t.Errorf("Probe() before its time = %v, %v", tasks, err)
	}
	if _, err := store.DB().Exec(`UPDATE pauses SET probe_at = now()`); err != nil {
		t.Fatal(err)
	}
	tasks, err := store.Probe(t.Context())
	if err != nil || len(tasks) != 1 || tasks[0].MessageID != other.ID {
		t.Fatalf("Probe() = %v, %v, want the one that was not tried yet", tasks, err)
	}
	if tasks, err := store.Probe(t.Context()); err != nil || len(tasks) != 0 {
		t.Errorf("Probe() again = %v, %v, want none yet", tasks, err)
	}
	if got, err := store.RecordSubmitted(t.Context(), before.AttemptRef, mms.Verdict{PlivoUUID: "u-0", HTTPStatus: 202}, mms.EventSubmitted); err != nil || got != mms.Adopted {
		t.Fatal(got, err)
	}
	if pauses, err := store.Pauses(t.Context()); err != nil || len(pauses) != 1 {
		t.Errorf("Paused() after the answer to a call from before the pause = %+v, %v, want it to last", pauses, err)
	}
	c, _ = claim(t, store, other.ID)
	if _, err := adopt(t.Context(), store, c.AttemptRef, "u-1"); err != nil {
		t.Fatal(err)
	}
	if pauses, err := store.Pauses(t.Context()); err != nil || len(pauses) != 0 {
		t.Errorf("Paused() after an acceptance = %+v, %v, want none", pauses, err)
	}
	wantIDs(t, "released after the pause", release(t, store), broke.ID)
	c, _ = claim(t, store, broke.ID)
	if c.OwnAccountErrors != 1 {
		t.Errorf("claim = %+v, want one trouble that others did not have", c)
	}
}

// TestAPauseEndsAlsoWhenTheReportIsQuicker has Plivo report on a message before its
// answer to the worker is recorded.
func TestAPauseEndsAlsoWhenTheReportIsQuicker(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	broke, probed := accept(t, store, owner), accept(t, store, owner)
	c, _ := claim(t, store, broke.ID)
	if ok, err := store.RecordAccountError(t.Context(), c.AttemptRef, mms.Verdict{Outcome: mms.AccountError, Reason: mms.ReasonCredentials, HTTPStatus: 401}); err != nil || !ok {
		t.Fatal(ok, err)
	}
	if tryClaim(t, store, probed.ID) {
		t.Error("a message was claimed during a pause")
	}
	if _, err := store.DB().Exec(`UPDATE pauses SET probe_at = now()`); err != nil {
		t.Fatal(err)
	}
	if tasks, err := store.Probe(t.Context()); err != nil || len(tasks) != 1 || tasks[0].MessageID != probed.ID {
		t.Fatalf("Probe() = %v, %v", tasks, err)
	}
	c, _ = claim(t, store, probed.ID)
	if got, err := store.RecordSubmitted(t.Context(), c.AttemptRef, mms.Verdict{PlivoUUID: "u-1"}, mms.EventReport); err != nil || got != mms.Adopted {
		t.Fatal(got, err)
	}
	if got, err := store.RecordSubmitted(t.Context(), c.AttemptRef, mms.Verdict{PlivoUUID: "u-1", HTTPStatus: 202}, mms.EventSubmitted); err != nil || got != mms.AlreadyKnown {
		t.Fatal(got, err)
	}
	if pauses, err := store.Pauses(t.Context()); err != nil || len(pauses) != 0 {
		t.Errorf("Paused() after an acceptance = %+v, %v, want none", pauses, err)
	}
}

func TestAPersonEndsAPause(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	c, _ := claim(t, store, accept(t, store, owner).ID)
	if _, err := store.RecordAccountError(t.Context(), c.AttemptRef, mms.Verdict{Outcome: mms.AccountError, Reason: mms.ReasonCredit}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []bool{true, false} {
		if ended, err := store.Resume(t.Context(), mms.ReasonCredit); err != nil || ended != want {
			t.Errorf("Resume() = %v, %v, want %v", ended, err, want)
		}
	}
}

func TestWhatIsTooLateFails(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	late, inTime := accept(t, store, owner), accept(t, store, owner)
	if _, err := store.DB().Exec(`UPDATE messages SET expires_at = now() WHERE id = $1`, late.ID); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := store.Claim(t.Context(), late.ID, token(), lease); err != nil || ok {
		t.Errorf("Claim() of a late message = %v, %v, want false", ok, err)
	}
	if o, err := store.ClaimBlocker(t.Context(), late.ID); err != nil || !o.Expired {
		t.Errorf("Obstacle() = %+v, %v, want expired", o, err)
	}
	if n, err := store.ExpireQueued(t.Context(), 10); err != nil || n != 1 {
		t.Errorf("Expire() = %d, %v, want 1", n, err)
	}
	h := read(t, store, late)
	wantStory(t, h, mms.Failed, "created>queued expired>failed")
	if !strings.Contains(h.Explain(), "too late") {
		t.Errorf("the explanation is %q", h.Explain())
	}
	claim(t, store, inTime.ID)
}

func TestAMendedPaceOpensTheGate(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	if err := store.SetRateLimit(t.Context(), "+14155550100", 1000*time.Hour); err != nil {
		t.Fatal(err)
	}
	claim(t, store, accept(t, store, owner).ID)
	next := accept(t, store, owner)
	if tryClaim(t, store, next.ID) {
		t.Fatal("the gate was open")
	}
	if err := store.SetRateLimit(t.Context(), "+14155550100", time.Millisecond); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the gate lets the next one through", func() bool {
		release(t, store)
		return tryClaim(t, store, next.ID)
	})
}

// TestALockedMessageHoldsUpNoLine has somebody lock the first in line.
func TestALockedMessageHoldsUpNoLine(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	setRateLimit(t, store, 50*time.Millisecond)
	first, second := accept(t, store, owner), accept(t, store, owner)
	for _, m := range []mms.Message{first, second} {
		if err := store.AddToBacklog(t.Context(), m.ID); err != nil {
			t.Fatal(err)
		}
	}
	openGates(t, store)
	tx, err := store.DB().Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.Exec(`SELECT FROM messages WHERE id = $1 FOR UPDATE`, first.ID); err != nil {
		t.Fatal(err)
	}
	tasks, err := store.Release(t.Context(), 50*time.Millisecond)
	if err != nil || len(tasks) != 1 || tasks[0].MessageID != second.ID {
		t.Errorf("let out of the line: %+v, %v; want the second", tasks, err)
	}
}
