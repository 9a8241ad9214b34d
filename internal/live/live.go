// Package live distributes notifications of changed messages within a process, and
// keeps a registry of open event streams.
//
// A notification only says that a message may have changed: receivers read it again.
// The package knows nothing of HTTP or SQL, and does not authenticate. Connections are
// authenticated when they are opened, so a connection of a user whose access changes
// must be disconnected.
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

// Store looks up many messages with one call.
type Store interface {
	Workspaces(ctx context.Context, messages []uuid.UUID) ([]uuid.UUID, error)
	Versions(ctx context.Context, messages []uuid.UUID) (map[uuid.UUID]int64, error)
}

// Hub receives the notifications of the database and wakes the watches of this process
// that they concern. It is safe for concurrent use.
type Hub struct {
	store  Store
	logger *slog.Logger
	closed chan struct{}

	mu           sync.Mutex
	messages     registry            // watches by message
	workspaces   registry            // watches by workspace
	connections  registry            // channels that end connections, by user
	lastVersions map[uuid.UUID]int64 // of the watched messages, at the last poll
}

// registry holds channels by the id of a message, workspace or user.
type registry map[uuid.UUID]map[chan struct{}]bool

// New returns a hub without watches and connections. Call Run to start it.
func New(store Store, logger *slog.Logger) *Hub {
	return &Hub{
		store: store, logger: logger, closed: make(chan struct{}),
		messages: registry{}, workspaces: registry{}, connections: registry{}, lastVersions: map[uuid.UUID]int64{},
	}
}

// Watch is a subscription. Changes receives a value when something may have changed;
// several changes may be one value. Call Stop to end the subscription.
type Watch struct {
	Changes <-chan struct{}
	Stop    func()
}

// Message subscribes to changes of one message.
func (h *Hub) Message(id uuid.UUID) Watch { return h.watch(h.messages, id) }

// Workspace subscribes to changes of any message of a workspace.
func (h *Hub) Workspace(id uuid.UUID) Watch { return h.watch(h.workspaces, id) }

// Closed returns a channel that is closed when Run has ended: watches receive nothing
// more.
func (h *Hub) Closed() <-chan struct{} { return h.closed }

func (h *Hub) watch(r registry, id uuid.UUID) Watch {
	h.mu.Lock()
	defer h.mu.Unlock()
	wake, remove := h.add(r, id)
	return Watch{Changes: wake, Stop: remove}
}

// add adds a channel to a registry. The caller holds h.mu, and must not hold it when it
// calls remove.
func (h *Hub) add(r registry, id uuid.UUID) (wake <-chan struct{}, remove func()) {
	c := make(chan struct{}, 1)
	if r[id] == nil {
		r[id] = map[chan struct{}]bool{}
	}
	r[id][c] = true
	return c, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(r[id], c)
		if len(r[id]) == 0 {
			delete(r, id)
		}
	}
}

// MaxConnections is how many streams a user may have open at one process.
const MaxConnections = 100

// Connection is a registered connection of a user. Call Close when it has ended.
type Connection struct {
	Ended <-chan struct{} // receives a value when the connection must end; the client may reconnect
	Close func()
}

// Connect registers a connection of the user. It returns false when the user has
// MaxConnections.
func (h *Hub) Connect(user uuid.UUID) (Connection, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.connections[user]) >= MaxConnections {
		return Connection{}, false
	}
	ended, remove := h.add(h.connections, user)
	return Connection{Ended: ended, Close: remove}, true
}

// Disconnect ends all connections of the user, whose access has changed; of all users for
// uuid.Nil.
func (h *Hub) Disconnect(user uuid.UUID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if user == uuid.Nil {
		h.connections.wakeAll()
		return
	}
	h.connections.wake(user)
}

// wake wakes the channels of one id. The caller holds the hub's mutex.
func (r registry) wake(id uuid.UUID) {
	for c := range r[id] {
		select {
		case c <- struct{}{}:
		default: // the last value was not received yet
		}
	}
}

// wakeAll wakes all channels. The caller holds the hub's mutex.
func (r registry) wakeAll() {
	for id := range r {
		r.wake(id)
	}
}

// pollInterval is how often the hub polls the versions of watched messages. A process
// that is killed between its commit and its notification notifies nobody.
const pollInterval = 15 * time.Second

// Run wakes watches until ctx ends. A notification lists ids of messages, separated by
// spaces; an empty one means that notifications may have been missed.
func (h *Hub) Run(ctx context.Context, notifications <-chan string) {
	defer close(h.closed)
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		select {
		case ids := <-notifications:
			if ids == "" {
				h.wakeAll()
			} else {
				h.wake(ctx, parseIDs(ids))
			}
		case <-ticker.C:
			h.poll(ctx)
		case <-ctx.Done():
			return
		}
	}
}

func parseIDs(ids string) []uuid.UUID {
	var parsed []uuid.UUID
	for word := range strings.FieldsSeq(ids) {
		if id, err := uuid.Parse(word); err == nil {
			parsed = append(parsed, id)
		}
	}
	return parsed
}

// wake wakes the watches of the messages and of their workspaces.
func (h *Hub) wake(ctx context.Context, messages []uuid.UUID) {
	h.mu.Lock()
	for _, id := range messages {
		h.messages.wake(id)
	}
	workspacesWatched := len(h.workspaces) > 0
	h.mu.Unlock()
	if !workspacesWatched {
		return
	}
	workspaces, err := h.store.Workspaces(ctx, messages)
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		h.logger.WarnContext(ctx, "reading the workspaces of changed messages failed; waking all watches of workspaces", slog.Any("error", err))
		h.workspaces.wakeAll()
		return
	}
	for _, workspace := range workspaces {
		h.workspaces.wake(workspace)
	}
}

func (h *Hub) wakeAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.messages.wakeAll()
	h.workspaces.wakeAll()
}

// poll reads the versions of all watched messages with one call, and wakes the watches
// of those that changed since the last poll.
func (h *Hub) poll(ctx context.Context) {
	h.mu.Lock()
	ids := slices.Collect(maps.Keys(h.messages))
	h.mu.Unlock()
	if len(ids) == 0 {
		return
	}
	versions, err := h.store.Versions(ctx, ids)
	if err != nil {
		h.logger.WarnContext(ctx, "polling the versions of messages failed", slog.Any("error", err))
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, version := range versions {
		if last, ok := h.lastVersions[id]; !ok || last != version {
			h.messages.wake(id)
		}
	}
	h.lastVersions = versions
}
