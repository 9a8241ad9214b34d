package app

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/alexedwards/scs/v2"
	"github.com/alexedwards/scs/v2/memstore"
	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/postcard-mms/postcard/internal/auth"
	"github.com/postcard-mms/postcard/internal/callback"
	"github.com/postcard-mms/postcard/internal/config"
	"github.com/postcard-mms/postcard/internal/httpapi"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/plivo"
	"github.com/postcard-mms/postcard/internal/plivosim"
	"github.com/postcard-mms/postcard/internal/webui"
)

// noBeats takes heartbeats and forgets them.
type noBeats struct{}

func (noBeats) BeatAPI(context.Context, uuid.UUID, bool) error { return nil }

// TestCallbacksAreRouted sends what Plivo sends through the whole router: a callback
// that is not routed loses delivery reports and opt-outs.
func TestCallbacksAreRouted(t *testing.T) {
	t.Parallel()
	router := newHandlers(t, config.Shared{}).router()
	for _, path := range []string{callback.StatusPath("token"), callback.InboundPath} {
		for _, method := range []string{http.MethodPost, http.MethodGet} {
			response := httptest.NewRecorder()
			router.ServeHTTP(response, httptest.NewRequest(method, path, nil))
			if response.Code != http.StatusTeapot {
				t.Errorf("%s %s: got %d, want the callback handler", method, path, response.Code)
			}
		}
	}
}

