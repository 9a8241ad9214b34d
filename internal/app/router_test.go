package app

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/alexedwards/scs/v2"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/postcard-mms/postcard/internal/auth"
	"github.com/postcard-mms/postcard/internal/callback"
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
