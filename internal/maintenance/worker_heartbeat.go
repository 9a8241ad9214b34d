package maintenance

import (
	"context"
	"time"

	"github.com/postcard-mms/postcard/internal/operator"
)

// WorkerHeartbeat returns the job of a worker that records that it is alive.
func WorkerHeartbeat(beat func(context.Context, operator.Process) error, process operator.Process) Job {
	return Job{Name: "worker heartbeat", Interval: 5 * time.Second, Run: func(ctx context.Context) error { return beat(ctx, process) }}
}
