package maintenance

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/postcard-mms/postcard/internal/mms"
)

// ReportPollerStore keeps messages at Plivo without a recent delivery report.
// ApplyReport reports whether it recorded an event.
type ReportPollerStore interface {
	TakeUnreported(ctx context.Context, wait time.Duration, limit int) ([]mms.Unreported, error)
	ReserveGetCall(ctx context.Context) (wait time.Duration, err error)
	ApplyReport(ctx context.Context, ref mms.AttemptRef, r mms.Report, kind mms.EventKind) (changed bool, err error)
	BackOffUnreported(ctx context.Context, ref mms.AttemptRef) error
}

// Getter asks Plivo about one message. It returns mms.ErrNotFound when Plivo
// does not know it.
type Getter interface {
	Get(ctx context.Context, plivoUUID string) (mms.Listed, error)
}

const (
	pollBatchSize     = 50 // takes a few seconds at the rate that ReserveGetCall allows
	maxConcurrentGets = 8
	getTimeout        = 15 * time.Second
)

// ReportPoller returns the job that asks Plivo about messages whose delivery
// report has not come for wait: there is no callback URL, the report was lost, or
// we were down for longer than Plivo retries. It asks about a message less and less
// often, until the message is final: by a report, or because UnreportedCloser closed it.
func ReportPoller(store ReportPollerStore, plivo Getter, wait time.Duration, logger *slog.Logger) Job {
	p := &reportPoller{store: store, plivo: plivo, wait: wait, logger: logger}
	return Job{Name: "report poller", Interval: time.Second, Run: p.run}
}

type reportPoller struct {
	store  ReportPollerStore
	plivo  Getter
	wait   time.Duration
	logger *slog.Logger
}

func (p *reportPoller) run(ctx context.Context) error {
	for {
		unreported, err := p.store.TakeUnreported(ctx, p.wait, pollBatchSize)
		if err != nil || len(unreported) == 0 {
			return err
		}
		group, groupCtx := errgroup.WithContext(ctx)
		group.SetLimit(maxConcurrentGets)
		for _, u := range unreported {
			group.Go(func() error { return p.poll(groupCtx, u) })
		}
		if err := group.Wait(); err != nil {
			return err
		}
	}
}

// poll asks about one message. An error of Plivo ends the run; the other taken
// messages are taken again after wait.
func (p *reportPoller) poll(ctx context.Context, u mms.Unreported) error {
	wait, err := p.store.ReserveGetCall(ctx)
	if err != nil {
		return err
	}
	if err := sleep(ctx, wait); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, getTimeout)
	defer cancel()
	found, err := p.plivo.Get(ctx, u.PlivoUUID)
	switch {
	case errors.Is(err, mms.ErrNotFound):
		p.logger.WarnContext(ctx, "Plivo does not know a message that it accepted", u.LogAttr())
		return p.store.BackOffUnreported(ctx, u.AttemptRef)
	case err != nil:
		return err
	case !u.Matches(found):
		p.logger.WarnContext(ctx, "Plivo has another message under this UUID", u.LogAttr())
		return p.store.BackOffUnreported(ctx, u.AttemptRef)
	}
	changed, err := p.store.ApplyReport(ctx, u.AttemptRef, found.Report(), mms.EventStatusPolled)
	if err != nil || changed {
		return err
	}
	return p.store.BackOffUnreported(ctx, u.AttemptRef)
}
