package maintenance

import (
	"context"
	"time"
)

// StatsRollupStore adds messages to the daily totals. WithLease calls work
// unless another process holds the lease of that name.
type StatsRollupStore interface {
	WithLease(ctx context.Context, name string, work func(context.Context) error) error
	RollUpStats(ctx context.Context) error
}

// StatsRollup returns the job that adds each past hour to the daily totals. One
// process at a time runs it.
func StatsRollup(store StatsRollupStore) Job {
	return Job{Name: "stats rollup", Interval: time.Minute, Run: func(ctx context.Context) error {
		return store.WithLease(ctx, "stats_rollup", store.RollUpStats)
	}}
}
