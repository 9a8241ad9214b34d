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

// TestChecksAreShared asks more often than the check may run.
func TestChecksAreShared(t *testing.T) {
	t.Parallel()
	errDown := errors.New("down")
	runs := 0
	check := atIntervals(func(context.Context) error { runs++; return errDown })
	for range 5 {
		if err := check(t.Context()); !errors.Is(err, errDown) {
			t.Errorf("got error %v, want that of the check", err)
		}
	}
	if runs > 2 { // a slow machine may need longer than a second
		t.Errorf("got %d runs, want one", runs)
	}
}

// TestCanceledCheckIsNotShared has a client disconnect during a check.
func TestCanceledCheckIsNotShared(t *testing.T) {
	t.Parallel()
	check := atIntervals(func(ctx context.Context) error { return ctx.Err() })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_ = check(ctx) // it may have been refused or run
	if err := check(t.Context()); err != nil {
		t.Errorf("after another client's disconnection: got error %v, want none", err)
	}
}
