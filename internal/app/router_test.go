package app

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/alexedwards/scs/v2"
	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/postcard-mms/postcard/internal/auth"
	"github.com/postcard-mms/postcard/internal/callback"
	"github.com/postcard-mms/postcard/internal/httpapi"
	"github.com/postcard-mms/postcard/internal/webui"
)

// noBeats takes heartbeats and forgets them.
type noBeats struct{}

func (noBeats) BeatAPI(context.Context, uuid.UUID, bool) error { return nil }

// TestCallbacksAreRouted sends what Plivo sends through the whole router: a callback
// that is not routed loses delivery reports and opt-outs.
func TestCallbacksAreRouted(t *testing.T) {
	t.Parallel()
	authService := auth.New(nil, nil, scs.New(), false)
	logger := slog.New(slog.DiscardHandler)
	pages, err := webui.New(webui.Options{Auth: authService, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	respond := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
	}
	router := apiHandlers{
		logger: logger, registry: prometheus.NewRegistry(), auth: authService, pages: pages,
		api: respond(http.StatusOK), dashboard: respond(http.StatusOK), ready: respond(http.StatusOK),
		callbacks: respond(http.StatusTeapot), callbackHealth: callback.NewHealth(noBeats{}, uuid.New(), logger),
	}.router()
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
