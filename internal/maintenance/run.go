// Package maintenance holds the jobs that run beside the dispatch of messages:
// they queue what is due, repair what faults leave behind, and delete what has
// expired. Each job has a file of its own; retention.go has all that delete.
//
// Any number of processes may run the same job at the same time: jobs either
// skip rows that another process has locked, or hold a lease. The package knows
// neither asynq nor HTTP nor SQL.
package maintenance

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

// Job is a task that runs again and again.
type Job struct {
	Name     string          // for logs
	Interval time.Duration   // between two runs
	Wake     <-chan struct{} // starts a run early; may be nil
	Run      func(context.Context) error
}

// Run runs the job immediately, then at each interval and whenever Wake
// delivers, until ctx ends. It logs when the job starts to fail and when it
// recovers, not every failure in between.
func Run(ctx context.Context, job Job, logger *slog.Logger) {
	ticker := time.NewTicker(job.Interval)
	defer ticker.Stop()
	failing := false
	for {
		err := job.Run(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil && !failing {
			logger.WarnContext(ctx, fmt.Sprintf("%s is failing", job.Name), slog.Any("error", err))
		}
		if err == nil && failing {
			logger.InfoContext(ctx, fmt.Sprintf("%s has recovered", job.Name))
		}
		failing = err != nil
		select {
		case <-ticker.C:
		case <-job.Wake:
		case <-ctx.Done():
			return
		}
	}
}

// batchSize is how many rows a job takes with one statement.
const batchSize = 500

// untilShortBatch calls work until it handles less than a full batch.
func untilShortBatch(work func() (int, error)) error {
	for {
		n, err := work()
		if err != nil || n < batchSize {
			return err
		}
	}
}

// sleep waits for d or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
