package maintenance

import (
	"context"
	"time"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/operator"
)

// QueueSamplerStore counts open messages and keeps samples.
type QueueSamplerStore interface {
	OpenCounts(ctx context.Context) (mms.OpenCounts, error)
	SaveQueueSample(ctx context.Context, sample operator.Sample) error
}

// depthTimeout limits how long a sample waits for Redis.
const depthTimeout = 5 * time.Second

// QueueSampler returns the job that stores how many messages are open. One process at a time
// runs it. depth counts the tasks in Redis; without its answer they are left out.
func QueueSampler(withLease WithLease, store QueueSamplerStore, depth func(context.Context) (int, error)) Job {
	return Job{Name: "queue sampler", Interval: time.Minute, Run: func(ctx context.Context) error {
		return withLease(ctx, "queue_sampler", func(ctx context.Context) error {
			counts, err := store.OpenCounts(ctx)
			if err != nil {
				return err
			}
			depthCtx, cancel := context.WithTimeout(ctx, depthTimeout)
			defer cancel()
			var tasks *int
			if n, err := depth(depthCtx); err == nil {
				tasks = &n
			}
			return store.SaveQueueSample(ctx, operator.NewSample(counts, tasks))
		})
	}}
}
