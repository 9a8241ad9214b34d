package httpapi_test

import (
	"bufio"
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/httpkit"
	"github.com/postcard-mms/postcard/internal/live"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/testkit"
)

// eventStream is an open stream.
type eventStream struct {
	t        *testing.T
	response *http.Response
	lines    *bufio.Scanner
}

// open opens a stream over a real connection.
func (c *client) open(t *testing.T, path string, headers ...string) *eventStream {
	t.Helper()
	server := httptest.NewServer(c.handler)
	t.Cleanup(server.Close)
	return c.openAt(t, server.Client(), server.URL+path, headers...)
}

// openAt opens a stream at a running server.
func (c *client) openAt(t *testing.T, httpClient *http.Client, url string, headers ...string) *eventStream {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel) // runs before the server closes, which waits for open requests
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.cookie != nil {
		r.AddCookie(c.cookie)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := httpClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	return &eventStream{t: t, response: response, lines: bufio.NewScanner(response.Body)}
}

// next returns the lines of the next event joined by "|", or "" at the end of the
// stream.
func (s *eventStream) next() string {
	s.t.Helper()
	var event []string
	for s.lines.Scan() {
		line := s.lines.Text()
		if line == "" && len(event) > 0 {
			return strings.Join(event, "|")
		}
		if line != "" && !strings.HasPrefix(line, "retry:") && !strings.HasPrefix(line, ":") {
			event = append(event, line)
		}
	}
	return ""
}

// setStatus changes the status of a message and notifies the hub.
func (s *system) setStatus(id uuid.UUID, status mms.Status) {
	s.messages.mu.Lock()
	h := s.messages.histories[id]
	h.Version++
	h.Status = status
	if status.Final() {
		h.FinalAt = &noon
	}
	s.messages.histories[id] = h
	s.messages.mu.Unlock()
	s.changes <- id.String()
}

// sendMessage creates a message and returns its id.
func (c *client) sendMessage(t *testing.T) uuid.UUID {
	t.Helper()
	body := decode[map[string]any](t, c.do("POST", "/api/send-mms", validSend))
	id, err := uuid.Parse(body["id"].(string))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

const allMessages = "/api/messages/stream"

func streamPath(id uuid.UUID) string { return "/api/messages/" + id.String() + "/stream" }

func TestStreamMessage(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	ada := s.ada()
	id := ada.sendMessage(t)
	stream := ada.open(t, streamPath(id))
	if ct := stream.response.Header.Get("Content-Type"); stream.response.StatusCode != http.StatusOK || ct != "text/event-stream" {
		t.Fatalf("got %d %s, want 200 text/event-stream", stream.response.StatusCode, ct)
	}
	if got := stream.next(); !strings.HasPrefix(got, `event: message|id: 1|data: {`) || !strings.Contains(got, `"status":"queued"`) {
		t.Errorf("got first event %s", got)
	}
	s.changes <- id.String() // without a change, so no event follows
	s.setStatus(id, mms.Sending)
	if got := stream.next(); !strings.HasPrefix(got, `event: message|id: 2|`) || !strings.Contains(got, `"status":"sending"`) {
		t.Errorf("got second event %s", got)
	}
	s.setStatus(id, mms.Delivered)
	if got := stream.next(); !strings.Contains(got, `"final":true`) {
		t.Errorf("got third event %s", got)
	}
	if got := ada.open(t, streamPath(id), "Last-Event-ID", "2").next(); !strings.HasPrefix(got, "event: message|id: 3|") {
		t.Errorf("got %s after reconnecting with event 2, want event 3", got)
	}
	if got := ada.open(t, streamPath(id), "Last-Event-ID", "3").response.StatusCode; got != http.StatusNoContent {
		t.Errorf("got %d after reconnecting with the final event, want 204", got)
	}
}

// The first line of a stream sets the delay after which browsers reconnect.
func TestStreamSetsReconnectDelay(t *testing.T) {
	t.Parallel()
	stream := newSystem(t).ada().open(t, allMessages)
	if !stream.lines.Scan() || !strings.HasPrefix(stream.lines.Text(), "retry: ") {
		t.Errorf("got first line %q, want retry", stream.lines.Text())
	}
}

func TestStreamMessages(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	ada, bob := s.ada(), s.login(bobEmail)
	adas, bobs := ada.sendMessage(t), bob.sendMessage(t)
	stream := ada.open(t, allMessages)
	s.setStatus(bobs, mms.Sending)
	s.setStatus(adas, mms.Sending)
	if got := stream.next(); got != "event: changed|data: {}" {
		t.Errorf("got event %q", got)
	}
	s.messages.mu.Lock()
	delete(s.messages.histories, adas)
	s.messages.mu.Unlock()
	// Bob's change comes first: it would be the next event if Ada received it.
	s.setStatus(bobs, mms.Sent)
	s.setStatus(ada.sendMessage(t), mms.Sending)
	if got := stream.next(); got != "event: changed|data: {}" {
		t.Errorf("got second event %q", got)
	}
}

func TestStreamOverHTTP2(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	ada := s.ada()
	id := ada.sendMessage(t)
	server := httptest.NewUnstartedServer(s.handler)
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	stream := ada.openAt(t, server.Client(), server.URL+streamPath(id))
	if got := stream.response.ProtoMajor; got != 2 {
		t.Fatalf("got HTTP/%d, want HTTP/2", got)
	}
	if got := stream.next(); !strings.HasPrefix(got, "event: message|id: 1|") {
		t.Errorf("got first event %s", got)
	}
	s.setStatus(id, mms.Sending)
	if got := stream.next(); !strings.HasPrefix(got, "event: message|id: 2|") {
		t.Errorf("got second event %s", got)
	}
}

// The server's write timeout covers a whole response, but must not end a stream.
func TestStreamOutlivesWriteTimeout(t *testing.T) {
	t.Parallel()
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const timeout = 2 * time.Second
			s := newSystem(t)
			ada := s.ada()
			id := ada.sendMessage(t)
			server := httptest.NewUnstartedServer(s.handler)
			server.Config.ReadTimeout, server.Config.WriteTimeout, server.EnableHTTP2 = timeout, timeout, http2
			server.StartTLS()
			t.Cleanup(server.Close)
			stream := ada.openAt(t, server.Client(), server.URL+streamPath(id))
			stream.next()
			<-time.After(2 * timeout)
			s.setStatus(id, mms.Sending)
			if got := stream.next(); !strings.HasPrefix(got, "event: message|id: 2|") {
				t.Errorf("got %q after the write timeout, want event 2", got)
			}
		})
	}
}

