package app

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postcard-mms/postcard/internal/mms"
)

func TestReadyzReportsDependenciesAndPauses(t *testing.T) {
	t.Parallel()
	errDown := errors.New("secret host is down")
	tests := map[string]struct {
		postgres, redis error // redis is not required
		pauses          []mms.Pause
		pausesErr       error
		status          int
		want            map[string]string
	}{
		"ready":               {status: http.StatusOK, want: map[string]string{"postgres": "ok", "redis": "ok", "sending": "ok"}},
		"optional down":       {redis: errDown, status: http.StatusOK, want: map[string]string{"postgres": "ok", "redis": "down", "sending": "ok"}},
		"required down":       {postgres: errDown, pausesErr: errDown, status: http.StatusServiceUnavailable, want: map[string]string{"postgres": "down", "redis": "ok", "sending": "unknown"}},
		"sending paused":      {pauses: []mms.Pause{{Cause: mms.ReasonCredit}}, status: http.StatusOK, want: map[string]string{"postgres": "ok", "redis": "ok", "sending": "paused: plivo_credit"}},
		"pauses not readable": {pausesErr: errDown, status: http.StatusOK, want: map[string]string{"postgres": "ok", "redis": "ok", "sending": "unknown"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			handler := readyz(
				func(context.Context) ([]mms.Pause, error) { return tt.pauses, tt.pausesErr },
				dependency{name: "postgres", ping: func(context.Context) error { return tt.postgres }, required: true},
				dependency{name: "redis", ping: func(context.Context) error { return tt.redis }})
			response := httptest.NewRecorder()
			handler(response, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/readyz", nil))
			if response.Code != tt.status {
				t.Errorf("got status %d, want %d", response.Code, tt.status)
			}
			var got map[string]string
			if err := json.Unmarshal(response.Body.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("body (-want +got):\n%s", diff)
			}
		})
	}
}
