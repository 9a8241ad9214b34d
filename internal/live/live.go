// Package live tells those who wait that something has happened to a message.
// It carries no news itself: whoever is told reads the message again. It knows
// nothing of HTTP or SQL.
//
// Whoever stays for long is a visitor of an owner's, and leaves when that owner's
// access has changed: only who comes in is asked who they are.
package live

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Store answers for many messages at a time.
type Store interface {
	Owners(ctx context.Context, messages []uuid.UUID) ([]uuid.UUID, error)
	Versions(ctx context.Context, messages []uuid.UUID) (map[uuid.UUID]int64, error)
}

// Hub connects what the database announces with all who wait in this process.
type Hub struct {
	store  Store
	logger *slog.Logger
	closed chan struct{}

	mu           sync.Mutex
	messages     waiters
	owners       waiters
	connections  waiters             // what tells them to go, by owner
	lastVersions map[uuid.UUID]int64 // versions of the watched messages at the last look
}

// waiters are the channels of those who wait, by what they wait for.
type waiters map[uuid.UUID]map[chan struct{}]bool

// New makes a hub in which nobody waits.
func New(store Store, logger *slog.Logger) *Hub {
	return &Hub{
		store: store, logger: logger, closed: make(chan struct{}),
		messages: waiters{}, owners: waiters{}, connections: waiters{}, lastVersions: map[uuid.UUID]int64{},
	}
}

// Watch is somebody's wait for news. News gets a value when there may be some;
// several are one.
type Watch struct {
	News <-chan struct{}
	Stop func()
}

// Message waits for news of one message.
func (h *Hub) Message(id uuid.UUID) Watch { return h.watch(h.messages, id) }

// Owner waits for news of any message of an owner.
func (h *Hub) Owner(id uuid.UUID) Watch { return h.watch(h.owners, id) }

// Closed is closed when the process stops: nobody shall wait any longer.
func (h *Hub) Closed() <-chan struct{} { return h.closed }

func (h *Hub) watch(in waiters, id uuid.UUID) Watch {
	h.mu.Lock()
	defer h.mu.Unlock()
	news, stop := h.join(in, id)
	return Watch{News: news, Stop: stop}
}

// join needs the hub's mutex; what leaves again takes it.
func (h *Hub) join(in waiters, id uuid.UUID) (told <-chan struct{}, leave func()) {
	tell := make(chan struct{}, 1)
	if in[id] == nil {
		in[id] = map[chan struct{}]bool{}
	}
	in[id][tell] = true
	return tell, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(in[id], tell)
		if len(in[id]) == 0 {
			delete(in, id)
		}
	}
}

// MaxConnections is how many visitors an owner may have at a process: each takes a
// connection.
const MaxConnections = 100

// Connection is somebody's stay.
type Connection struct {
	Ended <-chan struct{} // gets a value when they have to go, and may come in again
	Close func()
}

// Connect lets a visitor of the owner's in. It reports false when there are too many.
func (h *Hub) Connect(owner uuid.UUID) (Connection, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.connections[owner]) >= MaxConnections {
		return Connection{}, false
	}
	over, leave := h.join(h.connections, owner)
	return Connection{Ended: over, Close: leave}, true
}

// Disconnect has all visitors of the owner's go, because an access of that owner's has
// ended; uuid.Nil: of all owners.
func (h *Hub) Disconnect(owner uuid.UUID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if owner == uuid.Nil {
		h.connections.notifyAll()
		return
	}
	h.connections.notify(owner)
}

// notify needs the hub's mutex.
func (w waiters) notify(id uuid.UUID) {
	for news := range w[id] {
		select {
		case news <- struct{}{}:
		default: // told already, and has not looked yet
		}
	}
}

// notifyAll needs the hub's mutex.
func (w waiters) notifyAll() {
	for id := range w {
		w.notify(id)
	}
}

// catchUpInterval is how often the hub asks itself whether it missed anything:
// a process that is killed between its commit and its announcement tells nobody.
const catchUpInterval = 15 * time.Second

// Run passes on what is announced until ctx ends. Each announcement lists ids of
// messages, separated by spaces; an empty one says that some may have been
// missed.
func (h *Hub) Run(ctx context.Context, announced <-chan string) {
	defer close(h.closed)
	ticker := time.NewTicker(catchUpInterval)
	defer ticker.Stop()
	for {
		select {
		case ids := <-announced:
			if ids == "" {
				h.notifyAll()
			} else {
				h.notify(ctx, parse(ids))
			}
		case <-ticker.C:
			h.catchUp(ctx)
		case <-ctx.Done():
			return
		}
	}
}

func parse(ids string) []uuid.UUID {
	var parsed []uuid.UUID
	for word := range strings.FieldsSeq(ids) {
		if id, err := uuid.Parse(word); err == nil {
			parsed = append(parsed, id)
		}
	}
	return parsed
}

func (h *Hub) notify(ctx context.Context, ids []uuid.UUID) {
	h.mu.Lock()
	for _, id := range ids {
		h.messages.notify(id)
	}
	asked := len(h.owners) > 0
	h.mu.Unlock()
	if !asked {
		return
	}
	owners, err := h.store.Owners(ctx, ids)
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		h.logger.WarnContext(ctx, "owners of messages cannot be read; all are told", slog.Any("error", err))
		owners = slices.Collect(maps.Keys(h.owners))
	}
	for _, owner := range owners {
		h.owners.notify(owner)
	}
}

func (h *Hub) notifyAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.messages.notifyAll()
	h.owners.notifyAll()
}

// catchUp asks for the versions of all watched messages at once, and tells of
// those that changed since the last time.
func (h *Hub) catchUp(ctx context.Context) {
	h.mu.Lock()
	ids := slices.Collect(maps.Keys(h.messages))
	h.mu.Unlock()
	if len(ids) == 0 {
		return
	}
	versions, err := h.store.Versions(ctx, ids)
	if err != nil {
		h.logger.WarnContext(ctx, "versions of messages cannot be read", slog.Any("error", err))
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, version := range versions {
		if last, ok := h.lastVersions[id]; !ok || last != version {
			h.messages.notify(id)
		}
	}
	h.lastVersions = versions
}
