// Package webui is the web face: pages rendered on the server that work without
// JavaScript. It decides nothing about messages or people; it shows what the
// heart says and hands on what was typed.
package webui

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/auth"
	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/intake"
	"github.com/postcard-mms/postcard/internal/mms"
)

// Intake takes messages on; faults of a draft come back as invalid.Fields.
type Intake interface {
	CreateMessage(ctx context.Context, by mms.Submitter, d mms.CreateParams) (mms.CreateResult, error)
	Resend(ctx context.Context, by mms.Submitter, id uuid.UUID, i mms.Idempotency) (mms.CreateResult, error)
	CreateBatch(ctx context.Context, by mms.Submitter, d mms.BatchParams, rows intake.Rows) (mms.BatchResult, error)
}

// Messages reads an owner's messages, and carries out decisions about them.
type Messages interface {
	Message(ctx context.Context, owner, id uuid.UUID) (mms.History, error)
	Messages(ctx context.Context, owner uuid.UUID, p mms.Page) (list []mms.Message, next uuid.UUID, err error)
	Replies(ctx context.Context, owner, id uuid.UUID) ([]mms.Inbound, error)
	QueuePosition(ctx context.Context, owner, id uuid.UUID) (mms.QueuePosition, bool, error)
	Decide(ctx context.Context, owner, id uuid.UUID, d mms.Decision) error
	Cancel(ctx context.Context, owner, id uuid.UUID) error
	Overview(ctx context.Context, owner uuid.UUID, days int) (mms.Overview, error)
}

// Pauses tells why nothing is sent at present, and ends that by an admin's word.
type Pauses interface {
	Pauses(ctx context.Context) ([]mms.Pause, error)
	Resume(ctx context.Context, cause mms.Reason) (bool, error)
}

// Suppressions keeps the pairs of numbers between which nothing is sent.
type Suppressions interface {
	Suppressions(ctx context.Context, recipient mms.PhoneNumber, after mms.Suppression, limit int) (list []mms.Suppression, more bool, err error)
	AddSuppressions(ctx context.Context, list []mms.Suppression) (added int, err error)
	RemoveSuppression(ctx context.Context, sender, recipient mms.PhoneNumber) (bool, error)
}

// Options wire the pages.
type Options struct {
	Auth     *auth.Service
	Intake   Intake
	Messages Messages
	Batches  Batches
	Keys     *auth.KeyService
	Webhooks Webhooks

	PrivateWebhooks bool // webhooks may be on private and local hosts

	Pauses       Pauses
	Suppressions Suppressions
	Senders      []mms.PhoneNumber
	Simulated    bool // messages go to a simulator, and every page says so
	Logger       *slog.Logger
}

// Pages serves the web face. Whoever mounts it has put the door's middleware,
// the check against foreign sites and the security headers in front.
type Pages struct {
	Options
	router    chi.Router
	templates templates
	static    static
}

// New makes the pages.
func New(o Options) (*Pages, error) {
	p := &Pages{Options: o}
	var err error
	if p.static, err = loadStatic(); err != nil {
		return nil, err
	}
	if p.templates, err = p.parse(); err != nil {
		return nil, err
	}
	p.router = p.routes()
	return p, nil
}

// ServeHTTP answers for all paths of the pages.
func (p *Pages) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.router.ServeHTTP(w, r) }

func (p *Pages) routes() chi.Router {
	r := chi.NewRouter()
	r.NotFound(p.NotFound)
	r.MethodNotAllowed(p.methodNotAllowed)
	both := func(path string, handler http.HandlerFunc) {
		r.Get(path, handler)
		r.Head(path, handler)
	}
	both("/", p.home)
	both("/static/*", p.static.ServeHTTP)
	both("/favicon.ico", p.favicon)
	both("/login", p.loginForm)
	r.Post("/login", p.login)
	both("/signup", p.signupForm)
	r.Post("/signup", p.signup)
	r.Post("/logout", p.logout)
	both("/messages", p.forUsers(p.list))
	both("/overview", p.forUsers(p.overview))
	both("/messages/new", p.forUsers(p.composeForm))
	r.Post("/messages/new", p.forUsersElse(p.composeAgain, p.compose))
	both("/messages/{id}", p.forUsers(p.message))
	r.Post("/messages/{id}/decision", p.forUsers(p.decide))
	r.Post("/messages/{id}/cancel", p.forUsers(p.cancel))
	r.Post("/messages/{id}/resend", p.forUsers(p.resend))
	both("/batches", p.forUsers(p.batches))
	both("/batches/new", p.forUsers(p.batchForm))
	r.Post("/batches/new", p.forUsers(p.createBatch))
	both("/batches/{id}", p.forUsers(p.batch))
	r.Post("/batches/{id}/{act}", p.forUsers(p.batchAction))
	r.Handle("/settings", http.RedirectHandler(keysPath, http.StatusSeeOther))
	both(keysPath, p.forUsers(p.keys))
	r.Post(keysPath, p.forUsers(p.createKey))
	r.Post(keysPath+"/{id}/revoke", p.forUsers(p.revokeKey))
	both(webhooksPath, p.forUsers(p.webhooks))
	r.Post(webhooksPath, p.forUsers(p.createWebhook))
	both(webhooksPath+"/{id}", p.forUsers(p.webhook))
	r.Post(webhooksPath+"/{id}/{act}", p.forUsers(p.webhookAction))
	r.Post("/admin/resume", p.forAdmins(p.resume))
	both(suppressionsPath, p.forAdmins(p.suppressions))
	r.Post(suppressionsPath, p.forAdmins(p.addSuppressions))
	r.Post(suppressionsPath+"/lift", p.forAdmins(p.removeSuppression))
	return r
}

// handler answers for somebody who is logged in.
type handler func(w http.ResponseWriter, r *http.Request, who identity.Principal)

// forUsers sends others to the login, from where they come back.
func (p *Pages) forUsers(h handler) http.HandlerFunc { return p.forUsersElse(toLogin, h) }

// forUsersElse has others answered for otherwise.
func (p *Pages) forUsersElse(others http.HandlerFunc, h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		who, ok := identity.PrincipalFrom(r.Context())
		if !ok {
			others(w, r)
			return
		}
		h(w, r, who)
	}
}

// forAdmins tells other users that there is no such page.
func (p *Pages) forAdmins(h handler) http.HandlerFunc {
	return p.forUsers(func(w http.ResponseWriter, r *http.Request, who identity.Principal) {
		if !who.IsAdmin() {
			p.NotFound(w, r)
			return
		}
		h(w, r, who)
	})
}

func (p *Pages) home(w http.ResponseWriter, r *http.Request) {
	http.Redirect(w, r, "/messages", http.StatusSeeOther)
}

func (p *Pages) favicon(w http.ResponseWriter, r *http.Request) {
	http.Redirect(w, r, p.static.url("postcard.svg"), http.StatusFound)
}
