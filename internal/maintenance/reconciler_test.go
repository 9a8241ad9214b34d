package maintenance

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
)

// doubtStore plays the store and notes what is asked of it.
type doubtStore struct {
	doubts []mms.Doubt // those that are open
	sent   int         // attempts in any span of time
	known  []string
	calls  []string
}

func (s *doubtStore) WithLease(ctx context.Context, _ string, work func(context.Context) error) error {
	return work(ctx)
}

func (s *doubtStore) InDoubt(context.Context, int) ([]mms.Doubt, error) {
	slices.SortFunc(s.doubts, func(a, b mms.Doubt) int { return a.StartedAt.Compare(b.StartedAt) })
	return slices.Clone(s.doubts), nil
}

func (s *doubtStore) AttemptsBetween(context.Context, time.Time, time.Time) (int, error) {
	return s.sent, nil
}

func (s *doubtStore) KnownUUIDs(context.Context, []string) ([]string, error) {
	return s.known, nil
}
func (s *doubtStore) ReserveListCall(context.Context) (time.Duration, error) { return 0, nil }

func (s *doubtStore) ScheduleCheck(_ context.Context, ref mms.AttemptRef, wait time.Duration, note string) error {
	s.note("later", ref, wait.String())
	return nil
}

func (s *doubtStore) AdoptListed(_ context.Context, ref mms.AttemptRef, found mms.Listed) (bool, error) {
	s.note("adopt", ref, found.PlivoUUID)
	return true, nil
}

func (s *doubtStore) Hold(_ context.Context, ref mms.AttemptRef, reason mms.Reason) (bool, error) {
	s.note("hold", ref, string(reason))
	return true, nil
}

func (s *doubtStore) ResendInDoubt(_ context.Context, ref mms.AttemptRef) (bool, error) {
	s.note("resend", ref, "")
	return true, nil
}

func (s *doubtStore) note(what string, ref mms.AttemptRef, detail string) {
	s.doubts = slices.DeleteFunc(s.doubts, func(d mms.Doubt) bool { return d.AttemptRef == ref })
	s.calls = append(s.calls, what+" "+ref.MessageID.String()[35:]+" "+detail)
}

// pages plays Plivo's list.
type pages struct {
	all   []mms.Listed
	size  int
	spans [][2]time.Time
	err   error

	numbers []mms.PhoneNumber // that were asked for
}

func (p *pages) List(_ context.Context, q mms.ListQuery) ([]mms.Listed, bool, error) {
	p.spans = append(p.spans, [2]time.Time{q.From, q.To})
	p.numbers = append(p.numbers, q.Recipient)
	end := min(q.Offset+p.size, len(p.all))
	return p.all[q.Offset:end], end < len(p.all), p.err
}

var noon = time.Date(2026, 1, 15, 12, 0, 0, 0, time.UTC)

// doubtAt is the nth doubt; its number tells recipients and messages apart.
func doubtAt(n byte, begun time.Time, age time.Duration) mms.Doubt {
	return mms.Doubt{
		AttemptRef: mms.AttemptRef{MessageID: uuid.UUID{15: n}, Ordinal: 1},
		Sender:     "+14155550100", Recipient: mms.PhoneNumber("+1415555012" + string('0'+n)),
		StartedAt: begun, FinishedAt: begun.Add(time.Second), Age: age, Due: true,
	}
}

func listedFor(d mms.Doubt, uuid string) mms.Listed {
	return mms.Listed{PlivoUUID: uuid, From: string(d.Sender), To: string(d.Recipient), At: d.StartedAt}
}

