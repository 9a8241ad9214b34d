package httpkit_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postcard-mms/postcard/internal/httpkit"
)

type valueKey struct{}

// serve handles a request with handle behind Deadline(7 s), with ctx as the client's.
func serve(ctx context.Context, handle func(ctx context.Context)) {
	h := httpkit.Deadline(7 * time.Second)(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		handle(context.WithValue(r.Context(), valueKey{}, "principal"))
	}))
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil))
}

func TestRequestEndsAtItsDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		serve(t.Context(), func(ctx context.Context) {
			<-ctx.Done()
			if !errors.Is(ctx.Err(), context.DeadlineExceeded) || time.Since(start) != 7*time.Second {
				t.Errorf("got %v after %v, want DeadlineExceeded after 7s", ctx.Err(), time.Since(start))
			}
		})
	})
}

func TestHandlerExtendsItsDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		serve(t.Context(), func(ctx context.Context) {
			<-ctx.Done()
			extended, cancel := httpkit.WithDeadline(ctx, time.Minute)
			defer cancel()
			if got := extended.Value(valueKey{}); got != "principal" || extended.Err() != nil {
				t.Errorf("got value %v and error %v, want the request's values and no error", got, extended.Err())
			}
			<-extended.Done()
			if !errors.Is(extended.Err(), context.DeadlineExceeded) || time.Since(start) != 67*time.Second {
				t.Errorf("got %v after %v, want DeadlineExceeded after 67s", extended.Err(), time.Since(start))
			}
		})
	})
}

func TestContextWithoutDeadlineEndsWithItsClient(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, disconnect := context.WithCancel(t.Context())
		time.AfterFunc(time.Minute, disconnect)
		serve(client, func(ctx context.Context) {
			ctx = httpkit.WithoutDeadline(ctx)
			if _, ok := ctx.Deadline(); ok {
				t.Error("got a deadline, want none")
			}
			child, cancel := context.WithCancel(ctx)
			defer cancel()
			<-child.Done()
			if !errors.Is(child.Err(), context.Canceled) {
				t.Errorf("got %v, want Canceled", child.Err())
			}
		})
	})
}

func TestWithoutDeadlineOutsideOfDeadline(t *testing.T) {
	t.Parallel()
	if got := httpkit.WithoutDeadline(t.Context()); got != t.Context() {
		t.Errorf("got %v, want the context itself", got)
	}
}
