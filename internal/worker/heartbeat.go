package worker

import (
	"context"
	"sync"
	"time"
)

// leaseDuration is how long an attempt counts as under way after the last sign
// of life of its worker, and HeartbeatInterval how often a worker gives one. A
// worker that was killed is noticed after leaseLength and one round of Lapses.
const (
	leaseDuration     = 12 * time.Second
	HeartbeatInterval = 3 * time.Second
)

// Heartbeats keeps the attempts of this process alive while they are under way.
type Heartbeats struct {
	store HeartbeatStore
	mu    sync.Mutex
	open  map[string]*lease // by token
}

// HeartbeatStore extends the leases of open attempts, except those that are over,
// and returns the tokens of those it extended.
type HeartbeatStore interface {
	RenewLeases(ctx context.Context, tokens []string, length time.Duration) ([]string, error)
}

// NewHeartbeats makes an empty set of leases.
func NewHeartbeats(store HeartbeatStore) *Heartbeats {
	return &Heartbeats{store: store, open: map[string]*lease{}}
}

// lease is this process's view of one lease. It is never later than the
// database's: it starts before the statement that sets it there.
type lease struct {
	leases *Heartbeats
	token  string
	until  time.Time // guarded by leases.mu
}

func (l *Heartbeats) begin(token string) *lease {
	l.mu.Lock()
	defer l.mu.Unlock()
	held := &lease{leases: l, token: token, until: time.Now().Add(leaseDuration)}
	l.open[token] = held
	return held
}

func (h *lease) end() {
	h.leases.mu.Lock()
	defer h.leases.mu.Unlock()
	delete(h.leases.open, h.token)
}

// holds reports whether the attempt is still ours. The clock is the monotonic
// one, which runs on while the process is stopped.
func (h *lease) holds() bool {
	h.leases.mu.Lock()
	defer h.leases.mu.Unlock()
	return time.Now().Before(h.until)
}

// Renew extends all leases that still hold.
func (l *Heartbeats) Renew(ctx context.Context) error {
	until := time.Now().Add(leaseDuration)
	tokens := l.tokens()
	if len(tokens) == 0 {
		return nil
	}
	renewed, err := l.store.RenewLeases(ctx, tokens, leaseDuration)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, token := range renewed {
		if held, ok := l.open[token]; ok {
			held.until = until
		}
	}
	return nil
}

func (l *Heartbeats) tokens() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	tokens := make([]string, 0, len(l.open))
	for token := range l.open {
		tokens = append(tokens, token)
	}
	return tokens
}
