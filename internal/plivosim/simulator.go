// Package plivosim is an honest stand-in for Plivo's messaging API: an
// http.Handler for tests, for development without an account, and for staging.
//
// It accepts, refuses, loses and breaks requests on demand (see Scenario), runs
// each accepted message through its states, calls back with signed delivery
// reports, and keeps a ledger of what it truly accepted. "Documented" in the
// comments means Plivo's documentation or support articles; whatever is only
// our choice says so.
//
// It must import nothing else of this project: it has its own wire types and
// its own signatures, so that a mistake cannot hide by being made on both
// sides. The production programs must not link it.
//
// Not simulated: fetching media and the Media API.
// Memory grows with every request until Reset or the end of the process.
package plivosim

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"
)

// closeWait bounds how long Close waits for callbacks and timers to end.
const closeWait = 5 * time.Second

// Simulator serves the API of one account. It is safe for concurrent use.
type Simulator struct {
	cfg       Config
	numbers   map[string]bool
	scripts   map[Scenario]script
	magic     map[string]Scenario
	log       *slog.Logger
	handler   http.Handler
	client    *http.Client
	callSlots chan struct{}
	work      sync.WaitGroup

	mu     sync.Mutex // guards era and closed
	era    *era
	closed bool
}

// New returns a simulator that is ready to serve. Close must be called to stop
// its timers and callbacks.
func New(cfg Config) *Simulator {
	cfg = withDefaults(cfg)
	s := &Simulator{
		cfg:       cfg,
		numbers:   make(map[string]bool, len(cfg.Numbers)),
		scripts:   make(map[Scenario]script),
		magic:     make(map[string]Scenario),
		log:       cfg.Logger,
		client:    newCallbackClient(),
		callSlots: make(chan struct{}, maxCallbacksAtOnce),
	}
	for _, n := range cfg.Numbers {
		s.numbers[digitsOf(n)] = true
	}
	for _, sc := range scenarioTable() {
		s.scripts[sc.Name] = sc
		s.magic[sc.Suffix] = sc.Name
	}
	s.era = s.newEra()
	s.handler = s.routes()
	return s
}

// ServeHTTP implements http.Handler. Scenarios that break the connection panic
// with http.ErrAbortHandler, which net/http turns into a closed connection; so
// serve the simulator from a real server, without recovering middleware.
func (s *Simulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.handler.ServeHTTP(w, r)
}

// Close stops all timers and callbacks, ends stalled requests, and waits up to
// five seconds for them. Later API requests find their connection closed. The
// ledger stays readable.
func (s *Simulator) Close() {
	s.mu.Lock()
	s.closed = true
	s.era.cancel()
	s.mu.Unlock()

	done := make(chan struct{})
	go func() {
		s.work.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(closeWait):
		s.log.Warn("plivosim: background work did not end in time")
	}
	s.client.CloseIdleConnections()
}

// Reset forgets messages, requests, faults, limits and queues, and stops what
// was under way, as if the simulator had just been started.
func (s *Simulator) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.era.cancel()
	if !s.closed {
		s.era = s.newEra()
	}
}

// spawn runs f in the background and has Close wait for it. After Close it does
// nothing.
func (s *Simulator) spawn(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.work.Go(f)
	}
}

func (s *Simulator) scaled(d time.Duration) time.Duration {
	return time.Duration(float64(d) * s.cfg.TimeScale)
}

// pause waits for d and reports false if ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
