package maintenance

import (
	"context"
	"testing"
)

func TestStatsRollupRunsUnderItsLease(t *testing.T) {
	t.Parallel()
	log := &callLog{}
	withLease := func(ctx context.Context, name string, work func(context.Context) error) error {
		log.add("lease %s", name)
		return work(ctx)
	}
	runOnce(t, StatsRollup(withLease, func(context.Context) error { log.add("roll up"); return nil }))
	log.check(t, "lease stats_rollup", "roll up")
}
