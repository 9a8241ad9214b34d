package httpkit

import (
	"context"
	"net/http"
	"time"
)

// RequestTimeout is the deadline of a request: everything that answers it, from its
// authentication to its last retry, happens within this time. It is shorter than
// the 8 seconds after which Plivo counts a callback as failed, and than the
// shutdownTimeout after which a stopping process closes its connections.
const RequestTimeout = 7 * time.Second

type clientContextKey struct{}

// Deadline gives each request's context a deadline. Handlers that take longer by
// design use WithoutDeadline or WithDeadline for the part that does.
func Deadline(timeout time.Duration) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx := context.WithValue(r.Context(), clientContextKey{}, r.Context())
			ctx, cancel := context.WithTimeout(ctx, timeout)
			defer cancel()
			next.ServeHTTP(w, r.WithContext(ctx))
		})
	}
}

// WithoutDeadline returns ctx without the deadline of Deadline. It still ends when
// the client disconnects.
func WithoutDeadline(ctx context.Context) context.Context {
	client, ok := ctx.Value(clientContextKey{}).(context.Context)
	if !ok {
		return ctx
	}
	return valuesContext{Context: client, values: ctx}
}

// WithDeadline returns ctx with a new timeout instead of the deadline of Deadline.
func WithDeadline(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(WithoutDeadline(ctx), timeout)
}

// valuesContext has the deadline of one context and the values of another.
type valuesContext struct {
	context.Context
	values context.Context
}

// Value implements context.Context.
func (c valuesContext) Value(key any) any { return c.values.Value(key) }
