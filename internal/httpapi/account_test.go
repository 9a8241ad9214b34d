package httpapi_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/auth"
	"github.com/postcard-mms/postcard/internal/httpapi"
	"github.com/postcard-mms/postcard/internal/mms"
)

// session is the body of a session response.
func session(id, email string) map[string]any {
	name, _, _ := strings.Cut(email, "@")
	return map[string]any{
		"user":      map[string]any{"id": id, "email": email, "role": "user"},
		"workspace": map[string]any{"id": id, "name": name, "permissions": []any{"read", "send", "manage"}},
	}
}

func TestLoginMeLogout(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	c := s.anonymous()
	want := session(s.users.users[0].ID.String(), adaEmail)

	got := c.do("POST", "/api/login", `{"email":"ADA@example.com","password":"`+password+`"}`)
	if diff := cmp.Diff(want, decode[map[string]any](t, got)); got.status != 200 || diff != "" {
		t.Errorf("login: got %d %s", got.status, diff)
	}
	if c.cookie == nil || !c.cookie.HttpOnly {
		t.Fatalf("login: got cookie %v, want an HttpOnly one", c.cookie)
	}
	got = c.do("GET", "/api/me", "")
	if diff := cmp.Diff(want, decode[map[string]any](t, got)); got.status != 200 || diff != "" {
		t.Errorf("me: got %d %s", got.status, diff)
	}
	before := *c.cookie
	if got := c.do("POST", "/api/logout", ""); got.status != http.StatusNoContent || got.body != "" {
		t.Errorf("logout: got %d %s, want 204", got.status, got.body)
	}
	c.cookie = &before
	if got := c.do("GET", "/api/me", ""); got.status != http.StatusUnauthorized {
		t.Errorf("me after logout: got %d, want 401", got.status)
	}
	if got := s.anonymous().do("POST", "/api/logout", ""); got.status != http.StatusNoContent {
		t.Errorf("logout without a session: got %d, want 204", got.status)
	}
}

