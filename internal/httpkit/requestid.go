// Package httpkit holds the HTTP machinery that every face of Postcard shares:
// request ids, the access log, recovery, security headers, the client's
// address, metrics, and a server with time-outs. It knows nothing of messages
// or users, and decides on no answer but the headers it is told to set.
package httpkit

import (
	"context"
	"crypto/rand"
	"net/http"
	"regexp"
)

// RequestIDHeader carries the request id, in both directions.
const RequestIDHeader = "X-Request-Id"

// wellFormed is what a proxy's request id may look like. Anything else could
// forge log lines or fill them, and is replaced.
var wellFormed = regexp.MustCompile(`^[A-Za-z0-9_-]{8,64}$`)

type requestIDKey struct{}

// AssignRequestID gives each request an id: the caller's where it is a short
// plain token, else a fresh one. The answer repeats it.
func AssignRequestID(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get(RequestIDHeader)
		if !wellFormed.MatchString(id) {
			id = rand.Text()
		}
		w.Header().Set(RequestIDHeader, id)
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), requestIDKey{}, id)))
	})
}

// RequestID is the id of the request that ctx belongs to, or "".
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}
