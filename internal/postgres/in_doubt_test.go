package postgres_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/postgres"
	"github.com/postcard-mms/postcard/internal/testkit"
)

// doubt creates a message in doubt whose next check is due.
func doubt(t *testing.T, store *postgres.Store, workspace uuid.UUID) (mms.Message, mms.AttemptRef, string) {
	t.Helper()
	m := create(t, store, workspace)
	c, secret := claim(t, store, m.ID)
	if ok, err := store.RecordInDoubt(t.Context(), c.AttemptRef, mms.Verdict{Outcome: mms.Unknown, Reason: mms.ReasonNoResponse}); err != nil || !ok {
		t.Fatal(ok, err)
	}
	if _, err := store.DB().Exec(`UPDATE attempts SET next_check_at = now() WHERE message_id = $1`, m.ID); err != nil {
		t.Fatal(err)
	}
	return m, c.AttemptRef, secret
}

const beforeDoubt = "created>queued attempt_started>sending in_doubt>in_doubt "

// dueDoubts returns the attempts in doubt that are due for a check.
func dueDoubts(t *testing.T, store *postgres.Store) ([]mms.Doubt, error) {
	t.Helper()
	doubts, err := store.InDoubt(t.Context(), 10)
	return slices.DeleteFunc(doubts, func(d mms.Doubt) bool { return !d.Due }), err
}

func TestDoubtIsCheckedWhenDue(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	m, ref, _ := doubt(t, store, workspace)
	doubts, err := dueDoubts(t, store)
	if err != nil || len(doubts) != 1 {
		t.Fatalf("got due doubts %+v, %v, want 1", doubts, err)
	}
	d := doubts[0]
	if d.AttemptRef != ref || d.Sender != m.Sender || d.Recipient != m.Recipient || d.FinishedAt.Before(d.StartedAt) || d.Age > time.Minute || d.PairAmbiguous {
		t.Errorf("got doubt %+v of message %+v", d, m)
	}
	if err := store.ScheduleChecks(t.Context(), []mms.AttemptRef{ref}, time.Minute, "nothing yet"); err != nil {
		t.Fatal(err)
	}
	if doubts, err := dueDoubts(t, store); err != nil || len(doubts) != 0 {
		t.Errorf("after a check: got due doubts %+v, %v, want none", doubts, err)
	}
	if err := store.ScheduleChecks(t.Context(), []mms.AttemptRef{ref}, 0, ""); err != nil {
		t.Fatal(err)
	}
	if doubts, err := dueDoubts(t, store); err != nil || len(doubts) != 1 {
		t.Errorf("after a check without a wait: got due doubts %+v, %v, want 1", doubts, err)
	}
	wantEvents(t, read(t, store, m), mms.InDoubt, beforeDoubt+"evidence_searched>in_doubt")
	if n, err := store.AttemptsBetween(t.Context(), d.StartedAt, d.StartedAt); err != nil || n != 1 {
		t.Errorf("AttemptsBetween: got %d, %v, want 1", n, err)
	}
	if n, err := store.AttemptsBetween(t.Context(), d.StartedAt.Add(time.Second), d.StartedAt.Add(time.Hour)); err != nil || n != 0 {
		t.Errorf("AttemptsBetween of later times: got %d, %v, want 0", n, err)
	}
}

