package maintenance

import (
	"context"
	"log/slog"
	"time"

	"github.com/postcard-mms/postcard/internal/mms"
)

// ProberStore keeps the pauses of sending. Probe returns the tasks to enqueue.
type ProberStore interface {
	Pauses(ctx context.Context) ([]mms.Pause, error)
	Probe(ctx context.Context) ([]mms.Task, error)
}

// Prober returns the job that, during a pause, releases single messages that probe
// whether the account works again. It logs when a pause begins and ends.
func Prober(store ProberStore, queue Enqueuer, logger *slog.Logger) Job {
	p := &prober{store: store, queue: queue, logger: logger}
	return Job{Name: "prober", Interval: time.Second, Run: p.run}
}

type prober struct {
	store  ProberStore
	queue  Enqueuer
	logger *slog.Logger
	paused bool // at the last run
}

func (p *prober) run(ctx context.Context) error {
	pauses, err := p.store.Pauses(ctx)
	if err != nil {
		return err
	}
	p.log(ctx, pauses)
	if len(pauses) == 0 {
		return nil
	}
	tasks, err := p.store.Probe(ctx)
	if err != nil {
		return err
	}
	return enqueueAll(ctx, p.queue, tasks)
}

// log logs when a pause begins and when it ends.
func (p *prober) log(ctx context.Context, pauses []mms.Pause) {
	if len(pauses) > 0 && !p.paused {
		p.logger.ErrorContext(ctx, "sending is paused until the Plivo account works again", slog.String("cause", string(pauses[0].Cause)))
	}
	if len(pauses) == 0 && p.paused {
		p.logger.InfoContext(ctx, "sending has resumed")
	}
	p.paused = len(pauses) > 0
}
