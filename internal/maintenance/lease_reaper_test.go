package maintenance

import (
	"context"
	"log/slog"
	"strings"
	"testing"
)

func TestLeaseReaperRunsUntilAShortBatchAndLogsMessages(t *testing.T) {
	t.Parallel()
	var logged strings.Builder
	next, calls := batches(t, batchSize, 0), 0
	reap := func(context.Context, int) (int, error) { calls++; return next() }
	runOnce(t, LeaseReaper(reap, slog.New(slog.NewTextHandler(&logged, nil))))
	if calls != 2 {
		t.Errorf("got %d batches, want 2", calls)
	}
	if n := strings.Count(logged.String(), "messages="); n != 1 || !strings.Contains(logged.String(), "messages=500") {
		t.Errorf("got log\n%s\nwant one record about 500 messages", logged.String())
	}
}
