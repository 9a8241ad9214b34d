package webui

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/webhook"
)

const webhooksPath = "/settings/webhooks"

// Webhooks stores users' webhooks and their events. It returns
// webhook.ErrNotFound for those of other workspaces, and CreateWebhook
// webhook.ErrTooMany.
type Webhooks interface {
	CreateWebhook(ctx context.Context, e webhook.Endpoint, secret webhook.Secret) (webhook.Endpoint, error)
	Webhooks(ctx context.Context, workspace uuid.UUID) ([]webhook.Endpoint, error)
	Webhook(ctx context.Context, workspace, id uuid.UUID) (webhook.Endpoint, error)
	DeleteWebhook(ctx context.Context, workspace, id uuid.UUID) error
	RotateSecret(ctx context.Context, workspace, id uuid.UUID, secret webhook.Secret) error
	EnableWebhook(ctx context.Context, workspace, id uuid.UUID) error
	CreateTestEvent(ctx context.Context, workspace, id uuid.UUID) (webhook.Event, error)
	WebhookEvents(ctx context.Context, workspace, id uuid.UUID, before int64, limit int) ([]webhook.Event, bool, error)
	ReplayEvent(ctx context.Context, workspace, endpoint, id uuid.UUID) (webhook.Event, error)
}

// webhooksPage lists the user's webhooks, with a form that adds one. Form fields
// hold what the user typed.
type webhooksPage struct {
	Webhooks    []webhook.Endpoint
	URL         string
	Description string
	Chosen      map[mms.Status]bool
	Statuses    []mms.Status
	Violations  invalid.Fields
	Error       string
}

func (p *Pages) webhooks(w http.ResponseWriter, r *http.Request, principal identity.Principal) {
	p.renderWebhooks(w, r, http.StatusOK, principal, webhooksPage{})
}

func (p *Pages) renderWebhooks(w http.ResponseWriter, r *http.Request, status int, principal identity.Principal, body webhooksPage) {
	var err error
	body.Statuses = mms.Statuses()
	if body.Webhooks, err = p.Webhooks.Webhooks(r.Context(), principal.WorkspaceID); err != nil {
		p.fail(w, r, err)
		return
	}
	render(p, w, r, status, "webhooks", layout{Title: "Webhooks"}, body)
}

func (p *Pages) createWebhook(w http.ResponseWriter, r *http.Request, principal identity.Principal) {
	if !p.readForm(w, r) {
		return
	}
	body := webhooksPage{URL: strings.TrimSpace(r.PostForm.Get("url")), Description: r.PostForm.Get("description"), Chosen: map[mms.Status]bool{}}
	for _, status := range r.PostForm["status"] {
		body.Chosen[mms.Status(status)] = true
	}
	params := webhook.Params{URL: body.URL, Description: body.Description, Statuses: r.PostForm["status"]}
	endpoint, secret, err := webhook.Create(r.Context(), p.Webhooks, principal.WorkspaceID, params, p.PrivateWebhooks)
	switch {
	case errors.As(err, &body.Violations):
		p.renderWebhooks(w, r, http.StatusUnprocessableEntity, principal, body)
	case errors.Is(err, webhook.ErrTooMany):
		body.Error = fmt.Sprintf("The webhook was not added: you already have %d, the maximum. Remove one that you no longer use.", webhook.MaxEndpoints)
		p.renderWebhooks(w, r, http.StatusConflict, principal, body)
	case err != nil:
		p.fail(w, r, err)
	default:
		p.renderWebhook(w, r, principal, endpoint, secret)
	}
}

// webhookPage shows a webhook and its newest events.
type webhookPage struct {
	webhook.Endpoint
	Secret webhook.Secret  // set only when it is new
	Events []webhook.Event // newest first
}

func (p *Pages) webhook(w http.ResponseWriter, r *http.Request, principal identity.Principal) {
	endpoint, ok := p.findWebhook(w, r, principal)
	if ok {
		p.renderWebhook(w, r, principal, endpoint, "")
	}
}

// findWebhook returns the webhook in the URL. If it cannot, it answers the request
// and returns false.
func (p *Pages) findWebhook(w http.ResponseWriter, r *http.Request, principal identity.Principal) (webhook.Endpoint, bool) {
	id, err := uuid.Parse(chi.URLParam(r, "id"))
	if err != nil {
		p.NotFound(w, r)
		return webhook.Endpoint{}, false
	}
	endpoint, err := p.Webhooks.Webhook(r.Context(), principal.WorkspaceID, id)
	if err != nil {
		p.fail(w, r, err)
	}
	return endpoint, err == nil
}

func (p *Pages) renderWebhook(w http.ResponseWriter, r *http.Request, principal identity.Principal, endpoint webhook.Endpoint, secret webhook.Secret) {
	events, _, err := p.Webhooks.WebhookEvents(r.Context(), principal.WorkspaceID, endpoint.ID, 0, mms.MaxPage)
	if err != nil {
		p.fail(w, r, err)
		return
	}
	render(p, w, r, http.StatusOK, "webhook", layout{Title: "Webhook"}, webhookPage{Endpoint: endpoint, Secret: secret, Events: events})
}

// webhookAction carries out the action in the URL. For replay, the form holds the
// event's id.
func (p *Pages) webhookAction(w http.ResponseWriter, r *http.Request, principal identity.Principal) {
	endpoint, ok := p.findWebhook(w, r, principal)
	if !ok || !p.readForm(w, r) {
		return
	}
	notice, to, err := "", webhooksPath+"/"+endpoint.ID.String(), error(nil)
	switch chi.URLParam(r, "action") {
	case "rotate-secret":
		secret := webhook.NewSecret()
		if err = p.Webhooks.RotateSecret(r.Context(), principal.WorkspaceID, endpoint.ID, secret); err == nil {
			p.renderWebhook(w, r, principal, endpoint, secret)
			return
		}
	case "enable":
		notice, err = "The webhook is enabled.", p.Webhooks.EnableWebhook(r.Context(), principal.WorkspaceID, endpoint.ID)
	case "test":
		notice = "A test event is being sent."
		_, err = p.Webhooks.CreateTestEvent(r.Context(), principal.WorkspaceID, endpoint.ID)
	case "replay":
		event, parseErr := uuid.Parse(r.PostForm.Get("event"))
		if parseErr != nil {
			p.NotFound(w, r)
			return
		}
		notice = "The event is being sent again."
		_, err = p.Webhooks.ReplayEvent(r.Context(), principal.WorkspaceID, endpoint.ID, event)
	case "delete":
		notice, to, err = "The webhook is removed.", webhooksPath, p.Webhooks.DeleteWebhook(r.Context(), principal.WorkspaceID, endpoint.ID)
	default:
		p.NotFound(w, r)
		return
	}
	if err != nil {
		p.fail(w, r, err)
		return
	}
	p.Auth.Flash(r.Context(), notice)
	p.redirect(w, r, to)
}
