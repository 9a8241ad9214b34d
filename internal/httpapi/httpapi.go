// Package httpapi serves the JSON API. It decodes requests strictly, calls the
// domain, and writes responses, problem details and the OpenAPI description. It
// holds no rules about messages or users: those live in mms and identity.
package httpapi

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"
	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/auth"
	"github.com/postcard-mms/postcard/internal/httpkit"
	"github.com/postcard-mms/postcard/internal/intake"
	"github.com/postcard-mms/postcard/internal/live"
	"github.com/postcard-mms/postcard/internal/mms"
)

// Intake creates messages and batches. Invalid parameters are returned as
// invalid.Fields, invalid rows as mms.RowErrors; other rejections are
// mms.CapError, mms.ErrKeyReused, mms.ErrInFlight and mms.ErrNotFinal.
type Intake interface {
	CreateMessage(ctx context.Context, by mms.Submitter, d mms.CreateParams) (mms.CreateResult, error)
	Forecast(ctx context.Context, by mms.Submitter, d mms.CreateParams) (mms.Forecast, error)
	Resend(ctx context.Context, by mms.Submitter, id uuid.UUID, i mms.Idempotency) (mms.CreateResult, error)
	CreateBatch(ctx context.Context, by mms.Submitter, d mms.BatchParams, rows intake.Rows) (mms.BatchResult, error)
}

// Batches reads a workspace's batches and changes their state. A batch of another
// workspace is mms.ErrBatchNotFound.
type Batches interface {
	Batch(ctx context.Context, workspace, id uuid.UUID) (mms.Batch, error)
	Batches(ctx context.Context, workspace, before uuid.UUID, limit int) (list []mms.Batch, more bool, err error)
	BatchErrors(ctx context.Context, workspace, id uuid.UUID, after, limit int) (list []mms.RowError, more bool, err error)
	SetBatchState(ctx context.Context, workspace, id uuid.UUID, state mms.BatchState) error
}

// Messages reads a workspace's messages, cancels them and records decisions on held
// ones. A message of another workspace is mms.ErrNotFound. Version is cheap: it serves
// clients that poll for changes.
type Messages interface {
	Message(ctx context.Context, workspace, id uuid.UUID) (mms.History, error)
	Version(ctx context.Context, workspace, id uuid.UUID) (int64, error)
	Messages(ctx context.Context, workspace uuid.UUID, p mms.Page) (list []mms.Message, next uuid.UUID, err error)
	Replies(ctx context.Context, workspace, id uuid.UUID) ([]mms.Inbound, error)
	QueuePosition(ctx context.Context, workspace, id uuid.UUID) (position mms.QueuePosition, waiting bool, err error)
	Decide(ctx context.Context, workspace, id uuid.UUID, d mms.Decision) error
	Cancel(ctx context.Context, workspace, id uuid.UUID) error
}

// Live notifies of changes to messages and limits open streams.
type Live interface {
	Message(id uuid.UUID) live.Watch
	Workspace(id uuid.UUID) live.Watch
	Closed() <-chan struct{}
	Connect(user uuid.UUID) (live.Connection, bool)
}

// Options are the dependencies and settings of the API.
type Options struct {
	Auth       *auth.Service
	Keys       *auth.KeyService
	Workspaces *auth.WorkspaceService
	KeyRate    int // requests per minute for each API key and process; 0: no limit
	Intake     Intake
	Messages   Messages
	Batches    Batches
	Webhooks   Webhooks
	Media      Media
	Links      Links // nil: links to pictures are not checked
	Operator   Operator

	PrivateWebhooks bool // allow webhooks on private and local addresses
	Live            Live
	PublicURL       string // without a trailing slash; empty makes links relative
	SessionCookie   string // name of the session cookie, for the description; default: session
	Simulated       bool   // messages go to a simulator instead of Plivo; responses say so
	Logger          *slog.Logger
}

type api struct {
	Options
	huma huma.API
	base string // the path of PublicURL
}

// New returns the handler of /api/... and /openapi.json. It routes by full paths,
// wherever it is mounted. The middleware of auth.Service must run before it: it
// loads the session and puts the principal into the context.
func New(o Options) http.Handler {
	router := chi.NewRouter()
	router.Use(httpkit.RouteFullPath, keepRequest, headAsGet, plainJSON, private, limitKeys(o.KeyRate))
	a := &api{Options: o, huma: humachi.New(router, description(o)), base: httpkit.BasePath(o.PublicURL)}
	a.registerAccount()
	a.registerWorkspaces()
	a.registerProfile()
	a.registerKeys()
	a.registerSend()
	a.registerMessages()
	a.registerActions()
	a.registerExport()
	a.registerBatches()
	a.registerMedia()
	a.registerMediaCheck()
	a.registerWebhooks()
	a.registerStreams()
	a.registerDecision()
	a.registerOperator()
	router.Get("/openapi.json", serveDescription(a.huma.OpenAPI()))
	router.NotFound(a.notFound)
	router.MethodNotAllowed(a.methodNotAllowed(router))
	return router
}

func (a *api) notFound(w http.ResponseWriter, r *http.Request) {
	WriteProblem(w, r, http.StatusNotFound, fmt.Sprintf("This path does not exist. See %[1]s/docs or %[1]s/openapi.json for the available endpoints.", a.base))
}

// methodNotAllowed lists the methods of the path in its response, and answers OPTIONS
// (RFC 9110, section 9.3.7). chi calls it for methods it does not know even if no route
// matches the path.
func (a *api) methodNotAllowed(router chi.Routes) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		allowed := allowedMethods(router, r.URL.Path)
		if len(allowed) == 0 {
			a.notFound(w, r)
			return
		}
		list := strings.Join(allowed, ", ")
		w.Header().Set("Allow", list)
		if r.Method == http.MethodOptions {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		WriteProblem(w, r, http.StatusMethodNotAllowed, "This path supports only "+list+".")
	}
}

// headAsGet routes HEAD like GET (RFC 9110, section 9.1). chi's GetHead looks the
// route up in the outermost router, which may not know it.
func headAsGet(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			chi.RouteContext(r.Context()).RouteMethod = http.MethodGet
		}
		next.ServeHTTP(w, r)
	})
}

// plainJSON turns off huma's content negotiation. There is only JSON, and huma
// would answer "Accept: json" with "Content-Type: json".
func plainJSON(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Accept")
		next.ServeHTTP(w, r)
	})
}

// private keeps responses out of shared caches and makes other caches revalidate.
func private(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "private, no-cache")
		w.Header().Set("Vary", "Authorization, Cookie")
		next.ServeHTTP(w, r)
	})
}

// allowedMethods lists the methods of a path.
func allowedMethods(router chi.Routes, path string) []string {
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		if router.Match(chi.NewRouteContext(), method, path) {
			allowed = append(allowed, method)
		}
	}
	if len(allowed) == 0 {
		return nil
	}
	if slices.Contains(allowed, http.MethodGet) {
		allowed = append(allowed, http.MethodHead)
	}
	return append(allowed, http.MethodOptions)
}
