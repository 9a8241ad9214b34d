package main

import (
	"context"
	"fmt"
	"time"
)

// benchLatency gives the simulator the latencies that Plivo has. The number of calls in
// flight then bounds what is sent.
func benchLatency(ctx context.Context, s *stack, r *report) error {
	for _, cell := range []struct {
		latency  time.Duration
		inFlight int // of each worker
		workers  int
		bar      string // of what is sent, relative to the maximum
	}{
		{0, 20, 1, ""},
		{0, 32, 1, ""},
		{0, maxInFlight, 1, ""},
		{100 * time.Millisecond, 20, 1, "≥ 0.95"},
		{100 * time.Millisecond, 32, 1, "≥ 0.95"},
		{100 * time.Millisecond, maxInFlight, 1, "≥ 0.88"},
		{300 * time.Millisecond, maxInFlight, 1, "≥ 0.97"},
		{300 * time.Millisecond, maxInFlight, 4, ""},
	} {
		calls := cell.workers * cell.inFlight
		name := fmt.Sprintf(", %d ms, %d in flight", cell.latency.Milliseconds(), calls)
		messages := dispatched
		if cell.latency > 0 {
			messages = min(dispatched, int(cellLength.Seconds()*float64(calls)/cell.latency.Seconds()))
		}
		perSecond, err := s.dispatch(ctx, r, sending{workers: cell.workers, inFlight: cell.inFlight, messages: messages, latency: cell.latency, name: name})
		if err != nil {
			return err
		}
		r.add("sent"+name, perSecond, "messages/s", "")
		if cell.latency > 0 {
			r.add("sent / maximum"+name, perSecond*cell.latency.Seconds()/float64(calls), "", cell.bar)
		}
	}
	return nil
}

// cellLength is how long sending takes at least in benchLatency.
const cellLength = 15 * time.Second
