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

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/postgres"
	"github.com/postcard-mms/postcard/internal/testkit"
)

// doubt puts a new message in doubt and lets the time for a look come.
func doubt(t *testing.T, store *postgres.Store, owner uuid.UUID) (mms.Message, mms.AttemptRef, string) {
	t.Helper()
	m := accept(t, store, owner)
	c, secret := claim(t, store, m.ID)
	if ok, err := store.RecordInDoubt(t.Context(), c.AttemptRef, mms.Verdict{Outcome: mms.Unknown, Reason: mms.ReasonNoResponse}); err != nil || !ok {
		t.Fatal(ok, err)
	}
	if _, err := store.DB().Exec(`UPDATE attempts SET next_check_at = now() WHERE message_id = $1`, m.ID); err != nil {
		t.Fatal(err)
	}
	return m, c.AttemptRef, secret
}

const doubtful = "created>queued attempt_started>sending in_doubt>in_doubt "

// dueDoubts are those whose time for a look has come.
func dueDoubts(t *testing.T, store *postgres.Store) ([]mms.Doubt, error) {
	t.Helper()
	doubts, err := store.InDoubt(t.Context(), 10)
	return slices.DeleteFunc(doubts, func(d mms.Doubt) bool { return !d.Due }), err
}

func TestADoubtComesUpWhenItIsDue(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	m, ref, _ := doubt(t, store, owner)
	doubts, err := dueDoubts(t, store)
	if err != nil || len(doubts) != 1 {
		t.Fatalf("OpenDoubts() = %+v, %v, want 1", doubts, err)
	}
	d := doubts[0]
	if d.AttemptRef != ref || d.Sender != m.Sender || d.Recipient != m.Recipient || d.FinishedAt.Before(d.StartedAt) || d.Age > time.Minute || d.PairAmbiguous {
		t.Errorf("doubt = %+v", d)
	}
	if err := store.ScheduleCheck(t.Context(), ref, time.Minute, "nothing yet"); err != nil {
		t.Fatal(err)
	}
	if doubts, err := dueDoubts(t, store); err != nil || len(doubts) != 0 {
		t.Errorf("OpenDoubts() after a look = %+v, %v, want none", doubts, err)
	}
	if err := store.ScheduleCheck(t.Context(), ref, 0, ""); err != nil {
		t.Fatal(err)
	}
	if doubts, err := dueDoubts(t, store); err != nil || len(doubts) != 1 {
		t.Errorf("OpenDoubts() after LookLater() = %+v, %v, want 1", doubts, err)
	}
	wantStory(t, read(t, store, m), mms.InDoubt, doubtful+"evidence_searched>in_doubt")
	if n, err := store.AttemptsBetween(t.Context(), d.StartedAt, d.StartedAt); err != nil || n != 1 {
		t.Errorf("AttemptsBetween() = %d, %v, want 1", n, err)
	}
	if n, err := store.AttemptsBetween(t.Context(), d.StartedAt.Add(time.Second), d.StartedAt.Add(time.Hour)); err != nil || n != 0 {
		t.Errorf("AttemptsBetween() of a later time = %d, %v, want 0", n, err)
	}
}

func TestEndsOfADoubt(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		settle func(*postgres.Store, mms.AttemptRef) (bool, error)
		status mms.Status
		story  string
	}{
		"found on its way": {func(s *postgres.Store, ref mms.AttemptRef) (bool, error) {
			return s.AdoptListed(t.Context(), ref, mms.Listed{PlivoUUID: "u-1", State: "queued"})
		}, mms.Submitted, "evidence_found>submitted"},
		"found delivered": {func(s *postgres.Store, ref mms.AttemptRef) (bool, error) {
			return s.AdoptListed(t.Context(), ref, mms.Listed{PlivoUUID: "u-1", State: "delivered"})
		}, mms.Delivered, "evidence_found>submitted status_polled>delivered"},
		"not found": {func(s *postgres.Store, ref mms.AttemptRef) (bool, error) {
			return s.ResendInDoubt(t.Context(), ref)
		}, mms.Queued, "no_evidence>queued"},
		"held": {func(s *postgres.Store, ref mms.AttemptRef) (bool, error) {
			return s.Hold(t.Context(), ref, mms.ReasonAmbiguous)
		}, mms.InDoubt, "held>in_doubt"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, owner := newStore(t)
			m, ref, _ := doubt(t, store, owner)
			if ok, err := tt.settle(store, ref); err != nil || !ok {
				t.Fatalf("settling = %v, %v, want true", ok, err)
			}
			wantStory(t, read(t, store, m), tt.status, doubtful+tt.story)
			if doubts, err := dueDoubts(t, store); err != nil || len(doubts) != 0 {
				t.Errorf("OpenDoubts() = %+v, %v, want none", doubts, err)
			}
			if ok, err := tt.settle(store, ref); err != nil || ok {
				t.Errorf("settling again = %v, %v, want false", ok, err)
			}
		})
	}
}

