package maintenance

import (
	"context"
	"errors"
	"time"

	"github.com/postcard-mms/postcard/internal/mms"
)

// SenderRatesStore keeps the rate limits of senders.
type SenderRatesStore interface {
	SendersWithoutEnvironmentRate(ctx context.Context) ([]mms.PhoneNumber, error)
	SetRateLimit(ctx context.Context, sender mms.PhoneNumber, interval time.Duration) error
}

// SenderRates returns the job that gives senders that were added while the worker runs the
// rate of its environment.
func SenderRates(store SenderRatesStore, interval func(mms.PhoneNumber) time.Duration) Job {
	return Job{Name: "sender rates", Interval: 5 * time.Second, Run: func(ctx context.Context) error {
		added, err := store.SendersWithoutEnvironmentRate(ctx)
		for _, sender := range added {
			err = errors.Join(err, store.SetRateLimit(ctx, sender, interval(sender)))
		}
		return err
	}}
}
