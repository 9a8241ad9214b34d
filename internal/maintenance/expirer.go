package maintenance

import (
	"context"
	"time"
)

// Expirer returns the job that fails queued messages whose time to be sent has
// passed. expireQueued fails up to limit of them and returns their number.
func Expirer(expireQueued func(ctx context.Context, limit int) (int, error)) Job {
	return Job{Name: "expirer", Interval: 5 * time.Second, Run: func(ctx context.Context) error {
		return untilShortBatch(func() (int, error) { return expireQueued(ctx, batchSize) })
	}}
}
