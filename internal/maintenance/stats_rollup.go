package maintenance

import (
	"context"
	"time"
)

// WithLease calls work unless another process holds the lease of that name.
type WithLease func(ctx context.Context, name string, work func(context.Context) error) error

// StatsRollup returns the job that adds each past hour to the daily totals. One
// process at a time runs it.
func StatsRollup(withLease WithLease, rollUp func(context.Context) error) Job {
	return Job{Name: "stats rollup", Interval: time.Minute, Run: func(ctx context.Context) error {
		return withLease(ctx, "stats_rollup", rollUp)
	}}
}