func TestResolvingADoubt(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		resolve func(*postgres.Store, mms.AttemptRef) (bool, error)
		status  mms.Status
		events  string
	}{
		"found queued": {func(s *postgres.Store, ref mms.AttemptRef) (bool, error) {
			result, err := s.AdoptListed(t.Context(), ref, mms.Listed{PlivoUUID: "u-1", State: "queued"})
			return result == mms.Adopted, err
		}, mms.Submitted, "evidence_found>submitted"},
		"found delivered": {func(s *postgres.Store, ref mms.AttemptRef) (bool, error) {
			result, err := s.AdoptListed(t.Context(), ref, mms.Listed{PlivoUUID: "u-1", State: "delivered"})
			return result == mms.Adopted, err
		}, mms.Delivered, "evidence_found>submitted status_polled>delivered"},
		"not found": {func(s *postgres.Store, ref mms.AttemptRef) (bool, error) {
			return s.RetryInDoubt(t.Context(), ref)
		}, mms.Queued, "no_evidence>queued"},
		"held": {func(s *postgres.Store, ref mms.AttemptRef) (bool, error) {
			return s.Hold(t.Context(), ref, mms.ReasonAmbiguous)
		}, mms.InDoubt, "held>in_doubt"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, workspace := newStore(t)
			m, ref, _ := doubt(t, store, workspace)
			if ok, err := tt.resolve(store, ref); err != nil || !ok {
				t.Fatalf("got %t, %v, want true", ok, err)
			}
			wantEvents(t, read(t, store, m), tt.status, beforeDoubt+tt.events)
			if doubts, err := dueDoubts(t, store); err != nil || len(doubts) != 0 {
				t.Errorf("got due doubts %+v, %v, want none", doubts, err)
			}
			if ok, err := tt.resolve(store, ref); err != nil || ok {
				t.Errorf("second time: got %t, %v, want false", ok, err)
			}
		})
	}
}

func TestLateEvidencePreventsAResend(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	m, ref, _ := doubt(t, store, workspace)
	if _, err := store.RetryInDoubt(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	if ok, err := adopt(t.Context(), store, ref, "u-1"); err != nil || !ok {
		t.Errorf("RecordSubmitted: got %t, %v, want true", ok, err)
	}
	wantEvents(t, read(t, store, m), mms.Submitted, beforeDoubt+"no_evidence>queued submitted>submitted")
}

// TestProofMovesMessageToSubmittedFromAnyStatus requeues a message in doubt, moves it
// on, and then records proof of its first attempt.
func TestProofMovesMessageToSubmittedFromAnyStatus(t *testing.T) {
	t.Parallel()
	const requeued = beforeDoubt + "no_evidence>queued "
	tests := map[string]struct {
		change func(*testing.T, *postgres.Store, mms.Message)
		status mms.Status // after the proof
		events string
	}{
		"queued": {func(*testing.T, *postgres.Store, mms.Message) {}, mms.Submitted, requeued + "submitted>submitted"},
		"next attempt in flight": {func(t *testing.T, s *postgres.Store, m mms.Message) {
			claim(t, s, m.ID)
		}, mms.Submitted, requeued + "attempt_started>sending submitted>submitted"},
		"next attempt failed transiently": {func(t *testing.T, s *postgres.Store, m mms.Message) {
			c, _ := claim(t, s, m.ID)
			if _, err := s.RecordTransientFailure(t.Context(), c.AttemptRef, mms.Verdict{Outcome: mms.TransientFailure}, mms.Transition{}); err != nil {
				t.Fatal(err)
			}
		}, mms.Submitted, requeued + "attempt_started>sending transient_failure>queued submitted>submitted"},
		"next attempt in doubt": {func(t *testing.T, s *postgres.Store, m mms.Message) {
			c, _ := claim(t, s, m.ID)
			if _, err := s.RecordInDoubt(t.Context(), c.AttemptRef, mms.Verdict{Outcome: mms.Unknown}); err != nil {
				t.Fatal(err)
			}
		}, mms.Submitted, requeued + "attempt_started>sending in_doubt>in_doubt submitted>submitted"},
		"next attempt failed permanently": {func(t *testing.T, s *postgres.Store, m mms.Message) {
			c, _ := claim(t, s, m.ID)
			if _, err := s.RecordPermanentFailure(t.Context(), c.AttemptRef, mms.Verdict{Outcome: mms.PermanentFailure}, mms.ReasonRejected); err != nil {
				t.Fatal(err)
			}
		}, mms.Submitted, requeued + "attempt_started>sending permanent_failure>failed submitted>submitted"},
		"next attempt accepted": {func(t *testing.T, s *postgres.Store, m mms.Message) {
			c, _ := claim(t, s, m.ID)
			if _, err := adopt(t.Context(), s, c.AttemptRef, "u-2"); err != nil {
				t.Fatal(err)
			}
		}, mms.Submitted, requeued + "attempt_started>sending submitted>submitted duplicate>submitted"},
		"expired": {func(t *testing.T, s *postgres.Store, m mms.Message) {
			if _, err := s.DB().Exec(`UPDATE messages SET expires_at = now() WHERE id = $1`, m.ID); err != nil {
				t.Fatal(err)
			}
			if _, err := s.ExpireQueued(t.Context(), 10); err != nil {
				t.Fatal(err)
			}
		}, mms.Submitted, requeued + "expired>failed submitted>submitted"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, workspace := newStore(t)
			m, first, _ := doubt(t, store, workspace)
			if _, err := store.RetryInDoubt(t.Context(), first); err != nil {
				t.Fatal(err)
			}
			tt.change(t, store, m)
			for _, want := range []mms.SubmitResult{wantResult(tt.events), mms.AlreadyKnown} {
				got, err := store.RecordSubmitted(t.Context(), first, mms.Verdict{PlivoUUID: "u-1"}, mms.EventSubmitted)
				if err != nil || got != want {
					t.Errorf("RecordSubmitted: got %v, %v, want %v", got, err, want)
				}
			}
			h := read(t, store, m)
			wantEvents(t, h, tt.status, tt.events)
			if h.FinalAt != nil || h.Held || h.NextAttemptAt != nil {
				t.Errorf("got %+v, want a submitted message that is neither held nor final", h.Message)
			}
			if _, claimed, err := store.Claim(t.Context(), m.ID, token(), time.Minute); err != nil || claimed {
				t.Errorf("Claim of a submitted message: got %t, %v, want false", claimed, err)
			}
		})
	}
}

