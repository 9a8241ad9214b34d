// Package webui serves the HTML pages. They are rendered on the server and work
// without JavaScript. It holds no rules about messages or users: it renders what
// the domain returns and passes form input on.
package webui

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/auth"
	"github.com/postcard-mms/postcard/internal/httpkit"
	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/intake"
	"github.com/postcard-mms/postcard/internal/mms"
)

// Intake creates messages. It returns violations as invalid.Fields and rejected
// rows of a batch as mms.RowErrors.
type Intake interface {
	CreateMessage(ctx context.Context, by mms.Submitter, p mms.CreateParams) (mms.CreateResult, error)
	Resend(ctx context.Context, by mms.Submitter, id uuid.UUID, i mms.Idempotency) (mms.CreateResult, error)
	CreateBatch(ctx context.Context, by mms.Submitter, p mms.BatchParams, rows intake.Rows) (mms.BatchResult, error)
}

// Messages reads and changes the messages of one workspace. It returns
// mms.ErrNotFound for those of others. Decide returns mms.ErrNotHeld, Cancel
// mms.ErrTooLate.
type Messages interface {
	Message(ctx context.Context, workspace, id uuid.UUID) (mms.History, error)
	Messages(ctx context.Context, workspace uuid.UUID, p mms.Page) (list []mms.Message, next uuid.UUID, err error)
	Replies(ctx context.Context, workspace, id uuid.UUID) ([]mms.Inbound, error)
	QueuePosition(ctx context.Context, workspace, id uuid.UUID) (mms.QueuePosition, bool, error)
	Decide(ctx context.Context, workspace, id uuid.UUID, d mms.Decision) error
	Cancel(ctx context.Context, workspace, id uuid.UUID) error
	Overview(ctx context.Context, workspace uuid.UUID, days int) (mms.Overview, error)
	MessagePicture(ctx context.Context, workspace, message uuid.UUID, position int, preview bool) (mms.Content, error)
}

// Pauses lists the reasons for which all sending is paused, and ends one. Resume
// reports whether there was such a pause. SilenceOff returns for how long DOUBT_SILENCE
// stays off because it was wrong.
type Pauses interface {
	SilenceOff(ctx context.Context) (time.Duration, error)
	Pauses(ctx context.Context) ([]mms.Pause, error)
	Resume(ctx context.Context, cause mms.Reason) (bool, error)
}

// Suppressions stores who has opted out. The list is ordered by recipient and sender; after
// is the last one of the previous page. If an opt-out holds for every sender,
// RemoveSuppression removes all suppressions of the recipient.
type Suppressions interface {
	Suppressions(ctx context.Context, recipient mms.PhoneNumber, after mms.Suppression, limit int) (list []mms.Suppression, more bool, err error)
	AddSuppressions(ctx context.Context, list []mms.Suppression) (added int, err error)
	RemoveSuppression(ctx context.Context, sender, recipient mms.PhoneNumber) (bool, error)
}

// Rates tells the least interval between two messages of each sender; 0 means unlimited. It
// leaves out senders whose rate is not known yet.
type Rates interface {
	SenderIntervals(ctx context.Context, senders []mms.PhoneNumber) (map[mms.PhoneNumber]time.Duration, error)
}

// Options are the dependencies and settings of the pages.
type Options struct {
	Auth       *auth.Service
	Intake     Intake
	Messages   Messages
	Uploads    Uploads
	Links      Links // nil: links to pictures are not checked
	Batches    Batches
	Keys       *auth.KeyService
	Workspaces *auth.WorkspaceService
	Webhooks   Webhooks

	PrivateWebhooks bool // allow webhooks on private and local hosts

	Pauses       Pauses
	Suppressions Suppressions
	OptOutScope  mms.OptOutScope // of Suppressions
	Senders      []mms.PhoneNumber
	SenderList   SenderList // nil: Senders, which never change
	Operator     Operator
	Rates        Rates  // of Senders
	PublicURL    string // without a trailing slash; pages link to its path
	Simulated    bool   // messages go to a simulator; every page says so
	Logger       *slog.Logger
}

// Pages serves the HTML pages. It must be mounted behind the session middleware
// of internal/auth, a check against cross-origin requests and security headers.
type Pages struct {
	Options
	base      string // the path of PublicURL; it has been removed from requests
	host      string // of PublicURL
	router    chi.Router
	templates templates
	static    static
}

