package live

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"

	"github.com/google/uuid"
)

var (
	first, second = uuid.UUID{15: 1}, uuid.UUID{15: 2} // messages
	ada, eve      = uuid.UUID{15: 11}, uuid.UUID{15: 12}
)

// fakeStore says that Ada owns every message.
type fakeStore struct {
	versions       map[uuid.UUID]int64
	fails          bool
	workspaceCalls int
}

func (s *fakeStore) Workspaces(context.Context, []uuid.UUID) ([]uuid.UUID, error) {
	s.workspaceCalls++
	if s.fails {
		return nil, errors.New("the database is down")
	}
	return []uuid.UUID{ada}, nil
}

func (s *fakeStore) Versions(context.Context, []uuid.UUID) (map[uuid.UUID]int64, error) {
	if s.fails {
		return nil, errors.New("the database is down")
	}
	return s.versions, nil
}

// withHub runs test with a running hub in a synctest bubble.
func withHub(t *testing.T, store *fakeStore, test func(h *Hub, notifications chan<- string)) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		h, notifications := New(store, slog.New(slog.DiscardHandler)), make(chan string)
		go h.Run(ctx, notifications)
		test(h, notifications)
		cancel()
		<-h.Closed()
	})
}

// woken waits until the hub is idle, and then reports whether c has a value.
func woken(c <-chan struct{}) bool {
	synctest.Wait()
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestNotificationWakesMessageAndWorkspace(t *testing.T) {
	t.Parallel()
	withHub(t, &fakeStore{}, func(h *Hub, notifications chan<- string) {
		firstWatch, secondWatch, anotherFirstWatch := h.Message(first), h.Message(second), h.Message(first)
		adasWatch, evesWatch := h.Workspace(ada), h.Workspace(eve)
		notifications <- first.String() + " nonsense " + first.String()
		for name, tt := range map[string]struct {
			watch Watch
			want  bool
		}{
			"the message":               {firstWatch, true},
			"the message, second watch": {anotherFirstWatch, true},
			"another message":           {secondWatch, false},
			"the workspace":             {adasWatch, true},
			"another workspace":         {evesWatch, false},
		} {
			if got := woken(tt.watch.Changes); got != tt.want {
				t.Errorf("watch of %s: got woken %t, want %t", name, got, tt.want)
			}
		}
		if woken(firstWatch.Changes) {
			t.Error("got two values for one notification, want one")
		}
		firstWatch.Stop()
		notifications <- first.String()
		if woken(firstWatch.Changes) {
			t.Error("a stopped watch was woken")
		}
		if !woken(anotherFirstWatch.Changes) {
			t.Error("another watch of the message was not woken")
		}
	})
}

func TestWorkspacesAreNotReadWithoutWatches(t *testing.T) {
	t.Parallel()
	store := &fakeStore{}
	withHub(t, store, func(h *Hub, notifications chan<- string) {
		w := h.Message(first)
		notifications <- first.String()
		if !woken(w.Changes) || store.workspaceCalls != 0 {
			t.Errorf("got %d calls of Workspaces, want 0", store.workspaceCalls)
		}
		w.Stop()
		if len(h.messages) != 0 {
			t.Errorf("got %d watched messages after Stop, want 0", len(h.messages))
		}
	})
}

func TestReconnectionWakesAll(t *testing.T) {
	t.Parallel()
	withHub(t, &fakeStore{}, func(h *Hub, notifications chan<- string) {
		message, workspace := h.Message(first), h.Workspace(eve)
		notifications <- ""
		if !woken(message.Changes) || !woken(workspace.Changes) {
			t.Error("a watch was not woken")
		}
	})
}

func TestUnknownWorkspacesWakeAllWorkspaces(t *testing.T) {
	t.Parallel()
	withHub(t, &fakeStore{fails: true}, func(h *Hub, notifications chan<- string) {
		workspace := h.Workspace(eve)
		notifications <- first.String()
		if !woken(workspace.Changes) {
			t.Error("the watch of a workspace was not woken although the workspaces could not be read")
		}
	})
}

func TestPollFindsChangesWithoutNotification(t *testing.T) {
	t.Parallel()
	store := &fakeStore{versions: map[uuid.UUID]int64{first: 1, second: 1}}
	synctest.Test(t, func(t *testing.T) {
		h := New(store, slog.New(slog.DiscardHandler))
		firstWatch, secondWatch := h.Message(first), h.Message(second)
		h.poll(t.Context())
		if !woken(firstWatch.Changes) || !woken(secondWatch.Changes) {
			t.Error("the first poll did not wake all watches")
		}
		store.versions = map[uuid.UUID]int64{first: 2, second: 1}
		h.poll(t.Context())
		if !woken(firstWatch.Changes) {
			t.Error("the watch of the changed message was not woken")
		}
		if woken(secondWatch.Changes) {
			t.Error("the watch of the unchanged message was woken")
		}
		store.fails = true
		h.poll(t.Context())
		if woken(firstWatch.Changes) || woken(secondWatch.Changes) {
			t.Error("a failed poll woke a watch")
		}
	})
}

func TestConnections(t *testing.T) {
	withHub(t, &fakeStore{}, func(h *Hub, _ chan<- string) {
		var connections []Connection
		for i := range MaxConnections {
			c, ok := h.Connect(ada)
			if !ok {
				t.Fatalf("connection %d of %d was refused", i+1, MaxConnections)
			}
			connections = append(connections, c)
		}
		if _, ok := h.Connect(ada); ok {
			t.Errorf("connection %d was not refused", MaxConnections+1)
		}
		connections[0].Close()
		next, nextOK := h.Connect(ada)
		eves, evesOK := h.Connect(eve)
		if !nextOK || !evesOK {
			t.Errorf("got %t for a connection after one was closed and %t for another workspace's, want both", nextOK, evesOK)
		}
		h.Disconnect(ada)
		if !woken(next.Ended) || !woken(connections[1].Ended) {
			t.Error("a connection of the workspace was not ended")
		}
		if woken(connections[0].Ended) || woken(eves.Ended) {
			t.Error("a closed connection, or another workspace's, was ended")
		}
		h.Disconnect(uuid.Nil)
		if !woken(eves.Ended) {
			t.Error("Disconnect(uuid.Nil) did not end all connections")
		}
	})
}
