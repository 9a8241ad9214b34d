package app

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

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
				dependency{name: "postgres", state: usable(func(context.Context) error { return tt.postgres }), required: true},
				dependency{name: "redis", state: usable(func(context.Context) error { return tt.redis })},
				sendingHealth(func(context.Context) ([]mms.Pause, error) { return tt.pauses, tt.pausesErr }))
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

func TestChecksAreShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		runs := 0
		state := atIntervals(func(context.Context) string { runs++; return strconv.Itoa(runs) })
		for range 5 {
			if got := state(t.Context()); got != "1" {
				t.Errorf("got the result of check %s, want the first", got)
			}
		}
		time.Sleep(healthInterval)
		if got := state(t.Context()); got != "2" {
			t.Errorf("after the interval: got the result of check %s, want the second", got)
		}
	})
}

// A client that disconnects during a check must not spoil its result for others.
func TestCanceledCheckIsNotShared(t *testing.T) {
	t.Parallel()
	state := atIntervals(usable(func(ctx context.Context) error { return ctx.Err() }))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_ = state(ctx) // it may have been refused or run
	if got := state(t.Context()); got != "ok" {
		t.Errorf("after another client's disconnection: got %q, want ok", got)
	}
}

// TestChecksRunConcurrently has checks that wait for each other.
func TestChecksRunConcurrently(t *testing.T) {
	t.Parallel()
	var both sync.WaitGroup
	both.Add(2)
	state := func(context.Context) string { both.Done(); both.Wait(); return "ok" }
	response := httptest.NewRecorder()
	readyz(dependency{name: "a", state: state}, dependency{name: "b", state: state})(response, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/readyz", nil))
	if response.Code != http.StatusOK {
		t.Errorf("got status %d, want 200", response.Code)
	}
}
