// Package httpapi is the JSON API: it reads requests strictly, hands them on,
// and writes answers, problems and their OpenAPI description. It holds no rules
// of its own about messages or people: those live in mms and identity.
package httpapi

import (
	"context"
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

// Intake takes messages on. Faults of a draft come back as invalid.Fields, of a
// batch's rows as mms.RowFaults; else what keeps a message from being taken on is
// mms.CapError, mms.ErrKeyReused, mms.ErrInFlight or mms.ErrNotOver.
type Intake interface {
	CreateMessage(ctx context.Context, by mms.Submitter, d mms.CreateParams) (mms.CreateResult, error)
	Forecast(ctx context.Context, by mms.Submitter, d mms.CreateParams) (mms.Forecast, error)
	Resend(ctx context.Context, by mms.Submitter, id uuid.UUID, i mms.Idempotency) (mms.CreateResult, error)
	CreateBatch(ctx context.Context, by mms.Submitter, d mms.BatchParams, rows intake.Rows) (mms.BatchResult, error)
}

// Batches reads an owner's batches and changes their state; another's are
// mms.ErrNoBatch.
type Batches interface {
	Batch(ctx context.Context, owner, id uuid.UUID) (mms.Batch, error)
	Batches(ctx context.Context, owner, before uuid.UUID, limit int) (list []mms.Batch, more bool, err error)
	BatchErrors(ctx context.Context, owner, id uuid.UUID, after, limit int) (list []mms.RowError, more bool, err error)
	SetBatchState(ctx context.Context, owner, id uuid.UUID, state mms.BatchState) error
}

// Messages reads an owner's messages and carries out decisions about them;
// another's are mms.ErrNotFound. Version is cheap, for clients that only ask
// whether there is news.
type Messages interface {
	Message(ctx context.Context, owner, id uuid.UUID) (mms.History, error)
	Version(ctx context.Context, owner, id uuid.UUID) (int64, error)
	Messages(ctx context.Context, owner uuid.UUID, p mms.Page) (list []mms.Message, next uuid.UUID, err error)
	Replies(ctx context.Context, owner, id uuid.UUID) ([]mms.Inbound, error)
	QueuePosition(ctx context.Context, owner, id uuid.UUID) (place mms.QueuePosition, waiting bool, err error)
	Decide(ctx context.Context, owner, id uuid.UUID, d mms.Decision) error
	Cancel(ctx context.Context, owner, id uuid.UUID) error
}

// Live tells of news about messages.
type Live interface {
	Message(id uuid.UUID) live.Watch
	Owner(id uuid.UUID) live.Watch
	Closed() <-chan struct{}
	Connect(owner uuid.UUID) (live.Connection, bool)
}

// Options wire the API.
type Options struct {
	Auth     *auth.Service
	Keys     *auth.KeyService
	KeyRate  int // requests a minute that each API key may make; 0: no limit
	Intake   Intake
	Messages Messages
	Batches  Batches
	Webhooks Webhooks

	PrivateWebhooks bool // webhooks may be on private and local hosts
	Live            Live
	PublicURL       string // without a trailing slash; empty: links are relative
	SessionCookie   string // its name, for the description; empty: session
	Simulated       bool   // messages go to a simulator, not to Plivo; answers say so
	Logger          *slog.Logger
}

type api struct {
	Options
	huma huma.API
}

// New makes the handler of /api/... and /openapi.json, with full paths wherever
// it is mounted. The Door's middleware must stand in front of it: it keeps the session, and puts
// the principal into the context.
func New(o Options) http.Handler {
	router := chi.NewRouter()
	router.Use(httpkit.WholePath, headAsGet, plainJSON, private, limitKeys(o.KeyRate))
	a := &api{Options: o, huma: humachi.New(router, description(o))}
	a.registerAccount()
	a.registerKeys()
	a.registerSend()
	a.registerMessages()
	a.registerActs()
	a.registerExport()
	a.registerBatches()
	a.registerWebhooks()
	a.registerStreams()
	a.registerDecision()
	router.Get("/openapi.json", serveDescription(a.huma.OpenAPI()))
	router.NotFound(notFound)
	router.MethodNotAllowed(methodNotAllowed(router))
	return router
}

func notFound(w http.ResponseWriter, r *http.Request) {
	WriteProblem(w, r, http.StatusNotFound, "There is nothing at this path. /docs and /openapi.json describe the API.")
}

// methodNotAllowed says what the path does answer to. chi calls it for methods
// that it does not know on any path, also where there is nothing at all.
func methodNotAllowed(router chi.Routes) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		allowed := allowedMethods(router, r.URL.Path)
		if len(allowed) == 0 {
			notFound(w, r)
			return
		}
		list := strings.Join(allowed, ", ")
		w.Header().Set("Allow", list)
		WriteProblem(w, r, http.StatusMethodNotAllowed, "This path answers to "+list+" only.")
	}
}

// headAsGet answers HEAD wherever GET is answered, as HTTP demands. chi's
// GetHead asks the outermost router, which need not know our routes.
func headAsGet(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			chi.RouteContext(r.Context()).RouteMethod = http.MethodGet
		}
		next.ServeHTTP(w, r)
	})
}

// plainJSON stops huma from negotiating: there is only JSON, and "Accept: json"
// would make it answer "Content-Type: json".
func plainJSON(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Accept")
		next.ServeHTTP(w, r)
	})
}

// private keeps answers out of shared caches, and lets no cache answer without
// asking us first.
func private(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "private, no-cache")
		w.Header().Set("Vary", "Authorization, Cookie")
		next.ServeHTTP(w, r)
	})
}

// allowedMethods lists what a path answers to.
func allowedMethods(router chi.Routes, path string) []string {
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		if router.Match(chi.NewRouteContext(), method, path) {
			allowed = append(allowed, method)
		}
	}
	if slices.Contains(allowed, http.MethodGet) {
		allowed = append(allowed, http.MethodHead)
	}
	return allowed
}
