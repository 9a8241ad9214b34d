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
	first, second = uuid.UUID{15: 1}, uuid.UUID{15: 2}
	ada, eve      = uuid.UUID{15: 11}, uuid.UUID{15: 12}
)

// books answers for the hub: every message is Ada's.
type books struct {
	versions map[uuid.UUID]int64
	fails    bool
	asked    int
}

func (b *books) Owners(context.Context, []uuid.UUID) ([]uuid.UUID, error) {
	b.asked++
	if b.fails {
		return nil, errors.New("the database is down")
	}
	return []uuid.UUID{ada}, nil
}

func (b *books) Versions(context.Context, []uuid.UUID) (map[uuid.UUID]int64, error) {
	if b.fails {
		return nil, errors.New("the database is down")
	}
	return b.versions, nil
}

// running runs a hub in a bubble of its own time, in which waiting is over when
// everybody waits.
func running(t *testing.T, b *books, test func(h *Hub, announce chan<- string)) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		h, announced := New(b, slog.New(slog.DiscardHandler)), make(chan string)
		go h.Run(ctx, announced)
		test(h, announced)
		cancel()
		<-h.Closed()
	})
}

// told reports whether there is news, and takes it.
func told(w Watch) bool {
	synctest.Wait()
	select {
	case <-w.News:
		return true
	default:
		return false
	}
}

func TestOnlyThoseConcernedAreTold(t *testing.T) {
	t.Parallel()
	running(t, &books{}, func(h *Hub, announce chan<- string) {
		one, other, also := h.Message(first), h.Message(second), h.Message(first)
		hers, his := h.Owner(ada), h.Owner(eve)
		announce <- first.String() + " nonsense " + first.String()
		if !told(one) || !told(also) || told(other) || !told(hers) || told(his) {
			t.Error("not exactly those who wait for the first message and its owner's were told")
		}
		if told(one) {
			t.Error("somebody was told twice at once")
		}
		one.Stop()
		announce <- first.String()
		if told(one) || !told(also) {
			t.Error("somebody who does not wait any more was told, or somebody else was not")
		}
	})
}

func TestNobodyIsAskedForOwnersInVain(t *testing.T) {
	t.Parallel()
	b := &books{}
	running(t, b, func(h *Hub, announce chan<- string) {
		w := h.Message(first)
		announce <- first.String()
		if !told(w) || b.asked != 0 {
			t.Errorf("owners were asked for %d times", b.asked)
		}
		w.Stop()
		if len(h.messages) != 0 {
			t.Errorf("%d messages are still watched", len(h.messages))
		}
	})
}

func TestAllAreToldWhenSomethingMayHaveBeenMissed(t *testing.T) {
	t.Parallel()
	running(t, &books{}, func(h *Hub, announce chan<- string) {
		one, hers := h.Message(first), h.Owner(eve)
		announce <- ""
		if !told(one) || !told(hers) {
			t.Error("somebody was not told")
		}
	})
	running(t, &books{fails: true}, func(h *Hub, announce chan<- string) {
		hers := h.Owner(eve)
		announce <- first.String()
		if !told(hers) {
			t.Error("owners that cannot be asked for have to be told all the same")
		}
	})
}

// TestAnAnnouncementThatNeverCame has a process that was killed before it could
// tell.
func TestAnAnnouncementThatNeverCame(t *testing.T) {
	t.Parallel()
	b := &books{versions: map[uuid.UUID]int64{first: 1, second: 1}}
	synctest.Test(t, func(t *testing.T) {
		h := New(b, slog.New(slog.DiscardHandler))
		one, other := h.Message(first), h.Message(second)
		h.catchUp(t.Context())
		if !told(one) || !told(other) {
			t.Error("what was never looked at may have changed")
		}
		b.versions = map[uuid.UUID]int64{first: 2, second: 1}
		h.catchUp(t.Context())
		if !told(one) || told(other) {
			t.Error("not exactly the message that changed was told of")
		}
		b.fails = true
		h.catchUp(t.Context())
		if told(one) || told(other) {
			t.Error("a look that failed told somebody")
		}
	})
}

// TestVisitors fills the house, has one leave and one owner's visitors shown out.
func TestVisitors(t *testing.T) {
	running(t, &books{}, func(h *Hub, _ chan<- string) {
		over := func(v Connection) bool {
			select {
			case <-v.Ended:
				return true
			default:
				return false
			}
		}
		var visits []Connection
		for range MaxConnections {
			v, ok := h.Connect(ada)
			if !ok {
				t.Fatal("a visitor was turned away")
			}
			visits = append(visits, v)
		}
		if _, ok := h.Connect(ada); ok {
			t.Error("one too many was let in")
		}
		visits[0].Close()
		next, ok := h.Connect(ada)
		hers, hersOK := h.Connect(eve)
		if !ok || !hersOK {
			t.Errorf("let in after one had left: %t; another owner's: %t", ok, hersOK)
		}
		h.Disconnect(ada)
		if !over(next) || !over(visits[1]) || over(visits[0]) || over(hers) {
			t.Error("Ada's visitors, and nobody else, have to go")
		}
		h.Disconnect(uuid.Nil)
		if !over(hers) {
			t.Error("all visitors have to go")
		}
	})
}