// New parses the templates and returns the pages.
func New(o Options) (*Pages, error) {
	p := &Pages{Options: o, base: httpkit.BasePath(o.PublicURL)}
	public, err := url.Parse(o.PublicURL)
	if err != nil {
		return nil, fmt.Errorf("parsing the public URL: %w", err)
	}
	p.host = public.Host
	if p.static, err = loadStatic(); err != nil {
		return nil, err
	}
	if p.templates, err = p.parseTemplates(); err != nil {
		return nil, err
	}
	p.router = p.routes()
	return p, nil
}

// ServeHTTP routes the request to its page.
func (p *Pages) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.router.ServeHTTP(w, r) }

func (p *Pages) routes() chi.Router {
	r := chi.NewRouter()
	r.NotFound(p.NotFound)
	r.MethodNotAllowed(p.methodNotAllowed)
	get := func(path string, handler http.HandlerFunc) {
		r.Get(path, handler)
		r.Head(path, handler)
	}
	get("/", p.home)
	get("/static/*", p.static.ServeHTTP)
	get("/favicon.ico", p.favicon)
	get("/login", p.loginForm)
	r.Post("/login", p.login)
	r.Get("/login/sso", p.requireSSO(p.beginSSO))
	r.Get(SSOCallbackPath, p.requireSSO(p.finishSSO))
	get(ssoPath, p.requireSSO(p.requireUser(p.ssoPage)))
	r.Post(ssoPath+"/link", p.requireSSO(p.requireUser(p.linkSSO)))
	r.Post(ssoPath+"/unlink", p.requireSSO(p.requireUser(p.unlinkSSO)))
	get(loginFactorPath, p.loginFactorForm)
	r.Post(loginFactorPath, p.loginFactor)
	r.Post(loginPasskeyPath+"/options", p.passkeyLoginOptions)
	r.Post(loginPasskeyPath, p.loginPasskey)
	get("/signup", p.signupForm)
	r.Post("/signup", p.signup)
	r.Post("/logout", p.logout)
	get(resetPath, p.resetForm)
	r.Post(resetPath, p.requestReset)
	get(newPasswordPath, p.newPasswordForm)
	r.Post(newPasswordPath, p.setNewPassword)
	get(accountPath, p.requireUser(p.profile))
	r.Post(accountPath, p.requireUser(p.changeProfile))
	get(sessionsPath, p.requireUser(p.sessions))
	r.Post(sessionsPath+"/end-others", p.requireUser(p.endOtherSessions))
	r.Post(sessionsPath+"/{id}/end", p.requireUser(p.endSession))
	get("/messages", p.require(identity.Read, p.list))
	get("/overview", p.require(identity.Read, p.overview))
	get("/messages/new", p.require(identity.Send, p.composeForm))
	r.Post("/messages/new", p.requireUserOr(p.composeLoggedOut, p.with(identity.Send, p.compose)))
	get("/messages/{id}", p.require(identity.Read, p.message))
	get("/messages/{id}/pictures/{position}", p.require(identity.Read, p.messagePicture))
	r.Post("/uploads", p.require(identity.Send, p.upload))
	r.Post("/uploads/link", p.require(identity.Send, p.checkLink))
	get("/uploads/{id}", p.require(identity.Send, p.uploadedPicture))
	r.Post("/messages/{id}/decision", p.require(identity.Send, p.decide))
	r.Post("/messages/{id}/cancel", p.require(identity.Send, p.cancel))
	r.Post("/messages/{id}/resend", p.require(identity.Send, p.resend))
	get("/batches", p.require(identity.Read, p.batches))
	get("/batches/new", p.require(identity.Send, p.batchForm))
	r.Post("/batches/new", p.require(identity.Send, p.createBatch))
	get("/batches/{id}", p.require(identity.Read, p.batch))
	r.Post("/batches/{id}/{action}", p.require(identity.Send, p.batchAction))
	r.Handle("/settings", http.RedirectHandler(p.base+keysPath, http.StatusSeeOther))
	get(membersPath, p.require(identity.Manage, p.members))
	r.Post(membersPath+"/{user}/{action:change|remove}", p.require(identity.Manage, p.changeMember))
	r.Post("/settings/invitations", p.require(identity.Manage, p.invite))
	r.Post("/settings/invitations/{id}/withdraw", p.require(identity.Manage, p.withdrawInvitation))
	r.Post("/settings/workspace", p.require(identity.Manage, p.renameWorkspace))
	get(workspacesPath, p.requireUser(p.workspaces))
	r.Post(workspacesPath, p.requireUser(p.createWorkspace))
	r.Post(workspacesPath+"/switch", p.requireUser(p.switchWorkspace))
	r.Post(workspacesPath+"/{id}/leave", p.requireUser(p.leaveWorkspace))
	get(invitationsPath+"/{token}", p.invitation)
	r.Post(invitationsPath+"/{token}", p.acceptInvitation)
	get(keysPath, p.require(identity.Manage, p.keys))
	r.Post(keysPath, p.require(identity.Manage, p.createKey))
	r.Post(keysPath+"/{id}/revoke", p.require(identity.Manage, p.revokeKey))
	get(webhooksPath, p.require(identity.Manage, p.webhooks))
	r.Post(webhooksPath, p.require(identity.Manage, p.createWebhook))
	get(webhooksPath+"/{id}", p.require(identity.Manage, p.webhook))
	r.Post(webhooksPath+"/{id}/{action}", p.require(identity.Manage, p.webhookAction))
	get(factorPath, p.requireAccount(p.factor))
	r.Post(factorPath+"/totp", p.requireAccount(p.startTOTP))
	r.Post(factorPath+"/totp/confirm", p.requireAccount(p.confirmTOTP))
	r.Post(factorPath+"/totp/remove", p.requireUser(p.removeTOTP))
	r.Post(passkeysPath+"/options", p.requireAccount(p.passkeyOptions))
	r.Post(passkeysPath, p.requireAccount(p.addPasskey))
	r.Post(passkeysPath+"/{id}/remove", p.requireUser(p.removePasskey))
	r.Post(factorPath+"/recovery-codes", p.requireUser(p.newRecoveryCodes))
	r.Post("/admin/resume", p.requireAdmin(p.resume))
	get(suppressionsPath, p.requireAdmin(p.suppressions))
	r.Post(suppressionsPath, p.requireAdmin(p.addSuppressions))
	r.Post(suppressionsPath+"/remove", p.requireAdmin(p.removeSuppression))
	p.routeOperator(r, get)
	return r
}

