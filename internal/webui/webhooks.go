package webui

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"postcard/internal/identity"
	"postcard/internal/invalid"
	"postcard/internal/mms"
)

const webhooksPath = "/settings/webhooks"

// Webhooks keeps users' webhooks, which only they see: mms.ErrNoWebhook.
type Webhooks interface {
	CreateWebhook(ctx context.Context, w mms.Webhook, secret mms.WebhookSecret) (mms.Webhook, error)
	Webhooks(ctx context.Context, owner uuid.UUID) ([]mms.Webhook, error)
	Webhook(ctx context.Context, owner, id uuid.UUID) (mms.Webhook, error)
	DeleteWebhook(ctx context.Context, owner, id uuid.UUID) error
	RotateSecret(ctx context.Context, owner, id uuid.UUID, secret mms.WebhookSecret) error
	EnableWebhook(ctx context.Context, owner, id uuid.UUID) error
	AddTestEvent(ctx context.Context, owner, id uuid.UUID) (mms.WebhookEvent, error)
	WebhookEvents(ctx context.Context, owner, id uuid.UUID, before int64, limit int) ([]mms.WebhookEvent, bool, error)
	ReplayEvent(ctx context.Context, owner, webhook, id uuid.UUID) (mms.WebhookEvent, error)
}

// webhooksPage lists the user's webhooks, with a form for another.
type webhooksPage struct {
	Webhooks    []mms.Webhook
	URL         string // as it was typed
	Description string
	Chosen      map[mms.Status]bool
	Statuses    []mms.Status
	Faults      invalid.Fields
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
	id, err := uuid.NewV7()
	if err != nil {
		p.failed(w, r, fmt.Errorf("making a webhook's id: %w", err))
		return
	}
	webhook, err := mms.NewWebhook(id, who.UserID, body.URL, body.Description, r.PostForm["status"], p.PrivateWebhooks)
	if errors.As(err, &body.Faults) {
		p.showWebhooks(w, r, http.StatusUnprocessableEntity, who, body)
		return
	}
	secret := mms.NewWebhookSecret()
	webhook, err = p.Webhooks.CreateWebhook(r.Context(), webhook, secret)
	switch {
	case errors.Is(err, mms.ErrTooManyWebhooks):
		body.Error = fmt.Sprintf("You have %d webhooks, which is the most that there can be.", mms.MaxWebhooks)
		p.showWebhooks(w, r, http.StatusConflict, who, body)
	case err != nil:
		p.failed(w, r, err)
	default:
		p.showWebhook(w, r, who, webhook, secret)
	}
}

// webhookPage is a webhook with what it was told, newest first.
type webhookPage struct {
	mms.Webhook
	Secret mms.WebhookSecret // shown when it is new
	Events []mms.WebhookEvent
}

func (p *Pages) webhook(w http.ResponseWriter, r *http.Request, who identity.Principal) {
	webhook, ok := p.findWebhook(w, r, who)
	if ok {
		p.showWebhook(w, r, who, webhook, "")
	}
}

func (p *Pages) findWebhook(w http.ResponseWriter, r *http.Request, who identity.Principal) (mms.Webhook, bool) {
	id, err := uuid.Parse(chi.URLParam(r, "id"))
	if err != nil {
		p.NotFound(w, r)
		return mms.Webhook{}, false
	}
	webhook, err := p.Webhooks.Webhook(r.Context(), who.UserID, id)
	if err != nil {
		p.failed(w, r, err)
	}
	return webhook, err == nil
}

func (p *Pages) showWebhook(w http.ResponseWriter, r *http.Request, who identity.Principal, webhook mms.Webhook, secret mms.WebhookSecret) {
	events, _, err := p.Webhooks.WebhookEvents(r.Context(), who.UserID, webhook.ID, 0, mms.MaxPage)
	if err != nil {
		p.failed(w, r, err)
		return
	}
	show(p, w, r, http.StatusOK, "webhook", frame{Title: "Webhook"}, webhookPage{Webhook: webhook, Secret: secret, Events: events})
}

// actOnWebhook does one thing with a webhook; replay names the event in the form.
func (p *Pages) actOnWebhook(w http.ResponseWriter, r *http.Request, who identity.Principal) {
	webhook, ok := p.findWebhook(w, r, who)
	if !ok || !p.readForm(w, r) {
		return
	}
	notice, to, err := "", webhooksPath+"/"+webhook.ID.String(), error(nil)
	switch chi.URLParam(r, "act") {
	case "rotate-secret":
		secret := mms.NewWebhookSecret()
		if err = p.Webhooks.RotateSecret(r.Context(), who.UserID, webhook.ID, secret); err == nil {
			p.showWebhook(w, r, who, webhook, secret)
			return
		}
	case "enable":
		notice, err = "The webhook is switched on.", p.Webhooks.EnableWebhook(r.Context(), who.UserID, webhook.ID)
	case "test":
		notice = "A test event is on its way."
		_, err = p.Webhooks.AddTestEvent(r.Context(), who.UserID, webhook.ID)
	case "replay":
		event, parseErr := uuid.Parse(r.PostForm.Get("event"))
		if parseErr != nil {
			p.NotFound(w, r)
			return
		}
		notice = "The event is on its way again."
		_, err = p.Webhooks.ReplayEvent(r.Context(), who.UserID, webhook.ID, event)
	case "delete":
		notice, to, err = "The webhook is removed.", webhooksPath, p.Webhooks.DeleteWebhook(r.Context(), who.UserID, webhook.ID)
	default:
		p.NotFound(w, r)
		return
	}
	if err != nil {
		p.failed(w, r, err)
		return
	}
	p.Door.Flash(r.Context(), notice)
	http.Redirect(w, r, to, http.StatusSeeOther)
}