func TestLateEvidenceSparesTheSecondSending(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	m, ref, _ := doubt(t, store, owner)
	if _, err := store.ResendInDoubt(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	if ok, err := adopt(t.Context(), store, ref, "u-1"); err != nil || !ok {
		t.Errorf("Submit() = %v, %v, want true", ok, err)
	}
	wantStory(t, read(t, store, m), mms.Submitted, doubtful+"no_evidence>queued submitted>submitted")
}

// TestProofWinsOverWhatWeBelieved has an attempt in doubt, given up on, and what
// became of its message since.
func TestProofWinsOverWhatWeBelieved(t *testing.T) {
	t.Parallel()
	const again = doubtful + "no_evidence>queued "
	tests := map[string]struct {
		since  func(*testing.T, *postgres.Store, mms.Message)
		status mms.Status // with the proof
		story  string
	}{
		"queued again": {func(*testing.T, *postgres.Store, mms.Message) {}, mms.Submitted, again + "submitted>submitted"},
		"the next attempt is under way": {func(t *testing.T, s *postgres.Store, m mms.Message) {
			claim(t, s, m.ID)
		}, mms.Submitted, again + "attempt_started>sending submitted>submitted"},
		"the next attempt was refused for now": {func(t *testing.T, s *postgres.Store, m mms.Message) {
			c, _ := claim(t, s, m.ID)
			if _, err := s.RecordTransientFailure(t.Context(), c.AttemptRef, mms.Verdict{Outcome: mms.TransientFailure}, mms.Transition{}); err != nil {
				t.Fatal(err)
			}
		}, mms.Submitted, again + "attempt_started>sending transient_failure>queued submitted>submitted"},
		"the next attempt is in doubt": {func(t *testing.T, s *postgres.Store, m mms.Message) {
			c, _ := claim(t, s, m.ID)
			if _, err := s.RecordInDoubt(t.Context(), c.AttemptRef, mms.Verdict{Outcome: mms.Unknown}); err != nil {
				t.Fatal(err)
			}
		}, mms.Submitted, again + "attempt_started>sending in_doubt>in_doubt submitted>submitted"},
		"the next attempt was refused for good": {func(t *testing.T, s *postgres.Store, m mms.Message) {
			c, _ := claim(t, s, m.ID)
			if _, err := s.RecordPermanentFailure(t.Context(), c.AttemptRef, mms.Verdict{Outcome: mms.PermanentFailure}, mms.ReasonRejected); err != nil {
				t.Fatal(err)
			}
		}, mms.Submitted, again + "attempt_started>sending permanent_failure>failed submitted>submitted"},
		"the next attempt was accepted": {func(t *testing.T, s *postgres.Store, m mms.Message) {
			c, _ := claim(t, s, m.ID)
			if _, err := adopt(t.Context(), s, c.AttemptRef, "u-2"); err != nil {
				t.Fatal(err)
			}
		}, mms.Submitted, again + "attempt_started>sending submitted>submitted duplicate>submitted"},
		"it expired": {func(t *testing.T, s *postgres.Store, m mms.Message) {
			if _, err := s.DB().Exec(`UPDATE messages SET expires_at = now() WHERE id = $1`, m.ID); err != nil {
				t.Fatal(err)
			}
			if _, err := s.ExpireQueued(t.Context(), 10); err != nil {
				t.Fatal(err)
			}
		}, mms.Submitted, again + "expired>failed submitted>submitted"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, owner := newStore(t)
			m, first, _ := doubt(t, store, owner)
			if _, err := store.ResendInDoubt(t.Context(), first); err != nil {
				t.Fatal(err)
			}
			tt.since(t, store, m)
			for _, want := range []mms.SubmitResult{proofOf(tt.story), mms.AlreadyKnown} {
				got, err := store.RecordSubmitted(t.Context(), first, mms.Verdict{PlivoUUID: "u-1"}, mms.EventSubmitted)
				if err != nil || got != want {
					t.Errorf("Accepted() = %v, %v, want %v", got, err, want)
				}
			}
			h := read(t, store, m)
			wantStory(t, h, tt.status, tt.story)
			if h.FinalAt != nil || h.Held || h.NextAttemptAt != nil {
				t.Errorf("the message is not simply on its way: %+v", h.Message)
			}
			if _, claimed, err := store.Claim(t.Context(), m.ID, token(), time.Minute); err != nil || claimed {
				t.Errorf("Claim() of what Plivo has = %v, %v, want false", claimed, err)
			}
		})
	}
}

