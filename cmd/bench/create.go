package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const loadLength = 4 * time.Second

func sendBody(n int64) string {
	return fmt.Sprintf(`{"to":"+1416%07d","text":"Greetings from the coast","mediaUrl":"https://example.com/picture.jpg"}`, 2120000+n%990000)
}

// benchCreate measures how many messages per second one api creates, for clients with
// an API key and for clients with a session. It compares them with the floor: a loop
// that only inserts the same rows and enqueues the same tasks.
func benchCreate(ctx context.Context, s *stack, r *report) error {
	api, key, cookie, err := s.apiWithKey(ctx)
	if err != nil {
		return err
	}
	for _, concurrency := range []int{1, 16, 64, 256} {
		before, err := s.floor(ctx, concurrency)
		if err != nil {
			return fmt.Errorf("measuring the floor: %w", err)
		}
		byKey, err := s.create(ctx, r, api, "key", bearer(key), concurrency)
		if err != nil {
			return err
		}
		bySession, err := s.create(ctx, r, api, "session", "Cookie: "+cookie+"\r\n", concurrency)
		if err != nil {
			return err
		}
		after, err := s.floor(ctx, concurrency) // the machine's speed varies over time
		if err != nil {
			return fmt.Errorf("measuring the floor: %w", err)
		}
		before.mean(after).add(r, concurrency)
		bar := ""
		if concurrency == 64 {
			bar = "≥ 1.0"
		}
		floor := before.mean(after).perSecond
		r.add(fmt.Sprintf("key / floor, c=%d", concurrency), byKey/floor, "", bar)
		r.add(fmt.Sprintf("session / floor, c=%d", concurrency), bySession/floor, "", "")
	}
	return nil
}

// create posts messages to the api from concurrent clients that authenticate with the
// header, and reports what it costs. auth names the method in the report.
func (s *stack) create(ctx context.Context, r *report, api *process, auth, header string, concurrency int) (perSecond float64, err error) {
	before, err := s.counts(ctx)
	if err != nil {
		return 0, err
	}
	usedCPU := cpu(api.command.Process.Pid)
	var calls atomic.Int64
	post := poster(api.url, "/api/send-mms", header, func(n int64) string { calls.Add(1); return sendBody(n) }, http.StatusAccepted)
	perSecond, took, err := load(ctx, concurrency, loadLength, post)
	if err != nil {
		return 0, err
	}
	usedCPU = cpu(api.command.Process.Pid) - usedCPU
	after, err := s.counts(ctx)
	if err != nil {
		return 0, err
	}
	add := func(name string, value float64, unit string) {
		r.add(fmt.Sprintf("%s: %s, c=%d", auth, name, concurrency), value, unit, "")
	}
	total := float64(calls.Load())
	add("created", perSecond, "messages/s")
	add("p50", took.at(0.5), "ms")
	add("p99", took.at(0.99), "ms")
	add("p99.9", took.at(0.999), "ms")
	add("api CPU", 1e6*usedCPU/total, "µs/message")
	add("Postgres CPU", 1e6*(after.postgres-before.postgres)/total, "µs/message")
	add("WAL", (after.wal-before.wal)/total, "bytes/message")
	add("writing transactions", (after.writes-before.writes)/total, "/message")
	return perSecond, nil
}

// benchOpenLoop makes 500 requests per second whether or not earlier ones have been
// answered.
func benchOpenLoop(ctx context.Context, s *stack, r *report) error {
	api, key, _, err := s.apiWithKey(ctx)
	if err != nil {
		return err
	}
	const rate = 500
	perSecond, took, err := openLoop(ctx, rate, 6*time.Second, poster(api.url, "/api/send-mms", bearer(key), sendBody, http.StatusAccepted))
	if err != nil {
		return err
	}
	r.add("requests made", perSecond, "requests/s", "≥ 495")
	r.add("p50 at 500/s", took.at(0.5), "ms", "")
	r.add("p99 at 500/s", took.at(0.99), "ms", "< 25")
	r.add("p99.9 at 500/s", took.at(0.999), "ms", "")
	return nil
}

// openLoop starts rate calls per second, whether or not earlier ones have finished, and
// returns their latencies except those of the first second. perSecond is the achieved
// rate: it is lower when this process has to wait for a CPU, because the ticker then
// drops ticks.
func openLoop(ctx context.Context, rate int, length time.Duration, newCaller func() (caller, error)) (perSecond float64, took latencies, err error) {
	free := make(chan caller, rate)
	for range rate {
		call, err := newCaller()
		if err != nil {
			return 0, nil, err
		}
		free <- call
	}
	var mu sync.Mutex
	var errs []error
	var group sync.WaitGroup
	ticker := time.NewTicker(time.Second / time.Duration(rate))
	defer ticker.Stop()
	start := time.Now()
	made := int64(0)
	for ; time.Since(start) < length && ctx.Err() == nil; made++ {
		n, due := made, <-ticker.C
		group.Go(func() {
			call := <-free
			err := call(n)
			free <- call
			mu.Lock()
			defer mu.Unlock()
			if time.Since(start) > time.Second {
				took = append(took, time.Since(due))
			}
			errs = append(errs, err)
		})
	}
	perSecond = float64(made) / time.Since(start).Seconds()
	group.Wait()
	return perSecond, took, errors.Join(errs...)
}
