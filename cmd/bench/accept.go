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
	return fmt.Sprintf(`{"to":"+1416%07d","text":"Greetings from the coast","mediaUrl":"https://example.com/picture.jpg"}`, 2000000+n%8000000)
}

// benchAccept measures how many messages a second one api takes on, from programs
// with an API key and from people with a session, beside a loop that does nothing but
// store the same rows and enqueue the same tasks.
func benchAccept(ctx context.Context, s *stack, r *report) error {
	api, key, cookie, err := s.apiWithKey(ctx)
	if err != nil {
		return err
	}
	for _, concurrency := range []int{1, 16, 64, 256} {
		before, err := s.floor(ctx, concurrency)
		if err != nil {
			return fmt.Errorf("the floor: %w", err)
		}
		byKey, err := s.accept(ctx, r, api, "key", bearer(key), concurrency)
		if err != nil {
			return err
		}
		bySession, err := s.accept(ctx, r, api, "session", "Cookie: "+cookie+"\r\n", concurrency)
		if err != nil {
			return err
		}
		after, err := s.floor(ctx, concurrency) // machines are not equally fast all the time
		if err != nil {
			return fmt.Errorf("the floor: %w", err)
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

// accept has an api take on messages from so many callers who show who they are with
// the header, and reports what that takes.
func (s *stack) accept(ctx context.Context, r *report, api *process, who, header string, concurrency int) (perSecond float64, err error) {
	before, err := s.counts(ctx)
	if err != nil {
		return 0, err
	}
	used := cpu(api.command.Process.Pid)
	var calls atomic.Int64
	post := poster(api.url, "/api/send-mms", header, func(n int64) string { calls.Add(1); return sendBody(n) }, http.StatusAccepted)
	perSecond, took, err := load(ctx, concurrency, loadLength, post)
	if err != nil {
		return 0, err
	}
	used = cpu(api.command.Process.Pid) - used
	after, err := s.counts(ctx)
	if err != nil {
		return 0, err
	}
	add := func(what string, value float64, unit string) {
		r.add(fmt.Sprintf("%s: %s, c=%d", who, what, concurrency), value, unit, "")
	}
	all := float64(calls.Load())
	add("accepted", perSecond, "messages/s")
	add("p50", took.at(0.5), "ms")
	add("p99", took.at(0.99), "ms")
	add("p99.9", took.at(0.999), "ms")
	add("api's CPU", 1e6*used/all, "µs/message")
	add("Postgres' CPU", 1e6*(after.postgres-before.postgres)/all, "µs/message")
	add("Postgres' log", (after.wal-before.wal)/all, "bytes/message")
	add("writing transactions", (after.writes-before.writes)/all, "/message")
	return perSecond, nil
}

// benchOpenLoop sends 500 messages a second, whether or not the earlier ones have
// been answered.
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

// openLoop makes so many calls a second, whether or not the earlier ones are over,
// and returns how long they took, those of the first second left out. It also returns
// how many calls a second there really were: where this process has to wait for a
// processor, the ticker leaves out ticks.
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
	begun := time.Now()
	made := int64(0)
	for ; time.Since(begun) < length && ctx.Err() == nil; made++ {
		n, due := made, <-ticker.C
		group.Go(func() {
			call := <-free
			err := call(n)
			free <- call
			mu.Lock()
			defer mu.Unlock()
			if time.Since(begun) > time.Second {
				took = append(took, time.Since(due))
			}
			errs = append(errs, err)
		})
	}
	perSecond = float64(made) / time.Since(begun).Seconds()
	group.Wait()
	return perSecond, took, errors.Join(errs...)
}
