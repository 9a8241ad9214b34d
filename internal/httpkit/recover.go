package httpkit

import (
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"

	"github.com/go-chi/chi/v5/middleware"
)

// Recover logs a panic with its stack and responds with respond. If the handler
// has written a part of its response, Recover closes the connection instead, so
// that the client does not take it for complete.
func Recover(logger *slog.Logger, respond http.HandlerFunc) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			wrapped := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
			defer func() {
				p := recover()
				if p == nil {
					return
				}
				if p == http.ErrAbortHandler { //nolint:errorlint // net/http compares it the same way
					panic(p)
				}
				logger.ErrorContext(r.Context(), "handler panicked", slog.String("request_id", RequestID(r.Context())),
					slog.String("panic", fmt.Sprint(p)), slog.String("stack", string(debug.Stack())))
				if wrapped.Status() != 0 {
					panic(http.ErrAbortHandler)
				}
				respond(w, r)
			}()
			next.ServeHTTP(wrapped, r)
		})
	}
}
