package maintenance

import (
	"context"
	"time"
)

// syncBatchSize is how many messages of a batch change with one statement.
const syncBatchSize = 2000

// BatchSyncer returns the job that applies a batch's new state (paused, running,
// canceled) to its messages. syncBatch changes up to limit messages of one
// batch and reports false when there is nothing left to do.
func BatchSyncer(syncBatch func(ctx context.Context, limit int) (bool, error)) Job {
	return Job{Name: "batch syncer", Interval: time.Second, Run: func(ctx context.Context) error {
		for {
			more, err := syncBatch(ctx, syncBatchSize)
			if err != nil || !more {
				return err
			}
		}
	}}
}
