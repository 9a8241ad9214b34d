package maintenance

import (
	"context"
	"time"

	"github.com/postcard-mms/postcard/internal/mms"
)

// Scheduler returns the job that queues scheduled messages whose time has come.
// queueScheduled queues up to limit of them and returns their number and the
// tasks to enqueue; a batch's messages join the backlog without a task. If
// enqueueing fails, the task relay enqueues the tasks later.
func Scheduler(queueScheduled func(ctx context.Context, limit int) (int, []mms.Task, error), queue Enqueuer) Job {
	return Job{Name: "scheduler", Interval: time.Second, Run: func(ctx context.Context) error {
		return untilShortBatch(func() (int, error) {
			n, tasks, err := queueScheduled(ctx, batchSize)
			if err != nil {
				return n, err
			}
			return n, enqueueAll(ctx, queue, tasks)
		})
	}}
}