// A stopping server waits for open requests, so streams must end by themselves.
func TestStreamsEndAtShutdown(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	ada := s.ada()
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	served := make(chan error, 1)
	logger := slog.New(slog.NewTextHandler(s.logs, nil))
	go func() { served <- httpkit.ServeListener(ctx, listener, s.handler, logger) }()
	stream := ada.openAt(t, http.DefaultClient, "http://"+listener.Addr().String()+allMessages)
	s.stop()
	stop()
	if got := stream.next(); got != "" {
		t.Errorf("got event %s, want the end of the stream", got)
	}
	if err := stream.lines.Err(); err != nil {
		t.Errorf("got %v, want a complete response", err)
	}
	if err := <-served; err != nil {
		t.Errorf("got %v, want an orderly shutdown", err)
	}
	if strings.Contains(s.logs.String(), "level=WARN") {
		t.Errorf("got warnings in the log:\n%s", s.logs)
	}
}

func TestStreamsEndWithLogout(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	ada, bob := s.ada(), s.login(bobEmail)
	adas, bobs := ada.sendMessage(t), bob.sendMessage(t)
	adasList := ada.open(t, allMessages)
	adasMessage := ada.open(t, streamPath(adas))
	bobsMessage := bob.open(t, streamPath(bobs))
	adasMessage.next()
	bobsMessage.next()
	if got := ada.do("POST", "/api/logout", ""); got.status != http.StatusNoContent {
		t.Fatalf("logout: %d %s", got.status, got.body)
	}
	s.setStatus(adas, mms.Sending)
	s.setStatus(bobs, mms.Sending)
	if got := adasList.next() + adasMessage.next(); got != "" {
		t.Errorf("got event %s after logout, want the end of the stream", got)
	}
	if got := bobsMessage.next(); !strings.Contains(got, `"status":"sending"`) {
		t.Errorf("got %q on another user's stream, want the change", got)
	}
}

