package maintenance

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/postcard-mms/postcard/internal/failpoint"
	"github.com/postcard-mms/postcard/internal/mms"
)

// ReconcilerStore keeps attempts in doubt. WithLease calls work unless another
// process holds the lease of that name. Hold and RetryInDoubt report false when
// the doubt was resolved before.
type ReconcilerStore interface {
	WithLease(ctx context.Context, name string, work func(context.Context) error) error
	InDoubt(ctx context.Context, limit int) ([]mms.Doubt, error) // the oldest first
	AttemptsBetween(ctx context.Context, from, to time.Time) (int, error)
	KnownUUIDs(ctx context.Context, among []string) ([]string, error)
	ListRateLimit
	ScheduleChecks(ctx context.Context, refs []mms.AttemptRef, wait time.Duration, note string) error
	AdoptListed(ctx context.Context, ref mms.AttemptRef, found mms.Listed) (mms.SubmitResult, error)
	Hold(ctx context.Context, ref mms.AttemptRef, reason mms.Reason) (bool, error)
	RetryInDoubt(ctx context.Context, ref mms.AttemptRef) (bool, error)
	StopChecking(ctx context.Context, ref mms.AttemptRef) error
}

const (
	failedCheckRetry = 20 * time.Second // after a check whose list could not be read
	maxListOutage    = 15 * time.Minute // beyond DOUBT_WAIT; then a person decides
	maxEarlyChecks   = 5                // open doubts; with more, no calls for single doubts: the pass needs Plivo's limit
	minReadPages     = 10
	maxReadPages     = 20              // of one read: a minute of Plivo's limit
	maxOpenDoubts    = 5000            // that a check takes into account
	passCheckPeriod  = 5 * time.Minute // until the next check of a doubt that waits for the pass; it must not count as overdue
	passRetry        = 3 * time.Second // until more of the list can be read
)

// Reconciler returns the job that resolves doubts by evidence: it looks for the
// attempts' messages in Plivo's list. Delivery reports, which resolve most
// doubts sooner, arrive elsewhere. One process at a time runs it, because all
// share Plivo's limit. onDuplicate is called for each message that turns out to
// have been sent twice.
//
// A doubt that has lasted for policy.Wait is decided by a pass through the list by
// time, which reads each page once (see pass). Before that, and in low traffic, checks
// that cost one call find the message sooner.
func Reconciler(store ReconcilerStore, plivo Lister, policy mms.DoubtPolicy, onDuplicate func(), logger *slog.Logger) Job {
	r := &reconciler{store: store, plivo: plivo, policy: policy, onDuplicate: onDuplicate, logger: logger}
	return Job{Name: "reconciler", Interval: time.Second, Run: r.run}
}

type reconciler struct {
	store       ReconcilerStore
	plivo       Lister
	policy      mms.DoubtPolicy
	onDuplicate func()
	logger      *slog.Logger

	unfiltered bool // Plivo's list seems to ignore filters by number
}

// run checks doubts until none is due. It keeps the lease meanwhile, so that all of them
// are decided with what it has read of the list.
func (r *reconciler) run(ctx context.Context) error {
	doubts, err := r.store.InDoubt(ctx, batchSize)
	if err != nil || !slices.ContainsFunc(doubts, r.isDue) {
		return err
	}
	return r.store.WithLease(ctx, "reconciler", func(ctx context.Context) error {
		p := &pass{wait: r.policy.Wait}
		for {
			// Read again before each check: a check takes seconds, in which
			// delivery reports resolve other doubts.
			doubts, err := r.store.InDoubt(ctx, maxOpenDoubts)
			if err != nil || !slices.ContainsFunc(doubts, r.isDue) {
				return err
			}
			if err := r.check(ctx, p, doubts); err != nil {
				return err
			}
		}
	})
}

func (r *reconciler) isDue(d mms.Doubt) bool { return r.isSettled(d) || r.isEarly(d) }

