package maintenance

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
)

// listCallInterval is what Plivo allows: 20 calls a minute.
const listCallInterval = 3 * time.Second

// loadAttempt is an attempt, and the message that Plivo has of it, if any.
type loadAttempt struct {
	mms.AttemptRef
	sender, recipient mms.PhoneNumber
	started, finished time.Time
	inDoubt           bool
	listed            *mms.Listed // nil: Plivo does not have it
	visibleAt         time.Time   // in the list

	nextCheck time.Time
	decision  string // "adopted", "retried", "held" or "stopped"
	decidedAt time.Time
	searched  int // events about it
}

// load is a store and a Plivo under load. It runs by the clock, which
// testing/synctest makes a simulated one.
type load struct {
	mu            sync.Mutex
	attempts      []*loadAttempt
	known         map[string]bool // UUIDs that are recorded with an attempt
	next          time.Time       // list call that the limit allows
	failsFor      int             // calls of the list that fail first
	fails         func() bool     // whether the next call fails; nil: it does not
	ignoresFilter bool            // ignores filters by number
	byUUID        bool            // orders the list by UUID instead of newest first
	fullReads     int             // pages read without a filter by number
	byNumber      int             // pages read with one
}

// add creates an attempt that starts in a while.
func (l *load) add(in, takes time.Duration) *loadAttempt {
	n := len(l.attempts)
	started := time.Now().Add(in)
	a := &loadAttempt{
		AttemptRef: mms.AttemptRef{MessageID: uuid.UUID{14: byte(n >> 8), 15: byte(n)}, Ordinal: 1},
		sender:     "+14155550100", recipient: mms.PhoneNumber(fmt.Sprintf("+1416%07d", n)),
		started: started, finished: started.Add(takes), nextCheck: started.Add(takes + 5*time.Second),
	}
	l.attempts = append(l.attempts, a)
	return a
}

// list has Plivo list the attempt's message, with a time, after a lag.
func (a *loadAttempt) list(at time.Time, lag time.Duration) {
	a.listed = &mms.Listed{PlivoUUID: uuid.NewString(), From: string(a.sender), To: string(a.recipient), At: at, State: "sent"}
	a.visibleAt = at.Add(lag)
}

func (l *load) WithLease(ctx context.Context, _ string, work func(context.Context) error) error {
	return work(ctx)
}

func (l *load) InDoubt(_ context.Context, limit int) ([]mms.Doubt, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	var doubts []mms.Doubt
	for _, a := range l.attempts {
		if a.inDoubt && a.decision == "" && !a.finished.After(now) {
			doubts = append(doubts, mms.Doubt{
				AttemptRef: a.AttemptRef, Sender: a.sender, Recipient: a.recipient,
				StartedAt: a.started, FinishedAt: a.finished, Age: now.Sub(a.finished), Due: !a.nextCheck.After(now),
			})
		}
	}
	slices.SortFunc(doubts, func(a, b mms.Doubt) int { return a.StartedAt.Compare(b.StartedAt) })
	return doubts[:min(limit, len(doubts))], nil
}

func (l *load) AttemptsBetween(_ context.Context, from, to time.Time) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, a := range l.attempts {
		if !a.started.After(time.Now()) && !a.started.Before(from) && !a.started.After(to) {
			n++
		}
	}
	return n, nil
}

func (l *load) KnownUUIDs(_ context.Context, among []string) ([]string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.attempts {
		if !a.inDoubt && a.listed != nil && !a.finished.After(time.Now()) {
			l.known[a.listed.PlivoUUID] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(among), func(uuid string) bool { return !l.known[uuid] }), nil
}

func (l *load) ReserveListCall(context.Context) (time.Duration, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.next.Before(now) {
		l.next = now
	}
	wait := l.next.Sub(now)
	l.next = l.next.Add(listCallInterval)
	return wait, nil
}

func (l *load) List(_ context.Context, q mms.ListQuery) ([]mms.Listed, bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failsFor > 0 || l.fails != nil && l.fails() {
		l.failsFor = max(0, l.failsFor-1)
		return nil, false, errors.New("too many requests")
	}
	if q.Recipient == "" {
		l.fullReads++
	} else {
		l.byNumber++
	}
	var found []mms.Listed
	for _, a := range l.attempts {
		if a.listed == nil || a.visibleAt.After(time.Now()) || a.listed.At.Before(q.From) || a.listed.At.After(q.To) {
			continue
		}
		if q.Recipient == "" || q.Recipient == a.recipient || l.ignoresFilter {
			found = append(found, *a.listed)
		}
	}
	slices.SortFunc(found, func(a, b mms.Listed) int {
		if l.byUUID {
			return cmp.Compare(a.PlivoUUID, b.PlivoUUID)
		}
		return b.At.Compare(a.At)
	})
	from, to := min(q.Offset, len(found)), min(q.Offset+mms.ListPage, len(found))
	return found[from:to], to-from == mms.ListPage, nil
}

func (l *load) ScheduleChecks(_ context.Context, refs []mms.AttemptRef, wait time.Duration, note string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, ref := range refs {
		a := l.attempt(ref)
		a.nextCheck = time.Now().Add(wait)
		if note != "" {
			a.searched++
		}
	}
	return nil
}

func (l *load) StopChecking(_ context.Context, ref mms.AttemptRef) error {
	l.decide(ref, "stopped")
	return nil
}

func (l *load) AdoptListed(_ context.Context, ref mms.AttemptRef, found mms.Listed) (mms.SubmitResult, error) {
	l.decide(ref, "adopted")
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known[found.PlivoUUID] = true
	return mms.Adopted, nil
}

func (l *load) Hold(_ context.Context, ref mms.AttemptRef, _ mms.Reason) (bool, error) {
	l.decide(ref, "held")
	return true, nil
}

func (l *load) RetryInDoubt(_ context.Context, ref mms.AttemptRef) (bool, error) {
	l.decide(ref, "retried")
	return true, nil
}

func (l *load) decide(ref mms.AttemptRef, decision string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.attempt(ref)
	a.decision, a.decidedAt = decision, time.Now()
}

func (l *load) attempt(ref mms.AttemptRef) *loadAttempt {
	return l.attempts[slices.IndexFunc(l.attempts, func(a *loadAttempt) bool { return a.AttemptRef == ref })]
}

func (l *load) open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, a := range l.attempts {
		if a.inDoubt && a.decision == "" {
			n++
		}
	}
	return n
}

