package callback

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

// HealthStore keeps the heartbeats of api processes. BeatAPI records that the process is
// alive; broken says that it may have missed a callback since its last heartbeat.
type HealthStore interface {
	BeatAPI(ctx context.Context, process uuid.UUID, broken bool) error
}

const (
	// answerWithin is how long a callback may take. Plivo waits 8 s and then counts it
	// as failed (Plivo support, callback retries).
	answerWithin = 5 * time.Second

	// breakTimeout limits how long an answer waits for its break to be recorded.
	breakTimeout = time.Second

	// breakInterval is the time after a recorded break in which further breaks are
	// recorded by the next heartbeat, so that a flood of bad requests does not become a
	// flood of writes. Until then the recorded one stands for them: DOUBT_SILENCE
	// measures the last 90 s or more, which contain it.
	breakInterval = 10 * time.Second
)

// Health records whether this process answers all of Plivo's callbacks. Only while every
// process does is Plivo's silence evidence for DOUBT_SILENCE. A break that the database
// does not accept is recorded with a later heartbeat.
type Health struct {
	store   HealthStore
	process uuid.UUID
	logger  *slog.Logger

	mu         sync.Mutex
	pending    bool // a break is not recorded yet
	recording  bool
	recordedAt time.Time // when the last break was recorded
}

// NewHealth returns the health of a new process. Call Beat before the first callback can
// arrive, and then every few seconds; see maintenance.CallbackHeartbeat.
func NewHealth(store HealthStore, process uuid.UUID, logger *slog.Logger) *Health {
	return &Health{store: store, process: process, logger: logger}
}

// Beat records that the process is alive, and a pending break.
func (h *Health) Beat(ctx context.Context) error {
	h.mu.Lock()
	broken := h.pending
	h.pending = false
	h.mu.Unlock()
	err := h.store.BeatAPI(ctx, h.process, broken)
	if broken {
		h.mu.Lock()
		h.pending = h.pending || err != nil
		if err == nil {
			h.recordedAt = time.Now()
		}
		h.mu.Unlock()
	}
	return err
}

// Break records that a callback may have been missed: now if the database accepts it,
// otherwise with the next heartbeat that it accepts.
func (h *Health) Break(ctx context.Context) {
	h.mu.Lock()
	h.pending = true
	wait := h.recording || time.Since(h.recordedAt) < breakInterval
	h.recording = h.recording || !wait
	h.mu.Unlock()
	if wait {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), breakTimeout)
	defer cancel()
	if err := h.Beat(ctx); err != nil {
		h.logger.WarnContext(ctx, "could not record a missed callback; the next heartbeat will", slog.Any("error", err))
	}
	h.mu.Lock()
	h.recording = false
	h.mu.Unlock()
}

// Middleware watches the answers to callbacks. It must be the outermost middleware, so
// that it sees the answers of all others. Everything but a timely 2xx that the caller
// waited for is a break. It is recorded before the answer is written: Plivo repeats the
// callback only a minute later, and until then silence must not count as evidence.
func (h *Health) Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, Prefix+"/") {
			next.ServeHTTP(w, r)
			return
		}
		missed := func() { h.Break(r.Context()) }
		late := time.AfterFunc(answerWithin, missed)
		returned := false
		defer func() {
			late.Stop()
			if panicked := !returned; panicked || r.Context().Err() != nil {
				missed()
			}
		}()
		next.ServeHTTP(&watchedWriter{ResponseWriter: w, missed: missed}, r)
		returned = true
	})
}

// watchedWriter calls missed before it writes a status other than 2xx.
type watchedWriter struct {
	http.ResponseWriter
	missed func()
}

// WriteHeader implements http.ResponseWriter.
func (w *watchedWriter) WriteHeader(status int) {
	if informational := status/100 == 1; !informational && status/100 != 2 {
		w.missed()
	}
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the original writer.
func (w *watchedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