// TestAnAnswerAfterItsReport: what Plivo answered stands with the attempt, although the
// message is known to be there already, or just becoming so.
func TestAnAnswerAfterItsReport(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	m := accept(t, store, owner)
	c, _ := claim(t, store, m.ID)
	tx, err := store.DB().Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	for _, report := range []string{
		`SELECT FROM messages WHERE id = $1 FOR UPDATE`,
		`UPDATE attempts SET outcome = 'accepted', plivo_uuid = 'u-1', finished_at = now() WHERE message_id = $1`,
		`UPDATE messages SET status = 'submitted', plivo_uuid = 'u-1', unreported_since = now() WHERE id = $1`,
	} {
		if _, err := tx.Exec(report, m.ID); err != nil {
			t.Fatal(err)
		}
	}
	answered := make(chan error, 1)
	go func() {
		got, err := store.RecordSubmitted(t.Context(), c.AttemptRef, mms.Verdict{PlivoUUID: "u-1", HTTPStatus: 202, APIID: "api-1"}, mms.EventSubmitted)
		if got != mms.AlreadyKnown {
			err = fmt.Errorf("Accepted() = %v, want nothing new: %w", got, err)
		}
		answered <- err
	}()
	testkit.Eventually(t, "the answer waits for the report", func() bool {
		return count(t, store, `SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`) == 1
	})
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
	if a := read(t, store, m).AttemptList[0]; a.HTTPStatus != 202 {
		t.Errorf("the attempt was answered %d, want 202", a.HTTPStatus)
	}
	if n := count(t, store, `SELECT count(*) FROM attempts WHERE api_id = 'api-1'`); n != 1 {
		t.Error("the answer's API id is lost")
	}
}

func proofOf(story string) mms.SubmitResult {
	if strings.Contains(story, "duplicate") {
		return mms.Duplicate
	}
	return mms.Adopted
}

// TestAnOvertakenAttemptIsClosed has proof about the first attempt come while
// the second is under way.
func TestAnOvertakenAttemptIsClosed(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*postgres.Store, mms.AttemptRef) error{
		"refused": func(s *postgres.Store, ref mms.AttemptRef) error {
			ok, err := s.RecordPermanentFailure(t.Context(), ref, mms.Verdict{Outcome: mms.PermanentFailure, Reason: mms.ReasonRejected}, mms.ReasonRejected)
			if ok {
				return errors.New("Fail() = true for a message that Plivo has")
			}
			return err
		},
		"worker lost": func(s *postgres.Store, ref mms.AttemptRef) error {
			if _, err := s.DB().Exec(`UPDATE attempts SET lease_until = now() WHERE ordinal = 2`); err != nil {
				return err
			}
			n, err := s.ReapLeases(t.Context(), 10)
			if n != 0 {
				return fmt.Errorf("DoubtLapsed() = %d", n)
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, owner := newStore(t)
			m, first, _ := doubt(t, store, owner)
			if _, err := store.ResendInDoubt(t.Context(), first); err != nil {
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
				t.Errorf("message %s, second attempt %+v", h.Status, h.AttemptList[1])
			}
		})
	}
}

func TestProofIsOfOneAttempt(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	_, first, _ := doubt(t, store, owner)
	_, other, _ := doubt(t, store, owner)
	if ok, err := adopt(t.Context(), store, first, "u-1"); err != nil || !ok {
		t.Fatalf("Accepted() = %v, %v", ok, err)
	}
	got, err := store.RecordSubmitted(t.Context(), other, mms.Verdict{PlivoUUID: "u-1"}, mms.EventEvidenceFound)
	if err != nil || got != mms.AlreadyKnown {
		t.Errorf("the same proof for another attempt = %v, %v, want nothing", got, err)
	}
}