// isSettled reports whether Plivo lists the doubt's message by now, if it has it.
func (r *reconciler) isSettled(d mms.Doubt) bool { return d.Age >= r.policy.Wait }

// isEarly reports whether an early check of the doubt is due. A superseded attempt gets
// none, because its message does not wait for the result.
func (r *reconciler) isEarly(d mms.Doubt) bool { return !r.isSettled(d) && d.Due && !d.Superseded() }

// check makes one search of Plivo's list, the cheapest that decides something, and
// resolves the doubts that it is evidence about.
func (r *reconciler) check(ctx context.Context, p *pass, doubts []mms.Doubt) error {
	p.forget(doubts)
	settled, early := filter(doubts, r.isSettled), filter(doubts, r.isEarly)
	unread := filter(settled, func(d mms.Doubt) bool { return !p.covers(d) })
	if len(unread)+len(early) == 0 { // the last decision changed nothing
		if err := r.decide(ctx, p, settled); err != nil {
			return err
		}
		return sleep(ctx, passRetry)
	}
	toNow := queryToNow(oldest(unread, early))
	sent, err := r.store.AttemptsBetween(ctx, toNow.From, toNow.To)
	switch {
	case err != nil:
		return err
	case sent < mms.ListPage:
		return r.search(ctx, p, toNow, filter(doubts, func(d mms.Doubt) bool {
			return !d.StartedAt.Before(oldest(unread, early).StartedAt) && (r.isSettled(d) || !d.Superseded())
		}))
	case len(unread) > 0:
		return r.advance(ctx, p, doubts, unread)
	case len(doubts) <= maxEarlyChecks && !r.unfiltered:
		return r.searchByNumber(ctx, p, early[0])
	default:
		return r.store.ScheduleChecks(ctx, refs(early), passCheckPeriod, "")
	}
}

// advance takes the pass one read further, for the doubts that it has not covered. The
// read ends where the window of the first unsettled doubt begins: pages in that window
// would have to be read again once the doubt is settled.
//
// When the joined windows have more pages than doubts, and more than one read may have,
// each doubt gets a search by its numbers instead, although Plivo does not document such
// a filter.
func (r *reconciler) advance(ctx context.Context, p *pass, doubts, unread []mms.Doubt) error {
	if due := filter(doubts, func(d mms.Doubt) bool { return d.Due }); len(due) > 0 {
		if err := r.store.ScheduleChecks(ctx, refs(due), passCheckPeriod, ""); err != nil {
			return err
		}
	}
	from := p.readUntil(slices.MinFunc(unread, func(a, b mms.Doubt) int { return p.readUntil(a).Compare(p.readUntil(b)) }))
	to, inSpan := joinedWindows(doubts, from)
	sent, err := r.store.AttemptsBetween(ctx, from, to)
	if err != nil {
		return err
	}
	if pages := 1 + sent/mms.ListPage; pages > maxReadPages && pages > inSpan && !r.unfiltered {
		return r.searchByNumber(ctx, p, unread[0])
	}
	if i := slices.IndexFunc(doubts, func(d mms.Doubt) bool { return !r.isSettled(d) }); i >= 0 && windowStart(doubts[i]).Before(to) {
		to = windowStart(doubts[i])
		if sent, err = r.store.AttemptsBetween(ctx, from, to); err != nil {
			return err
		}
		decides := slices.ContainsFunc(unread, func(d mms.Doubt) bool { return !windowEnd(d).After(to) })
		if !decides && sent < minReadPages*mms.ListPage { // a short read wastes part of a page
			return sleep(ctx, passRetry)
		}
	}
	if sent > maxReadPages*mms.ListPage {
		if to, err = r.shorten(ctx, from, to); err != nil {
			return err
		}
	}
	if read, err := r.read(ctx, p, mms.ListQuery{From: from, To: to}, unread); !read {
		return err
	}
	return r.decide(ctx, p, filter(unread, p.covers))
}

