package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
)

// benchRateLimit lets four workers send for one rate-limited sender.
func benchRateLimit(ctx context.Context, s *stack, r *report) error {
	if err := s.prepare(ctx); err != nil {
		return err
	}
	workspace, err := s.workspace(ctx)
	if err != nil {
		return err
	}
	const perMinute, length = 120, 30 * time.Second // what Plivo carries from a toll-free number
	if err := s.insertQueued(ctx, queued{workspaces: []uuid.UUID{workspace}, to: perMinute, backlogState: "waiting"}); err != nil {
		return err
	}
	for range 4 {
		if _, err := s.worker(ctx, fmt.Sprintf("SENDER_RATE=%d", perMinute)); err != nil {
			return err
		}
	}
	time.Sleep(2 * time.Second) // until all of them are sending
	from := time.Now()
	time.Sleep(length)
	until := time.Now()
	var arrivals []time.Time
	for _, e := range s.sim.Ledger() {
		if e.AcceptedAt.After(from) && e.AcceptedAt.Before(until) {
			arrivals = append(arrivals, e.AcceptedAt)
		}
	}
	slices.SortFunc(arrivals, func(a, b time.Time) int { return a.Compare(b) })
	overruns := 0
	const window = 10 * time.Second
	const allowed = int(perMinute * window / time.Minute)
	for i := allowed; i < len(arrivals); i++ {
		if arrivals[i].Sub(arrivals[i-allowed]) < window {
			overruns++
		}
	}
	achieved := float64(len(arrivals)-1) / arrivals[len(arrivals)-1].Sub(arrivals[0]).Minutes()
	r.add("achieved / allowed, 4 workers", achieved/perMinute, "", "≥ 0.98")
	r.add("10 s windows above the limit", float64(overruns), "", "0")
	return nil
}
