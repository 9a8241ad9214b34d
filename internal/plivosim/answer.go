package plivosim

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// wire is how an answer is written to the connection.
type wire int

const (
	whole wire = iota
	dropped
	cut
	stalledBeforeHeaders
	stalledAfterHeaders
)

// answer describes a response.
type answer struct {
	status      int // 0 when nothing is sent
	contentType string
	header      map[string]string
	body        func(reply) string // nil: empty
	wire        wire
}

// reply holds the values that a body may contain.
type reply struct {
	apiID   string
	uuids   []string
	invalid []string // destinations that were left out
}

const (
	jsonType = "application/json"
	htmlType = "text/html"
	textType = "text/plain; charset=utf-8"
)

// retryAfterSeconds is the Retry-After header of 429 answers that have one. Plivo does
// not document the header; clients should honour it.
const retryAfterSeconds = "1"

const (
	unauthorizedText = "Could not verify your access level for that URL. You have to login with proper credentials."
	tooManyText      = "too many requests"
	creditText       = "Insufficient credit. Please recharge your account."
)

// hugeBody is the size in bytes of oversized answers.
const hugeBody = 1 << 20

func queued() answer {
	return answer{status: http.StatusAccepted, contentType: jsonType, body: queuedBody}
}

func queuedBody(r reply) string {
	body := map[string]any{"api_id": r.apiID, "message": "message(s) queued", "message_uuid": r.uuids}
	if len(r.invalid) > 0 {
		body["invalid_number"] = r.invalid
	}
	return jsonText(body)
}

// refusal has the documented form of errors: api_id and error.
func refusal(status int, text string) answer {
	return answer{status: status, contentType: jsonType, body: func(r reply) string {
		return jsonText(map[string]string{"api_id": r.apiID, "error": text})
	}}
}

func raw(status int, contentType, body string) answer {
	return answer{status: status, contentType: contentType, body: func(reply) string { return body }}
}

func empty(status int) answer { return answer{status: status} }

func (a answer) with(header, value string) answer {
	a.header = map[string]string{header: value}
	return a
}

func (a answer) over(w wire) answer {
	a.wire = w
	return a
}

// noAnswer closes the connection without sending a byte.
func noAnswer() answer { return answer{wire: dropped} }

// silence sends nothing and keeps the connection open until the client closes it.
func silence() answer { return answer{wire: stalledBeforeHeaders} }

// redirect points to the same path, so that following it is recorded as another request.
func redirect(status int) answer {
	return empty(status).with("Location", "?redirected=1")
}

func cutJSON(r reply) string {
	full := queuedBody(r)
	return full[:len(full)-12]
}

func hugeText(reply) string { return padded("temporary failure") }

func hugeQueued(r reply) string { return padded(queuedBody(r)) }

func padded(prefix string) string {
	return prefix + strings.Repeat(" ", hugeBody-len(prefix))
}

// answer records the status and writes the answer. It does not return when the answer
// breaks off.
func (s *Simulator) answer(x *exchange, a answer, r reply) {
	if r.apiID == "" {
		r.apiID = uuid.NewString()
	}
	if x.record != nil {
		x.epoch.recordStatus(x.record, a.status)
	}
	s.log.Info("plivosim: answered", "method", x.r.Method, "scenario", x.scenario, "status", a.status)
	body := ""
	if a.body != nil {
		body = a.body(r)
	}
	a.write(x, body)
}

func (a answer) write(x *exchange, body string) {
	switch a.wire {
	case dropped:
		panic(http.ErrAbortHandler)
	case stalledBeforeHeaders:
		hold(x)
	}
	a.writeHeader(x.w, len(body))
	flush := http.NewResponseController(x.w).Flush
	switch a.wire {
	case cut:
		_, _ = io.WriteString(x.w, body[:len(body)/2])
		_ = flush()
		panic(http.ErrAbortHandler)
	case stalledAfterHeaders:
		_ = flush()
		hold(x)
	}
	_, _ = io.WriteString(x.w, body)
	_ = flush()
}

func (a answer) writeHeader(w http.ResponseWriter, length int) {
	h := w.Header()
	if a.contentType != "" {
		h.Set("Content-Type", a.contentType)
	}
	for k, v := range a.header {
		h.Set(k, v)
	}
	if a.status != http.StatusNoContent {
		h.Set("Content-Length", strconv.Itoa(length))
	}
	w.WriteHeader(a.status)
}

// hold keeps the connection open until the client closes it, or Reset or Close.
func hold(x *exchange) {
	select {
	case <-x.r.Context().Done():
	case <-x.epoch.ctx.Done():
	}
	panic(http.ErrAbortHandler)
}

func jsonText(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic("plivosim: encoding an answer: " + err.Error())
	}
	return string(b)
}

func uuidAsString(r reply) string {
	return jsonText(map[string]string{
		"api_id": r.apiID, "message": "message(s) queued", "message_uuid": r.uuids[0],
	})
}

func twoUUIDs(r reply) string {
	r.uuids = append([]string{}, r.uuids[0], uuid.NewString())
	return queuedBody(r)
}
