package maintenance

import (
	"context"
	"log/slog"
	"time"

	"github.com/postcard-mms/postcard/internal/mms"
)

// ReleaserStore keeps the backlog. Release and Probe return the tasks to
// enqueue.
type ReleaserStore interface {
	Release(ctx context.Context, ahead time.Duration) ([]mms.Task, error)
	Probe(ctx context.Context) ([]mms.Task, error)
	Pauses(ctx context.Context) ([]mms.Pause, error)
}

// Enqueuer adds tasks to the queue.
type Enqueuer interface {
	Enqueue(ctx context.Context, t mms.Task) error
}

// releaseAhead is how long before its arrival time a message is released, so
// that its task is ready when the rate limit admits it.
const releaseAhead = 300 * time.Millisecond

// Releaser returns the job that releases messages from the backlog as their
// senders' rate limits admit them. During a pause it releases single messages
// that probe whether the account works again. The task relay repairs a task
// that cannot be enqueued.
func Releaser(store ReleaserStore, queue Enqueuer, logger *slog.Logger) Job {
	r := &releaser{store: store, queue: queue, logger: logger}
	return Job{Name: "releaser", Interval: 100 * time.Millisecond, Run: r.run}
}

type releaser struct {
	store  ReleaserStore
	queue  Enqueuer
	logger *slog.Logger
	paused bool // at the last run
}

func (r *releaser) run(ctx context.Context) error {
	pauses, err := r.store.Pauses(ctx)
	if err != nil {
		return err
	}
	r.logPauses(ctx, pauses)
	var tasks []mms.Task
	if len(pauses) > 0 {
		tasks, err = r.store.Probe(ctx)
	} else {
		tasks, err = r.store.Release(ctx, releaseAhead)
	}
	if err != nil {
		return err
	}
	return enqueueAll(ctx, r.queue, tasks)
}

// logPauses logs when a pause begins and when it ends.
func (r *releaser) logPauses(ctx context.Context, pauses []mms.Pause) {
	if len(pauses) > 0 && !r.paused {
		r.logger.ErrorContext(ctx, "sending is paused until the Plivo account works again", slog.String("cause", string(pauses[0].Cause)))
	}
	if len(pauses) == 0 && r.paused {
		r.logger.InfoContext(ctx, "sending has resumed")
	}
	r.paused = len(pauses) > 0
}

func enqueueAll(ctx context.Context, queue Enqueuer, tasks []mms.Task) error {
	for _, task := range tasks {
		if err := queue.Enqueue(ctx, task); err != nil {
			return err
		}
	}
	return nil
}
