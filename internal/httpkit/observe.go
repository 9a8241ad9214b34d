package httpkit

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
)

// result describes a handled request.
type result struct {
	route   string // the matched pattern, or unmatched
	status  int
	bytes   int // of the response's body
	took    time.Duration
	aborted bool // the handler panicked
	stream  bool // the response was a stream of server-sent events
}

// statusClientClosedRequest replaces a 5xx status when the client closed the
// connection before the response: that is not an error of ours. The code is
// nginx's.
const statusClientClosedRequest = 499

// unmatched is the route of all requests without a pattern: clients can invent
// any number of paths.
const unmatched = "unmatched"

// observe calls done after next has handled a request or panicked.
func observe(next http.Handler, done func(*http.Request, result)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r, routing := withRouteContext(r)
		wrapped := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
		res := result{aborted: true}
		start := time.Now()
		defer func() {
			res.took, res.bytes = time.Since(start), wrapped.BytesWritten()
			res.route, res.status = routePattern(routing, r), wrapped.Status()
			if res.status == 0 {
				res.status = http.StatusOK // net/http's default
			}
			if res.status >= http.StatusInternalServerError && errors.Is(r.Context().Err(), context.Canceled) {
				res.status = statusClientClosedRequest
			}
			res.stream = wrapped.Header().Get("Content-Type") == "text/event-stream"
			done(r, res)
		}()
		next.ServeHTTP(wrapped, r)
		res.aborted = false
	})
}

// withRouteContext ensures that the request has chi's routing context, in which
// inner routers store the matched pattern.
func withRouteContext(r *http.Request) (*http.Request, *chi.Context) {
	if routing := chi.RouteContext(r.Context()); routing != nil {
		return r, routing
	}
	routing := chi.NewRouteContext()
	routing.Routes = chi.NewRouter() // chi's middleware expects one
	return r.WithContext(context.WithValue(r.Context(), chi.RouteCtxKey, routing)), routing
}

// RouteFullPath makes a mounted chi router match the full path of a request, and
// not only the rest after the prefix at which it is mounted.
func RouteFullPath(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if routing := chi.RouteContext(r.Context()); routing != nil {
			routing.RoutePath = ""
		}
		next.ServeHTTP(w, r)
	})
}

// routePattern returns the pattern that the request matched. It never returns the
// path, which may contain a callback's token. The pattern of a mounted router
// ("/api/*") is a prefix of inner patterns, unless they repeat it.
func routePattern(routing *chi.Context, r *http.Request) string {
	pattern := ""
	for _, inner := range routing.RoutePatterns {
		prefix := strings.TrimSuffix(pattern, "/*")
		if prefix != "" && strings.HasPrefix(inner+"/", prefix+"/") {
			prefix = ""
		}
		pattern = prefix + inner
	}
	if pattern == "" {
		pattern = r.Pattern // set by an http.ServeMux
	}
	if pattern == "" {
		return unmatched
	}
	return pattern
}
