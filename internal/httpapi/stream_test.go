package httpapi_test

import (
	"bufio"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/live"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/testkit"
)

// follow is an open stream, read event by event.
type follow struct {
	t        *testing.T
	response *http.Response
	lines    *bufio.Scanner
}

// open asks for a stream over a real connection.
func (c *client) open(t *testing.T, path string, headers ...string) *follow {
	t.Helper()
	server := httptest.NewServer(c.handler)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(server.Close)
	t.Cleanup(cancel) // before the server closes, which waits for its connections
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.cookie != nil {
		r.AddCookie(c.cookie)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	return &follow{t: t, response: response, lines: bufio.NewScanner(response.Body)}
}

// next returns the next event as its lines, or "" at the end of the stream.
func (f *follow) next() string {
	f.t.Helper()
	var event []string
	for f.lines.Scan() {
		line := f.lines.Text()
		if line == "" && len(event) > 0 {
			return strings.Join(event, "|")
		}
		if line != "" && !strings.HasPrefix(line, "retry:") && !strings.HasPrefix(line, ":") {
			event = append(event, line)
		}
	}
	return ""
}

// happen moves a message on and announces it.
func (s *system) happen(id uuid.UUID, status mms.Status) {
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

// sent is a message of somebody's.
func (c *client) sent(t *testing.T) uuid.UUID {
	t.Helper()
	body := decode[map[string]any](t, c.do("POST", "/api/send-mms", goodSend))
	id, err := uuid.Parse(body["id"].(string))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestStreamOfAMessage(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	ada := s.ada()
	id := ada.sent(t)
	path := "/api/messages/" + id.String() + "/stream"
	f := ada.open(t, path)
	if ct := f.response.Header.Get("Content-Type"); f.response.StatusCode != http.StatusOK || ct != "text/event-stream" {
		t.Fatalf("%d %s", f.response.StatusCode, ct)
	}
	if got := f.next(); !strings.HasPrefix(got, `event: message|id: 1|data: {`) || !strings.Contains(got, `"status":"queued"`) {
		t.Errorf("the first event is %s", got)
	}
	s.changes <- id.String() // nothing has changed: nothing is sent
	s.happen(id, mms.Sending)
	if got := f.next(); !strings.HasPrefix(got, `event: message|id: 2|`) || !strings.Contains(got, `"status":"sending"`) {
		t.Errorf("the second event is %s", got)
	}
	s.happen(id, mms.Delivered)
	if got := f.next(); !strings.Contains(got, `"final":true`) {
		t.Errorf("the third event is %s", got)
	}
	if again := ada.open(t, path, "Last-Event-ID", "2"); !strings.HasPrefix(again.next(), "event: message|id: 3|") {
		t.Error("whoever comes back is not told what was missed")
	}
	if over := ada.open(t, path, "Last-Event-ID", "3"); over.response.StatusCode != http.StatusNoContent {
		t.Errorf("whoever knows the end gets %d, want 204", over.response.StatusCode)
	}
}

func TestStreamOfAllMessages(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	ada, bob := s.ada(), s.loggedIn(bobEmail)
	hers, his := ada.sent(t), bob.sent(t)
	f := ada.open(t, "/api/messages/stream")
	s.happen(his, mms.Sending)
	s.happen(hers, mms.Sending)
	if got := f.next(); got != "event: news|data: {}" {
		t.Errorf("the event is %q", got)
	}
	s.messages.mu.Lock()
	delete(s.messages.histories, hers)
	s.messages.mu.Unlock()
	// Bob's alone would be her next event if others' news were hers.
	s.happen(his, mms.Sent)
	s.happen(ada.sent(t), mms.Sending)
	if got := f.next(); got != "event: news|data: {}" {
		t.Errorf("the second event is %q", got)
	}
}

// TestAStreamEndsWithTheLogin has two people follow, one of whom logs out.
func TestAStreamEndsWithTheLogin(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	ada, bob := s.ada(), s.loggedIn(bobEmail)
	hers, his := ada.sent(t), bob.sent(t)
	all := ada.open(t, "/api/messages/stream")
	one := ada.open(t, "/api/messages/"+hers.String()+"/stream")
	bobs := bob.open(t, "/api/messages/"+his.String()+"/stream")
	one.next()
	bobs.next()
	if got := ada.do("POST", "/api/logout", ""); got.status != http.StatusNoContent {
		t.Fatalf("logout: %d %s", got.status, got.body)
	}
	s.happen(hers, mms.Sending)
	s.happen(his, mms.Sending)
	if got := all.next() + one.next(); got != "" {
		t.Errorf("whoever has logged out is told %s", got)
	}
	if got := bobs.next(); !strings.Contains(got, `"status":"sending"`) {
		t.Errorf("whoever has not is told %q", got)
	}
}

func TestTooManyStreams(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	ada, bob := s.ada(), s.loggedIn(bobEmail)
	var first *follow
	for range live.MaxConnections {
		first = ada.open(t, "/api/messages/stream")
	}
	const path = "/api/messages/stream"
	if got := ada.do("GET", path, ""); got.status != http.StatusTooManyRequests || got.header.Get("Retry-After") == "" || !strings.Contains(got.body, "100 streams") {
		t.Errorf("one too many: %d %v %s", got.status, got.header, got.body)
	}
	if got := ada.do("HEAD", path, ""); got.status != http.StatusOK {
		t.Errorf("HEAD, which opens none: %d", got.status)
	}
	if got := bob.open(t, path); got.response.StatusCode != http.StatusOK {
		t.Errorf("somebody else's first: %d", got.response.StatusCode)
	}
	first.response.Body.Close()
	testkit.Eventually(t, "there is room for another", func() bool {
		s.happen(ada.sent(t), mms.Sending) // the stream finds out that its reader is gone
		return ada.open(t, path).response.StatusCode == http.StatusOK
	})
}

// TestWhoHasMissedNothingReadsNothing tells a stream again and again.
func TestWhoHasMissedNothingReadsNothing(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	ada := s.ada()
	id := ada.sent(t)
	f := ada.open(t, "/api/messages/"+id.String()+"/stream")
	f.next()
	s.messages.mu.Lock()
	before := s.messages.reads[id]
	s.messages.mu.Unlock()
	for range 10 {
		s.changes <- id.String()
	}
	s.happen(id, mms.Sending)
	f.next()
	s.messages.mu.Lock()
	defer s.messages.mu.Unlock()
	if n := s.messages.reads[id] - before; n != 1 {
		t.Errorf("the message was read %d times for one event", n)
	}
}

func TestStreamsAreForTheirOwners(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	path := "/api/messages/" + s.ada().sent(t).String() + "/stream"
	for name, tt := range map[string]struct {
		who    *client
		path   string
		status int
	}{
		"a stranger's":         {s.stranger(), path, http.StatusUnauthorized},
		"a stranger's, of all": {s.stranger(), "/api/messages/stream", http.StatusUnauthorized},
		"another user's":       {s.loggedIn(bobEmail), path, http.StatusNotFound},
		"of no message":        {s.ada(), "/api/messages/" + uuid.NewString() + "/stream", http.StatusNotFound},
		"of no id":             {s.ada(), "/api/messages/x/stream", http.StatusNotFound},
	} {
		if got := tt.who.do("GET", tt.path, ""); got.status != tt.status {
			t.Errorf("%s stream: %d, want %d", name, got.status, tt.status)
		}
	}
	if got := s.ada().do("HEAD", path, ""); got.status != http.StatusOK || got.header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("HEAD: %d %v", got.status, got.header)
	}
}

func TestWaitingForNews(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	ada := s.ada()
	id := ada.sent(t)
	path := "/api/messages/" + id.String()
	tag := ada.do("GET", path, "").header.Get("ETag")

	if got := ada.do("GET", path+"?wait=30s", ""); got.status != http.StatusOK {
		t.Errorf("who knows nothing waits for nothing: %d", got.status)
	}
	if got := ada.do("GET", path+"?wait=30s", "", "If-None-Match", `"another"`); got.status != http.StatusOK {
		t.Errorf("who has old news waits for nothing: %d", got.status)
	}
	if got := ada.do("GET", path+"?wait=20ms", "", "If-None-Match", tag); got.status != http.StatusNotModified {
		t.Errorf("after a wait without news: %d, want 304", got.status)
	}
	answered := make(chan answer)
	go func() { answered <- ada.do("GET", path+"?wait=60s", "", "If-None-Match", tag) }()
	s.happen(id, mms.Sending)
	if got := <-answered; got.status != http.StatusOK || !strings.Contains(got.body, `"status":"sending"`) {
		t.Errorf("with news: %d %s", got.status, got.body)
	}
	for _, wait := range []string{"61s", "-1s", "soon", "10"} {
		got := ada.do("GET", path+"?wait="+wait, "", "If-None-Match", tag)
		if got.status != http.StatusBadRequest || !strings.Contains(got.body, `"field":"wait"`) {
			t.Errorf("wait=%s: %d %s", wait, got.status, got.body)
		}
	}
	ada.gone = true
	if got := ada.do("GET", path+"?wait=60s", "", "If-None-Match", `"x"`); got.status >= 500 && got.status != http.StatusServiceUnavailable {
		t.Errorf("who hangs up: %d", got.status)
	}
}
