package maintenance

import (
	"context"
	"time"
)

// CallbackHeartbeat returns the job of an api process that records that it is alive and
// answers Plivo's callbacks. The store counts a heartbeat that is several seconds late as
// a missed callback.
func CallbackHeartbeat(beat func(context.Context) error) Job {
	return Job{Name: "callback heartbeat", Interval: 3 * time.Second, Run: beat}
}
