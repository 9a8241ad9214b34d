package maintenance

import (
	"context"
	"testing"
)

func TestExpirerRunsUntilAShortBatch(t *testing.T) {
	t.Parallel()
	next, calls := batches(t, batchSize, batchSize, 1), 0
	runOnce(t, Expirer(func(context.Context, int) (int, error) { calls++; return next() }))
	if calls != 3 {
		t.Errorf("got %d batches, want 3", calls)
	}
}