// TestLateResponseIsRecordedWithItsAttempt commits a delivery report while the response
// waits for the message's lock.
func TestLateResponseIsRecordedWithItsAttempt(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	m := create(t, store, workspace)
	c, _ := claim(t, store, m.ID)
	tx, err := store.DB().Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	for _, report := range []string{
		`SELECT FROM messages WHERE id = $1 FOR UPDATE`,
		`UPDATE attempts SET outcome = 'accepted', plivo_uuid = 'u-1', finished_at = now() WHERE message_id = $1`,
		`UPDATE messages SET status = 'submitted', plivo_uuid = 'u-1', poll_base_at = now() WHERE id = $1`,
	} {
		if _, err := tx.Exec(report, m.ID); err != nil {
			t.Fatal(err)
		}
	}
	recorded := make(chan error, 1)
	go func() {
		got, err := store.RecordSubmitted(t.Context(), c.AttemptRef, mms.Verdict{PlivoUUID: "u-1", HTTPStatus: 202, APIID: "api-1"}, mms.EventSubmitted)
		if got != mms.AlreadyKnown {
			err = fmt.Errorf("RecordSubmitted: got %v, want AlreadyKnown: %w", got, err)
		}
		recorded <- err
	}()
	testkit.Eventually(t, "the response waits for the report", func() bool {
		return count(t, store, `SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`) == 1
	})
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := <-recorded; err != nil {
		t.Fatal(err)
	}
	if a := read(t, store, m).AttemptList[0]; a.HTTPStatus != 202 {
		t.Errorf("got HTTP status %d, want 202", a.HTTPStatus)
	}
	if n := count(t, store, `SELECT count(*) FROM attempts WHERE api_id = 'api-1'`); n != 1 {
		t.Error("got no attempt with the API id, want one")
	}
}

func wantResult(events string) mms.SubmitResult {
	if strings.Contains(events, "duplicate") {
		return mms.Duplicate
	}
	return mms.Adopted
}

