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

// noCreditFor is how long requests are refused after the credit ran out (Plivo support).
const noCreditFor = 2 * time.Minute

// step is a change of state, after a delay (unscaled) from the previous one.
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

// startAll starts accepted messages.
func (s *Simulator) startAll(messages []*message) {
	for _, m := range messages {
		s.report(m)
		s.run(m)
	}
}

// run takes the message through its remaining states in the background.
func (s *Simulator) run(m *message) {
	s.spawn(func() {
		if !pause(m.epoch.ctx, m.queueWait) {
			return
		}
		if s.cfg.FetchMedia == FetchAtDequeue && !m.expired {
			s.fetchAtDequeue(m)
		}
		for _, st := range s.stepsOf(m) {
			if !pause(m.epoch.ctx, s.scaled(st.after)) {
				return
			}
			m.epoch.change(m, st, s.cfg.Now())
			s.report(m)
		}
		s.releaseHeld(m)
	})
}

// stepsOf returns the steps of a message that leaves the queue.
func (s *Simulator) stepsOf(m *message) []step {
	switch {
	case m.expired:
		return []step{{0, StateFailed, "420"}}
	case m.epoch.isOutOfCredit(s.cfg.Now()):
		return failing("900")
	}
	if code := m.unusableMedia(); code != "" {
		return failing(code)
	}
	return m.script.steps
}

// unusableMedia returns the code with which a message fails for its media, or an empty
// string.
func (m *message) unusableMedia() string {
	m.epoch.mu.Lock()
	defer m.epoch.mu.Unlock()
	if m.mediaCode != "" {
		return m.mediaCode
	}
	if limit := m.script.maxMedia; limit > 0 && totalBytes(m.entry.Media) > limit {
		return codeTooLarge
	}
	return ""
}

func (e *epoch) isOutOfCredit(now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return now.Before(e.noCreditUntil)
}

func (e *epoch) change(m *message, st step, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	m.entry.State, m.entry.ErrorCode = st.state, st.code
	m.entry.History = append(m.entry.History, StateChange{st.state, now})
}

// await waits for done. It reports false if either context ended first.
func await(a, b context.Context, done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	case <-a.Done():
	case <-b.Done():
	}
	return false
}
