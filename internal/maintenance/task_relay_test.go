package maintenance

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
)

// fakeTaskRelayStore hands out pages of messages.
type fakeTaskRelayStore struct {
	log         *callLog
	pages       [][]mms.TaskCheck
	withoutTask []mms.TaskCheck // of messages known to have no task
	messageLeft bool            // the message is no longer queued when a new generation is needed
}

func (s *fakeTaskRelayStore) MakeAllTaskChecksDue(context.Context) error {
	s.log.add("check all tasks")
	return nil
}

func (s *fakeTaskRelayStore) TakeForTaskCheck(_ context.Context, _ int, onlyWithoutTask bool) ([]mms.TaskCheck, error) {
	if onlyWithoutTask {
		checks := s.withoutTask
		s.withoutTask = nil
		return checks, nil
	}
	if len(s.pages) == 0 {
		return nil, nil
	}
	page := s.pages[0]
	s.pages = s.pages[1:]
	return page, nil
}

func (s *fakeTaskRelayStore) AdvanceTaskGeneration(_ context.Context, t mms.Task) (bool, error) {
	s.log.add("next generation of %s", taskName(t))
	return !s.messageLeft, nil
}

func (s *fakeTaskRelayStore) RecordRequeued(_ context.Context, ids []uuid.UUID) error {
	var names []string
	for _, id := range ids {
		names = append(names, shortID(id))
	}
	s.log.add("requeued %s", strings.Join(names, ","))
	return nil
}

// fakeTaskQueue answers TaskStates by the name of the task, and TaskPresent for any
// other.
type fakeTaskQueue struct {
	log      *callLog
	states   map[string]mms.TaskState
	exists   string // the name of a task that somebody else adds meanwhile
	noMarker bool
	down     bool
	addFails bool
	checked  int // tasks
}

func (q *fakeTaskQueue) HasMarker(context.Context) (bool, error) {
	if q.down {
		return false, errQueueDown
	}
	return !q.noMarker, nil
}

func (q *fakeTaskQueue) SetMarker(context.Context) error {
	q.log.add("set marker")
	return nil
}

func (q *fakeTaskQueue) TaskStates(_ context.Context, checks []mms.TaskCheck) ([]mms.TaskState, error) {
	states := make([]mms.TaskState, len(checks))
	for i, check := range checks {
		q.checked++
		states[i] = mms.TaskPresent
		if state, ok := q.states[taskName(check.Task)]; ok {
			states[i] = state
		}
	}
	return states, nil
}

func (q *fakeTaskQueue) AddTask(_ context.Context, check mms.TaskCheck) (bool, error) {
	if q.addFails {
		return false, errQueueDown
	}
	q.log.add("add %s in %s", taskName(check.Task), check.Wait)
	return taskName(check.Task) != q.exists, nil
}

func (q *fakeTaskQueue) RemoveTask(_ context.Context, t mms.Task) error {
	q.log.add("remove %s", taskName(t))
	return nil
}

func newTestTaskRelay(store *fakeTaskRelayStore, queue *fakeTaskQueue) (*taskRelay, *callLog) {
	log := &callLog{}
	store.log, queue.log = log, log
	return &taskRelay{store: store, queue: queue, logger: discardLogger()}, log
}

func taskCheck(n byte, wait time.Duration) mms.TaskCheck {
	return mms.TaskCheck{Task: testTask(n), Wait: wait}
}

// A task that is lost is removed. One that is stuck stays for operators to see.
func TestTaskRelayGivesMessagesTasksThatRun(t *testing.T) {
	t.Parallel()
	relay, log := newTestTaskRelay(
		&fakeTaskRelayStore{pages: [][]mms.TaskCheck{{taskCheck(1, 0), taskCheck(2, time.Minute), taskCheck(3, 0), taskCheck(4, 0), taskCheck(5, 0), taskCheck(6, time.Minute)}}},
		&fakeTaskQueue{exists: "4:2", states: map[string]mms.TaskState{
			"1:1": mms.TaskMissing, "3:1": mms.TaskStuck, "4:1": mms.TaskStuck, "5:1": mms.TaskLost, "6:1": mms.TaskMissing,
		}})
	if err := relay.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	log.sorted().check(t,
		"add 1:1 in 0s", "add 3:2 in 0s", "add 4:2 in 0s", "add 5:2 in 0s", "add 6:1 in 1m0s",
		"next generation of 3:1", "next generation of 4:1", "next generation of 5:1", "remove 5:1", "requeued 1,3,5,6")
}

// A lost task is removed only when its successor is in the queue.
func TestTaskRelayKeepsLostTaskWithoutSuccessor(t *testing.T) {
	t.Parallel()
	relay, log := newTestTaskRelay(
		&fakeTaskRelayStore{pages: [][]mms.TaskCheck{{taskCheck(1, 0)}}},
		&fakeTaskQueue{addFails: true, states: map[string]mms.TaskState{"1:1": mms.TaskLost}})
	if err := relay.run(t.Context()); !errors.Is(err, errQueueDown) {
		t.Errorf("run() = %v, want %v", err, errQueueDown)
	}
	log.check(t, "next generation of 1:1")
}

