package httpapi_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/auth"
	"github.com/postcard-mms/postcard/internal/httpapi"
	"github.com/postcard-mms/postcard/internal/httpkit"
	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/intake"
	"github.com/postcard-mms/postcard/internal/live"
	"github.com/postcard-mms/postcard/internal/mms"
)

const (
	adaEmail, bobEmail = "ada@example.com", "bob@example.com"

	// Ada and Bob share a password, hashed at the minimum cost of bcrypt.
	password                       = "correct horse battery"
	hash     identity.PasswordHash = "$2a$04$qsXqA2XUCZ0QQa3ovHRFBO1yjTSLOHMKrTL241J.egA6LC1Lf/5uy"
)

func adaAndBob() []identity.User {
	var users []identity.User
	for _, email := range []string{adaEmail, bobEmail} {
		users = append(users, identity.User{ID: uuid.Must(uuid.NewV7()), Email: email, PasswordHash: hash, Role: identity.RoleUser})
	}
	return users
}

// system is the API behind the real authentication middleware.
type system struct {
	t        testing.TB
	users    *fakeUsers
	throttle *fakeThrottle
	messages *fakeMessages
	changes  chan string        // ids that the hub is notified of
	stop     context.CancelFunc // stops the hub, as a stopping process does
	sessions *fakeSessionStore
	logs     *syncBuffer
	handler  http.Handler
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.FixedZone("somewhere", 3600))

func newSystem(t testing.TB, change ...func(*httpapi.Options)) *system {
	t.Helper()
	s := &system{
		t: t, users: &fakeUsers{users: adaAndBob()}, throttle: &fakeThrottle{},
		messages: &fakeMessages{histories: map[uuid.UUID]mms.History{}, reads: map[uuid.UUID]int{}}, logs: &syncBuffer{},
	}
	logger := slog.New(slog.NewTextHandler(s.logs, nil))
	s.changes = make(chan string)
	hub := live.New(s.messages, logger)
	s.users.loggedOut = hub.Disconnect
	s.users.Find, s.users.Replace = s.users.find, s.users.replace
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	t.Cleanup(cancel)
	go hub.Run(ctx, s.changes)
	sessions := newSessions()
	s.sessions = sessions.Store.(*fakeSessionStore)
	authService := auth.New(s.users, s.throttle, sessions, true)
	o := httpapi.Options{
		Auth: authService,
		Intake: &intake.Intake{
			Rules: mms.Rules{Countries: []string{"US", "CA"}, Senders: []mms.PhoneNumber{"+14155550100", "+14155550101"}},
			Store: s.messages, Queue: fakeQueue{}, Logger: logger,
		},
		Messages: s.messages,
		Live:     hub,
		Logger:   logger,
	}
	for _, f := range change {
		f(&o)
	}
	s.handler = httpkit.AssignRequestID(authService.Middleware(httpapi.ErrorHandler(logger))(httpapi.New(o)))
	return s
}

// syncBuffer is a log that can be read while it is written.
type syncBuffer struct {
	mu  sync.Mutex
	buf strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buf.Reset()
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// breakAll makes the user and session stores fail with err, and clears the log.
func (s *system) breakAll(err error) {
	s.users.setErr(err)
	s.sessions.setErr(err)
	s.logs.reset()
}

// client sends requests and keeps one cookie.
type client struct {
	*system
	cookie *http.Cookie
	gone   bool // cancels every request at once
}

func (s *system) anonymous() *client { return &client{system: s} }

// login returns a client with a session.
func (s *system) login(email string) *client {
	s.t.Helper()
	c := s.anonymous()
	body, _ := json.Marshal(map[string]string{"email": email, "password": password})
	if got := c.do("POST", "/api/login", string(body)); got.status != http.StatusOK {
		s.t.Fatalf("login: %d %s", got.status, got.body)
	}
	return c
}

func (s *system) ada() *client { s.t.Helper(); return s.login(adaEmail) }

// response is a recorded response.
type response struct {
	status int
	header http.Header
	body   string
}

// do sends a request. A body is declared as JSON; headers are name-value pairs.
func (c *client) do(method, path, body string, headers ...string) response {
	c.t.Helper()
	contentType := ""
	if body != "" {
		contentType = "application/json"
	}
	return c.doAs(contentType, method, path, body, headers...)
}

// doAs is do with an explicit content type; "" sends none.
func (c *client) doAs(contentType, method, path, body string, headers ...string) response {
	c.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("X-Request-Id", "test-request")
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return c.send(r)
}

func (c *client) send(r *http.Request) response {
	c.t.Helper()
	if c.cookie != nil {
		r.AddCookie(c.cookie)
	}
	if c.gone {
		ctx, cancel := context.WithCancel(r.Context())
		cancel()
		r = r.WithContext(ctx)
	}
	w := httptest.NewRecorder()
	c.handler.ServeHTTP(w, r)
	for _, cookie := range w.Result().Cookies() {
		c.cookie = cookie
	}
	got := response{status: w.Code, header: w.Result().Header, body: strings.TrimSuffix(w.Body.String(), "\n")}
	c.checkProblem(r.Method+" "+r.URL.String(), got)
	return got
}

// checkProblem checks that an error response is a complete problem.
func (c *client) checkProblem(request string, got response) {
	c.t.Helper()
	if got.status < 400 {
		return
	}
	if ct := got.header.Get("Content-Type"); ct != "application/problem+json" {
		c.t.Errorf("%s: %d has content type %q: %s", request, got.status, ct, got.body)
	}
	var p httpapi.Problem
	if err := json.Unmarshal([]byte(got.body), &p); err != nil || p.Status != got.status || p.Title == "" || p.Detail == "" {
		c.t.Errorf("%s: %d is not a complete problem (%v): %s", request, got.status, err, got.body)
	}
}

// decode reads a JSON response.
func decode[T any](t testing.TB, got response) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(got.body), &v); err != nil {
		t.Fatalf("%v: %s", err, got.body)
	}
	return v
}
