package main

import (
	"context"
	"fmt"
	"time"
)

// cell is one measurement of scenario latency.
type cell struct {
	latency    time.Duration // of the simulator
	inFlight   int           // calls to Plivo of each worker
	workers    int
	maximumBar string // of what is sent, relative to the maximum
	minimalBar string // of what is sent, relative to the minimal worker
}

// name returns the name of a cell in the report.
func (c cell) name() string {
	return fmt.Sprintf("%d ms, %d in flight", c.latency.Milliseconds(), c.calls())
}

// calls returns how many calls to Plivo all workers have in flight.
func (c cell) calls() int { return c.workers * c.inFlight }

// messages returns how many messages to send, so that sending takes at least cellLength.
func (c cell) messages() int {
	if c.latency == 0 {
		return dispatched
	}
	return min(dispatched, int(c.maximum()*cellLength.Seconds()))
}

// maximum returns how many messages per second the latency and the calls in flight allow.
func (c cell) maximum() float64 { return float64(c.calls()) / c.latency.Seconds() }

func (c cell) sending() sending {
	return sending{workers: c.workers, inFlight: c.inFlight, messages: c.messages(), latency: c.latency}
}

// cellLength is how long sending takes at least when the simulator has a latency.
const cellLength = 15 * time.Second

// benchLatency gives the simulator the latencies that Plivo has. The number of calls in
// flight then bounds what is sent. Each cell measures the minimal worker as well, except
// with several workers: as many minimal workers need more connections than Postgres has.
func benchLatency(ctx context.Context, s *stack, r *report) error {
	for _, c := range []cell{
		{0, 20, 1, "", "≥ 1.3"},
		{0, 32, 1, "", "≥ 1.3"},
		{0, maxInFlight, 1, "", "≥ 1.3"},
		{100 * time.Millisecond, 20, 1, "≥ 0.95", ""},
		{100 * time.Millisecond, 32, 1, "≥ 0.95", ""},
		{100 * time.Millisecond, maxInFlight, 1, "≥ 0.88", ""},
		{300 * time.Millisecond, maxInFlight, 1, "≥ 0.97", ""},
		{300 * time.Millisecond, maxInFlight, 4, "", ""},
	} {
		if !s.cells.MatchString(c.name()) {
			continue
		}
		if err := s.measureCell(ctx, r, c); err != nil {
			return fmt.Errorf("%s: %w", c.name(), err)
		}
	}
	return nil
}

// measureCell measures the minimal worker and then ours.
func (s *stack) measureCell(ctx context.Context, r *report, c cell) error {
	var minimal cost
	var err error
	if c.workers == 1 {
		if minimal, err = s.minimal(ctx, c.sending()); err != nil {
			return fmt.Errorf("minimal worker: %w", err)
		}
	}
	ours, err := s.dispatch(ctx, c.sending())
	if err != nil {
		return err
	}
	name := ", " + c.name()
	ours.add(r, name, "≤ 3500")
	r.add("sent"+name, ours.perSecond, "messages/s", "")
	if c.latency > 0 {
		r.add("sent / maximum"+name, ours.perSecond/c.maximum(), "", c.maximumBar)
	}
	if c.workers > 1 {
		return nil
	}
	r.add("CPU"+name, 1e6*ours.cpu(), "µs/message", "")
	r.add("minimal worker: sent"+name, minimal.perSecond, "messages/s", "")
	r.add("minimal worker: worker CPU"+name, 1e6*minimal.workers, "µs/message", "")
	r.add("minimal worker: Postgres CPU"+name, 1e6*minimal.postgres, "µs/message", "")
	r.add("minimal worker: Redis CPU"+name, 1e6*minimal.redis, "µs/message", "")
	r.add("minimal worker: CPU"+name, 1e6*minimal.cpu(), "µs/message", "")
	r.add("minimal worker: WAL"+name, minimal.wal, "bytes/message", "")
	r.add("sent / minimal worker"+name, ours.perSecond/minimal.perSecond, "", c.minimalBar)
	r.add("CPU / minimal worker"+name, ours.cpu()/minimal.cpu(), "", "≤ 1")
	return nil
}