// A message that was overtaken gets a second task, although its first is in the queue.
// Few get one in a run.
func TestTaskRelayRequeuesOvertakenMessages(t *testing.T) {
	t.Parallel()
	checks := slices.Repeat([]mms.TaskCheck{{Task: testTask(1), Overtaken: true}}, maxOvertaken+5)
	relay, log := newTestTaskRelay(&fakeTaskRelayStore{pages: [][]mms.TaskCheck{checks}}, &fakeTaskQueue{})
	if err := relay.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	added := 0
	for _, call := range log.calls {
		if call == "add 1:2 in 0s" {
			added++
		}
		if strings.HasPrefix(call, "remove") {
			t.Errorf("got %q, want the old task to stay", call)
		}
	}
	if added != maxOvertaken {
		t.Errorf("got %d tasks added, want %d", added, maxOvertaken)
	}
}

func TestTaskRelayIgnoresMessageThatIsNoLongerQueued(t *testing.T) {
	t.Parallel()
	relay, log := newTestTaskRelay(
		&fakeTaskRelayStore{pages: [][]mms.TaskCheck{{taskCheck(1, 0)}}, messageLeft: true},
		&fakeTaskQueue{states: map[string]mms.TaskState{"1:1": mms.TaskLost}})
	if err := relay.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	log.check(t, "next generation of 1:1")
}

// Messages that were taken are due again only later.
func TestTaskRelayTakesNoMessagesWhileQueueIsDown(t *testing.T) {
	t.Parallel()
	store := &fakeTaskRelayStore{pages: [][]mms.TaskCheck{{taskCheck(1, 0)}}}
	relay, _ := newTestTaskRelay(store, &fakeTaskQueue{down: true})
	if err := relay.run(t.Context()); !errors.Is(err, errQueueDown) {
		t.Errorf("run() = %v, want %v", err, errQueueDown)
	}
	if len(store.pages) != 1 {
		t.Error("messages were taken")
	}
}

// The marker is set last, so that a process that dies before leaves the work to
// the next.
func TestTaskRelayChecksAllTasksWhenMarkerIsLost(t *testing.T) {
	t.Parallel()
	relay, log := newTestTaskRelay(&fakeTaskRelayStore{}, &fakeTaskQueue{noMarker: true})
	if err := relay.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	log.check(t, "check all tasks", "set marker")
}

// If the queue lost tasks, the relay must reach the last page. If the queue is
// only long, it must stop early.
func TestTaskRelayContinuesWhileTasksAreMissing(t *testing.T) {
	t.Parallel()
	pageWith := func(n byte) []mms.TaskCheck {
		page := slices.Repeat([]mms.TaskCheck{taskCheck(2, 0)}, batchSize)
		page[batchSize/2] = taskCheck(n, 0)
		return page
	}
	states := map[string]mms.TaskState{"1:1": mms.TaskMissing}
	tests := map[string]struct {
		pages [][]mms.TaskCheck
		want  int
	}{
		"missing on each page":       {[][]mms.TaskCheck{pageWith(1), pageWith(1), {taskCheck(2, 0)}}, 2*batchSize + 1},
		"none missing on the second": {[][]mms.TaskCheck{pageWith(1), pageWith(2), pageWith(1)}, 2 * batchSize},
		"none missing on the first":  {[][]mms.TaskCheck{pageWith(2), pageWith(1)}, batchSize},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			queue := &fakeTaskQueue{states: states}
			relay, _ := newTestTaskRelay(&fakeTaskRelayStore{pages: tt.pages}, queue)
			if err := relay.run(t.Context()); err != nil {
				t.Fatal(err)
			}
			if queue.checked != tt.want {
				t.Errorf("got %d tasks checked, want %d", queue.checked, tt.want)
			}
		})
	}
}

// The tasks of a long queue are checked only now and then, unless the marker is lost. A
// message that is known to have no task gets one in the next run.
func TestTaskRelayChecksLongQueueRarely(t *testing.T) {
	t.Parallel()
	const runs = 2*skippedRuns + 4
	page := slices.Repeat([]mms.TaskCheck{taskCheck(2, 0)}, batchSize)
	store := &fakeTaskRelayStore{pages: slices.Repeat([][]mms.TaskCheck{page}, runs)}
	queue := &fakeTaskQueue{states: map[string]mms.TaskState{"1:1": mms.TaskMissing}}
	relay, log := newTestTaskRelay(store, queue)
	checks := []int{0, skippedRuns + 1, skippedRuns + 5} // the marker is lost before the last
	want := 0
	for run := range runs {
		queue.noMarker = run == skippedRuns+5
		if run == 1 {
			store.withoutTask = []mms.TaskCheck{taskCheck(1, 0)}
		}
		if slices.Contains(checks, run) {
			want++
		}
		if err := relay.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if taken := runs - len(store.pages); taken != want {
			t.Errorf("got %d pages taken after run %d, want %d", taken, run, want)
		}
	}
	if !slices.Contains(log.calls, "add 1:1 in 0s") {
		t.Error("a message without a task was not given one, want one although the queue is long")
	}
}