func TestStreamLimit(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	ada, bob := s.ada(), s.login(bobEmail)
	var last *eventStream
	for range live.MaxConnections {
		last = ada.open(t, allMessages)
	}
	if got := ada.do("GET", allMessages, ""); got.status != http.StatusTooManyRequests || got.header.Get("Retry-After") == "" || !strings.Contains(got.body, "100 streams") {
		t.Errorf("got %d %v %s above the limit, want 429 with Retry-After", got.status, got.header, got.body)
	}
	if got := ada.do("HEAD", allMessages, ""); got.status != http.StatusOK {
		t.Errorf("got %d for HEAD, want 200: it opens no stream", got.status)
	}
	if got := bob.open(t, allMessages).response.StatusCode; got != http.StatusOK {
		t.Errorf("got %d for another user, want 200", got)
	}
	last.response.Body.Close()
	testkit.Eventually(t, "a closed stream makes room for another", func() bool {
		return ada.open(t, allMessages).response.StatusCode == http.StatusOK
	})
}

func TestUnchangedMessageIsNotRead(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	ada := s.ada()
	id := ada.sendMessage(t)
	stream := ada.open(t, streamPath(id))
	stream.next()
	before := s.messages.readsOf(id)
	for range 10 {
		s.changes <- id.String()
	}
	s.setStatus(id, mms.Sending)
	stream.next()
	if got := s.messages.readsOf(id) - before; got != 1 {
		t.Errorf("got %d reads for one event, want 1", got)
	}
}

func TestStreamAccess(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	path := streamPath(s.ada().sendMessage(t))
	for name, tt := range map[string]struct {
		client *client
		path   string
		status int
	}{
		"one message, not logged in":  {s.anonymous(), path, http.StatusUnauthorized},
		"all messages, not logged in": {s.anonymous(), allMessages, http.StatusUnauthorized},
		"another user's message":      {s.login(bobEmail), path, http.StatusNotFound},
		"unknown id":                  {s.ada(), streamPath(uuid.New()), http.StatusNotFound},
		"malformed id":                {s.ada(), "/api/messages/x/stream", http.StatusNotFound},
	} {
		if got := tt.client.do("GET", tt.path, ""); got.status != tt.status {
			t.Errorf("%s: got %d, want %d", name, got.status, tt.status)
		}
	}
	if got := s.ada().do("HEAD", path, ""); got.status != http.StatusOK || got.header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("HEAD: got %d %v", got.status, got.header)
	}
}

func TestGetMessageWaits(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	ada := s.ada()
	id := ada.sendMessage(t)
	path := "/api/messages/" + id.String()
	tag := ada.do("GET", path, "").header.Get("ETag")

	if got := ada.do("GET", path+"?wait=30s", ""); got.status != http.StatusOK {
		t.Errorf("without an ETag: got %d, want 200 at once", got.status)
	}
	if got := ada.do("GET", path+"?wait=30s", "", "If-None-Match", `"another"`); got.status != http.StatusOK {
		t.Errorf("with an old ETag: got %d, want 200 at once", got.status)
	}
	if got := ada.do("GET", path+"?wait=20ms", "", "If-None-Match", tag); got.status != http.StatusNotModified {
		t.Errorf("without a change: got %d, want 304", got.status)
	}
	responses := make(chan response)
	go func() { responses <- ada.do("GET", path+"?wait=60s", "", "If-None-Match", tag) }()
	s.setStatus(id, mms.Sending)
	if got := <-responses; got.status != http.StatusOK || !strings.Contains(got.body, `"status":"sending"`) {
		t.Errorf("with a change: got %d %s", got.status, got.body)
	}
	s.messages.finish(id)
	finalTag := ada.do("GET", path, "").header.Get("ETag")
	start := time.Now()
	if got := ada.do("GET", path+"?wait=60s", "", "If-None-Match", finalTag); got.status != http.StatusNotModified || time.Since(start) > 30*time.Second {
		t.Errorf("final: got %d after %v, want 304 at once", got.status, time.Since(start))
	}
	for _, wait := range []string{"61s", "-1s", "soon", "10"} {
		got := ada.do("GET", path+"?wait="+wait, "", "If-None-Match", tag)
		if got.status != http.StatusBadRequest || !strings.Contains(got.body, `"field":"wait"`) {
			t.Errorf("wait=%s: got %d %s, want 400", wait, got.status, got.body)
		}
	}
	ada.gone = true
	if got := ada.do("GET", path+"?wait=60s", "", "If-None-Match", `"x"`); got.status >= 500 && got.status != http.StatusServiceUnavailable {
		t.Errorf("client disconnected: got %d", got.status)
	}
}
