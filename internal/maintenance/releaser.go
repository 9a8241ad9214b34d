package maintenance

import (
	"context"
	"time"

	"github.com/postcard-mms/postcard/internal/mms"
)

// ReleaserStore keeps the backlog. Release returns the tasks to enqueue; during a
// pause there are none.
type ReleaserStore interface {
	Release(ctx context.Context, ahead time.Duration) ([]mms.Task, error)
}

// Enqueuer adds tasks to the queue.
type Enqueuer interface {
	Enqueue(ctx context.Context, t mms.Task) error
}

// releaseAhead is how long before its arrival time a message is released, so
// that its task is ready when the rate limit admits it.
const releaseAhead = 300 * time.Millisecond

// releaseInterval is shorter than releaseAhead, so that each message is released in
// time.
const releaseInterval = 200 * time.Millisecond

// Releaser returns the job that releases messages from the backlog as their
// senders' rate limits admit them. The task relay repairs a task that cannot be
// enqueued.
func Releaser(store ReleaserStore, queue Enqueuer) Job {
	return Job{Name: "releaser", Interval: releaseInterval, Run: func(ctx context.Context) error {
		tasks, err := store.Release(ctx, releaseAhead)
		if err != nil {
			return err
		}
		return enqueueAll(ctx, queue, tasks)
	}}
}

func enqueueAll(ctx context.Context, queue Enqueuer, tasks []mms.Task) error {
	for _, task := range tasks {
		if err := queue.Enqueue(ctx, task); err != nil {
			return err
		}
	}
	return nil
}