// TestRouteNames checks the name of every route in logs and metrics: its pattern, once, and
// never an ID or a token.
func TestRouteNames(t *testing.T) {
	t.Parallel()
	authService := auth.New(nil, nil, scs.New(), false)
	var log bytes.Buffer
	logger := slog.New(slog.NewJSONHandler(&log, nil))
	pages, err := webui.New(webui.Options{Auth: authService, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ok := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	api := httpapi.New(httpapi.Options{Auth: authService, Logger: slog.New(slog.DiscardHandler)})
	callbacks := callback.New(callback.Options{Logger: slog.New(slog.DiscardHandler), Count: func(string) {}})
	router := apiHandlers{
		logger: logger, registry: prometheus.NewRegistry(), auth: authService, pages: pages,
		api: api, dashboard: ok, ready: ok, callbacks: callbacks, callbackHealth: callback.NewHealth(noBeats{}, uuid.New(), slog.New(slog.DiscardHandler)),
	}.router()
	want := map[string]string{ // by method and path
		"GET /livez": "/livez", "GET /readyz": "/readyz", "GET /docs": "/docs", "GET /docs/swagger-ui.css": "/docs/*", "GET /": "/", "GET /login": "/login",
		"GET /messages/" + uuid.NewString():              "/messages/{id}",
		"POST /messages/" + uuid.NewString() + "/resend": "/messages/{id}/resend",
		"GET /static/postcard.svg":                       "/static/*",
		"GET /settings":                                  "/settings",
		"GET /nowhere":                                   "/*", "GET /api/nowhere": "/api/*", "GET /openapi.json/x": "/openapi.json/*",
	}
	for _, handler := range []http.Handler{api, callbacks} {
		err = chi.Walk(handler.(chi.Routes), func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
			want[method+" "+regexp.MustCompile(`\{[a-z]+\}`).ReplaceAllString(route, uuid.NewString())] = route
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(want) < 45 {
		t.Errorf("got %d routes, want all", len(want))
	}
	for request, route := range want {
		log.Reset()
		method, path, _ := strings.Cut(request, " ")
		router.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(method, path, nil))
		var entry struct{ Route string }
		if err := json.Unmarshal(log.Bytes(), &entry); err != nil || entry.Route != route {
			t.Errorf("%s: got route %q (%v), want %q", request, entry.Route, err, route)
		}
	}
}

// newHandlers returns handlers of which those behind the pages answer with the path that they
// get, and callbacks with 418.
func newHandlers(t *testing.T, shared config.Shared) apiHandlers {
	t.Helper()
	authService := auth.New(nil, nil, newSessions(memstore.NewWithCleanupInterval(0), shared.PublicURL), false)
	logger := slog.New(slog.DiscardHandler)
	pages, err := webui.New(webui.Options{Auth: authService, PublicURL: shared.PublicURL, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	respond := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(r.URL.EscapedPath()))
		}
	}
	return apiHandlers{
		config: config.API{Shared: shared},
		logger: logger, registry: prometheus.NewRegistry(), auth: authService, pages: pages,
		api: respond(http.StatusOK), dashboard: respond(http.StatusOK), ready: respond(http.StatusOK),
		callbacks: respond(http.StatusTeapot), callbackHealth: callback.NewHealth(noBeats{}, uuid.New(), logger),
	}
}

// TestRequestsComeWithOrWithoutBasePath sends requests as proxies pass them on. The want is
// the status, and the path that the handler gets, or the one to which it redirects.
func TestRequestsComeWithOrWithoutBasePath(t *testing.T) {
	t.Parallel()
	router := newHandlers(t, config.Shared{PublicURL: "https://example.com/postcard", CallbackURL: "https://hooks.example.com/plivo/mms"}).router()
	for target, want := range map[string]string{
		"/postcard":                          "303 /postcard/messages",
		"/postcard/":                         "303 /postcard/messages",
		"/":                                  "303 /postcard/messages",
		"/postcard/messages":                 "303 /postcard/login?next=%2Fpostcard%2Fmessages",
		"/messages":                          "303 /postcard/login?next=%2Fpostcard%2Fmessages",
		"/postcard/admin/queues/x?y":         "303 /postcard/login?next=%2Fpostcard%2Fadmin%2Fqueues%2Fx%3Fy",
		"/admin/queues":                      "303 /postcard/login?next=%2Fpostcard%2Fadmin%2Fqueues",
		"/postcard/api/messages/a%2Fb":       "200 /api/messages/a%2Fb",
		"/api/messages":                      "200 /api/messages",
		"/postcard/readyz":                   "200 /readyz",
		"/readyz":                            "200 /readyz",
		"/postcard/callbacks/plivo/inbound":  "418 /callbacks/plivo/inbound",
		"/plivo/mms/callbacks/plivo/inbound": "418 /callbacks/plivo/inbound",
		"/callbacks/plivo/inbound":           "418 /callbacks/plivo/inbound",
		"/plivo/mms/messages":                "404 ", // only callbacks have this path
		"/plivo/mms/postcard/callbacks/plivo/status": "404 ",
		"/postcard/postcard/messages":                "404 ",
		"/postcards":                                 "404 ",
		"/other/messages":                            "404 ",
	} {
		response := httptest.NewRecorder()
		router.ServeHTTP(response, httptest.NewRequest(http.MethodGet, target, nil))
		got := fmt.Sprint(response.Code, " ", response.Header().Get("Location"))
		if response.Code == http.StatusOK || response.Code == http.StatusTeapot {
			got += response.Body.String()
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", target, got, want)
		}
	}
}

// TestCallbacksAreVerifiedForCallbackURL signs the URL that Plivo calls.
func TestCallbacksAreVerifiedForCallbackURL(t *testing.T) {
	t.Parallel()
	const token, path = "auth-token", "/callbacks/plivo/status/t0ken"
	for name, c := range map[string]struct{ public, callbackURL, signed, arrives string }{
		"no path":                         {"https://a.example", "https://a.example", "https://a.example", ""},
		"path kept":                       {"https://a.example/x", "https://a.example/x", "https://a.example/x", "/x"},
		"path removed":                    {"https://a.example/x", "https://a.example/x", "https://a.example/x", ""},
		"CALLBACK_URL, path kept":         {"https://a.example/x", "http://api:8080/y", "http://api:8080/y", "/y"},
		"CALLBACK_URL, path removed":      {"https://a.example/x", "http://api:8080/y", "http://api:8080/y", ""},
		"CALLBACK_URL below PUBLIC_URL":   {"https://a.example/x", "https://a.example/x/y", "https://a.example/x/y", "/x/y"},
		"PUBLIC_URL below CALLBACK_URL":   {"https://a.example/x/y", "https://a.example/x", "https://a.example/x", "/x"},
		"a callback path as CALLBACK_URL": {"https://a.example/x", "https://a.example/callbacks", "https://a.example/callbacks", "/callbacks"},
		"the same, removed":               {"https://a.example/x", "https://a.example/callbacks", "https://a.example/callbacks", ""},
	} {
		h := newHandlers(t, config.Shared{PublicURL: c.public, CallbackURL: c.callbackURL})
		h.callbacks = callback.New(callback.Options{
			Verifier: plivo.Verifier{Tokens: []string{token}, CallbackURL: c.callbackURL},
			Reports:  noReports{}, Count: func(string) {}, Logger: h.logger,
		})
		for base, want := range map[string]int{c.signed: http.StatusOK, "https://other.example": http.StatusForbidden} {
			form := url.Values{"MessageUUID": {uuid.NewString()}, "Status": {"sent"}, "From": {"14155550100"}, "To": {"14155550123"}}
			r := httptest.NewRequest(http.MethodPost, c.arrives+path, strings.NewReader(form.Encode()))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			r.Header.Set("X-Plivo-Signature-V3-Nonce", "1")
			r.Header.Set("X-Plivo-Signature-V3", plivosim.SignV3(token, r.Method, base+path, "1", form))
			response := httptest.NewRecorder()
			h.registry = prometheus.NewRegistry()
			h.router().ServeHTTP(response, r)
			if response.Code != want {
				t.Errorf("%s, signed for %s: got %d %s, want %d", name, base, response.Code, response.Body, want)
			}
		}
	}
}

type noReports struct{}

func (noReports) Apply(context.Context, mms.Report) error { return nil }

// TestFormsOfPublicURLAreOurs submits forms through a proxy that replaces the host.
func TestFormsOfPublicURLAreOurs(t *testing.T) {
	t.Parallel()
	router := newHandlers(t, config.Shared{PublicURL: "https://mms.example.com/postcard"}).router()
	for origin, want := range map[string]int{
		"https://mms.example.com":      http.StatusOK,
		"http://api:8080":              http.StatusOK, // the request's own host
		"https://evil.example":         http.StatusForbidden,
		"https://mms.example.com.evil": http.StatusForbidden,
		"null":                         http.StatusForbidden,
	} {
		r := httptest.NewRequest(http.MethodPost, "http://api:8080/api/send-mms", nil)
		r.Header.Set("Origin", origin)
		response := httptest.NewRecorder()
		router.ServeHTTP(response, r)
		if response.Code != want {
			t.Errorf("origin %s: got %d, want %d", origin, response.Code, want)
		}
	}
}

func TestSessionCookie(t *testing.T) {
	t.Parallel()
	type cookie struct {
		Path   string
		Secure bool
	}
	for publicURL, want := range map[string]cookie{
		"":                                  {"/", false},
		"http://localhost:8080":             {"/", false},
		"https://mms.example.com":           {"/", true}, // also if a proxy speaks http to the api
		"https://example.com/postcard":      {"/postcard/", true},
		"http://example.com/tools/postcard": {"/tools/postcard/", false},
	} {
		sessions := newSessions(nil, publicURL)
		if got := (cookie{sessions.Cookie.Path, sessions.Cookie.Secure}); got != want {
			t.Errorf("%q: got %+v, want %+v", publicURL, got, want)
		}
	}
}

// TestReservedPaths expects config to refuse the first part of each route as the path of
// PUBLIC_URL. The pages have a test of their own.
func TestReservedPaths(t *testing.T) {
	t.Parallel()
	err := chi.Walk(newHandlers(t, config.Shared{}).routes(), func(_, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		first, _, _ := strings.Cut(strings.TrimPrefix(route, "/"), "/")
		if first == "" || first == "*" {
			return nil
		}
		if _, err := config.ReadAPI(map[string]string{"PUBLIC_URL": "https://example.com/" + first}); !strings.Contains(err.Error(), "begins with /"+first+",") {
			t.Errorf("PUBLIC_URL may begin with /%s, want it refused", first)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
