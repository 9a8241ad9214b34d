package httpkit

import (
	"context"
	"log/slog"
	"net/http"
)

// logFields are attributes that inner handlers add to the access log.
type logFields struct{ userID string }

type logFieldsKey struct{}

// LogUser adds the user's id to the access log of the request. The id must not be
// personal data. Outside of AccessLog it does nothing.
func LogUser(ctx context.Context, id string) {
	if fields, ok := ctx.Value(logFieldsKey{}).(*logFields); ok {
		fields.userID = id
	}
}

// AccessLog logs one record per request, with its route pattern and status. It
// logs no path, query, header or address, which may contain tokens and personal
// data.
func AccessLog(logger *slog.Logger) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		logged := observe(next, func(r *http.Request, res result) {
			logger.LogAttrs(r.Context(), slog.LevelInfo, "request", logAttrs(r, res)...)
		})
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			logged.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), logFieldsKey{}, &logFields{})))
		})
	}
}

func logAttrs(r *http.Request, res result) []slog.Attr {
	attrs := []slog.Attr{
		slog.String("method", knownMethod(r.Method)), slog.String("route", res.route), slog.Int("status", res.status),
		slog.Int("bytes", res.bytes), slog.Duration("took", res.took), slog.String("request_id", RequestID(r.Context())),
	}
	if fields, ok := r.Context().Value(logFieldsKey{}).(*logFields); ok && fields.userID != "" {
		attrs = append(attrs, slog.String("user_id", fields.userID))
	}
	if res.aborted {
		attrs = append(attrs, slog.Bool("aborted", true))
	}
	return attrs
}

// knownMethod returns "other" for methods that clients may invent, so that they
// stay out of logs and metrics.
func knownMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
		http.MethodDelete, http.MethodOptions:
		return method
	}
	return "other"
}
