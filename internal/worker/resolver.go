package worker

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"postcard/internal/failpoint"
	"postcard/internal/mms"
)

// Resolver settles doubts by evidence: it looks for the attempts' messages in
// Plivo's list. Delivery reports, which settle most doubts sooner, come in
// elsewhere. Of all resolvers one works at a time: they share Plivo's limit.
type Resolver struct {
	Store  DoubtStore
	Plivo  Lister
	Policy mms.DoubtPolicy
	Logger *slog.Logger
}

// DoubtStore keeps doubts. InTurn calls work unless another process is at the
// work of that name. Of the settling methods, false means that somebody else was quicker.
type DoubtStore interface {
	InTurn(ctx context.Context, name string, work func(context.Context) error) error
	OpenDoubts(ctx context.Context, limit int) ([]mms.Doubt, error)
	AttemptsBetween(ctx context.Context, from, to time.Time) (int, error)
	KnownUUIDs(ctx context.Context, among []string) ([]string, error)
	ListGate
	LookLater(ctx context.Context, ref mms.AttemptRef, wait time.Duration, note string) error
	AdoptListed(ctx context.Context, ref mms.AttemptRef, found mms.Listed) (bool, error)
	HoldDoubt(ctx context.Context, ref mms.AttemptRef, reason mms.Reason) (bool, error)
	ResendDoubt(ctx context.Context, ref mms.AttemptRef) (bool, error)
}

// Lister lists the outbound MMS that Plivo has from a span of time, in pages of
// mms.ListPage.
type Lister interface {
	List(ctx context.Context, q mms.ListQuery) (page []mms.Listed, more bool, err error)
}

// retryLook is when a look that failed is tried again.
const retryLook = 20 * time.Second

// pagesForCertainty are a minute's worth of questions.
const pagesForCertainty = 20

// listPatience is for how long beyond the waiting time a list that cannot be
// read is asked for.
const listPatience = 15 * time.Minute

// Sweep looks after all doubts whose time for a look has come, the oldest
// first.
func (r *Resolver) Sweep(ctx context.Context) error {
	if doubts, err := r.Store.OpenDoubts(ctx, batch); err != nil || !slices.ContainsFunc(doubts, isDue) {
		return err
	}
	return r.Store.InTurn(ctx, "resolver", func(ctx context.Context) error {
		for {
			// They are read anew for each look: it takes seconds, in which
			// delivery reports settle others.
			doubts, err := r.Store.OpenDoubts(ctx, batch)
			first := slices.IndexFunc(doubts, isDue)
			if err != nil || first < 0 {
				return err
			}
			if err := r.settle(ctx, doubts[first], around(doubts, first)); err != nil {
				return err
			}
		}
	})
}

func isDue(d mms.Doubt) bool { return d.Due }

// around returns the doubts, due or not, that could share a look with the one at
// index first and are no older: their windows overlap, and all lie within a few
// minutes. Doubts come the oldest first.
func around(doubts []mms.Doubt, first int) []mms.Doubt {
	const longest = 5 * time.Minute
	doubts = doubts[first:]
	begun, _ := doubts[0].Window()
	for i, d := range doubts {
		from, _ := d.Window()
		_, ended := span(doubts[:max(i, 1)])
		if from.After(ended) || from.Sub(begun) > longest {
			return doubts[:i]
		}
	}
	return doubts
}

// span is the time that covers the windows of all doubts of a group.
func span(group []mms.Doubt) (from, to time.Time) {
	from, to = group[0].Window()
	for _, d := range group[1:] {
		begun, ended := d.Window()
		if begun.Before(from) {
			from = begun
		}
		if ended.After(to) {
			to = ended
		}
	}
	return from, to
}

// settle asks Plivo once, about the first doubt or about the whole group, and
// decides on each doubt asked about. Only a complete list counts as a look.
func (r *Resolver) settle(ctx context.Context, first mms.Doubt, group []mms.Doubt) error {
	query, group, err := r.cheapest(ctx, first, group)
	if err != nil {
		return err
	}
	listed, err := r.list(ctx, query)
	if err != nil {
		r.Logger.WarnContext(ctx, "evidence about doubtful messages could not be had; they are looked at again", slog.Any("error", err))
		return r.lookLater(ctx, group)
	}
	failpoint.Hit(failpoint.ResolverListed)
	for _, d := range group {
		found := slices.DeleteFunc(slices.Clone(listed), func(l mms.Listed) bool { return !d.Matches(l) })
		if err := r.decide(ctx, d, r.Policy.Resolve(d, found)); err != nil {
			return err
		}
	}
	return nil
}

