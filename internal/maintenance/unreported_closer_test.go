package maintenance

import (
	"context"
	"testing"
	"time"
)

func TestUnreportedCloserClosesMessagesAfterADay(t *testing.T) {
	t.Parallel()
	next, calls := batches(t, batchSize, 1), 0
	runOnce(t, UnreportedCloser(func(_ context.Context, age time.Duration, _ int) (int, error) {
		if age != 24*time.Hour {
			t.Errorf("got age %v, want 24h", age)
		}
		calls++
		return next()
	}))
	if calls != 2 {
		t.Errorf("got %d batches, want 2", calls)
	}
}