// run runs the reconciler until all doubts are decided, an hour at most.
func (l *load) run(t *testing.T, wait time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		Run(ctx, Reconciler(l, l, mms.DoubtPolicy{Wait: wait}, func() {}, discardLogger()), discardLogger())
	}()
	for end := time.Now().Add(time.Hour); l.open() > 0; {
		if time.Now().After(end) {
			t.Errorf("got %d doubts open after an hour", l.open())
			break
		}
		time.Sleep(time.Second)
	}
	cancel()
	<-done
}

// wantEvidenceUsed checks that messages that Plivo lists are adopted, and the
// others retried.
func (l *load) wantEvidenceUsed(t *testing.T) {
	t.Helper()
	for _, a := range l.attempts {
		want := "retried"
		if a.listed != nil {
			want = "adopted"
		}
		if a.inDoubt && a.decision != want {
			t.Errorf("attempt %d, started %s, finished %s, listed %+v: got %q, want %q", a.MessageID[15], a.started, a.finished, a.listed, a.decision, want)
		}
	}
}

// TestReconcilerReadsEachPageOnce sends 20 messages a second for two minutes. A
// fifth of the calls ends with a 500, and Plivo has half of these messages. One in twenty
// answers is lost.
func TestReconcilerReadsEachPageOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const wait = 3 * time.Minute
		l := &load{known: map[string]bool{}}
		var lastDoubt time.Time
		listed := 0
		for i := range 2400 {
			a := l.add(time.Duration(i)*50*time.Millisecond, 300*time.Millisecond)
			a.inDoubt = i%5 == 0 || i%20 == 1
			if i%10 != 0 {
				a.list(a.started.Add(100*time.Millisecond), 30*time.Second)
				listed++
			}
			if a.inDoubt {
				lastDoubt = a.finished
			}
		}
		l.run(t, wait)
		l.wantEvidenceUsed(t)
		pages := (listed + mms.ListPage - 1) / mms.ListPage
		if got := l.fullReads + l.byNumber; got > pages+10 {
			t.Errorf("got %d pages read, %d of them by number, want %d for %d messages, and one per read", got, l.byNumber, pages, listed)
		}
		lastDecision, searched := time.Time{}, 0
		for _, a := range l.attempts {
			searched = max(searched, a.searched)
			if a.decidedAt.After(lastDecision) {
				lastDecision = a.decidedAt
			}
		}
		if got, want := lastDecision.Sub(lastDoubt), wait+time.Duration(pages+10)*listCallInterval; got > want {
			t.Errorf("got the last decision %s after the last doubt, want it within %s", got, want)
		}
		if searched > 1 {
			t.Errorf("got %d events about one doubt, want 1 at most", searched)
		}
	})
}

// TestReconcilerNeverRetriesWhatPlivoLists tries random loads. Plivo accepts a message
// during the attempt or later, its clock and the database's differ, both together by up
// to mms.ListSkew, and it lists the message before the wait is over.
func TestReconcilerNeverRetriesWhatPlivoLists(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				random := rand.New(rand.NewPCG(seed, 0))
				upTo := func(d time.Duration) time.Duration { return time.Duration(random.Int64N(int64(d) + 1)) }
				wait := []time.Duration{3 * time.Second, time.Minute, 3 * time.Minute}[random.IntN(3)]
				skew := upTo(2*mms.ListSkew) - mms.ListSkew
				l := &load{known: map[string]bool{}, byUUID: random.IntN(2) == 0}
				share, span := random.Float64()/2, upTo(5*time.Minute)
				for range 1 + random.IntN(1500) {
					a := l.add(upTo(span), upTo(15*time.Second))
					a.inDoubt = random.Float64() < share
					if random.IntN(2) == 0 {
						late := upTo(min(wait, mms.ListSkew-skew.Abs()))
						accepted := a.started.Add(upTo(a.finished.Sub(a.started) + late))
						a.list(accepted.Add(skew), 0)
						a.visibleAt = accepted.Add(upTo(a.finished.Add(wait).Sub(accepted)))
					}
				}
				l.run(t, wait)
				l.wantEvidenceUsed(t)
			})
		})
	}
}

