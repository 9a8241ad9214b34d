package mms

import (
	"time"

	"github.com/google/uuid"
)

// Task is a hint in the queue to process a message. The message's row, not the
// task, says what has to be done.
type Task struct {
	MessageID  uuid.UUID
	Generation int // from 1; grows if an earlier task of the message is stuck or dead
	Priority   Priority
}

// TaskCheck is a queued message whose task has to be checked, since the queue may
// have lost it.
type TaskCheck struct {
	Task Task
	Wait time.Duration // until the next attempt is due; 0 if it is due

	// Overtaken means that the message has waited for long although it can be claimed,
	// while later messages of its priority are being sent.
	Overtaken bool
}

// TaskResult tells the queue what to do with a task that a worker has processed.
type TaskResult struct {
	Action TaskAction
	Wait   time.Duration // for TaskRetry and TaskPostpone
	Reason Reason        // for TaskRetry and TaskFail; shown to operators
}

// TaskAction is what the queue does with a processed task.
type TaskAction int

// The actions.
const (
	TaskDone     TaskAction = iota // remove it
	TaskRetry                      // run it again after Wait, and count this run as a failure
	TaskPostpone                   // run it again after Wait, without counting this run
	TaskFail                       // keep it as failed, where operators see it
)

// TaskState is the state in which a check found a task.
type TaskState int

// The states of a task. Those other than TaskPresent will not run in time; the message
// needs another task.
const (
	TaskPresent TaskState = iota + 1 // it is in the queue and will run
	TaskMissing                      // the queue does not have it
	TaskStuck                        // the queue has it and shows it to operators, but will not run it
	TaskLost                         // the queue has what is left of it, but will not run it in time
)
