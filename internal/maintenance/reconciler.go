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

// ReconcilerStore keeps messages in doubt. WithLease calls work unless another
// process holds the lease of that name. AdoptListed, Hold and RetryInDoubt
// report false when the doubt was resolved before.
type ReconcilerStore interface {
	WithLease(ctx context.Context, name string, work func(context.Context) error) error
	InDoubt(ctx context.Context, limit int) ([]mms.Doubt, error)
	AttemptsBetween(ctx context.Context, from, to time.Time) (int, error)
	KnownUUIDs(ctx context.Context, among []string) ([]string, error)
	ListRateLimit
	ScheduleCheck(ctx context.Context, ref mms.AttemptRef, wait time.Duration, note string) error
	AdoptListed(ctx context.Context, ref mms.AttemptRef, found mms.Listed) (bool, error)
	Hold(ctx context.Context, ref mms.AttemptRef, reason mms.Reason) (bool, error)
	RetryInDoubt(ctx context.Context, ref mms.AttemptRef) (bool, error)
}

// Lister lists outbound MMS as Plivo has them, in pages of at most mms.ListPage.
type Lister interface {
	List(ctx context.Context, q mms.ListQuery) (page []mms.Listed, more bool, err error)
}

// ListRateLimit reserves calls of Plivo's list, so that all processes together
// stay below Plivo's limit. The call may start after wait.
type ListRateLimit interface {
	ReserveListCall(ctx context.Context) (wait time.Duration, err error)
}

const (
	failedCheckRetry = 20 * time.Second // after a check whose list could not be read
	maxListOutage    = 15 * time.Minute // beyond DOUBT_WAIT; then a person decides
	maxFullPages     = 20               // of one list: a minute of Plivo's limit
	maxGroupSpan     = 5 * time.Minute  // between the first and last attempt of one query
)

// Reconciler returns the job that resolves doubts by evidence: it looks for the
// attempts' messages in Plivo's list. Delivery reports, which resolve most
// doubts sooner, arrive elsewhere. One process at a time runs it, because all
// share Plivo's limit.
func Reconciler(store ReconcilerStore, plivo Lister, policy mms.DoubtPolicy, logger *slog.Logger) Job {
	r := &reconciler{store: store, plivo: plivo, policy: policy, logger: logger}
	return Job{Name: "reconciler", Interval: time.Second, Run: r.run}
}

type reconciler struct {
	store  ReconcilerStore
	plivo  Lister
	policy mms.DoubtPolicy
	logger *slog.Logger
}

// run checks all doubts that are due, oldest first.
func (r *reconciler) run(ctx context.Context) error {
	doubts, err := r.store.InDoubt(ctx, batchSize)
	if err != nil || !slices.ContainsFunc(doubts, isDue) {
		return err
	}
	return r.store.WithLease(ctx, "reconciler", func(ctx context.Context) error {
		for {
			// Read again before each check: a check takes seconds, in which
			// delivery reports resolve other doubts.
			doubts, err := r.store.InDoubt(ctx, batchSize)
			first := slices.IndexFunc(doubts, isDue)
			if err != nil || first < 0 {
				return err
			}
			if err := r.check(ctx, doubts[first], groupAround(doubts, first)); err != nil {
				return err
			}
		}
	})
}

func isDue(d mms.Doubt) bool { return d.Due }

// groupAround returns the doubts, due or not, that one query can cover: those
// from index first on whose windows overlap, within maxGroupSpan. doubts are
// sorted, oldest first.
func groupAround(doubts []mms.Doubt, first int) []mms.Doubt {
	doubts = doubts[first:]
	start, _ := doubts[0].Window()
	for i, d := range doubts {
		from, _ := d.Window()
		_, end := span(doubts[:max(i, 1)])
		if from.After(end) || from.Sub(start) > maxGroupSpan {
			return doubts[:i]
		}
	}
	return doubts
}

// span covers the windows of all doubts of a group.
func span(group []mms.Doubt) (from, to time.Time) {
	from, to = group[0].Window()
	for _, d := range group[1:] {
		start, end := d.Window()
		if start.Before(from) {
			from = start
		}
		if end.After(to) {
			to = end
		}
	}
	return from, to
}