func sweep(t *testing.T, store *doubtStore, list *pages) {
	t.Helper()
	r := Reconciler(store, list, mms.DoubtPolicy{Wait: time.Minute}, slog.New(slog.DiscardHandler))
	if err := r.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestResolverDecidesEachDoubtByItsOwnMatches(t *testing.T) {
	t.Parallel()
	found, missing, several := doubtAt(1, noon, 0), doubtAt(2, noon.Add(time.Second), time.Minute), doubtAt(3, noon.Add(2*time.Second), 0)
	waiting, taken := doubtAt(4, noon.Add(3*time.Second), 0), doubtAt(5, noon.Add(4*time.Second), time.Minute)
	store := &doubtStore{doubts: []mms.Doubt{several, waiting, found, missing, taken}, known: []string{"known"}}
	list := &pages{size: 2, all: []mms.Listed{
		listedFor(found, "a"), listedFor(several, "b"), listedFor(several, "c"), listedFor(taken, "known"),
		listedFor(found, "a"), // a list that moved between two pages
	}}
	sweep(t, store, list)
	want := []string{"adopt 1 a", "resend 2 ", "hold 3 ambiguous", "later 4 5s", "resend 5 "}
	if diff := cmp.Diff(want, store.calls); diff != "" {
		t.Errorf("decisions (-want +got):\n%s", diff)
	}
	if len(list.spans) != 3 {
		t.Errorf("%d pages were asked for, want 3: doubts close together share a look", len(list.spans))
	}
	if from, to := list.spans[0][0], list.spans[0][1]; from.After(noon.Add(-mms.ListSkew)) || to.Before(taken.FinishedAt.Add(mms.ListSkew)) {
		t.Errorf("the look went from %v to %v", from, to)
	}
}

func TestResolverLooksApartWhereDoubtsLieApart(t *testing.T) {
	t.Parallel()
	store := &doubtStore{doubts: []mms.Doubt{doubtAt(1, noon, 0), doubtAt(2, noon.Add(time.Hour), 0)}}
	list := &pages{size: 20}
	sweep(t, store, list)
	if len(list.spans) != 2 || list.spans[0][1].Sub(list.spans[0][0]) > 5*time.Minute {
		t.Errorf("looks = %v, want two short ones", list.spans)
	}
	if diff := cmp.Diff([]mms.PhoneNumber{"+14155550121", "+14155550122"}, list.numbers); diff != "" {
		t.Errorf("numbers asked for, where doubts are few (-want +got):\n%s", diff)
	}
}

// TestResolverAsksForWhatIsCheapest has two doubts close together, in a quiet
// time and in a busy one.
func TestResolverAsksForWhatIsCheapest(t *testing.T) {
	t.Parallel()
	for sent, looks := range map[int]int{2: 1, mms.ListPage - 1: 1, mms.ListPage: 2, 5000: 2} {
		store := &doubtStore{sent: sent, doubts: []mms.Doubt{doubtAt(1, noon, 0), doubtAt(2, noon.Add(time.Second), 0)}}
		list := &pages{size: mms.ListPage}
		sweep(t, store, list)
		if len(list.spans) != looks {
			t.Errorf("among %d messages: %d looks, want %d", sent, len(list.spans), looks)
		}
		if diff := cmp.Diff([]string{"later 1 5s", "later 2 5s"}, store.calls); diff != "" {
			t.Errorf("among %d messages: decisions (-want +got):\n%s", sent, diff)
		}
	}
}

// TestOneLookServesThoseThatAreNotDueToo has one doubt that is due among others
// of the same time.
// TestTheLastLookDoesNotTrustNumbers unless the list would be too long.
func TestTheLastLookDoesNotTrustNumbers(t *testing.T) {
	t.Parallel()
	for sent, want := range map[int]mms.PhoneNumber{0: "", 100: "", (maxFullPages + 1) * mms.ListPage: "+14155550121"} {
		list := &pages{size: mms.ListPage}
		sweep(t, &doubtStore{sent: sent, doubts: []mms.Doubt{doubtAt(1, noon, time.Minute)}}, list)
		if diff := cmp.Diff([]mms.PhoneNumber{want}, list.numbers); diff != "" {
			t.Errorf("among %d messages, asked for (-want +got):\n%s", sent, diff)
		}
	}
}

func TestOneLookServesThoseThatAreNotDueToo(t *testing.T) {
	t.Parallel()
	early, due, late := doubtAt(1, noon, 0), doubtAt(2, noon.Add(time.Second), time.Minute), doubtAt(3, noon.Add(2*time.Second), time.Minute)
	early.Due, late.Due = false, false
	store := &doubtStore{doubts: []mms.Doubt{early, due, late}}
	list := &pages{size: mms.ListPage}
	sweep(t, store, list)
	if diff := cmp.Diff([]string{"resend 2 ", "resend 3 "}, store.calls); diff != "" {
		t.Errorf("decisions (-want +got):\n%s", diff)
	}
	if len(list.spans) != 1 {
		t.Errorf("%d looks, want 1", len(list.spans))
	}
}

func TestResolverDecidesNothingWithoutACompleteList(t *testing.T) {
	t.Parallel()
	store := &doubtStore{doubts: []mms.Doubt{doubtAt(1, noon, time.Minute+maxListOutage)}}
	sweep(t, store, &pages{size: 20, err: errors.New("too many requests")})
	if diff := cmp.Diff([]string{"later 1 20s"}, store.calls); diff != "" {
		t.Errorf("decisions (-want +got):\n%s", diff)
	}
}

// TestADoubtWithoutAnyListIsLeftToAPerson would else be looked at for ever.
func TestADoubtWithoutAnyListIsLeftToAPerson(t *testing.T) {
	t.Parallel()
	store := &doubtStore{doubts: []mms.Doubt{doubtAt(1, noon, time.Minute+maxListOutage+time.Second)}}
	sweep(t, store, &pages{size: 20, err: errors.New("forbidden")})
	if diff := cmp.Diff([]string{"hold 1 list_unavailable"}, store.calls); diff != "" {
		t.Errorf("decisions (-want +got):\n%s", diff)
	}
}