// TestAttemptIsClosedAfterProofOfAnother records proof of the first attempt while the
// second is in flight.
func TestAttemptIsClosedAfterProofOfAnother(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*postgres.Store, mms.AttemptRef) error{
		"failed": func(s *postgres.Store, ref mms.AttemptRef) error {
			ok, err := s.RecordPermanentFailure(t.Context(), ref, mms.Verdict{Outcome: mms.PermanentFailure, Reason: mms.ReasonRejected}, mms.ReasonRejected)
			if ok {
				return errors.New("RecordPermanentFailure: got true for a submitted message, want false")
			}
			return err
		},
		"worker lost": func(s *postgres.Store, ref mms.AttemptRef) error {
			if _, err := s.DB().Exec(`UPDATE attempts SET lease_until = now() WHERE ordinal = 2`); err != nil {
				return err
			}
			n, err := s.ReapLeases(t.Context(), 10)
			if n != 0 {
				return fmt.Errorf("ReapLeases: got %d, want 0", n)
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, workspace := newStore(t)
			m, first, _ := doubt(t, store, workspace)
			if _, err := store.RetryInDoubt(t.Context(), first); err != nil {
				t.Fatal(err)
			}
			second, _ := claim(t, store, m.ID)
			if _, err := adopt(t.Context(), store, first, "u-1"); err != nil {
				t.Fatal(err)
			}
			if err := end(store, second.AttemptRef); err != nil {
				t.Error(err)
			}
			h := read(t, store, m)
			if h.Status != mms.Submitted || h.AttemptList[1].FinishedAt == nil || h.AttemptList[1].Outcome == "" {
				t.Errorf("got message %s, second attempt %+v, want it submitted and the attempt finished", h.Status, h.AttemptList[1])
			}
		})
	}
}

func TestPlivoUUIDProvesOneAttempt(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	_, first, _ := doubt(t, store, workspace)
	_, other, _ := doubt(t, store, workspace)
	if ok, err := adopt(t.Context(), store, first, "u-1"); err != nil || !ok {
		t.Fatalf("got %t, %v, want true", ok, err)
	}
	got, err := store.RecordSubmitted(t.Context(), other, mms.Verdict{PlivoUUID: "u-1"}, mms.EventEvidenceFound)
	if err != nil || got != mms.AlreadyKnown {
		t.Errorf("same UUID for another attempt: got %v, %v, want AlreadyKnown", got, err)
	}
}

func TestDecisions(t *testing.T) {
	t.Parallel()
	for decision, want := range map[mms.Decision]mms.Status{mms.DecideSent: mms.Sent, mms.DecideRetry: mms.Queued, mms.DecideGiveUp: mms.Failed} {
		t.Run(string(decision), func(t *testing.T) {
			t.Parallel()
			store, workspace := newStore(t)
			m, ref, _ := doubt(t, store, workspace)
			if err := store.Decide(t.Context(), workspace, m.ID, decision); !errors.Is(err, mms.ErrNotHeld) {
				t.Errorf("message that is not held: got error %v, want ErrNotHeld", err)
			}
			if _, err := store.Hold(t.Context(), ref, mms.ReasonAmbiguous); err != nil {
				t.Fatal(err)
			}
			if err := store.Decide(t.Context(), addUser(t, store, "eve@example.com"), m.ID, decision); !errors.Is(err, mms.ErrNotFound) {
				t.Errorf("other user: got error %v, want ErrNotFound", err)
			}
			var decided atomic.Int32
			var group sync.WaitGroup
			for range 5 {
				group.Go(func() {
					switch err := store.Decide(t.Context(), workspace, m.ID, decision); {
					case err == nil:
						decided.Add(1)
					case !errors.Is(err, mms.ErrNotHeld):
						t.Error(err)
					}
				})
			}
			group.Wait()
			if decided.Load() != 1 {
				t.Errorf("got %d decisions applied, want 1", decided.Load())
			}
			wantEvents(t, read(t, store, m), want, beforeDoubt+"held>in_doubt decided>"+string(want))
		})
	}
}

