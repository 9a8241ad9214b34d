package app

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/postcard-mms/postcard/internal/mms"
)

// dependency is a server that a process uses.
type dependency struct {
	name     string
	ping     func(context.Context) error // whether the process can use it
	required bool                        // whether the process is not ready without it

	describe func(context.Context) string // returns its state instead of ping; may be nil
}

// healthTimeout limits each check.
const healthTimeout = 2 * time.Second

// healthInterval is how long the result of an expensive check is valid. Everybody can
// ask the api for its readiness.
const healthInterval = time.Second

// atIntervals returns a check that repeats the last result of check for healthInterval.
func atIntervals(check func(context.Context) error) func(context.Context) error {
	var result error
	var validUntil time.Time
	running := make(chan struct{}, 1)
	return func(ctx context.Context) error {
		select {
		case running <- struct{}{}:
			defer func() { <-running }()
		case <-ctx.Done():
			return ctx.Err()
		}
		if time.Now().Before(validUntil) {
			return result
		}
		// The result is also for others, who may wait longer than this request.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), healthTimeout)
		defer cancel()
		result = check(ctx)
		validUntil = time.Now().Add(healthInterval)
		return result
	}
}

// readyz returns a handler that responds with 200 if all required dependencies can be
// used, and with 503 otherwise. The body has the state of each dependency, and
// whether sending is paused; a pause does not make a process unready. The handler
// needs no authentication, so it shows no errors.
func readyz(pauses func(context.Context) ([]mms.Pause, error), dependencies ...dependency) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		status, states := http.StatusOK, map[string]string{}
		for _, d := range dependencies {
			states[d.name] = "ok"
			ctx, cancel := context.WithTimeout(r.Context(), healthTimeout)
			if d.describe != nil {
				states[d.name] = d.describe(ctx)
			} else if err := d.ping(ctx); err != nil {
				states[d.name] = "down"
				if d.required {
					status = http.StatusServiceUnavailable
				}
			}
			cancel()
		}
		ctx, cancel := context.WithTimeout(r.Context(), healthTimeout)
		states["sending"] = sendingState(pauses(ctx))
		cancel()
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(states) // the client may be gone
	}
}

// sendingState returns "ok", "unknown" or the cause of a pause.
func sendingState(pauses []mms.Pause, err error) string {
	switch {
	case err != nil:
		return "unknown"
	case len(pauses) > 0:
		return "paused: " + string(pauses[0].Cause)
	default:
		return "ok"
	}
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
