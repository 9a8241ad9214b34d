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

// HealthStore keeps a row for each api process. BeatAPI records that the process is
// alive; broken says that it may have missed a callback since its last beat.
type HealthStore interface {
	BeatAPI(ctx context.Context, process uuid.UUID, broken bool) error
}

const (
	// HeartbeatInterval is the time between two beats. The store takes a beat that is
	// late by some seconds more for a break.
	HeartbeatInterval = 3 * time.Second

	// answerWithin is how long a callback may take. Plivo waits 8 s and then takes it
	// for failed (Plivo support, callback retries).
	answerWithin = 5 * time.Second

	// breakTimeout limits how long an answer waits for its break to be recorded.
	breakTimeout = time.Second

	// breakInterval is how long after a recorded break the next one waits for the
	// heartbeat, so that a flood of bad requests does not become a flood of writes.
	// DOUBT_SILENCE looks at spans of 90 s and more: those that a break in this time
	// belongs to contain the recorded one, too.
	breakInterval = 10 * time.Second
)

// Health records whether this process answers all of Plivo's callbacks. DOUBT_SILENCE
// takes the silence of Plivo for evidence only while every process does. A break that the
// database does not accept is recorded with a later heartbeat.
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
// arrive, and then at each HeartbeatInterval.
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
// otherwise with the next beat that it accepts.
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
// that no other one can answer unseen. Everything but a timely 2xx that the caller waited
// for is a break. It is recorded before the answer is written, because Plivo repeats the
// callback only a minute after it.
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