func TestDecisions(t *testing.T) {
	t.Parallel()
	for decision, want := range map[mms.Decision]mms.Status{mms.DecideSent: mms.Sent, mms.DecideResend: mms.Queued, mms.DecideGiveUp: mms.Failed} {
		t.Run(string(decision), func(t *testing.T) {
			t.Parallel()
			store, owner := newStore(t)
			m, ref, _ := doubt(t, store, owner)
			if err := store.Decide(t.Context(), owner, m.ID, decision); !errors.Is(err, mms.ErrNotHeld) {
				t.Errorf("deciding what is not held = %v, want ErrNotHeld", err)
			}
			if _, err := store.Hold(t.Context(), ref, mms.ReasonAmbiguous); err != nil {
				t.Fatal(err)
			}
			if err := store.Decide(t.Context(), addUser(t, store, "eve@example.com"), m.ID, decision); !errors.Is(err, mms.ErrNotFound) {
				t.Errorf("a stranger's decision = %v, want ErrNotFound", err)
			}
			var decided atomic.Int32
			var group sync.WaitGroup
			for range 5 {
				group.Go(func() {
					switch err := store.Decide(t.Context(), owner, m.ID, decision); {
					case err == nil:
						decided.Add(1)
					case !errors.Is(err, mms.ErrNotHeld):
						t.Error(err)
					}
				})
			}
			group.Wait()
			if decided.Load() != 1 {
				t.Errorf("%d decisions were carried out, want 1", decided.Load())
			}
			wantStory(t, read(t, store, m), want, doubtful+"held>in_doubt decided>"+string(want))
		})
	}
}

func TestAHeldMessageNearbyCrowdsADoubt(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	first, second := acceptFor(t, store, owner, "+14155559998"), acceptFor(t, store, owner, "+14155559998")
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
		t.Errorf("OpenDoubts() = %+v, %v, want one crowded doubt", doubts, err)
	}
}

func TestListCallsAreSpacedForAllWorkersTogether(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	var waits []time.Duration
	for range 3 {
		wait, err := store.ReserveListCall(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		waits = append(waits, wait)
	}
	if waits[0] > 100*time.Millisecond || waits[1] < 2*time.Second || waits[2] < 5*time.Second {
		t.Errorf("waits = %v, want 0, then 3 s more each", waits)
	}
	known, err := store.KnownUUIDs(t.Context(), []string{"u-1"})
	if err != nil || len(known) != 0 {
		t.Errorf("KnownUUIDs() = %v, %v, want none", known, err)
	}
}

// TestEvidenceFromAllSidesAtOnce has the worker's outcome, a delivery report, the
// resolver's look and the watch over leases meet on one attempt. None may have to
// try again for another's sake: Plivo would call again only after a minute.
func TestEvidenceFromAllSidesAtOnce(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	for round := range 40 {
		m := accept(t, store, owner)
		c, secret := claim(t, store, m.ID)
		uuid := fmt.Sprintf("u-%d", round)
		sides := []func() error{
			func() error {
				_, err := store.RecordInDoubt(t.Context(), c.AttemptRef, mms.Verdict{Outcome: mms.Unknown, Reason: mms.ReasonNoResponse})
				return err
			},
			func() error { _, err := adopt(t.Context(), store, c.AttemptRef, uuid); return err },
			func() error { _, err := adopt(t.Context(), store, c.AttemptRef, uuid); return err },
			func() error { return store.ScheduleCheck(t.Context(), c.AttemptRef, 0, "nothing found") },
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
		for _, side := range sides {
			group.Go(func() {
				if err := side(); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		if h := read(t, store, m); h.PlivoUUID != uuid || h.Version != int64(len(h.Events)) {
			t.Errorf("the message is %s as %q, version %d after %d events", h.Status, h.PlivoUUID, h.Version, len(h.Events))
		}
	}
}

// TestWhatWasGivenUpOnCrowdsADoubt has a message whose doubt a person ended
// without evidence, and another between the same numbers: what Plivo lists may be
// either.
func TestWhatWasGivenUpOnCrowdsADoubt(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	first, second := acceptFor(t, store, owner, "+14155559995"), acceptFor(t, store, owner, "+14155559995")
	c, _ := claim(t, store, first.ID)
	if _, err := store.RecordInDoubt(t.Context(), c.AttemptRef, mms.Verdict{Outcome: mms.Unknown}); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Hold(t.Context(), c.AttemptRef, mms.ReasonNotFound); err != nil {
		t.Fatal(err)
	}
	if err := store.Decide(t.Context(), owner, first.ID, mms.DecideSent); err != nil {
		t.Fatal(err)
	}
	if h := read(t, store, first); !h.Final() {
		t.Error("what a person decided is not over")
	}
	c, _ = claim(t, store, second.ID)
	if _, err := store.RecordInDoubt(t.Context(), c.AttemptRef, mms.Verdict{Outcome: mms.Unknown}); err != nil {
		t.Fatal(err)
	}
	if doubts, err := store.InDoubt(t.Context(), 10); err != nil || len(doubts) != 1 || !doubts[0].PairAmbiguous {
		t.Errorf("OpenDoubts() = %+v, %v, want one crowded", doubts, err)
	}
}