// shorten returns an earlier end, with which the read has minReadPages to maxReadPages.
// Then little is lost when a page cannot be read, and the first doubts need not wait for
// the last page.
func (r *reconciler) shorten(ctx context.Context, from, to time.Time) (time.Time, error) {
	for low, high := from, to; high.Sub(low) > time.Second; {
		middle := low.Add(high.Sub(low) / 2)
		sent, err := r.store.AttemptsBetween(ctx, from, middle)
		switch {
		case err != nil:
			return time.Time{}, err
		case sent > maxReadPages*mms.ListPage:
			high, to = middle, middle
		case sent < minReadPages*mms.ListPage:
			low = middle
		default:
			return middle, nil
		}
	}
	return to, nil
}

// search reads the list up to now and decides on doubts. The query must cover their
// windows.
func (r *reconciler) search(ctx context.Context, p *pass, q mms.ListQuery, doubts []mms.Doubt) error {
	if read, err := r.read(ctx, p, q, doubts); !read {
		return err
	}
	return r.decide(ctx, p, doubts)
}

// read reads all pages of a query by time. If it fails, it postpones the doubts and
// returns false.
func (r *reconciler) read(ctx context.Context, p *pass, q mms.ListQuery, doubts []mms.Doubt) (bool, error) {
	listed, err := ListAll(ctx, r.plivo, r.store, q)
	if err != nil {
		return false, r.postpone(ctx, p, doubts, err)
	}
	failpoint.Hit(failpoint.ReconcilerListed)
	p.add(listRead{from: q.From, to: q.To, asOf: doubts[0].AsOf()}, listed)
	return true, nil
}

// searchByNumber reads the page that Plivo lists for the doubt's numbers. When the page has
// other numbers, or is not the only one, Plivo seems to ignore the filter: the page is no
// evidence, and no such search is made again.
func (r *reconciler) searchByNumber(ctx context.Context, p *pass, d mms.Doubt) error {
	q := queryToNow(d)
	q.Sender, q.Recipient = d.Sender, d.Recipient
	listed, more, err := listPage(ctx, r.plivo, r.store, q)
	if err != nil {
		return r.postpone(ctx, p, []mms.Doubt{d}, err)
	}
	failpoint.Hit(failpoint.ReconcilerListed)
	p.failingSince = time.Time{}
	if more || slices.ContainsFunc(listed, func(l mms.Listed) bool { return !d.HasNumbers(l) }) {
		r.unfiltered = true
		return nil
	}
	if listed, err = r.withoutKnown(ctx, listed); err != nil {
		return err
	}
	return r.resolve(ctx, d, listed)
}

// postpone waits after an error of Plivo's list. Before that it holds the doubts for which
// the list has been unavailable for too long.
func (r *reconciler) postpone(ctx context.Context, p *pass, doubts []mms.Doubt, cause error) error {
	r.logger.WarnContext(ctx, "Plivo's list could not be read; doubts are checked again later", slog.Any("error", cause))
	now := doubts[0].AsOf()
	if p.failingSince.IsZero() {
		p.failingSince = now
	}
	for _, d := range doubts {
		if now.Sub(p.failingSince) < maxListOutage || d.Age <= r.policy.Wait+maxListOutage {
			continue
		}
		resolution := mms.Resolution{Kind: mms.HoldUnavailable}
		if d.Superseded() {
			resolution.Kind = mms.StopChecking
		}
		if err := r.apply(ctx, d, resolution); err != nil {
			return err
		}
	}
	if err := r.store.ScheduleChecks(ctx, refs(doubts), failedCheckRetry, ""); err != nil {
		return err
	}
	return sleep(ctx, failedCheckRetry)
}

// decide resolves doubts with what the pass has read, without the messages that reports
// have since shown to be other attempts'.
func (r *reconciler) decide(ctx context.Context, p *pass, doubts []mms.Doubt) error {
	var err error
	if p.listed, err = r.withoutKnown(ctx, p.listed); err != nil {
		return err
	}
	for _, d := range doubts {
		if err := r.resolve(ctx, d, p.listed); err != nil {
			return err
		}
	}
	return nil
}

