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

// outcome is what came of one request.
type outcome struct {
	route   string // the pattern that matched; unmatched where none did
	status  int
	bytes   int
	took    time.Duration
	aborted bool // the handler gave up in the middle of its answer
}

// statusGone stands for what a client would have been answered that went away before, as
// with nginx: no failure of ours.
const statusGone = 499

// unmatched stands for all paths without a route, which anybody can make up.
const unmatched = "unmatched"

// watch serves the request with next and tells done what came of it, also when
// the handler panics.
func watch(next http.Handler, done func(*http.Request, outcome)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r, routing := withRouting(r)
		wrapped := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
		o := outcome{aborted: true}
		start := time.Now()
		defer func() {
			o.took, o.bytes = time.Since(start), wrapped.BytesWritten()
			o.route, o.status = route(routing, r), wrapped.Status()
			if o.status == 0 {
				o.status = http.StatusOK // what net/http sends for a handler that says nothing
			}
			if o.status >= http.StatusInternalServerError && errors.Is(r.Context().Err(), context.Canceled) {
				o.status = statusGone
			}
			done(r, o)
		}()
		next.ServeHTTP(wrapped, r)
		o.aborted = false
	})
}

// withRouting makes sure that the request carries chi's routing context, so
// that routers further in write the matched pattern where it can be read here.
func withRouting(r *http.Request) (*http.Request, *chi.Context) {
	if routing := chi.RouteContext(r.Context()); routing != nil {
		return r, routing
	}
	routing := chi.NewRouteContext()
	routing.Routes = chi.NewRouter() // chi's own middleware expects one
	return r.WithContext(context.WithValue(r.Context(), chi.RouteCtxKey, routing)), routing
}

// WholePath lets a chi router whose routes are whole paths stand anywhere: below
// a prefix where it was mounted, chi would make it route by the rest alone.
func WholePath(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if routing := chi.RouteContext(r.Context()); routing != nil {
			routing.RoutePath = ""
		}
		next.ServeHTTP(w, r)
	})
}

// route is the pattern that the request matched, never its path: paths carry
// the tokens of callbacks. A pattern below a mounted one ("/api/*") counts from
// there, or from the root where it repeats the mounted prefix.
func route(routing *chi.Context, r *http.Request) string {
	pattern := ""
	for _, part := range routing.RoutePatterns {
		prefix := strings.TrimSuffix(pattern, "/*")
		if prefix != "" && strings.HasPrefix(part, prefix+"/") {
			prefix = ""
		}
		pattern = prefix + part
	}
	if pattern == "" {
		pattern = r.Pattern // set by an http.ServeMux right behind
	}
	if pattern == "" {
		return unmatched
	}
	return pattern
}
