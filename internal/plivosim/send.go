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

// maxRequestBody is the size in bytes up to which a request is read; our choice.
const maxRequestBody = 1 << 20

// send serves POST /v1/Account/{id}/Message/. The same request twice makes two
// messages: Plivo knows no idempotency key, and neither does this.
func (s *Simulator) send(x *exchange) {
	o, fault := s.readOrder(x.r)
	if fault != "" {
		s.answer(x, refusal(http.StatusBadRequest, fault), reply{})
		return
	}
	sc := s.choose(x.era, o.from, o.to[0])
	x.scenario = sc.Name
	x.era.recordOrder(x.record, o, sc.Name)
	if sc.accept && x.era.broke(s.cfg.Now()) {
		s.answer(x, refusal(http.StatusBadRequest, creditText), reply{})
		return
	}
	if !sc.accept {
		s.answer(x, sc.answer, reply{uuids: []string{uuid.NewString()}})
		return
	}
	s.fulfil(x, o, sc)
}

func (s *Simulator) readOrder(r *http.Request) (order, string) {
	const malformed = "invalid json data sent in raw POST"
	raw, err := io.ReadAll(io.LimitReader(r.Body, maxRequestBody+1))
	if err != nil || len(raw) > maxRequestBody {
		return order{}, malformed
	}
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != jsonType {
		return order{}, "Content-Type must be application/json"
	}
	var b sendBody
	if json.Unmarshal(raw, &b) != nil {
		return order{}, malformed
	}
	return s.validate(b)
}

// fulfil accepts the order and answers as the scenario says. A whole answer is
// on its way before the first callback is made, unless the scenario wants it
// the other way round; a broken answer does not hold the message up.
func (s *Simulator) fulfil(x *exchange, o order, sc script) {
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
			await(x.r.Context(), x.era.ctx, m.tail)
			s.live(m)
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

// spawned is the documented answer to a request with callback_url: it names no
// message. The message exists all the same.
func spawned() answer {
	return answer{status: http.StatusAccepted, contentType: jsonType, body: func(r reply) string {
		return jsonText(map[string]string{"api_id": r.apiID, "message": "async api spawned"})
	}}
}

// accept enters one message per destination in the ledger.
func (s *Simulator) accept(x *exchange, o order, sc script) []*message {
	now := s.cfg.Now()
	x.era.mu.Lock()
	defer x.era.mu.Unlock()
	var made []*message
	for _, to := range o.to {
		m := &message{
			era: x.era, script: sc, order: o, requester: hostOf(x.r.RemoteAddr), tail: closedChannel(),
			entry: newEntry(o, to, sc.Name, now),
		}
		m.queueWait, m.expired = x.era.queue.join(now, o.from, s.scaled(o.expiry))
		x.record.UUIDs = append(x.record.UUIDs, m.entry.UUID)
		made = append(made, m)
	}
	x.era.messages = append(x.era.messages, made...)
	x.record.Accepted = true
	if sc.broke {
		x.era.brokeUntil = now.Add(s.scaled(brokeFor))
	}
	return made
}

func newEntry(o order, to string, name Scenario, now time.Time) Entry {
	return Entry{
		UUID: uuid.NewString(), Scenario: name, From: o.from, To: to,
		Text: o.text, MediaURLs: slices.Clone(o.mediaURLs), CallbackURL: o.callbackURL, Method: o.method,
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
