// Package httpkit has the middleware and the server that the API, the pages and
// the callbacks share: request ids, access log, panic recovery, security headers,
// client address, metrics and timeouts. It knows nothing about messages and users.
package httpkit

import (
	"context"
	"crypto/rand"
	"net/http"
	"regexp"
)

// RequestIDHeader is the header of the request id, in requests and responses.
const RequestIDHeader = "X-Request-Id"

// validRequestID is the form of ids that are accepted from clients. Other ids could
// forge or flood the log.
var validRequestID = regexp.MustCompile(`^[A-Za-z0-9_-]{8,64}$`)

type requestIDKey struct{}

// AssignRequestID assigns an id to each request and sets it in the response. It
// keeps the client's id if that is valid, and otherwise generates one.
func AssignRequestID(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get(RequestIDHeader)
		if !validRequestID.MatchString(id) {
			id = rand.Text()
		}
		w.Header().Set(RequestIDHeader, id)
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), requestIDKey{}, id)))
	})
}

// RequestID returns the id of the request that ctx belongs to, or "".
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}