func TestLoginRejections(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	cases := map[string]struct {
		body string
		want map[string]any
	}{
		"wrong password": {
			`{"email":"ada@example.com","password":"wrong"}`,
			problem(401, "The email or password is incorrect."),
		},
		"unknown email": {
			`{"email":"eve@example.com","password":"` + password + `"}`,
			problem(401, "The email or password is incorrect."),
		},
		"empty object": {`{}`, problem(400, "2 fields are invalid.", "email", "required", "is missing", "password", "required", "is missing")},
		"misspelled field": {
			`{"mail":"ada@example.com","password":1}`,
			problem(400, "2 fields are invalid.", "mail", "unknown", "is not a known field; the known fields are email, password",
				"password", "type", "must be a string, not a number"),
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := s.anonymous().do("POST", "/api/login", c.body)
			if diff := cmp.Diff(c.want, decode[map[string]any](t, got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// problem is a decoded problem. violations are triples of field, rule and message.
func problem(status int, detail string, violations ...string) map[string]any {
	p := map[string]any{
		"title": http.StatusText(status), "status": float64(status), "detail": detail, "requestId": "test-request",
	}
	var list []any
	for i := 0; i < len(violations); i += 3 {
		list = append(list, map[string]any{"field": violations[i], "rule": violations[i+1], "message": violations[i+2]})
	}
	if list != nil {
		p["errors"] = list
	}
	return p
}

func TestLoginLimit(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	var got response
	for range 11 {
		got = s.anonymous().do("POST", "/api/login", `{"email":"ada@example.com","password":"wrong"}`)
	}
	if diff := cmp.Diff(problem(429, "Too many attempts. Retry after the time in Retry-After."), decode[map[string]any](t, got)); diff != "" {
		t.Error(diff)
	}
	if got := got.header.Get("Retry-After"); got != "91" { // 90.5 s, rounded up
		t.Errorf("Retry-After is %q, want 91", got)
	}
}

func TestSignup(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	c := s.anonymous()
	got := c.do("POST", "/api/signup", `{"email":"Eve@example.com","password":"a long enough password"}`)
	if got.status != http.StatusCreated {
		t.Fatalf("%d %s", got.status, got.body)
	}
	id := s.users.users[2].ID.String()
	if diff := cmp.Diff(session(id, "eve@example.com"), decode[map[string]any](t, got)); diff != "" {
		t.Error(diff)
	}
	if got := c.do("GET", "/api/me", ""); got.status != 200 {
		t.Errorf("me after sign-up: got %d, want 200", got.status)
	}
}

func TestSignupRejections(t *testing.T) {
	t.Parallel()
	open, closed := newSystem(t), newSystem(t, func(o *httpapi.Options) { o.Auth = closedAuth(t) })
	cases := map[string]struct {
		s    *system
		body string
		want map[string]any
	}{
		"sign-up closed": {closed, `{"email":"eve@example.com","password":"a long enough password"}`, problem(403, "Sign-up is closed. Ask the operator to create a user for you.")},
		"email in use": {
			open, `{"email":"ADA@example.com","password":"a long enough password"}`,
			problem(409, "1 field is invalid.", "email", "taken", "is already in use: log in instead"),
		},
		"invalid email and password": {
			open, `{"email":"eve","password":"short"}`,
			problem(400, "2 fields are invalid.", "email", "email", "must be an email address like ada@example.com",
				"password", "min_length", "must be at least 10 characters long"),
		},
		"empty object": {open, `{}`, problem(400, "2 fields are invalid.", "email", "required", "is missing", "password", "required", "is missing")},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := c.s.anonymous().do("POST", "/api/signup", c.body)
			if diff := cmp.Diff(c.want, decode[map[string]any](t, got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func closedAuth(t *testing.T) *auth.Service {
	t.Helper()
	authService := auth.New(&fakeUsers{}, &fakeThrottle{}, newSessions(), false)
	return authService
}

func TestPasswordsOff(t *testing.T) {
	t.Parallel()
	s := newSystem(t, func(o *httpapi.Options) { o.Auth.UseSingleSignOn(auth.SingleSignOn{}, false) })
	want := problem(403, "Logging in with a password is switched off. Log in through single sign-on in a browser, or use an API key.")
	for _, path := range []string{"/api/login", "/api/signup"} {
		got := s.anonymous().do("POST", path, `{"email":"ada@example.com","password":"a long enough password"}`)
		if diff := cmp.Diff(want, decode[map[string]any](t, got)); diff != "" {
			t.Errorf("%s: %s", path, diff)
		}
	}
}

func TestUnauthenticated(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	requests := map[string][2]string{
		"me":       {"GET", "/api/me"},
		"send":     {"POST", "/api/send-mms"},
		"messages": {"GET", "/api/messages?limit=x"},
		"message":  {"GET", "/api/messages/" + uuid.NewString()},
	}
	want := problem(401, "Authentication is required. Send an API key in the header Authorization: Bearer pc_..., or log in with POST /api/login and send the session cookie it sets.")
	for name, r := range requests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, cookie := range []*http.Cookie{nil, {Name: "session", Value: "made-up"}} {
				got := (&client{system: s, cookie: cookie}).do(r[0], r[1], "")
				if diff := cmp.Diff(want, decode[map[string]any](t, got)); diff != "" {
					t.Error(diff)
				}
				if got.header.Get("WWW-Authenticate") == "" {
					t.Error("got 401 without WWW-Authenticate")
				}
			}
		})
	}
}

func TestAccountFailures(t *testing.T) {
	t.Parallel()
	credentials := `{"email":"ada@example.com","password":"a long enough password"}`
	requests := map[string][3]string{
		"login":  {"POST", "/api/login", credentials},
		"signup": {"POST", "/api/signup", credentials},
		"me":     {"GET", "/api/me", ""},
		"logout": {"POST", "/api/logout", ""},
	}
	broken := map[int]error{500: errors.New("disk failure"), 503: mms.ErrUnavailable}
	s := newSystem(t)
	for name, r := range requests {
		for status, err := range broken {
			t.Run(name+" "+http.StatusText(status), func(t *testing.T) { // not parallel: the cases share the injected errors
				c := s.ada()
				s.breakAll(err)
				defer s.breakAll(nil)
				checkOpaqueError(t, s, c.do(r[0], r[1], r[2]), status)
			})
		}
	}
}

// The handler has succeeded when saving the session fails.
func TestLoginFailsIfSessionIsNotSaved(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.sessions.setErr(mms.ErrUnavailable)
	c := s.anonymous()
	got := c.do("POST", "/api/login", `{"email":"ada@example.com","password":"`+password+`"}`)
	checkOpaqueError(t, s, got, 503)
	if c.cookie != nil {
		t.Errorf("got cookie %v, want none", c.cookie)
	}
}

const noRoute = "This path does not exist. See /docs or /openapi.json for the available endpoints."

// TestMalformedIDs ensures that an id which is no UUID gets the answer of an unknown one.
func TestMalformedIDs(t *testing.T) {
	t.Parallel()
	ada := newSystem(t).ada()
	for name, tc := range map[string]struct{ method, path, want string }{
		"message": {"GET", "/api/messages/x", "The message does not exist."},
		"batch":   {"GET", "/api/batches/x", "The batch does not exist."},
		"API key": {"DELETE", "/api/keys/x", "The API key does not exist."},
		"webhook": {"GET", "/api/webhooks/x", "The webhook or event does not exist."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := (&client{system: ada.system, cookie: ada.cookie}).do(tc.method, tc.path, "")
			if diff := cmp.Diff(problem(404, tc.want), decode[map[string]any](t, got)); diff != "" {
				t.Errorf("mismatch (-want +got):\n%s", diff)
			}
		})
	}
}

func TestUnknownPathsAndMethods(t *testing.T) {
	t.Parallel()
	c := newSystem(t).anonymous()
	cases := map[string]struct {
		method, path string
		want         map[string]any
		allow        string
	}{
		"unknown path":            {"GET", "/api/nothing", problem(404, noRoute), ""},
		"trailing slash":          {"GET", "/api/messages/", problem(404, noRoute), ""},
		"GET of a POST route":     {"GET", "/api/send-mms", problem(405, "This path supports only POST, OPTIONS."), "POST, OPTIONS"},
		"POST of a GET route":     {"POST", "/api/messages", problem(405, "This path supports only GET, HEAD, OPTIONS."), "GET, HEAD, OPTIONS"},
		"HEAD of a POST route":    {"HEAD", "/api/login", problem(405, "This path supports only POST, OPTIONS."), "POST, OPTIONS"},
		"OPTIONS, unknown path":   {"OPTIONS", "/api/nothing", problem(404, noRoute), ""},
		"unknown method":          {"BREW", "/api/login", problem(405, "This path supports only POST, OPTIONS."), "POST, OPTIONS"},
		"unknown method and path": {"BREW", "/api/nothing", problem(404, noRoute), ""},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := (&client{system: c.system}).do(tc.method, tc.path, "")
			if diff := cmp.Diff(tc.want, decode[map[string]any](t, got)); diff != "" {
				t.Error(diff)
			}
			if got := got.header.Get("Allow"); got != tc.allow {
				t.Errorf("Allow is %q, want %q", got, tc.allow)
			}
		})
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	c := newSystem(t).anonymous()
	for path, want := range map[string]string{
		"/api/messages": "GET, HEAD, OPTIONS", "/api/batches": "GET, POST, HEAD, OPTIONS", "/api/send-mms": "POST, OPTIONS", "/openapi.json": "GET, HEAD, OPTIONS",
		"/api/webhooks/" + uuid.NewString(): "GET, DELETE, HEAD, OPTIONS",
	} {
		if got := c.do("OPTIONS", path, ""); got.status != http.StatusNoContent || got.header.Get("Allow") != want || got.body != "" {
			t.Errorf("%s: got %d, Allow %q, want 204 and %q", path, got.status, got.header.Get("Allow"), want)
		}
	}
}

// The handler works under any router that mounts it.
func TestMountedHandler(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	c := s.ada()
	bare := s.handler
	mux, mounted, handled := http.NewServeMux(), chi.NewRouter(), chi.NewRouter()
	mux.Handle("/api/", bare)
	mounted.Mount("/api", bare)
	handled.Handle("/api/*", bare)
	for name, handler := range map[string]http.Handler{"ServeMux": mux, "Mount": mounted, "Handle": handled} {
		s.handler = handler
		for path, want := range map[string]int{"/api/me": 200, "/api/messages/x": 404, "/api/login": 405, "/api": 404} {
			if name != "Mount" && path == "/api" {
				continue // the outer router answers
			}
			if got := c.do("GET", path, ""); got.status != want {
				t.Errorf("%s: %s: got %d, want %d: %s", name, path, got.status, want, got.body)
			}
		}
	}
}

func TestHead(t *testing.T) {
	t.Parallel()
	if got := newSystem(t).ada().do("HEAD", "/api/me", ""); got.status != 200 {
		t.Errorf("HEAD /api/me: got %d, want 200", got.status)
	}
}

func TestAcceptIsIgnored(t *testing.T) {
	t.Parallel()
	c := newSystem(t).ada()
	for _, accept := range []string{"json", "text/html", "application/cbor", "*/*;q=0"} {
		if got := c.do("GET", "/api/me", "", "Accept", accept); got.status != 200 || got.header.Get("Content-Type") != "application/json" {
			t.Errorf("Accept: %s: got %d %s, want 200 application/json", accept, got.status, got.header.Get("Content-Type"))
		}
	}
}