// withoutKnown removes messages whose UUID is recorded with an attempt, and
// repetitions.
func (r *reconciler) withoutKnown(ctx context.Context, listed []mms.Listed) ([]mms.Listed, error) {
	uuids := make([]string, len(listed))
	for i, l := range listed {
		uuids[i] = l.PlivoUUID
	}
	known, err := r.store.KnownUUIDs(ctx, uuids)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, uuid := range known {
		seen[uuid] = true
	}
	return slices.DeleteFunc(listed, func(l mms.Listed) bool {
		repeated := seen[l.PlivoUUID]
		seen[l.PlivoUUID] = true
		return repeated
	}), nil
}

// resolve decides on a doubt. listed has all messages in its window that belong to no
// other attempt, and may have others.
func (r *reconciler) resolve(ctx context.Context, d mms.Doubt, listed []mms.Listed) error {
	matches := slices.DeleteFunc(slices.Clone(listed), func(l mms.Listed) bool { return !d.Matches(l) })
	return r.apply(ctx, d, r.policy.Resolve(d, matches))
}

func (r *reconciler) apply(ctx context.Context, d mms.Doubt, resolution mms.Resolution) error {
	changed := true
	var err error
	switch resolution.Kind {
	case mms.Adopt:
		changed, err = r.adopt(ctx, d, resolution.Found)
	case mms.HoldAmbiguous:
		changed, err = r.store.Hold(ctx, d.AttemptRef, mms.ReasonAmbiguous)
	case mms.HoldByPolicy:
		changed, err = r.store.Hold(ctx, d.AttemptRef, mms.ReasonNotFound)
	case mms.HoldUnavailable:
		changed, err = r.store.Hold(ctx, d.AttemptRef, mms.ReasonListUnavailable)
	case mms.Retry:
		changed, err = r.store.RetryInDoubt(ctx, d.AttemptRef)
	case mms.StopChecking:
		err = r.store.StopChecking(ctx, d.AttemptRef)
	default:
		return r.store.ScheduleChecks(ctx, []mms.AttemptRef{d.AttemptRef}, resolution.Wait, fmt.Sprintf("nothing found; next check in %s", resolution.Wait.Round(time.Second)))
	}
	if err != nil {
		return err
	}
	r.logger.InfoContext(ctx, "doubt resolved", d.LogAttr(), slog.String("resolution", resolution.Kind.String()), slog.Bool("changed", changed))
	return nil
}

// adopt records evidence that Plivo has the attempt's message.
func (r *reconciler) adopt(ctx context.Context, d mms.Doubt, found mms.Listed) (changed bool, err error) {
	result, err := r.store.AdoptListed(ctx, d.AttemptRef, found)
	if result == mms.Duplicate {
		r.onDuplicate()
	}
	return result != mms.AlreadyKnown, err
}

// queryToNow covers the time from the start of the doubt's window to now, and allows for
// clocks that differ.
func queryToNow(d mms.Doubt) mms.ListQuery {
	return mms.ListQuery{From: windowStart(d), To: d.AsOf().Add(mms.ListSkew)}
}

func windowStart(d mms.Doubt) time.Time {
	from, _ := d.Window()
	return from
}

func windowEnd(d mms.Doubt) time.Time {
	_, to := d.Window()
	return to
}

// oldest returns the oldest of two sorted groups of doubts, of which one may be empty.
func oldest(a, b []mms.Doubt) mms.Doubt {
	if len(a) == 0 || len(b) > 0 && b[0].StartedAt.Before(a[0].StartedAt) {
		return b[0]
	}
	return a[0]
}

func filter(doubts []mms.Doubt, wanted func(mms.Doubt) bool) []mms.Doubt {
	return slices.DeleteFunc(slices.Clone(doubts), func(d mms.Doubt) bool { return !wanted(d) })
}

func refs(doubts []mms.Doubt) []mms.AttemptRef {
	refs := make([]mms.AttemptRef, len(doubts))
	for i, d := range doubts {
		refs[i] = d.AttemptRef
	}
	return refs
}
