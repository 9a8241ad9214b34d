package maintenance

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
)

// fakeReconcilerStore keeps doubts until a decision about them is recorded.
type fakeReconcilerStore struct {
	callLog
	doubts     []mms.Doubt
	attempts   int      // in any span of time
	knownUUIDs []string // that belong to other attempts
	result     mms.SubmitResult
	duplicates int
}

func (s *fakeReconcilerStore) WithLease(ctx context.Context, _ string, work func(context.Context) error) error {
	return work(ctx)
}

func (s *fakeReconcilerStore) InDoubt(context.Context, int) ([]mms.Doubt, error) {
	slices.SortFunc(s.doubts, func(a, b mms.Doubt) int { return a.StartedAt.Compare(b.StartedAt) })
	return slices.Clone(s.doubts), nil
}

func (s *fakeReconcilerStore) AttemptsBetween(context.Context, time.Time, time.Time) (int, error) {
	return s.attempts, nil
}

func (s *fakeReconcilerStore) KnownUUIDs(context.Context, []string) ([]string, error) {
	return s.knownUUIDs, nil
}

func (s *fakeReconcilerStore) ReserveListCall(context.Context) (time.Duration, error) { return 0, nil }

func (s *fakeReconcilerStore) ScheduleChecks(_ context.Context, refs []mms.AttemptRef, wait time.Duration, note string) error {
	for _, ref := range refs {
		if wait == passCheckPeriod {
			s.doubts[slices.IndexFunc(s.doubts, func(d mms.Doubt) bool { return d.AttemptRef == ref })].Due = false
			continue
		}
		s.decide(ref, "check %s in %s", shortID(ref.MessageID), wait)
	}
	return nil
}

func (s *fakeReconcilerStore) StopChecking(_ context.Context, ref mms.AttemptRef) error {
	s.decide(ref, "stop checking %s", shortID(ref.MessageID))
	return nil
}

func (s *fakeReconcilerStore) AdoptListed(_ context.Context, ref mms.AttemptRef, found mms.Listed) (mms.SubmitResult, error) {
	s.decide(ref, "adopt %s as %s", found.PlivoUUID, shortID(ref.MessageID))
	return s.result, nil
}

func (s *fakeReconcilerStore) Hold(_ context.Context, ref mms.AttemptRef, reason mms.Reason) (bool, error) {
	s.decide(ref, "hold %s: %s", shortID(ref.MessageID), reason)
	return true, nil
}

func (s *fakeReconcilerStore) RetryInDoubt(_ context.Context, ref mms.AttemptRef) (bool, error) {
	s.decide(ref, "resend %s", shortID(ref.MessageID))
	return true, nil
}

func (s *fakeReconcilerStore) decide(ref mms.AttemptRef, format string, args ...any) {
	s.doubts = slices.DeleteFunc(s.doubts, func(d mms.Doubt) bool { return d.AttemptRef == ref })
	s.add(format, args...)
}

// fakeLister lists messages in pages, and ignores the filters as Plivo may.
type fakeLister struct {
	messages []mms.Listed
	pageSize int
	queries  []mms.ListQuery
}

func (l *fakeLister) List(_ context.Context, q mms.ListQuery) ([]mms.Listed, bool, error) {
	l.queries = append(l.queries, q)
	end := min(q.Offset+l.pageSize, len(l.messages))
	return l.messages[q.Offset:end], end < len(l.messages), nil
}

// recipients returns the recipient of each query.
func (l *fakeLister) recipients() []mms.PhoneNumber {
	var recipients []mms.PhoneNumber
	for _, q := range l.queries {
		recipients = append(recipients, q.Recipient)
	}
	return recipients
}

var noon = time.Date(2026, 1, 15, 12, 0, 0, 0, time.UTC)

// testDoubt is a due doubt, read at noon, about message n to +1415555012n.
func testDoubt(n byte, age time.Duration) mms.Doubt {
	return mms.Doubt{
		AttemptRef: mms.AttemptRef{MessageID: uuid.UUID{15: n}, Ordinal: 1},
		Sender:     "+14155550100", Recipient: mms.PhoneNumber("+1415555012" + string('0'+n)),
		StartedAt: noon.Add(-age - time.Second), FinishedAt: noon.Add(-age), Age: age, Due: true,
	}
}

func listedFor(d mms.Doubt, plivoUUID string) mms.Listed {
	return mms.Listed{PlivoUUID: plivoUUID, From: string(d.Sender), To: string(d.Recipient), At: d.StartedAt}
}

func runReconciler(t *testing.T, store *fakeReconcilerStore, plivo *fakeLister) {
	t.Helper()
	runOnce(t, Reconciler(store, plivo, mms.DoubtPolicy{Wait: time.Minute}, func() { store.duplicates++ }, discardLogger()))
}

func TestReconcilerDecidesEachDoubtByItsOwnMatches(t *testing.T) {
	t.Parallel()
	missing, claimed := testDoubt(2, 64*time.Second), testDoubt(5, time.Minute)
	found, waiting, several := testDoubt(1, 4*time.Second), testDoubt(4, 3*time.Second), testDoubt(3, 2*time.Second)
	store := &fakeReconcilerStore{doubts: []mms.Doubt{several, waiting, found, missing, claimed}, knownUUIDs: []string{"known"}}
	plivo := &fakeLister{pageSize: 2, messages: []mms.Listed{
		listedFor(found, "a"), listedFor(several, "b"), listedFor(several, "c"), listedFor(claimed, "known"),
		listedFor(found, "a"), // repeated, because the list grew between two pages
	}}
	runReconciler(t, store, plivo)
	store.check(t, "resend 2", "resend 5", "adopt a as 1", "check 4 in 5s", "hold 3: ambiguous")
	if len(plivo.queries) != 3 {
		t.Fatalf("got %d pages read, want 3 of one query for all doubts", len(plivo.queries))
	}
	if q := plivo.queries[0]; q.From.After(missing.StartedAt.Add(-mms.ListSkew)) || q.To.Before(noon.Add(mms.ListSkew)) {
		t.Errorf("got a query from %v to %v, want it to cover all doubts", q.From, q.To)
	}
}

