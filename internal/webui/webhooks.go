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

// Webhooks keeps users' webhooks, which only they see: mms.ErrNoWebhook.
type Webhooks interface {
	CreateWebhook(ctx context.Context, e webhook.Endpoint, secret webhook.Secret) (webhook.Endpoint, error)
	Webhooks(ctx context.Context, owner uuid.UUID) ([]webhook.Endpoint, error)
	Webhook(ctx context.Context, owner, id uuid.UUID) (webhook.Endpoint, error)
	DeleteWebhook(ctx context.Context, owner, id uuid.UUID) error
	RotateSecret(ctx context.Context, owner, id uuid.UUID, secret webhook.Secret) error
	EnableWebhook(ctx context.Context, owner, id uuid.UUID) error
	CreateTestEvent(ctx context.Context, owner, id uuid.UUID) (webhook.Event, error)
	WebhookEvents(ctx context.Context, owner, id uuid.UUID, before int64, limit int) ([]webhook.Event, bool, error)
	ReplayEvent(ctx context.Context, owner, endpoint, id uuid.UUID) (webhook.Event, error)
}

// webhooksPage lists the user's webhooks, with a form for another.
type webhooksPage struct {
	Webhooks    []webhook.Endpoint
	URL         string // as it was typed
	Description string
	Chosen      map[mms.Status]bool
	Statuses    []mms.Status
	Violations  invalid.Fields
	Error       string
}

func (p *Pages) webhooks(w http.ResponseWriter, r *http.Request, who identity.Principal) {
	p.showWebhooks(w, r, http.StatusOK, who, webhooksPage{})
}

func (p *Pages) showWebhooks(w http.ResponseWriter, r *http.Request, status int, who identity.Principal, body webhooksPage) {
	var err error
	body.Statuses = mms.Statuses()
	if body.Webhooks, err = p.Webhooks.Webhooks(r.Context(), who.UserID); err != nil {
		p.failed(w, r, err)
		return
	}
	show(p, w, r, status, "webhooks", frame{Title: "Webhooks"}, body)
}

func (p *Pages) createWebhook(w http.ResponseWriter, r *http.Request, who identity.Principal) {
	if !p.readForm(w, r) {
		return
	}
	body := webhooksPage{URL: strings.TrimSpace(r.PostForm.Get("url")), Description: r.PostForm.Get("description"), Chosen: map[mms.Status]bool{}}
	for _, status := range r.PostForm["status"] {
		body.Chosen[mms.Status(status)] = true
	}
	params := webhook.Params{URL: body.URL, Description: body.Description, Statuses: r.PostForm["status"]}
	endpoint, secret, err := webhook.Create(r.Context(), p.Webhooks, who.UserID, params, p.PrivateWebhooks)
	switch {
	case errors.As(err, &body.Violations):
		p.showWebhooks(w, r, http.StatusUnprocessableEntity, who, body)
	case errors.Is(err, webhook.ErrTooMany):
		body.Error = fmt.Sprintf("You have %d webhooks, which is the most that there can be.", webhook.MaxEndpoints)
		p.showWebhooks(w, r, http.StatusConflict, who, body)
	case err != nil:
		p.failed(w, r, err)
	default:
		p.showWebhook(w, r, who, endpoint, secret)
	}
}

// webhookPage is a webhook with what it was told, newest first.
type webhookPage struct {
	webhook.Endpoint
	Secret webhook.Secret // shown when it is new
	Events []webhook.Event
}

func (p *Pages) webhook(w http.ResponseWriter, r *http.Request, who identity.Principal) {
	endpoint, ok := p.findWebhook(w, r, who)
	if ok {
		p.showWebhook(w, r, who, endpoint, "")
	}
}

func (p *Pages) findWebhook(w http.ResponseWriter, r *http.Request, who identity.Principal) (webhook.Endpoint, bool) {
	id, err := uuid.Parse(chi.URLParam(r, "id"))
	if err != nil {
		p.NotFound(w, r)
		return webhook.Endpoint{}, false
	}
	endpoint, err := p.Webhooks.Webhook(r.Context(), who.UserID, id)
	if err != nil {
		p.failed(w, r, err)
	}
	return endpoint, err == nil
}

func (p *Pages) showWebhook(w http.ResponseWriter, r *http.Request, who identity.Principal, endpoint webhook.Endpoint, secret webhook.Secret) {
	events, _, err := p.Webhooks.WebhookEvents(r.Context(), who.UserID, endpoint.ID, 0, mms.MaxPage)
	if err != nil {
		p.failed(w, r, err)
		return
	}
	show(p, w, r, http.StatusOK, "webhook", frame{Title: "Webhook"}, webhookPage{Endpoint: endpoint, Secret: secret, Events: events})
}

// webhookAction does one thing with a webhook; replay names the event in the form.
func (p *Pages) webhookAction(w http.ResponseWriter, r *http.Request, who identity.Principal) {
	endpoint, ok := p.findWebhook(w, r, who)
	if !ok || !p.readForm(w, r) {
		return
	}
	notice, to, err := "", webhooksPath+"/"+endpoint.ID.String(), error(nil)
	switch chi.URLParam(r, "act") {
	case "rotate-secret":
		secret := webhook.NewSecret()
		if err = p.Webhooks.RotateSecret(r.Context(), who.UserID, endpoint.ID, secret); err == nil {
			p.showWebhook(w, r, who, endpoint, secret)
			return
		}
	case "enable":
		notice, err = "The webhook is switched on.", p.Webhooks.EnableWebhook(r.Context(), who.UserID, endpoint.ID)
	case "test":
		notice = "A test event is on its way."
		_, err = p.Webhooks.CreateTestEvent(r.Context(), who.UserID, endpoint.ID)
	case "replay":
		event, parseErr := uuid.Parse(r.PostForm.Get("event"))
		if parseErr != nil {
			p.NotFound(w, r)
			return
		}
		notice = "The event is on its way again."
		_, err = p.Webhooks.ReplayEvent(r.Context(), who.UserID, endpoint.ID, event)
	case "delete":
		notice, to, err = "The webhook is removed.", webhooksPath, p.Webhooks.DeleteWebhook(r.Context(), who.UserID, endpoint.ID)
	default:
		p.NotFound(w, r)
		return
	}
	if err != nil {
		p.failed(w, r, err)
		return
	}
	p.Auth.Flash(r.Context(), notice)
	http.Redirect(w, r, to, http.StatusSeeOther)
}
