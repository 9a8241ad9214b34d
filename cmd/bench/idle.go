package main

import (
	"context"
	"net/http"
	"time"
)

// benchIdle sends one message at a time through an idle worker and measures the time
// from the request to its arrival at the simulator, and what the worker costs at rest.
func benchIdle(ctx context.Context, s *stack, r *report) error {
	api, key, _, err := s.apiWithKey(ctx)
	if err != nil {
		return err
	}
	worker, err := s.worker(ctx)
	if err != nil {
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
	r.add("request to arrival, p50", took.at(0.5), "ms", "≤ 10")
	r.add("request to arrival, p99", took.at(0.99), "ms", "≤ 50")
	return s.rest(ctx, r, worker)
}

// rest measures what an idle api and an idle worker cost.
func (s *stack) rest(ctx context.Context, r *report, worker *process) error {
	const untilAtRest, length = 2 * time.Second, 10 * time.Second
	if err := pause(ctx, untilAtRest); err != nil {
		return err
	}
	before, err := s.counts(ctx)
	if err != nil {
		return err
	}
	usedCPU := cpu(worker.command.Process.Pid)
	if err := pause(ctx, length); err != nil {
		return err
	}
	usedCPU = cpu(worker.command.Process.Pid) - usedCPU
	after, err := s.counts(ctx)
	if err != nil {
		return err
	}
	perSecond := after.since(before, length.Seconds())
	r.add("idle worker CPU", 100*usedCPU/length.Seconds(), "% of a core", "≤ 1")
	r.add("idle Redis commands", perSecond.commands, "/s", "≤ 50")
	r.add("idle Postgres statements", perSecond.statements, "/s", "")
	r.add("idle Postgres writes", perSecond.writes, "/s", "")
	return nil
}
