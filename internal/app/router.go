package app

import (
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/postcard-mms/postcard/internal/auth"
	"github.com/postcard-mms/postcard/internal/config"
	"github.com/postcard-mms/postcard/internal/httpapi"
	"github.com/postcard-mms/postcard/internal/httpkit"
	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/queue"
	"github.com/postcard-mms/postcard/internal/webui"
)

// pagesCSP lets our pages load what is ours, and pictures for the previews.
const pagesCSP = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' https: http: data:; " +
	"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// apiParts are what the api's listener serves.
type apiParts struct {
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
}

func (p apiParts) handler() http.Handler {
	r := chi.NewRouter()
	r.Use(
		httpkit.TrustClientIP(p.config.ClientIPHeader),
		httpkit.AssignRequestID,
		httpkit.AccessLog(p.logger),
		httpkit.NewMetrics(p.registry).Middleware,
		httpkit.Recover(p.logger, p.panicked),
	)
	r.Get("/livez", livez)
	r.Get("/readyz", p.ready)
	r.Mount("/webhooks", httpkit.WholePath(p.callbacks))
	r.Group(func(r chi.Router) {
		r.Use(p.headers(pagesCSP))
		r.With(sameOrigin(foreignCall), p.auth.MiddlewareWithKeys(p.keys, httpapi.ErrorHandler(p.logger)), recordUser).Mount("/api", p.api)
		r.Mount("/openapi.json", p.api)
		r.With(sameOrigin(p.pages.Forbidden), p.auth.Middleware(p.pages.Unavailable), recordUser).Mount("/", p.pages)
	})
	r.With(p.headers(httpapi.DocsCSP)).Mount(httpapi.DocsPath, httpapi.NewDocs())
	r.Group(func(r chi.Router) {
		r.Use(p.headers(queue.DashboardCSP), sameOrigin(p.pages.Forbidden))
		r.Use(p.auth.Middleware(p.pages.Unavailable), recordUser, p.adminsOnly)
		r.Mount(queuesPath, p.dashboard)
	})
	return r
}

func (p apiParts) headers(csp string) func(http.Handler) http.Handler {
	return httpkit.SecurityHeaders(csp, strings.HasPrefix(p.config.PublicURL, "https://"))
}

// sameOrigin refuses what a browser sends for another site's page, which would
// carry the user's cookie.
func sameOrigin(refused http.HandlerFunc) func(http.Handler) http.Handler {
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(refused)
	return protection.Handler
}

func foreignCall(w http.ResponseWriter, r *http.Request) {
	httpapi.WriteProblem(w, r, http.StatusForbidden, "The request comes from another site's page.")
}

// panicked answers in the form that the caller can read.
func (p apiParts) panicked(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/api/") {
		httpapi.WriteFailure(w, r)
		return
	}
	p.pages.Broken(w, r)
}

// recordUser tells the access log who acts.
func recordUser(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if principal, ok := identity.PrincipalFrom(r.Context()); ok {
			httpkit.NoteUser(r.Context(), principal.UserID.String())
		}
		next.ServeHTTP(w, r)
	})
}

// adminsOnly sends strangers to the login. Other users are told that there is
// no such page.
func (p apiParts) adminsOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		principal, ok := identity.PrincipalFrom(r.Context())
		switch {
		case !ok:
			http.Redirect(w, r, "/login?next="+url.QueryEscape(r.URL.RequestURI()), http.StatusSeeOther)
		case !principal.IsAdmin():
			p.pages.NotFound(w, r)
		default:
			next.ServeHTTP(w, r)
		}
	})
}
