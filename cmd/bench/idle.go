package main

import (
	"context"
	"net/http"
	"time"
)

// benchIdle sends one message at a time through an idle worker and measures the time
// from the request to its arrival at the simulator.
func benchIdle(ctx context.Context, s *stack, r *report) error {
	api, key, _, err := s.apiWithKey(ctx)
	if err != nil {
		return err
	}
	if _, err := s.worker(ctx); err != nil {
		return err
	}
	call, err := poster(api.url, "/api/send-mms", bearer(key), sendBody, http.StatusAccepted)()
	if err != nil {
		return err
	}
	var took latencies
	for n := range 300 {
		start := time.Now()
		if err := call(int64(n)); err != nil {
			return err
		}
		for len(s.sim.Ledger()) <= n && ctx.Err() == nil {
			time.Sleep(200 * time.Microsecond)
		}
		ledger := s.sim.Ledger()
		if n >= 20 { // the first ones warm up
			took = append(took, ledger[n].AcceptedAt.Sub(start))
		}
		time.Sleep(time.Duration(n%17) * time.Millisecond) // so that requests do not fall in step with the worker's polling
	}
	before, err := s.counts(ctx)
	if err != nil {
		return err
	}
	const rest = 3 * time.Second
	if err := pause(ctx, rest); err != nil {
		return err
	}
	after, err := s.counts(ctx)
	if err != nil {
		return err
	}
	r.add("request to arrival, p50", took.at(0.5), "ms", "≤ 15")
	r.add("request to arrival, p99", took.at(0.99), "ms", "≤ 50")
	r.add("idle Redis commands", (after.commands-before.commands)/rest.Seconds(), "/s", "")
	r.add("idle Postgres statements", (after.statements-before.statements)/rest.Seconds(), "/s", "")
	r.add("idle Postgres writes", (after.writes-before.writes)/rest.Seconds(), "/s", "")
	return nil
}
