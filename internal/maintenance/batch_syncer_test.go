package maintenance

import (
	"context"
	"testing"
)

func TestBatchSyncerRunsUntilNothingIsLeft(t *testing.T) {
	t.Parallel()
	calls := 0
	runOnce(t, BatchSyncer(func(_ context.Context, limit int) (bool, error) {
		if limit != syncBatchSize {
			t.Errorf("got limit %d, want %d", limit, syncBatchSize)
		}
		calls++
		return calls < 3, nil
	}))
	if calls != 3 {
		t.Errorf("got %d batches, want 3", calls)
	}
}
