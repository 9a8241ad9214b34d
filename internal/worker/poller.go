package worker

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"postcard/internal/mms"
)

// Poller asks Plivo about messages whose delivery report does not come: there is
// no public URL, the report was lost, or we were away for longer than Plivo
// tries. Any number of pollers may run side by side.
type Poller struct {
	Store  SilentStore
	Plivo  Getter
	Wait   time.Duration // for a report, before Plivo is asked
	Logger *slog.Logger
}

// SilentStore keeps messages of which nothing has been heard for a while.
type SilentStore interface {
	TakeSilent(ctx context.Context, wait time.Duration, limit int) ([]mms.Silent, error)
	ReserveGetCall(ctx context.Context) (wait time.Duration, err error)
	ApplyReport(ctx context.Context, ref mms.AttemptRef, r mms.Report, kind mms.EventKind) (news bool, err error)
	RestSilent(ctx context.Context, ref mms.AttemptRef) error
}

// Getter asks Plivo about one message; mms.ErrNotFound when it has none.
type Getter interface {
	Get(ctx context.Context, plivoUUID string) (mms.Listed, error)
}

const (
	silentBatch = 50 // a few seconds' worth of questions
	getsAtOnce  = 8
	getTimeout  = 15 * time.Second
)

// Sweep asks about all messages whose time has come.
func (p *Poller) Sweep(ctx context.Context) error {
	for {
		silent, err := p.Store.TakeSilent(ctx, p.Wait, silentBatch)
		if err != nil || len(silent) == 0 {
			return err
		}
		group, groupCtx := errgroup.WithContext(ctx)
		group.SetLimit(getsAtOnce)
		for _, s := range silent {
			group.Go(func() error { return p.ask(groupCtx, s) })
		}
		if err := group.Wait(); err != nil {
			return err
		}
	}
}

// ask asks about one message. Plivo's failure ends the sweep, and the others
// that were taken come up again in their time.
func (p *Poller) ask(ctx context.Context, s mms.Silent) error {
	wait, err := p.Store.ReserveGetCall(ctx)
	if err != nil {
		return err
	}
	if err := sleep(ctx, wait); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, getTimeout)
	defer cancel()
	found, err := p.Plivo.Get(ctx, s.PlivoUUID)
	switch {
	case errors.Is(err, mms.ErrNotFound):
		p.Logger.WarnContext(ctx, "Plivo does not know a message that it accepted", attemptAttrs(s.AttemptRef))
		return p.Store.RestSilent(ctx, s.AttemptRef)
	case err != nil:
		return err
	case !s.Matches(found):
		p.Logger.WarnContext(ctx, "Plivo has another message under the UUID", attemptAttrs(s.AttemptRef))
		return p.Store.RestSilent(ctx, s.AttemptRef)
	}
	news, err := p.Store.ApplyReport(ctx, s.AttemptRef, found.Report(), mms.EventAsked)
	if err != nil || news {
		return err
	}
	return p.Store.RestSilent(ctx, s.AttemptRef)
}

func sleep(ctx context.Context, wait time.Duration) error {
	select {
	case <-time.After(wait):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
