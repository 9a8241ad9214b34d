package maintenance

import (
	"context"
	"time"
)

// Retention returns the job that deletes what is kept for a limited time:
// idempotency keys, daily counts, webhook events, ended processes, uploads, media checks,
// samples of the queue, ended pauses, audits and pictures that no message has.
func Retention(deleteExpired func(context.Context) error) Job {
	return Job{Name: "retention", Interval: time.Hour, Run: deleteExpired}
}

// SessionCleanup returns the job that deletes expired sessions.
func SessionCleanup(deleteExpired func(context.Context) error) Job {
	return Job{Name: "session cleanup", Interval: 10 * time.Minute, Run: deleteExpired}
}
