package maintenance

import (
	"context"
	"time"
)

// SenderListRefresh returns the job of an api process that learns which senders were added,
// removed, taken out of use or put back at another api.
func SenderListRefresh(refresh func(context.Context) error) Job {
	return Job{Name: "sender list", Interval: 2 * time.Second, Run: refresh}
}
