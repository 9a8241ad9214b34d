package app

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/postcard-mms/postcard/internal/mms"
)

// dependency is something that a process uses.
type dependency struct {
	name     string
	state    func(context.Context) string // "ok" if the process can use it
	required bool                         // whether the process is not ready otherwise
}

// healthTimeout limits each check.
const healthTimeout = 2 * time.Second

// healthInterval is how long the result of a check is valid. Everybody can ask the api
// for its readiness.
const healthInterval = time.Second

// readyz returns a handler that responds with 200 if all required dependencies can be
// used, and with 503 otherwise. The body has the state of each dependency. The handler
// needs no authentication, so it shows no errors.
func readyz(dependencies ...dependency) http.HandlerFunc {
	for i := range dependencies {
		dependencies[i].state = atIntervals(dependencies[i].state)
	}
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), healthTimeout)
		defer cancel()
		found := make([]string, len(dependencies))
		var checks sync.WaitGroup
		for i, d := range dependencies {
			checks.Go(func() { found[i] = d.state(ctx) })
		}
		checks.Wait()
		status, states := http.StatusOK, map[string]string{}
		for i, d := range dependencies {
			states[d.name] = found[i]
			if d.required && found[i] != "ok" {
				status = http.StatusServiceUnavailable
			}
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(states) // the client may be gone
	}
}

// atIntervals returns a function that repeats the last result of state for
// healthInterval.
func atIntervals(state func(context.Context) string) func(context.Context) string {
	var last string
	var validUntil time.Time
	running := make(chan struct{}, 1)
	return func(ctx context.Context) string {
		select {
		case running <- struct{}{}:
			defer func() { <-running }()
		case <-ctx.Done():
			return "unknown"
		}
		if time.Now().Before(validUntil) {
			return last
		}
		// The result is also for others, who may wait longer than this request.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), healthTimeout)
		defer cancel()
		last = state(ctx)
		validUntil = time.Now().Add(healthInterval)
		return last
	}
}

// usable returns the state of a server that check can use or not.
func usable(check func(context.Context) error) func(context.Context) string {
	return func(ctx context.Context) string {
		if check(ctx) != nil {
			return "down"
		}
		return "ok"
	}
}

// sendingHealth returns the entry of /readyz that says whether sending is paused. A pause
// does not make a process unready.
func sendingHealth(pauses func(context.Context) ([]mms.Pause, error)) dependency {
	return dependency{name: "sending", state: func(ctx context.Context) string {
		found, err := pauses(ctx)
		switch {
		case err != nil:
			return "unknown"
		case len(found) > 0:
			return "paused: " + string(found[0].Cause)
		default:
			return "ok"
		}
	}}
}

// livez responds with 200 while the process runs.
func livez(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ok\n")) // the client may be gone
}

// operationsHandler serves health checks, metrics and profiles. Only operators may
// reach it.
func operationsHandler(registry *prometheus.Registry, ready http.HandlerFunc) http.Handler {
	r := chi.NewRouter()
	r.Get("/livez", livez)
	r.Get("/readyz", ready)
	r.Mount("/debug", middleware.Profiler())
	r.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return r
}