// check sends one query, about the first doubt or the whole group, and resolves
// each doubt it covers. Only a complete list is evidence.
func (r *reconciler) check(ctx context.Context, first mms.Doubt, group []mms.Doubt) error {
	query, group, err := r.cheapestQuery(ctx, first, group)
	if err != nil {
		return err
	}
	listed, err := r.list(ctx, query)
	if err != nil {
		r.logger.WarnContext(ctx, "Plivo's list could not be read; doubts are checked again later", slog.Any("error", err))
		return r.postpone(ctx, group)
	}
	failpoint.Hit(failpoint.ReconcilerListed)
	for _, d := range group {
		matches := slices.DeleteFunc(slices.Clone(listed), func(l mms.Listed) bool { return !d.Matches(l) })
		if err := r.resolve(ctx, d, r.policy.Resolve(d, matches)); err != nil {
			return err
		}
	}
	return nil
}

// postpone schedules another check of doubts whose list could not be read, and
// holds those for which that has lasted too long.
func (r *reconciler) postpone(ctx context.Context, group []mms.Doubt) error {
	for _, d := range group {
		if d.Age > r.policy.Wait+maxListOutage {
			if _, err := r.store.Hold(ctx, d.AttemptRef, mms.ReasonListUnavailable); err != nil {
				return err
			}
			continue
		}
		if err := r.store.ScheduleCheck(ctx, d.AttemptRef, failedCheckRetry, ""); err != nil {
			return err
		}
	}
	return nil
}

// cheapestQuery chooses the query with the fewest calls for the group: either
// one call for each doubt, filtered by its numbers, of which only the first is
// sent now; or one query by time for all, with a page for every mms.ListPage
// messages sent in that time. The last check, after which a message may be
// resent, is by time where the pages allow: Plivo does not document that its
// list filters by number.
func (r *reconciler) cheapestQuery(ctx context.Context, first mms.Doubt, group []mms.Doubt) (mms.ListQuery, []mms.Doubt, error) {
	from, to := span(group)
	sent, err := r.store.AttemptsBetween(ctx, from, to)
	if err != nil {
		return mms.ListQuery{}, nil, err
	}
	pages := 1 + sent/mms.ListPage
	lastCheck := first.Age >= r.policy.Wait
	if len(group) > pages || lastCheck && pages <= maxFullPages {
		return mms.ListQuery{From: from, To: to}, group, nil
	}
	from, to = first.Window()
	return mms.ListQuery{From: from, To: to, Sender: first.Sender, Recipient: first.Recipient}, []mms.Doubt{first}, nil
}

// list returns what Plivo lists, without messages that belong to other attempts.
func (r *reconciler) list(ctx context.Context, q mms.ListQuery) ([]mms.Listed, error) {
	listed, err := ListAll(ctx, r.plivo, r.store, q)
	if err != nil {
		return nil, err
	}
	return r.withoutKnown(ctx, listed)
}

// ListAll reads all pages of a query, as fast as the rate limit allows.
func ListAll(ctx context.Context, plivo Lister, limit ListRateLimit, q mms.ListQuery) ([]mms.Listed, error) {
	var all []mms.Listed
	for more := true; more; {
		wait, err := limit.ReserveListCall(ctx)
		if err != nil {
			return nil, err
		}
		if err := sleep(ctx, wait); err != nil {
			return nil, err
		}
		var page []mms.Listed
		q.Offset = len(all)
		if page, more, err = plivo.List(ctx, q); err != nil {
			return nil, err
		}
		all = append(all, page...)
	}
	return all, nil
}

// withoutKnown removes messages whose UUID is recorded with an attempt, and
// repetitions: a list that grows between two pages shows a message twice.
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

func (r *reconciler) resolve(ctx context.Context, d mms.Doubt, resolution mms.Resolution) error {
	var resolved bool
	var err error
	switch resolution.Kind {
	case mms.Adopt:
		resolved, err = r.store.AdoptListed(ctx, d.AttemptRef, resolution.Found)
	case mms.HoldAmbiguous:
		resolved, err = r.store.Hold(ctx, d.AttemptRef, mms.ReasonAmbiguous)
	case mms.HoldByPolicy:
		resolved, err = r.store.Hold(ctx, d.AttemptRef, mms.ReasonNotFound)
	case mms.Retry:
		resolved, err = r.store.RetryInDoubt(ctx, d.AttemptRef)
	default:
		return r.store.ScheduleCheck(ctx, d.AttemptRef, resolution.Wait, fmt.Sprintf("nothing found; next check in %s", resolution.Wait.Round(time.Second)))
	}
	if err != nil {
		return err
	}
	r.logger.InfoContext(ctx, "doubt resolved", d.LogAttr(), slog.String("resolution", resolution.Kind.String()), slog.Bool("changed", resolved))
	return nil
}
