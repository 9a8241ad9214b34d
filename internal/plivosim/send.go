package plivosim

import (
	"encoding/json"
	"io"
	"mime"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"
)

// maxRequestBody bounds the size of a request in bytes; our choice.
const maxRequestBody = 1 << 20

// send serves POST /v1/Account/{id}/Message/. Sending the same request twice creates two
// messages, because Plivo has no idempotency key.
func (s *Simulator) send(x *exchange) {
	o, violation := s.readSendRequest(x.r)
	if violation != "" {
		s.answer(x, refusal(http.StatusBadRequest, violation), reply{})
		return
	}
	uploads, violation := x.epoch.findUploads(o.mediaIDs, s.cfg.Now())
	if violation != "" {
		s.answer(x, refusal(http.StatusBadRequest, violation), reply{})
		return
	}
	o.media = uploads
	if problem := checkTotal(o.text, o.media); problem != nil {
		s.answer(x, refusal(http.StatusBadRequest, problem.text), reply{})
		return
	}
	sc := s.choose(x.epoch, o.from, o.to[0])
	x.scenario = sc.Name
	x.epoch.recordSendRequest(x.record, o, sc.Name)
	if sc.accept && x.epoch.isOutOfCredit(s.cfg.Now()) {
		s.answer(x, refusal(http.StatusBadRequest, creditText), reply{})
		return
	}
	if !sc.accept {
		s.answer(x, sc.answer, reply{uuids: []string{uuid.NewString()}})
		return
	}
	if s.cfg.FetchMedia == FetchAtAccept {
		media, problem := s.fetchAll(x.r.Context(), x.epoch, o)
		if problem != nil {
			s.answer(x, refusal(http.StatusBadRequest, problem.text), reply{})
			return
		}
		o.media = media
	}
	s.respond(x, o, sc)
}

func (s *Simulator) readSendRequest(r *http.Request) (sendRequest, string) {
	const malformed = "invalid json data sent in raw POST"
	raw, err := io.ReadAll(io.LimitReader(r.Body, maxRequestBody+1))
	if err != nil || len(raw) > maxRequestBody {
		return sendRequest{}, malformed
	}
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != jsonType {
		return sendRequest{}, "Content-Type must be application/json"
	}
	var b sendBody
	if json.Unmarshal(raw, &b) != nil {
		return sendRequest{}, malformed
	}
	return s.validate(b)
}

// respond accepts the request and writes the scenario's answer. A complete answer is
// written before the first callback, except in scenario CallbackBeforeResponse. An answer
// that breaks off does not delay the message.
func (s *Simulator) respond(x *exchange, o sendRequest, sc script) {
	messages := s.accept(x, o, sc)
	r := reply{invalid: o.invalid}
	for _, m := range messages {
		r.uuids = append(r.uuids, m.entry.UUID)
	}
	a := sc.answer
	if o.spawned && a.wire == whole && a.status == http.StatusAccepted {
		a = spawned()
	}
	switch {
	case sc.reporting == reportEarly:
		for _, m := range messages {
			s.report(m)
			await(x.r.Context(), x.epoch.ctx, m.tail)
			s.run(m)
		}
		s.answer(x, a, r)
	case a.wire == whole:
		s.answer(x, a, r)
		s.startAll(messages)
	default:
		s.startAll(messages)
		s.answer(x, a, r)
	}
}

// spawned is the documented answer to a request with callback_url: it has no UUID,
// although the message exists.
func spawned() answer {
	return answer{status: http.StatusAccepted, contentType: jsonType, body: func(r reply) string {
		return jsonText(map[string]string{"api_id": r.apiID, "message": "async api spawned"})
	}}
}

// accept adds one message per destination to the ledger.
func (s *Simulator) accept(x *exchange, o sendRequest, sc script) []*message {
	now := s.cfg.Now()
	x.epoch.mu.Lock()
	defer x.epoch.mu.Unlock()
	var accepted []*message
	for _, to := range o.to {
		m := &message{
			epoch: x.epoch, script: sc, request: o, requester: hostOf(x.r.RemoteAddr), tail: closedChannel(),
			entry: newEntry(o, to, sc.Name, now),
		}
		m.queueWait, m.expired = x.epoch.queue.join(now, o.from, s.scaled(o.expiry))
		x.record.UUIDs = append(x.record.UUIDs, m.entry.UUID)
		accepted = append(accepted, m)
	}
	x.epoch.useUploads(o.media, now)
	x.epoch.messages = append(x.epoch.messages, accepted...)
	x.record.Accepted = true
	if sc.lastCredit {
		x.epoch.noCreditUntil = now.Add(s.scaled(noCreditFor))
	}
	return accepted
}

func newEntry(o sendRequest, to string, name Scenario, now time.Time) Entry {
	return Entry{
		UUID: uuid.NewString(), Scenario: name, From: o.from, To: to,
		Text: o.text, MediaURLs: slices.Clone(o.mediaURLs), Media: slices.Clone(o.media), CallbackURL: o.callbackURL, Method: o.method,
		AcceptedAt: now, State: StateQueued, History: []StateChange{{StateQueued, now}},
	}
}

func hostOf(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return host
}

func closedChannel() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}
