package httpkit

import (
	"context"
	"log/slog"
	"net/http"
)

// notes collects what is learnt further in and logged further out.
type notes struct{ user string }

type notesKey struct{}

// NoteUser tells the access log whom the request acts for. The id must be no
// personal data. Outside AccessLog it does nothing.
func NoteUser(ctx context.Context, id string) {
	if n, ok := ctx.Value(notesKey{}).(*notes); ok {
		n.user = id
	}
}

// AccessLog writes one line per request: what was asked by its route pattern,
// and what was answered. It logs no path, query, header or address, since
// those carry tokens and personal data.
func AccessLog(logger *slog.Logger) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		logged := watch(next, func(r *http.Request, o outcome) {
			logger.LogAttrs(r.Context(), slog.LevelInfo, "request", attributes(r, o)...)
		})
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			logged.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), notesKey{}, &notes{})))
		})
	}
}

func attributes(r *http.Request, o outcome) []slog.Attr {
	attrs := []slog.Attr{
		slog.String("method", knownMethod(r.Method)), slog.String("route", o.route), slog.Int("status", o.status),
		slog.Int("bytes", o.bytes), slog.Duration("took", o.took), slog.String("request_id", RequestID(r.Context())),
	}
	if n, ok := r.Context().Value(notesKey{}).(*notes); ok && n.user != "" {
		attrs = append(attrs, slog.String("user_id", n.user))
	}
	if o.aborted {
		attrs = append(attrs, slog.Bool("aborted", true))
	}
	return attrs
}

// knownMethod keeps made-up methods out of logs and metrics.
func knownMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
		http.MethodDelete, http.MethodOptions:
		return method
	}
	return "other"
}
