package worker

import (
	"context"
	"sync"
	"time"
)

const (
	// attemptLeaseDuration is how long an attempt stays valid after its last renewal.
	// A killed worker is noticed when the lease reaper runs after that.
	attemptLeaseDuration = 12 * time.Second

	// LeaseRenewalInterval is how often Renew should be called.
	LeaseRenewalInterval = 3 * time.Second
)

// Heartbeats renews the leases of the attempts that this process is making.
type Heartbeats struct {
	store  HeartbeatStore
	mu     sync.Mutex
	leases map[string]*lease // by token
}

// HeartbeatStore extends the leases of the attempts with the given tokens and
// returns the tokens that it extended. Attempts that have ended are left out.
type HeartbeatStore interface {
	RenewLeases(ctx context.Context, tokens []string, length time.Duration) ([]string, error)
}

// NewHeartbeats returns a Heartbeats without leases.
func NewHeartbeats(store HeartbeatStore) *Heartbeats {
	return &Heartbeats{store: store, leases: map[string]*lease{}}
}

// lease is this process's copy of a lease. It never ends later than the
// database's: its time starts before the statement that writes the other.
type lease struct {
	heartbeats *Heartbeats
	token      string
	until      time.Time // guarded by heartbeats.mu
}

func (h *Heartbeats) begin(token string) *lease {
	h.mu.Lock()
	defer h.mu.Unlock()
	l := &lease{heartbeats: h, token: token, until: time.Now().Add(attemptLeaseDuration)}
	h.leases[token] = l
	return l
}

func (l *lease) end() {
	l.heartbeats.mu.Lock()
	defer l.heartbeats.mu.Unlock()
	delete(l.heartbeats.leases, l.token)
}

// valid reports whether the lease has not expired. It uses the monotonic clock,
// which keeps running while the process is stopped.
func (l *lease) valid() bool {
	l.heartbeats.mu.Lock()
	defer l.heartbeats.mu.Unlock()
	return time.Now().Before(l.until)
}

// Renew extends all leases that the database still has.
func (h *Heartbeats) Renew(ctx context.Context) error {
	until := time.Now().Add(attemptLeaseDuration)
	tokens := h.tokens()
	if len(tokens) == 0 {
		return nil
	}
	renewed, err := h.store.RenewLeases(ctx, tokens, attemptLeaseDuration)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, token := range renewed {
		if l, ok := h.leases[token]; ok {
			l.until = until
		}
	}
	return nil
}

func (h *Heartbeats) tokens() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	tokens := make([]string, 0, len(h.leases))
	for token := range h.leases {
		tokens = append(tokens, token)
	}
	return tokens
}