func TestHeldMessageMakesItsPairAmbiguous(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	first, second := createFor(t, store, workspace, "+14155559998"), createFor(t, store, workspace, "+14155559998")
	for i, m := range []mms.Message{first, second} {
		c, _ := claim(t, store, m.ID)
		if _, err := store.RecordInDoubt(t.Context(), c.AttemptRef, mms.Verdict{Outcome: mms.Unknown}); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			if _, err := store.Hold(t.Context(), c.AttemptRef, mms.ReasonAmbiguous); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := store.DB().Exec(`UPDATE attempts SET next_check_at = now() WHERE message_id = $1`, second.ID); err != nil {
		t.Fatal(err)
	}
	if doubts, err := dueDoubts(t, store); err != nil || len(doubts) != 1 || !doubts[0].PairAmbiguous {
		t.Errorf("got due doubts %+v, %v, want one with an ambiguous pair", doubts, err)
	}
}

// TestConcurrentEvidenceDoesNotDeadlock records the worker's outcome, a delivery report,
// a check and a renewed lease of one attempt concurrently. None may fail because of
// another: Plivo repeats a callback only after a minute.
func TestConcurrentEvidenceDoesNotDeadlock(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	for round := range 40 {
		m := create(t, store, workspace)
		c, secret := claim(t, store, m.ID)
		uuid := fmt.Sprintf("u-%d", round)
		calls := []func() error{
			func() error {
				_, err := store.RecordInDoubt(t.Context(), c.AttemptRef, mms.Verdict{Outcome: mms.Unknown, Reason: mms.ReasonNoResponse})
				return err
			},
			func() error { _, err := adopt(t.Context(), store, c.AttemptRef, uuid); return err },
			func() error { _, err := adopt(t.Context(), store, c.AttemptRef, uuid); return err },
			func() error {
				return store.ScheduleChecks(t.Context(), []mms.AttemptRef{c.AttemptRef}, 0, "nothing found")
			},
			func() error {
				_, err := store.RecordTransientFailure(t.Context(), c.AttemptRef, mms.Verdict{Outcome: mms.TransientFailure}, mms.Transition{})
				return err
			},
			func() error {
				_, err := store.ApplyReport(t.Context(), c.AttemptRef, mms.Report{PlivoUUID: uuid, State: "sent"}, mms.EventReport)
				return err
			},
			func() error { _, err := store.RenewLeases(t.Context(), []string{secret}, time.Minute); return err },
		}
		var group sync.WaitGroup
		for _, call := range calls {
			group.Go(func() {
				if err := call(); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		if h := read(t, store, m); h.PlivoUUID != uuid || h.Version != int64(len(h.Events)) {
			t.Errorf("got %s with UUID %q and version %d after %d events, want UUID %q and equal numbers", h.Status, h.PlivoUUID, h.Version, len(h.Events), uuid)
		}
	}
}

// TestDecidedMessageMakesItsPairAmbiguous has a person decide a doubt without evidence: a
// message that Plivo lists for the pair may still be that one.
func TestDecidedMessageMakesItsPairAmbiguous(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	first, second := createFor(t, store, workspace, "+14155559995"), createFor(t, store, workspace, "+14155559995")
	c, _ := claim(t, store, first.ID)
	if _, err := store.RecordInDoubt(t.Context(), c.AttemptRef, mms.Verdict{Outcome: mms.Unknown}); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Hold(t.Context(), c.AttemptRef, mms.ReasonNotFound); err != nil {
		t.Fatal(err)
	}
	if err := store.Decide(t.Context(), workspace, first.ID, mms.DecideSent); err != nil {
		t.Fatal(err)
	}
	if h := read(t, store, first); !h.Final() {
		t.Error("got a decided message that is not final, want it final")
	}
	c, _ = claim(t, store, second.ID)
	if _, err := store.RecordInDoubt(t.Context(), c.AttemptRef, mms.Verdict{Outcome: mms.Unknown}); err != nil {
		t.Fatal(err)
	}
	if doubts, err := store.InDoubt(t.Context(), 10); err != nil || len(doubts) != 1 || !doubts[0].PairAmbiguous {
		t.Errorf("got doubts %+v, %v, want one with an ambiguous pair", doubts, err)
	}
}

func TestKnownUUIDs(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	_, ref, _ := doubt(t, store, workspace)
	if _, err := adopt(t.Context(), store, ref, "u-1"); err != nil {
		t.Fatal(err)
	}
	known, err := store.KnownUUIDs(t.Context(), []string{"u-1", "u-2"})
	if diff := cmp.Diff([]string{"u-1"}, known); diff != "" || err != nil {
		t.Errorf("known UUIDs (-want +got):\n%s%v", diff, err)
	}
}

// supersededDoubt creates a message whose attempt is in doubt and which was queued again
// because of silence.
func supersededDoubt(t *testing.T, store *postgres.Store, workspace uuid.UUID) (mms.Message, mms.AttemptRef) {
	t.Helper()
	m, ref, _ := doubt(t, store, workspace)
	if _, err := store.RetryInDoubt(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{
		`UPDATE attempts SET next_check_at = now() WHERE message_id = $1`,
		`INSERT INTO silence_retries (message_id, ordinal) VALUES ($1, 1)`,
	} {
		if _, err := store.DB().Exec(statement, m.ID); err != nil {
			t.Fatal(err)
		}
	}
	return m, ref
}

// TestSupersededAttemptStaysInDoubt follows an attempt in doubt whose message was queued
// again because of silence, through the message's later statuses.
func TestSupersededAttemptStaysInDoubt(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(*testing.T, *postgres.Store, mms.Message)
		result mms.SubmitResult // of adopting a listed message for the superseded attempt
	}{
		"queued": {func(*testing.T, *postgres.Store, mms.Message) {}, mms.Adopted},
		"next attempt in doubt": {func(t *testing.T, s *postgres.Store, m mms.Message) {
			c, _ := claim(t, s, m.ID)
			if _, err := s.RecordInDoubt(t.Context(), c.AttemptRef, mms.Verdict{Outcome: mms.Unknown}); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Hold(t.Context(), c.AttemptRef, mms.ReasonAmbiguous); err != nil {
				t.Fatal(err)
			}
		}, mms.Adopted},
		"next attempt accepted": {func(t *testing.T, s *postgres.Store, m mms.Message) {
			c, _ := claim(t, s, m.ID)
			if _, err := adopt(t.Context(), s, c.AttemptRef, "u-2"); err != nil {
				t.Fatal(err)
			}
		}, mms.Duplicate},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, workspace := newStore(t)
			m, ref := supersededDoubt(t, store, workspace)
			tt.change(t, store, m)
			doubts, err := store.InDoubt(t.Context(), 10)
			if err != nil || len(doubts) != 1 || doubts[0].AttemptRef != ref || !doubts[0].Superseded() || doubts[0].PairAmbiguous {
				t.Fatalf("got doubts %+v, %v, want the superseded attempt", doubts, err)
			}
			if got, err := store.AdoptListed(t.Context(), ref, mms.Listed{PlivoUUID: "u-1", State: "sent"}); err != nil || got != tt.result {
				t.Errorf("AdoptListed: got %v, %v, want %v", got, err, tt.result)
			}
			if doubts, err := store.InDoubt(t.Context(), 10); err != nil || len(doubts) != 0 {
				t.Errorf("after AdoptListed: got doubts %+v, %v, want none", doubts, err)
			}
		})
	}
}

func TestStopChecking(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	m, ref := supersededDoubt(t, store, workspace)
	before := read(t, store, m)
	if err := store.StopChecking(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	if doubts, err := store.InDoubt(t.Context(), 10); err != nil || len(doubts) != 0 {
		t.Errorf("got doubts %+v, %v, want none", doubts, err)
	}
	if after := read(t, store, m); after.Version != before.Version || after.Status != mms.Queued {
		t.Errorf("got version %d and status %s, want %d and queued", after.Version, after.Status, before.Version)
	}
}