// TestReconcilerReadsOnAfterAFailedPage lets three of ten calls of the list fail, as they
// may while Plivo answers sends with errors. Attempts of lost workers are in flight for
// long.
func TestReconcilerReadsOnAfterAFailedPage(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const wait = 3 * time.Minute
				random := rand.New(rand.NewPCG(seed, 0))
				upTo := func(d time.Duration) time.Duration { return time.Duration(random.Int64N(int64(d) + 1)) }
				l := &load{known: map[string]bool{}, fails: func() bool { return random.IntN(10) < 3 }}
				for i := range 3000 {
					takes := upTo(time.Second)
					if random.IntN(50) == 0 {
						takes = 30*time.Second + upTo(90*time.Second)
					}
					a := l.add(time.Duration(i)*50*time.Millisecond, takes)
					a.inDoubt = random.IntN(5) == 0
					if random.IntN(2) == 0 {
						a.list(a.started.Add(upTo(takes)), 0)
						a.visibleAt = a.listed.At.Add(upTo(a.finished.Add(wait).Sub(a.listed.At)))
					}
				}
				l.run(t, wait)
				l.wantEvidenceUsed(t)
			})
		})
	}
}

// TestReconcilerFindsMessagesSoonInLowTraffic loses the answers of one message that
// Plivo lists at once, and of one that Plivo processes minutes later.
func TestReconcilerFindsMessagesSoonInLowTraffic(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &load{known: map[string]bool{}}
		soon, late := l.add(0, time.Second), l.add(time.Minute, time.Second)
		soon.inDoubt, late.inDoubt = true, true
		soon.list(soon.started, 2*time.Second)
		late.list(late.finished.Add(2*time.Minute), 0)
		l.run(t, 3*time.Minute)
		l.wantEvidenceUsed(t)
		if got := soon.decidedAt.Sub(soon.finished); got > 10*time.Second {
			t.Errorf("got the first decision after %s, want it within 10s", got)
		}
	})
}

// TestReconcilerWaitsForTheList holds a message only when the list has failed for as
// long as an outage may last, however old the doubt is.
func TestReconcilerWaitsForTheList(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		failing   time.Duration
		doubtAged time.Duration // when the reconciler starts
		want      string
	}{
		"short outage":            {10 * time.Minute, 0, "retried"},
		"outage":                  {time.Hour, 0, "held"},
		"short outage, old doubt": {10 * time.Minute, time.Hour, "retried"},
		"outage, old doubt":       {time.Hour, time.Hour, "held"},
		"nearly too long":         {17 * time.Minute, 0, "retried"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := &load{known: map[string]bool{}, failsFor: int(tt.failing / failedCheckRetry)}
				a := l.add(0, time.Second)
				a.inDoubt = true
				time.Sleep(tt.doubtAged)
				l.run(t, 3*time.Minute)
				if a.decision != tt.want {
					t.Errorf("got %q, want %q", a.decision, tt.want)
				}
			})
		})
	}
}

// TestReconcilerSearchesByNumberAmongManyMessages has one doubt in a time with so many
// messages that a search by its numbers is far cheaper. Other numbers in the answer
// show that Plivo ignores the filter.
func TestReconcilerSearchesByNumberAmongManyMessages(t *testing.T) {
	t.Parallel()
	for _, ignoresFilter := range []bool{false, true} {
		t.Run(fmt.Sprintf("filter ignored %t", ignoresFilter), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const messages = 3 * maxReadPages * mms.ListPage
				l := &load{known: map[string]bool{}, ignoresFilter: ignoresFilter}
				for i := range messages {
					a := l.add(time.Duration(i)*50*time.Millisecond, time.Second)
					a.list(a.started, 0)
				}
				doubt := l.attempts[messages/2]
				doubt.inDoubt, doubt.listed = true, nil
				l.run(t, 3*time.Minute)
				l.wantEvidenceUsed(t)
				if !ignoresFilter && l.fullReads > 0 {
					t.Errorf("got %d pages read by time, want 0", l.fullReads)
				}
				if ignoresFilter && (l.byNumber != 1 || l.fullReads < messages/mms.ListPage || l.fullReads > messages/mms.ListPage+10) {
					t.Errorf("got %d pages by number and %d by time, want 1 and about %d", l.byNumber, l.fullReads, messages/mms.ListPage)
				}
			})
		})
	}
}