// handler handles a request of a logged-in user.
type handler func(w http.ResponseWriter, r *http.Request, principal identity.Principal)

// requireUser redirects visitors to the login page, which leads back.
func (p *Pages) requireUser(h handler) http.HandlerFunc { return p.requireUserOr(p.RedirectToLogin, h) }

// requireUserOr calls otherwise for visitors who are not logged in.
func (p *Pages) requireUserOr(otherwise http.HandlerFunc, h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		principal, ok := identity.PrincipalFrom(r.Context())
		if !ok {
			otherwise(w, r)
			return
		}
		h(w, r, principal)
	}
}

// require answers 403 to users without the permission in their workspace.
func (p *Pages) require(permission identity.Permission, h handler) http.HandlerFunc {
	return p.requireUser(p.with(permission, h))
}

func (p *Pages) with(permission identity.Permission, h handler) handler {
	return func(w http.ResponseWriter, r *http.Request, principal identity.Principal) {
		switch {
		case principal.May(permission):
			h(w, r, principal)
		case len(principal.Memberships) == 0:
			p.renderError(w, r, http.StatusForbidden, "No workspace", "You are not a member of a workspace. Create one under Workspaces, or ask a member to invite you.")
		default:
			p.renderError(w, r, http.StatusForbidden, "Not permitted",
				"You do not have the "+string(permission)+" permission in the workspace "+principal.Workspace+". Ask a member who may manage it.")
		}
	}
}

// requireAdmin answers 404 to users who are not admins.
func (p *Pages) requireAdmin(h handler) http.HandlerFunc {
	return p.requireUser(func(w http.ResponseWriter, r *http.Request, principal identity.Principal) {
		if !principal.IsAdmin() {
			p.NotFound(w, r)
			return
		}
		h(w, r, principal)
	})
}

// redirect sends the browser to a path of ours after a POST, and from the home page.
func (p *Pages) redirect(w http.ResponseWriter, r *http.Request, path string) {
	http.Redirect(w, r, p.base+path, http.StatusSeeOther)
}

func (p *Pages) home(w http.ResponseWriter, r *http.Request) {
	p.redirect(w, r, "/messages")
}

func (p *Pages) favicon(w http.ResponseWriter, r *http.Request) {
	http.Redirect(w, r, p.base+p.static.url("postcard.svg"), http.StatusFound)
}
