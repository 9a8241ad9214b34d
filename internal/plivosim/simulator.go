// Package plivosim simulates Plivo's messaging API as an http.Handler, for tests,
// development without an account, and staging.
//
// It accepts or refuses requests, loses responses and breaks connections on demand (see
// Scenario), runs each accepted message through its states, sends signed delivery
// reports, and keeps a ledger of what it accepted. In comments, "documented" means
// Plivo's documentation or support articles; behaviour that is our choice is marked so.
//
// It must not import any other package of this project: its own wire types and signatures
// keep one mistake from hiding on both sides. Production programs must not link it.
//
// Memory grows with every request
// until Reset.
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

	mediaClient *http.Client
	fetchSlots  chan struct{}

	mu         sync.Mutex // guards what follows
	epoch      *epoch
	closed     bool
	messageURL string // see Config.MessageURL
}

// New returns a simulator. Call Close to stop its timers and callbacks.
func New(cfg Config) *Simulator {
	cfg = withDefaults(cfg)
	s := &Simulator{
		cfg:       cfg,
		numbers:   make(map[string]bool, len(cfg.Numbers)),
		scripts:   make(map[Scenario]script),
		magic:     make(map[string]Scenario),
		log:       cfg.Logger,
		client:    newCallbackClient(),
		callSlots: make(chan struct{}, maxConcurrentCallbacks),

		mediaClient: newMediaClient(cfg.FollowRedirects),
		fetchSlots:  make(chan struct{}, maxConcurrentFetches),

		messageURL: cfg.MessageURL,
	}
	for _, n := range cfg.Numbers {
		s.numbers[digitsOf(n)] = true
	}
	for _, sc := range scenarioTable() {
		s.scripts[sc.Name] = sc
		s.magic[sc.Suffix] = sc.Name
	}
	s.epoch = s.newEpoch()
	s.handler = s.routes()
	return s
}

// ServeHTTP implements http.Handler. Scenarios that break the connection panic with
// http.ErrAbortHandler, which net/http turns into a closed connection: serve the
// simulator from a real server, without middleware that recovers from panics.
func (s *Simulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.handler.ServeHTTP(w, r)
}

// Close stops all timers and callbacks, ends stalled requests, and waits up to five
// seconds for them. Connections of later API requests are closed without a response. The
// ledger stays readable.
func (s *Simulator) Close() {
	s.mu.Lock()
	s.closed = true
	s.epoch.cancel()
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
	s.mediaClient.CloseIdleConnections()
}

// Reset deletes messages, requests, media, faults, limits and queues, and stops everything in
// flight, as if the simulator had just been started.
func (s *Simulator) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch.cancel()
	if !s.closed {
		s.epoch = s.newEpoch()
	}
}

// spawn runs f in the background; Close waits for it. After Close it does nothing.
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
