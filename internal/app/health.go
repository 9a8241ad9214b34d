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

// dependency is a server that a process needs to be ready.
type dependency struct {
	name     string
	ping     func(context.Context) error
	required bool // without it the process is not ready at all
}

// healthTimeout bounds each look at a dependency.
const healthTimeout = 2 * time.Second

// readyz answers 200 while all required dependencies answer, else 503, and
// says of each whether it does. It gives no reasons: it asks nobody who they
// are.
func readyz(p pauses, dependencies ...dependency) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		status, states := http.StatusOK, map[string]string{}
		for _, d := range dependencies {
			states[d.name] = "ok"
			ctx, cancel := context.WithTimeout(r.Context(), healthTimeout)
			if err := d.ping(ctx); err != nil {
				states[d.name] = "down"
				if d.required {
					status = http.StatusServiceUnavailable
				}
			}
			cancel()
		}
		ctx, cancel := context.WithTimeout(r.Context(), healthTimeout)
		states["sending"] = sendingState(ctx, p)
		cancel()
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(states) // the client may be gone
	}
}

// pauses tells why nothing is sent at present. It does not make a process less
// ready: what is accepted meanwhile is sent afterwards.
type pauses interface {
	Pauses(ctx context.Context) ([]mms.Pause, error)
}

// sendingState is "ok", or the cause of a pause.
func sendingState(ctx context.Context, p pauses) string {
	paused, err := p.Pauses(ctx)
	switch {
	case err != nil:
		return "unknown"
	case len(paused) > 0:
		return "paused: " + string(paused[0].Cause)
	default:
		return "ok"
	}
}

// livez answers as long as the process does anything at all.
func livez(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ok\n")) // the client may be gone
}

// operationsHandler is for the listener that only operators reach.
func operationsHandler(registry *prometheus.Registry, ready http.HandlerFunc) http.Handler {
	r := chi.NewRouter()
	r.Get("/livez", livez)
	r.Get("/readyz", ready)
	r.Mount("/debug", middleware.Profiler()) // where the time goes, for operators
	r.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return r
}
