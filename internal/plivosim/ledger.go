package plivosim

import (
	"slices"
	"time"
)

// Entry is a message that was truly accepted, whatever the client was told.
type Entry struct {
	UUID        string         `json:"uuid"`
	Scenario    Scenario       `json:"scenario"`
	From        string         `json:"from"` // digits
	To          string         `json:"to"`   // digits
	Text        string         `json:"text"`
	MediaURLs   []string       `json:"mediaUrls"`
	CallbackURL string         `json:"callbackUrl"` // empty: no delivery reports
	Method      string         `json:"method"`      // of callbacks: POST or GET
	AcceptedAt  time.Time      `json:"acceptedAt"`
	State       State          `json:"state"`
	ErrorCode   string         `json:"errorCode"` // empty unless failed or undelivered
	History     []StateChange  `json:"history"`   // starts with queued
	Callbacks   []CallbackCall `json:"callbacks"` // in the order in which they ended
}

// StateChange is a message's entry into a state.
type StateChange struct {
	State State     `json:"state"`
	At    time.Time `json:"at"`
}

// CallbackCall is one attempt to deliver one report.
type CallbackCall struct {
	Status     State     `json:"status"`     // the state reported
	Sequence   int       `json:"sequence"`   // the report's number within the message, from 1
	Attempt    int       `json:"attempt"`    // from 1 to 4
	HTTPStatus int       `json:"httpStatus"` // 0: no answer
	Error      string    `json:"error"`      // empty when answered
	StartedAt  time.Time `json:"startedAt"`
	EndedAt    time.Time `json:"endedAt"`
}

// Request is one message POST, refused ones included.
type Request struct {
	At       time.Time `json:"at"`
	Scenario Scenario  `json:"scenario"` // empty: refused before one was chosen
	From     string    `json:"from"`     // digits; empty while the body is not understood
	To       []string  `json:"to"`       // digits
	Accepted bool      `json:"accepted"`
	UUIDs    []string  `json:"uuids"`  // of the messages in the ledger
	Status   int       `json:"status"` // HTTP status written; 0: none yet, or the connection was dropped
}

// message is an Entry with what the simulator needs besides. entry is guarded by
// the era's mutex; sequence, tail and held belong to whoever drives the message
// (the request first, then its life); the rest never changes.
type message struct {
	era       *era
	script    script
	order     order
	requester string        // IP address that sent the request
	queueWait time.Duration // until its turn in Plivo's queue
	expired   bool          // waits longer than its expiry
	entry     Entry

	sequence int
	tail     <-chan struct{} // closed when the first attempt of the latest report has ended
	held     []report        // reports kept back to be reversed
}

// Ledger returns a deep copy of every accepted message in the order of
// acceptance. A message is in it before its request is answered.
func (s *Simulator) Ledger() []Entry {
	e := s.current()
	e.mu.Lock()
	defer e.mu.Unlock()
	entries := make([]Entry, len(e.messages))
	for i, m := range e.messages {
		entries[i] = m.entry.clone()
	}
	return entries
}

// Requests returns every message POST seen, in the order of arrival. A request
// is in it from its arrival, with Status 0 until an answer is written.
func (s *Simulator) Requests() []Request {
	e := s.current()
	e.mu.Lock()
	defer e.mu.Unlock()
	requests := make([]Request, len(e.requests))
	for i, r := range e.requests {
		requests[i] = *r
		requests[i].To = slices.Clone(r.To)
		requests[i].UUIDs = slices.Clone(r.UUIDs)
	}
	return requests
}

func (e Entry) clone() Entry {
	e.MediaURLs = slices.Clone(e.MediaURLs)
	e.History = slices.Clone(e.History)
	e.Callbacks = slices.Clone(e.Callbacks)
	return e
}

func (e *era) recordRequest(now time.Time) *Request {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := &Request{At: now}
	e.requests = append(e.requests, r)
	return r
}

func (e *era) recordStatus(r *Request, status int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	r.Status = status
}

func (e *era) recordOrder(r *Request, o order, name Scenario) {
	e.mu.Lock()
	defer e.mu.Unlock()
	r.Scenario, r.From, r.To = name, o.from, o.to
}

func (e *era) recordCall(m *message, c CallbackCall) {
	e.mu.Lock()
	defer e.mu.Unlock()
	m.entry.Callbacks = append(m.entry.Callbacks, c)
}
