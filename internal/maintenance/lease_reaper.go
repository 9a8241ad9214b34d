package maintenance

import (
	"context"
	"log/slog"
	"time"
)

// LeaseReaper returns the job that puts messages in doubt whose worker died
// during an attempt. reapLeases does so for up to limit attempts whose lease has
// expired, and returns their number.
func LeaseReaper(reapLeases func(ctx context.Context, limit int) (int, error), logger *slog.Logger) Job {
	return Job{Name: "lease reaper", Interval: time.Second, Run: func(ctx context.Context) error {
		return untilShortBatch(func() (int, error) {
			n, err := reapLeases(ctx, batchSize)
			if n > 0 {
				logger.WarnContext(ctx, "attempts lost their worker; their messages are in doubt", slog.Int("messages", n))
			}
			return n, err
		})
	}}
}
