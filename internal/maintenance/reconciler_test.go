package maintenance

import (
	"context"
	"errors"
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

func (s *fakeReconcilerStore) ScheduleCheck(_ context.Context, ref mms.AttemptRef, wait time.Duration, _ string) error {
	s.decide(ref, "check %s in %s", shortID(ref.MessageID), wait)
	return nil
}

func (s *fakeReconcilerStore) AdoptListed(_ context.Context, ref mms.AttemptRef, found mms.Listed) (bool, error) {
	s.decide(ref, "adopt %s as %s", found.PlivoUUID, shortID(ref.MessageID))
	return true, nil
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
	err      error
	queries  []mms.ListQuery
}

func (l *fakeLister) List(_ context.Context, q mms.ListQuery) ([]mms.Listed, bool, error) {
	l.queries = append(l.queries, q)
	end := min(q.Offset+l.pageSize, len(l.messages))
	return l.messages[q.Offset:end], end < len(l.messages), l.err
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

// testDoubt is a due doubt about message n to +1415555012n.
func testDoubt(n byte, startedAt time.Time, age time.Duration) mms.Doubt {
	return mms.Doubt{
		AttemptRef: mms.AttemptRef{MessageID: uuid.UUID{15: n}, Ordinal: 1},
		Sender:     "+14155550100", Recipient: mms.PhoneNumber("+1415555012" + string('0'+n)),
		StartedAt: startedAt, FinishedAt: startedAt.Add(time.Second), Age: age, Due: true,
	}
}

func listedFor(d mms.Doubt, plivoUUID string) mms.Listed {
	return mms.Listed{PlivoUUID: plivoUUID, From: string(d.Sender), To: string(d.Recipient), At: d.StartedAt}
}

func runReconciler(t *testing.T, store *fakeReconcilerStore, plivo *fakeLister) {
	t.Helper()
	runOnce(t, Reconciler(store, plivo, mms.DoubtPolicy{Wait: time.Minute}, discardLogger()))
}

func TestReconcilerDecidesEachDoubtByItsOwnMatches(t *testing.T) {
	t.Parallel()
	found, missing, several := testDoubt(1, noon, 0), testDoubt(2, noon.Add(time.Second), time.Minute), testDoubt(3, noon.Add(2*time.Second), 0)
	waiting, claimed := testDoubt(4, noon.Add(3*time.Second), 0), testDoubt(5, noon.Add(4*time.Second), time.Minute)
	store := &fakeReconcilerStore{doubts: []mms.Doubt{several, waiting, found, missing, claimed}, knownUUIDs: []string{"known"}}
	plivo := &fakeLister{pageSize: 2, messages: []mms.Listed{
		listedFor(found, "a"), listedFor(several, "b"), listedFor(several, "c"), listedFor(claimed, "known"),
		listedFor(found, "a"), // repeated, because the list grew between two pages
	}}
	runReconciler(t, store, plivo)
	store.check(t, "adopt a as 1", "resend 2", "hold 3: ambiguous", "check 4 in 5s", "resend 5")
	if len(plivo.queries) != 3 {
		t.Fatalf("got %d pages read, want 3 of one query for all doubts", len(plivo.queries))
	}
	if q := plivo.queries[0]; q.From.After(noon.Add(-mms.ListSkew)) || q.To.Before(claimed.FinishedAt.Add(mms.ListSkew)) {
		t.Errorf("got a query from %v to %v, want it to cover all doubts", q.From, q.To)
	}
}

func TestReconcilerQueriesDistantDoubtsSeparately(t *testing.T) {
	t.Parallel()
	plivo := &fakeLister{pageSize: mms.ListPage}
	runReconciler(t, &fakeReconcilerStore{doubts: []mms.Doubt{testDoubt(1, noon, 0), testDoubt(2, noon.Add(time.Hour), 0)}}, plivo)
	if diff := cmp.Diff([]mms.PhoneNumber{"+14155550121", "+14155550122"}, plivo.recipients()); diff != "" {
		t.Errorf("recipients in queries (-want +got):\n%s", diff)
	}
	for _, q := range plivo.queries {
		if span := q.To.Sub(q.From); span > 5*time.Minute {
			t.Errorf("got a query over %v, want at most 5m", span)
		}
	}
}

// The number of attempts in the time of two close doubts decides whether one
// query by time needs fewer calls than two queries by number.
func TestReconcilerChoosesTheCheapestQuery(t *testing.T) {
	t.Parallel()
	for attempts, want := range map[int]int{2: 1, mms.ListPage - 1: 1, mms.ListPage: 2, 5000: 2} {
		store := &fakeReconcilerStore{attempts: attempts, doubts: []mms.Doubt{testDoubt(1, noon, 0), testDoubt(2, noon.Add(time.Second), 0)}}
		plivo := &fakeLister{pageSize: mms.ListPage}
		runReconciler(t, store, plivo)
		if len(plivo.queries) != want {
			t.Errorf("%d attempts: got %d queries, want %d", attempts, len(plivo.queries), want)
		}
		store.check(t, "check 1 in 5s", "check 2 in 5s")
	}
}

// After the last check a message may be resent, so it does not rely on Plivo's
// filter by number unless the list would be too long.
func TestReconcilerMakesTheLastCheckByTime(t *testing.T) {
	t.Parallel()
	for attempts, want := range map[int]mms.PhoneNumber{0: "", 100: "", (maxFullPages + 1) * mms.ListPage: "+14155550121"} {
		plivo := &fakeLister{pageSize: mms.ListPage}
		runReconciler(t, &fakeReconcilerStore{attempts: attempts, doubts: []mms.Doubt{testDoubt(1, noon, time.Minute)}}, plivo)
		if diff := cmp.Diff([]mms.PhoneNumber{want}, plivo.recipients()); diff != "" {
			t.Errorf("%d attempts: recipients in queries (-want +got):\n%s", attempts, diff)
		}
	}
}

func TestReconcilerChecksDoubtsThatAreNotDueWithTheSameQuery(t *testing.T) {
	t.Parallel()
	early, due, late := testDoubt(1, noon, 0), testDoubt(2, noon.Add(time.Second), time.Minute), testDoubt(3, noon.Add(2*time.Second), time.Minute)
	early.Due, late.Due = false, false
	store := &fakeReconcilerStore{doubts: []mms.Doubt{early, due, late}}
	plivo := &fakeLister{pageSize: mms.ListPage}
	runReconciler(t, store, plivo)
	store.check(t, "resend 2", "resend 3")
	if len(plivo.queries) != 1 {
		t.Errorf("got %d queries, want 1", len(plivo.queries))
	}
}

func TestReconcilerPostponesDoubtWhenListFails(t *testing.T) {
	t.Parallel()
	store := &fakeReconcilerStore{doubts: []mms.Doubt{testDoubt(1, noon, time.Minute+maxListOutage)}}
	runReconciler(t, store, &fakeLister{pageSize: mms.ListPage, err: errors.New("too many requests")})
	store.check(t, "check 1 in 20s")
}

// Without a limit such a doubt would be checked for ever.
func TestReconcilerHoldsDoubtWhenListFailsTooLong(t *testing.T) {
	t.Parallel()
	store := &fakeReconcilerStore{doubts: []mms.Doubt{testDoubt(1, noon, time.Minute+maxListOutage+time.Second)}}
	runReconciler(t, store, &fakeLister{pageSize: mms.ListPage, err: errors.New("forbidden")})
	store.check(t, "hold 1: list_unavailable")
}
