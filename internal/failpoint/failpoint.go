// Package failpoint marks the places where the tests of faults kill a process.
// Only programs built with the tag failpoints can be killed there; in all
// others a mark is nothing.
package failpoint

// The places, named by what has just happened.
const (
	APIBeforeCommit  = "api-before-commit"
	APIBatchInserted = "api-batch-inserted" // all its messages are stored and not yet committed
	APICommitted     = "api-committed"
	APIEnqueued      = "api-enqueued"
	TaskRelayTaken   = "task-relay-taken"
	WorkerDequeued   = "worker-dequeued"
	WorkerClaimed    = "worker-claimed"
	WorkerConnected  = "worker-connected" // nothing of the request's body has been written
	WorkerWritten    = "worker-written"   // the whole request has been written
	WorkerAnswered   = "worker-answered"
	WorkerRecorded   = "worker-recorded"
	ReconcilerListed = "reconciler-listed"
)
