package maintenance

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/postcard-mms/postcard/internal/failpoint"
	"github.com/postcard-mms/postcard/internal/mms"
)

// TaskRelayStore hands out queued messages whose task has to be checked, or only
// those that are known to have no task.
type TaskRelayStore interface {
	MakeAllTaskChecksDue(ctx context.Context) error
	TakeForTaskCheck(ctx context.Context, limit int, onlyWithoutTask bool) ([]mms.TaskCheck, error)
	AdvanceTaskGeneration(ctx context.Context, t mms.Task) (bool, error)
	RecordRequeued(ctx context.Context, ids []uuid.UUID) error
}

// TaskRelayQueue is the queue as the relay sees it. HasMarker reports whether
// the queue still holds the marker that SetMarker wrote: it is lost together
// with the tasks when Redis is emptied. AddTask reports false if the queue has the
// task already.
type TaskRelayQueue interface {
	HasMarker(ctx context.Context) (bool, error)
	SetMarker(ctx context.Context) error
	TaskStates(ctx context.Context, checks []mms.TaskCheck) ([]mms.TaskState, error)
	AddTask(ctx context.Context, check mms.TaskCheck) (bool, error)
	RemoveTask(ctx context.Context, t mms.Task) error
}

// TaskRelay returns the job that gives every queued message a task that will run: it
// enqueues those whose task is missing because Redis was unreachable or lost it, and
// replaces those that will not run in time. wake may be nil.
func TaskRelay(store TaskRelayStore, queue TaskRelayQueue, wake <-chan struct{}, logger *slog.Logger) Job {
	r := &taskRelay{store: store, queue: queue, logger: logger}
	return Job{Name: "task relay", Interval: time.Second, Wake: wake, Run: r.run}
}

type taskRelay struct {
	store  TaskRelayStore
	queue  TaskRelayQueue
	logger *slog.Logger
	skip   int // how many of the next runs only take messages without a task, because the queue is long
}

// skippedRuns is how many runs check no tasks after one that found the queue long: they
// only take messages that have none. Each check updates a message, which costs as much as
// claiming it.
const skippedRuns = 4

// maxConcurrentRepairs is how many messages get a task at the same time.
const maxConcurrentRepairs = 16

// maxOvertaken is how many messages get a second task in one run because they were
// overtaken. Their first one is in the queue, so this is a precaution.
const maxOvertaken = 20

// run checks due messages until a full batch has no missing task: then the
// queue is long, not broken, and the next runs only take messages that are known
// to have no task. While the queue is unreachable, run takes no messages, so that
// all are still due when the queue recovers. When the queue has lost its marker,
// all queued messages become due.
func (r *taskRelay) run(ctx context.Context) error {
	hasMarker, err := r.queue.HasMarker(ctx)
	if err != nil {
		return err
	}
	if !hasMarker {
		// The marker is written last: if this process dies before, another one
		// repeats the work.
		if err := r.store.MakeAllTaskChecksDue(ctx); err != nil {
			return err
		}
		if err := r.queue.SetMarker(ctx); err != nil {
			return err
		}
		r.skip = 0
	}
	skipped := r.skip > 0
	r.skip = max(0, r.skip-1)
	for {
		checks, err := r.store.TakeForTaskCheck(ctx, batchSize, skipped)
		if err != nil {
			return err
		}
		if len(checks) > 0 {
			failpoint.Hit(failpoint.TaskRelayTaken)
		}
		missing, err := r.checkBatch(ctx, checks)
		if err != nil || len(checks) < batchSize {
			return err
		}
		if missing == 0 {
			r.skip = skippedRuns
			return nil
		}
	}
}

// checkBatch gives a task to each message whose task is missing or will not run in time,
// records which, and returns their number.
func (r *taskRelay) checkBatch(ctx context.Context, checks []mms.TaskCheck) (missing int, err error) {
	if len(checks) == 0 {
		return 0, nil
	}
	states, err := r.queue.TaskStates(ctx, checks)
	if err != nil {
		return 0, err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(maxConcurrentRepairs)
	added := make([]bool, len(checks))
	overtaken := 0
	for i, check := range checks {
		if states[i] == mms.TaskPresent {
			if !check.Overtaken || overtaken == maxOvertaken {
				continue
			}
			overtaken++
		}
		group.Go(func() (err error) {
			added[i], err = r.repair(groupCtx, check, states[i])
			return err
		})
	}
	err = group.Wait()
	var ids []uuid.UUID
	for i, check := range checks {
		if !added[i] {
			continue
		}
		ids = append(ids, check.Task.MessageID)
		if states[i] != mms.TaskPresent {
			missing++
		}
	}
	if len(ids) == 0 {
		return 0, err
	}
	r.logger.InfoContext(ctx, "requeued messages whose task was missing or did not run", slog.Int("messages", len(ids)))
	return missing, errors.Join(err, r.store.RecordRequeued(ctx, ids))
}

// repair reports whether it has added a task for the message. A task that is in the queue
// needs a new generation, because a second task with the same id is impossible. The old
// one is removed if it is lost. If it is only stuck, operators may want to see it; if the
// message was overtaken, the old task keeps its place in the queue.
func (r *taskRelay) repair(ctx context.Context, check mms.TaskCheck, state mms.TaskState) (bool, error) {
	if state == mms.TaskMissing {
		return r.queue.AddTask(ctx, check)
	}
	moved, err := r.store.AdvanceTaskGeneration(ctx, check.Task)
	if err != nil || !moved {
		return false, err
	}
	next := check
	next.Task.Generation++
	added, err := r.queue.AddTask(ctx, next)
	if err == nil && state == mms.TaskLost {
		err = r.queue.RemoveTask(ctx, check.Task)
	}
	return added, err
}
