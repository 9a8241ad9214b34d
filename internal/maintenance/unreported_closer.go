package maintenance

import (
	"context"
	"time"
)

// closeAfter is how long after its last change a message is closed. Plivo queues a
// message for at most 3 hours (Plivo support, message expiry), and carriers try to
// deliver it for up to a day. The wait starts again when Plivo passes the message to the
// carrier, so the longer of the two is enough.
const closeAfter = 24 * time.Hour

// UnreportedCloser returns the job that makes messages final, with the status
// they have, once no further delivery report is expected. closeUnreported closes
// up to limit messages that have not changed for age, and returns their number.
func UnreportedCloser(closeUnreported func(ctx context.Context, age time.Duration, limit int) (int, error)) Job {
	return Job{Name: "unreported closer", Interval: 5 * time.Minute, Run: func(ctx context.Context) error {
		return untilShortBatch(func() (int, error) { return closeUnreported(ctx, closeAfter, batchSize) })
	}}
}
