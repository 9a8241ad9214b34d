package mms

import (
	"time"

	"github.com/google/uuid"
)

// Task is the hint in the queue that says "look at this message".
type Task struct {
	MessageID  uuid.UUID
	Generation int // from 1; grows when an earlier task of the message is stuck or dead
	Priority   Priority
}

// TaskResult is what the queue shall do with a task after a worker has looked at
// its message.
type TaskResult struct {
	Action TaskAction
	Wait   time.Duration // for TaskRetry and TaskPutOff
	Reason Reason        // for TaskRetry and TaskDead; shown to operators
}

// TaskAction names the ways a task can go.
type TaskAction int

// The ways a task can go.
const (
	TaskDone     TaskAction = iota // nothing is left to do
	TaskRetry                      // look again after Wait; counted as a failure of the task
	TaskPostpone                   // look again after Wait; not counted
	TaskFail                       // failed for good: kept where operators see it
)

// TaskState is how a task that ought to be in the queue was found.
type TaskState int

// The states of a task.
const (
	TaskAdded   TaskState = iota + 1 // it was missing and is there now
	TaskPresent                      // it is there and will run
	TaskStuck                        // it is there and will never run: it needs a new generation
)
