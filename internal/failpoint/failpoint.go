// Package failpoint marks the points at which fault tests kill or stop a process.
// Failpoints work only in programs built with the tag failpoints; in all others
// Hit does nothing.
package failpoint

// The failpoints, named after what has just happened.
const (
	APIBeforeCommit  = "api-before-commit"
	APIBatchInserted = "api-batch-inserted" // all messages are inserted, but not committed
	APICommitted     = "api-committed"
	APIEnqueued      = "api-enqueued"
	TaskRelayTaken   = "task-relay-taken"
	WorkerDequeued   = "worker-dequeued"
	WorkerClaimed    = "worker-claimed"
	WorkerConnected  = "worker-connected" // none of the request's body is written
	WorkerWritten    = "worker-written"   // the entire request is written
	WorkerAnswered   = "worker-answered"
	WorkerRecorded   = "worker-recorded"
	ReconcilerListed = "reconciler-listed"
	MediaUploaded    = "media-uploaded" // Plivo has a picture, and its media id is not recorded
	MediaRecorded    = "media-recorded" // the media id is recorded, and no message is released
)