func TestReconcilerReadsDistantDoubtsSeparately(t *testing.T) {
	t.Parallel()
	store := &fakeReconcilerStore{attempts: mms.ListPage, doubts: []mms.Doubt{testDoubt(1, 2*time.Hour), testDoubt(2, time.Hour)}}
	plivo := &fakeLister{pageSize: mms.ListPage}
	runReconciler(t, store, plivo)
	store.check(t, "resend 1", "resend 2")
	if len(plivo.queries) != 2 {
		t.Errorf("got %d queries, want 2", len(plivo.queries))
	}
	for _, q := range plivo.queries {
		if span := q.To.Sub(q.From); span > 5*time.Minute {
			t.Errorf("got a query over %v, want at most 5m", span)
		}
	}
}

// An early check costs one call: by time in low traffic, and otherwise by number for
// a few doubts.
func TestReconcilerChecksEarlyWithOneCall(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		doubts, attempts int
		want             []mms.PhoneNumber // recipients in queries
	}{
		"low traffic":            {2, mms.ListPage - 1, []mms.PhoneNumber{""}},
		"few doubts":             {2, mms.ListPage, []mms.PhoneNumber{"+14155550121", "+14155550122"}},
		"many, in low traffic":   {maxEarlyChecks + 1, mms.ListPage - 1, []mms.PhoneNumber{""}},
		"many wait for the pass": {maxEarlyChecks + 1, mms.ListPage, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := &fakeReconcilerStore{attempts: tt.attempts}
			var want []string // calls
			for n := range tt.doubts {
				store.doubts = append(store.doubts, testDoubt(byte(n+1), 0))
				if tt.want != nil {
					want = append(want, fmt.Sprintf("check %d in 5s", n+1))
				}
			}
			plivo := &fakeLister{pageSize: mms.ListPage}
			runReconciler(t, store, plivo)
			if diff := cmp.Diff(tt.want, plivo.recipients()); diff != "" {
				t.Errorf("recipients in queries (-want +got):\n%s", diff)
			}
			store.check(t, want...)
		})
	}
}

// After the last check a message may be resent, so it does not rely on Plivo's
// filter by number unless the list would be too long.
func TestReconcilerMakesTheLastCheckByTime(t *testing.T) {
	t.Parallel()
	for attempts, want := range map[int]mms.PhoneNumber{0: "", 100: "", (maxReadPages + 1) * mms.ListPage: "+14155550121"} {
		plivo := &fakeLister{pageSize: mms.ListPage}
		runReconciler(t, &fakeReconcilerStore{attempts: attempts, doubts: []mms.Doubt{testDoubt(1, time.Minute)}}, plivo)
		if diff := cmp.Diff([]mms.PhoneNumber{want}, plivo.recipients()); diff != "" {
			t.Errorf("%d attempts: recipients in queries (-want +got):\n%s", attempts, diff)
		}
	}
}

// The message of a superseded attempt was queued again. It is neither held nor queued
// a third time, and what is found is a duplicate if the new attempt was accepted.
func TestReconcilerLooksForSupersededAttempts(t *testing.T) {
	t.Parallel()
	superseded := func(n byte, age time.Duration) mms.Doubt {
		d := testDoubt(n, age-time.Duration(n)*time.Second)
		d.RetriedAt = d.FinishedAt.Add(time.Second)
		return d
	}
	found, missing, ambiguous := superseded(1, 2*time.Minute), superseded(2, 2*time.Minute), superseded(3, 2*time.Minute)
	several, later, young := superseded(4, 2*time.Minute), superseded(5, 2*time.Minute), superseded(6, 10*time.Second)
	ambiguous.PairAmbiguous = true
	sentAgain := listedFor(later, "f")
	sentAgain.At = later.RetriedAt.Add(time.Second)
	store := &fakeReconcilerStore{result: mms.Duplicate, doubts: []mms.Doubt{found, missing, ambiguous, several, later, young}}
	plivo := &fakeLister{pageSize: mms.ListPage, messages: []mms.Listed{
		listedFor(found, "a"), listedFor(ambiguous, "b"), listedFor(several, "c"), listedFor(several, "d"), listedFor(young, "e"), sentAgain,
	}}
	runReconciler(t, store, plivo)
	store.check(t, "adopt a as 1", "stop checking 2", "stop checking 3", "stop checking 4", "stop checking 5")
	if store.duplicates != 1 || len(plivo.queries) != 1 {
		t.Errorf("got %d duplicates and %d queries, want 1 and 1", store.duplicates, len(plivo.queries))
	}
}

func TestReconcilerChecksDoubtsThatAreNotDueWithTheSameQuery(t *testing.T) {
	t.Parallel()
	due, late, early := testDoubt(2, 2*time.Minute), testDoubt(3, time.Minute), testDoubt(1, 4*time.Second)
	early.Due, late.Due = false, false
	store := &fakeReconcilerStore{doubts: []mms.Doubt{early, due, late}}
	plivo := &fakeLister{pageSize: mms.ListPage}
	runReconciler(t, store, plivo)
	store.check(t, "resend 2", "resend 3", "check 1 in 5s")
	if len(plivo.queries) != 1 {
		t.Errorf("got %d queries, want 1", len(plivo.queries))
	}
}
