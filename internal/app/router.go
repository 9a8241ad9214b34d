package app

import (
	"log/slog"
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/postcard-mms/postcard/internal/auth"
	"github.com/postcard-mms/postcard/internal/callback"
	"github.com/postcard-mms/postcard/internal/config"
	"github.com/postcard-mms/postcard/internal/httpapi"
	"github.com/postcard-mms/postcard/internal/httpkit"
	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/queue"
	"github.com/postcard-mms/postcard/internal/webui"
)

// pagesCSP is the Content-Security-Policy of the web pages. Pictures come from us alone, so
// that no other host learns who looks at them.
const pagesCSP = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; " +
	"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// apiHandlers are the handlers of the api's public listener and what their
// middleware needs.
type apiHandlers struct {
	config    config.API
	logger    *slog.Logger
	registry  *prometheus.Registry
	auth      *auth.Service
	keys      auth.KeyLookup
	pages     *webui.Pages
	api       http.Handler
	callbacks http.Handler
	dashboard http.Handler
	ready     http.HandlerFunc

	callbackHealth *callback.Health
}

func (h apiHandlers) router() http.Handler { return h.trimBasePaths(h.routes()) }

func (h apiHandlers) routes() chi.Router {
	r := chi.NewRouter()
	r.Use(
		h.callbackHealth.Middleware, // outermost: it must see every answer
		httpkit.TrustClientIP(h.config.ClientIPHeader),
		httpkit.AssignRequestID,
		httpkit.AccessLog(h.logger),
		httpkit.NewMetrics(h.registry).Middleware,
		httpkit.Recover(h.logger, h.respondAfterPanic),
		httpkit.Deadline(httpkit.RequestTimeout),
	)
	r.Get("/livez", livez)
	r.Get("/readyz", h.ready)
	r.Mount(callback.Prefix, httpkit.RouteFullPath(h.callbacks))
	r.Group(func(r chi.Router) {
		r.Use(h.securityHeaders(pagesCSP))
		r.With(h.sameOrigin(rejectCrossOrigin), h.auth.MiddlewareWithKeys(h.keys, httpapi.ErrorHandler(h.logger)), recordUser).Mount("/api", h.api)
		r.Mount("/openapi.json", h.api)
		r.With(h.sameOrigin(h.pages.Forbidden), h.auth.Middleware(h.pages.Unavailable), recordUser).Mount("/", h.pages)
	})
	r.With(h.securityHeaders(httpapi.DocsCSP)).Mount(httpapi.DocsPath, httpapi.NewDocs(httpkit.BasePath(h.config.PublicURL)))
	r.Group(func(r chi.Router) {
		r.Use(h.securityHeaders(queue.DashboardCSP), h.sameOrigin(h.pages.Forbidden))
		r.Use(h.auth.Middleware(h.pages.Unavailable), recordUser, h.adminsOnly)
		r.Mount(queuesPath, h.dashboard)
	})
	return r
}

// trimBasePaths removes the path of PUBLIC_URL from requests, and that of CALLBACK_URL from
// callbacks. A request that does not have the path stays as it is: a proxy has removed it.
func (h apiHandlers) trimBasePaths(next http.Handler) http.Handler {
	public, callbacks := httpkit.BasePath(h.config.PublicURL), httpkit.BasePath(h.config.CallbackURL)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		trimmed := httpkit.TrimBasePath(r, callbacks)
		if !strings.HasPrefix(trimmed.URL.Path, callback.Prefix+"/") {
			trimmed = httpkit.TrimBasePath(r, public)
		}
		next.ServeHTTP(w, trimmed)
	})
}

func (h apiHandlers) securityHeaders(csp string) func(http.Handler) http.Handler {
	return httpkit.SecurityHeaders(csp, strings.HasPrefix(h.config.PublicURL, "https://"))
}

// sameOrigin rejects requests that a browser makes for another site's page, since
// they carry the user's cookie. Pages of PUBLIC_URL are ours even if a proxy has replaced
// the request's host.
func (h apiHandlers) sameOrigin(deny http.HandlerFunc) func(http.Handler) http.Handler {
	protection := http.NewCrossOriginProtection()
	origin := strings.TrimSuffix(h.config.PublicURL, httpkit.BasePath(h.config.PublicURL))
	_ = protection.AddTrustedOrigin(origin) // fails only if there is no PUBLIC_URL
	protection.SetDenyHandler(deny)
	return protection.Handler
}

func rejectCrossOrigin(w http.ResponseWriter, r *http.Request) {
	httpapi.WriteProblem(w, r, http.StatusForbidden, "The request was made by another site's page.")
}

// respondAfterPanic responds to a request whose handler panicked, as JSON or HTML.
func (h apiHandlers) respondAfterPanic(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/api/") {
		httpapi.WriteFailure(w, r)
		return
	}
	h.pages.InternalError(w, r)
}

// recordUser adds the authenticated user to the access log.
func recordUser(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if principal, ok := identity.PrincipalFrom(r.Context()); ok {
			httpkit.LogUser(r.Context(), principal.UserID.String())
		}
		next.ServeHTTP(w, r)
	})
}

// adminsOnly redirects to the login page if nobody is logged in, and responds with
// 404 to users who are not admins.
func (h apiHandlers) adminsOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		principal, ok := identity.PrincipalFrom(r.Context())
		switch {
		case !ok:
			h.pages.RedirectToLogin(w, r)
		case !principal.IsAdmin():
			h.pages.NotFound(w, r)
		default:
			next.ServeHTTP(w, r)
		}
	})
}
