package plivosim

import (
	"slices"
	"time"
)

// Entry is a message that was accepted, whatever the response said.
type Entry struct {
	UUID        string         `json:"uuid"`
	Scenario    Scenario       `json:"scenario"`
	From        string         `json:"from"` // digits
	To          string         `json:"to"`   // digits
	Text        string         `json:"text"`
	MediaURLs   []string       `json:"mediaUrls"`
	Media       []Medium       `json:"media"`       // as far as is known, first those of MediaURLs, then uploads
	MediaError  string         `json:"mediaError"`  // why its media cannot be used; empty for none
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
	HTTPStatus int       `json:"httpStatus"` // 0: no response
	Error      string    `json:"error"`      // empty when answered
	StartedAt  time.Time `json:"startedAt"`
	EndedAt    time.Time `json:"endedAt"`
}

// Request is one message POST, accepted or refused.
type Request struct {
	At       time.Time `json:"at"`
	Scenario Scenario  `json:"scenario"` // empty: refused before a scenario was chosen
	From     string    `json:"from"`     // digits; empty until the body is parsed
	To       []string  `json:"to"`       // digits
	Accepted bool      `json:"accepted"`
	UUIDs    []string  `json:"uuids"`  // of the messages in the ledger
	Status   int       `json:"status"` // HTTP status written; 0: none yet, or the connection was dropped
}

// message is an Entry and its internal state. entry and mediaCode are guarded by the epoch's
// mutex. sequence, tail and held are not locked: only one goroutine uses them at a time,
// first the request handler, later Simulator.run. The other fields never change.
type message struct {
	epoch     *epoch
	script    script
	request   sendRequest
	requester string        // IP address that sent the request
	queueWait time.Duration // in Plivo's queue
	expired   bool          // queueWait exceeds its expiry
	entry     Entry
	mediaCode string // its media cannot be used: the error code

	sequence int
	tail     <-chan struct{} // closed when the first attempt of the latest report has ended
	held     []report        // reports kept back to be reversed
}

// Ledger returns a deep copy of all accepted messages in the order of acceptance. A
// message is added before the response is written.
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

// Requests returns all message POSTs in the order of arrival. A request is added on
// arrival, with Status 0 until a response is written.
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
	e.Media = slices.Clone(e.Media)
	e.History = slices.Clone(e.History)
	e.Callbacks = slices.Clone(e.Callbacks)
	return e
}

func (e *epoch) recordRequest(now time.Time) *Request {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := &Request{At: now}
	e.requests = append(e.requests, r)
	return r
}

func (e *epoch) recordStatus(r *Request, status int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	r.Status = status
}

func (e *epoch) recordSendRequest(r *Request, o sendRequest, name Scenario) {
	e.mu.Lock()
	defer e.mu.Unlock()
	r.Scenario, r.From, r.To = name, o.from, o.to
}

func (e *epoch) recordCall(m *message, c CallbackCall) {
	e.mu.Lock()
	defer e.mu.Unlock()
	m.entry.Callbacks = append(m.entry.Callbacks, c)
}
