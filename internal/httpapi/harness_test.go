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

	// Ada and Bob share a password, hashed at bcrypt's least cost.
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

// system is the API behind a real Door.
type system struct {
	t        testing.TB
	users    *fakeUsers
	throttle *fakeThrottle
	messages *fakeMessages
	changes  chan string // announced to whoever waits
	sessions *brittleStore
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
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	go hub.Run(ctx, s.changes)
	sessions := newSessions()
	s.sessions = sessions.Store.(*brittleStore)
	door, err := auth.New(s.users, s.throttle, sessions, true)
	if err != nil {
		t.Fatal(err)
	}
	o := httpapi.Options{
		Auth: door,
		Intake: &intake.Intake{
			Rules: mms.Rules{Countries: []string{"US", "CA"}, Senders: []mms.PhoneNumber{"+14155550100", "+14155550101"}},
			Store: s.messages, Queue: nowhere{}, Logger: logger,
		},
		Messages: s.messages,
		Live:     hub,
		Logger:   logger,
	}
	for _, f := range change {
		f(&o)
	}
	s.handler = httpkit.AssignRequestID(door.Middleware(httpapi.ErrorHandler(logger))(httpapi.New(o)))
	return s
}

// syncBuffer is a log that may be read while it is written.
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

// breakAll makes all that people and sessions are kept in fail with err, and
// starts a new log.
func (s *system) breakAll(err error) {
	s.users.setErr(err)
	s.sessions.setErr(err)
	s.logs.reset()
}

// client is somebody with a cookie jar of one cookie.
type client struct {
	*system
	cookie *http.Cookie
	gone   bool // it hangs up as soon as it has asked
}

func (s *system) stranger() *client { return &client{system: s} }

// loggedIn logs somebody in.
func (s *system) loggedIn(email string) *client {
	s.t.Helper()
	c := s.stranger()
	body, _ := json.Marshal(map[string]string{"email": email, "password": password})
	if got := c.do("POST", "/api/login", string(body)); got.status != http.StatusOK {
		s.t.Fatalf("login: %d %s", got.status, got.body)
	}
	return c
}

func (s *system) ada() *client { s.t.Helper(); return s.loggedIn(adaEmail) }

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
}

// do sends a request with a body, if any, of JSON; headers come as pairs.
func (c *client) do(method, path, body string, headers ...string) answer {
	c.t.Helper()
	contentType := ""
	if body != "" {
		contentType = "application/json"
	}
	return c.doAs(contentType, method, path, body, headers...)
}

// doAs is do with a declared content type, or with none where it is "".
func (c *client) doAs(contentType, method, path, body string, headers ...string) answer {
	c.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("X-Request-Id", "test-request")
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
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
	got := answer{status: w.Code, header: w.Result().Header, body: strings.TrimSuffix(w.Body.String(), "\n")}
	c.checkProblem(method+" "+path, got)
	return got
}

// checkProblem holds for every error of the API.
func (c *client) checkProblem(what string, got answer) {
	c.t.Helper()
	if got.status < 400 {
		return
	}
	if ct := got.header.Get("Content-Type"); ct != "application/problem+json" {
		c.t.Errorf("%s: %d has content type %q: %s", what, got.status, ct, got.body)
	}
	var p httpapi.Problem
	if err := json.Unmarshal([]byte(got.body), &p); err != nil || p.Status != got.status || p.Title == "" || p.Detail == "" {
		c.t.Errorf("%s: %d is not a whole problem (%v): %s", what, got.status, err, got.body)
	}
}

// decode reads a JSON answer.
func decode[T any](t testing.TB, got answer) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(got.body), &v); err != nil {
		t.Fatalf("%v: %s", err, got.body)
	}
	return v
}
