package maintenance

import (
	"context"
	"testing"

	"github.com/postcard-mms/postcard/internal/mms"
)

// The number of messages decides, not that of tasks: a batch's messages join the
// backlog without a task.
func TestSchedulerEnqueuesTasksUntilAShortBatch(t *testing.T) {
	t.Parallel()
	log := &callLog{}
	next, tasks := batches(t, batchSize, 3), [][]mms.Task{{testTask(1)}, {testTask(2), testTask(3)}}
	runOnce(t, Scheduler(func(context.Context, int) (int, []mms.Task, error) {
		n, err := next()
		batch := tasks[0]
		tasks = tasks[1:]
		return n, batch, err
	}, fakeEnqueuer{log}))
	log.check(t, "enqueue 1:1", "enqueue 2:1", "enqueue 3:1")
}