// lookLater has doubts looked at again whose evidence could not be had; those for
// which that goes on too long are left to a person.
func (r *Resolver) lookLater(ctx context.Context, group []mms.Doubt) error {
	for _, d := range group {
		if d.Age > r.Policy.Wait+listPatience {
			if _, err := r.Store.HoldDoubt(ctx, d.AttemptRef, mms.ReasonUnlisted); err != nil {
				return err
			}
			continue
		}
		if err := r.Store.LookLater(ctx, d.AttemptRef, retryLook, ""); err != nil {
			return err
		}
	}
	return nil
}

// cheapest chooses the question that settles the group with the fewest calls:
// one for each doubt, by its numbers, of which only the first is asked now; or
// for all at once, by their time, in as many pages as we sent messages then. The
// last look, after which a message may be sent again, asks by the time where that
// can be had: that Plivo's list heeds numbers is not documented.
func (r *Resolver) cheapest(ctx context.Context, first mms.Doubt, group []mms.Doubt) (mms.ListQuery, []mms.Doubt, error) {
	from, to := span(group)
	sent, err := r.Store.AttemptsBetween(ctx, from, to)
	if err != nil {
		return mms.ListQuery{}, nil, err
	}
	pages := 1 + sent/mms.ListPage
	last := first.Age >= r.Policy.Wait
	if len(group) > pages || last && pages <= pagesForCertainty {
		return mms.ListQuery{From: from, To: to}, group, nil
	}
	from, to = first.Window()
	return mms.ListQuery{From: from, To: to, Sender: first.Sender, Recipient: first.Recipient}, []mms.Doubt{first}, nil
}

// list returns what Plivo lists, less what is known to belong to other attempts.
func (r *Resolver) list(ctx context.Context, q mms.ListQuery) ([]mms.Listed, error) {
	listed, err := ListAll(ctx, r.Plivo, r.Store, q)
	if err != nil {
		return nil, err
	}
	return r.unknown(ctx, listed)
}

// ListGate says how long to wait before the next call of Plivo's list, so that
// all processes together stay below Plivo's limit.
type ListGate interface {
	ReserveListCall(ctx context.Context) (wait time.Duration, err error)
}

// ListAll asks for all pages of a query, as fast as the gate lets it.
func ListAll(ctx context.Context, plivo Lister, gate ListGate, q mms.ListQuery) ([]mms.Listed, error) {
	var all []mms.Listed
	for more := true; more; {
		wait, err := gate.ReserveListCall(ctx)
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

// unknown takes out what belongs to other attempts, and what a list that moved
// between two pages shows twice.
func (r *Resolver) unknown(ctx context.Context, listed []mms.Listed) ([]mms.Listed, error) {
	uuids := make([]string, len(listed))
	for i, l := range listed {
		uuids[i] = l.PlivoUUID
	}
	known, err := r.Store.KnownUUIDs(ctx, uuids)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, uuid := range known {
		seen[uuid] = true
	}
	return slices.DeleteFunc(listed, func(l mms.Listed) bool {
		twice := seen[l.PlivoUUID]
		seen[l.PlivoUUID] = true
		return twice
	}), nil
}

func (r *Resolver) decide(ctx context.Context, d mms.Doubt, resolution mms.Resolution) error {
	var settled bool
	var err error
	switch resolution.Kind {
	case mms.Adopt:
		settled, err = r.Store.AdoptListed(ctx, d.AttemptRef, resolution.Found)
	case mms.HoldAmbiguous:
		settled, err = r.Store.HoldDoubt(ctx, d.AttemptRef, mms.ReasonAmbiguous)
	case mms.HoldByPolicy:
		settled, err = r.Store.HoldDoubt(ctx, d.AttemptRef, mms.ReasonNotFound)
	case mms.Resend:
		settled, err = r.Store.ResendDoubt(ctx, d.AttemptRef)
	default:
		return r.Store.LookLater(ctx, d.AttemptRef, resolution.Wait, fmt.Sprintf("nothing found; next look in %s", resolution.Wait.Round(time.Second)))
	}
	if err != nil {
		return err
	}
	r.Logger.InfoContext(ctx, "doubt settled", attemptAttrs(d.AttemptRef), slog.String("how", resolution.Kind.String()), slog.Bool("by_us", settled))
	return nil
}
