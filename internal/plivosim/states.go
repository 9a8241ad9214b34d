package plivosim

import (
	"context"
	"time"
)

// State is a documented state of an outbound message.
type State string

// The states that the simulator uses.
const (
	StateQueued      State = "queued"
	StateSent        State = "sent"
	StateDelivered   State = "delivered"
	StateUndelivered State = "undelivered"
	StateFailed      State = "failed"
)

// How long a message takes at TimeScale 1; our choice.
const (
	untilSent    = time.Second
	untilReceipt = 2 * time.Second
)

// brokeFor is how long requests are refused after the credit ran out, as a
// Plivo support article says.
const brokeFor = 2 * time.Minute

// step is a change of state some time (unscaled) after the one before.
type step struct {
	after time.Duration
	state State
	code  string
}

func sending() []step { return []step{{untilSent, StateSent, ""}} }

func delivering() []step { return append(sending(), step{untilReceipt, StateDelivered, ""}) }

func undelivering(code string) []step {
	return append(sending(), step{untilReceipt, StateUndelivered, code})
}

func failing(code string) []step { return []step{{untilSent, StateFailed, code}} }

// startAll sets accepted messages going.
func (s *Simulator) startAll(messages []*message) {
	for _, m := range messages {
		s.report(m)
		s.live(m)
	}
}

// live takes the message through the rest of its life in the background.
func (s *Simulator) live(m *message) {
	s.spawn(func() {
		if !pause(m.era.ctx, m.queueWait) {
			return
		}
		for _, st := range s.fate(m) {
			if !pause(m.era.ctx, s.scaled(st.after)) {
				return
			}
			m.era.change(m, st, s.cfg.Now())
			s.report(m)
		}
		s.releaseHeld(m)
	})
}

// fate decides, when the message has its turn, what becomes of it.
func (s *Simulator) fate(m *message) []step {
	switch {
	case m.expired:
		return []step{{0, StateFailed, "420"}}
	case m.era.broke(s.cfg.Now()):
		return failing("900")
	}
	return m.script.fate
}

func (e *era) broke(now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return now.Before(e.brokeUntil)
}

func (e *era) change(m *message, st step, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	m.entry.State, m.entry.ErrorCode = st.state, st.code
	m.entry.History = append(m.entry.History, StateChange{st.state, now})
}

// await waits for done and reports false if either context ended first.
func await(a, b context.Context, done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	case <-a.Done():
	case <-b.Done():
	}
	return false
}
