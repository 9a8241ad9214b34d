package httpkit

import (
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"

	"github.com/go-chi/chi/v5/middleware"
)

// Recover turns a panic into one log line with its stack and the given answer.
// Where the handler has begun to answer, the connection is cut instead, so
// that the client does not take half an answer for a whole one.
func Recover(logger *slog.Logger, answer http.HandlerFunc) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			wrapped := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
			defer func() {
				p := recover()
				if p == nil {
					return
				}
				if p == http.ErrAbortHandler { //nolint:errorlint // net/http compares it this way too
					panic(p)
				}
				logger.ErrorContext(r.Context(), "handler panicked", slog.String("request_id", RequestID(r.Context())),
					slog.String("panic", fmt.Sprint(p)), slog.String("stack", string(debug.Stack())))
				if wrapped.Status() != 0 {
					panic(http.ErrAbortHandler)
				}
				answer(w, r)
			}()
			next.ServeHTTP(wrapped, r)
		})
	}
}
