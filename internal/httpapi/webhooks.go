package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/webhook"
)

const webhooksPath = "/api/webhooks"

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

// WebhookRequest asks for a webhook.
type WebhookRequest struct {
	URL         string   `json:"url" doc:"Where events are posted to: https, reachable from the internet." format:"uri" maxLength:"2000" example:"https://example.com/postcard-events"`
	Description string   `json:"description,omitempty" doc:"Something to know it by." maxLength:"200"`
	Statuses    []string `json:"statuses,omitempty" doc:"Which statuses of messages it is told of; left out: all." nullable:"false" example:"[\"delivered\",\"undelivered\",\"failed\"]"`
}

// TransformSchema adds what tags cannot say.
func (WebhookRequest) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	return exactly(s)
}

// Webhook is a user's endpoint that is told what happens to their messages.
type Webhook struct {
	ID             uuid.UUID    `json:"id" format:"uuid"`
	URL            string       `json:"url" format:"uri" example:"https://example.com/postcard-events"`
	Description    string       `json:"description,omitempty"`
	Statuses       []mms.Status `json:"statuses" nullable:"false" doc:"Which statuses it is told of; empty: all."`
	Enabled        bool         `json:"enabled" doc:"Whether it is told anything. One that fails for three days on end is switched off."`
	Explanation    string       `json:"explanation" doc:"How it is, in a sentence."`
	FailingSince   *time.Time   `json:"failingSince,omitempty" doc:"The first failure after the last success."`
	DisabledAt     *time.Time   `json:"disabledAt,omitempty"`
	OldSecretUntil *time.Time   `json:"oldSecretUntil,omitempty" doc:"Until then the secret before the last change signs, too."`
	CreatedAt      time.Time    `json:"createdAt"`
}

// WebhookWithSecret is a webhook with its secret, which is told when it is made
// and when it is changed.
type WebhookWithSecret struct {
	Webhook
	Secret string `json:"secret" doc:"Checks the header webhook-signature (Standard Webhooks)." example:"whsec_..."`
}

// WebhookList is all of a user's webhooks.
type WebhookList struct {
	Webhooks []Webhook `json:"webhooks" nullable:"false"`
}

// WebhookEvent is one thing that a webhook is told.
type WebhookEvent struct {
	ID            uuid.UUID          `json:"id" format:"uuid" doc:"The header webhook-id, the same at each try."`
	Type          string             `json:"type" example:"message.delivered"`
	MessageID     *uuid.UUID         `json:"messageId,omitempty" format:"uuid" doc:"Absent for a test."`
	Version       int64              `json:"version,omitempty" doc:"The message's version, to sort by."`
	OccurredAt    time.Time          `json:"occurredAt"`
	State         webhook.EventState `json:"state" enum:"pending,delivered,failed" doc:"Whether the webhook has taken it."`
	Attempts      int                `json:"attempts"`
	NextAttemptAt *time.Time         `json:"nextAttemptAt,omitempty" doc:"While pending."`
	AttemptedAt   *time.Time         `json:"attemptedAt,omitempty"`
	HTTPStatus    int                `json:"httpStatus,omitempty" doc:"The last answer; absent when there was none."`
	Error         string             `json:"error,omitempty" doc:"What was wrong with the last try."`
}

// WebhookEventList is one page of a webhook's events.
type WebhookEventList struct {
	Events     []WebhookEvent `json:"events" nullable:"false" doc:"Newest first; kept for 30 days."`
	NextCursor string         `json:"nextCursor,omitempty" doc:"For the page behind this one; absent on the last."`
}

func (a *api) registerWebhooks() {
	one := webhooksPath + "/{id}"
	registerForPerson(a, huma.Operation{
		OperationID: "createWebhook", Method: http.MethodPost, Path: webhooksPath, Tags: []string{"webhooks"},
		Summary: "Make a webhook",
		Description: "It is told of each change of a message's status, signed as Standard Webhooks (https://www.standardwebhooks.com) say, " +
			"and again with growing pauses over three days until it answers 200 to 299. Events may come twice, and in another order: " +
			"webhook-id tells doubles, and data.version sorts.",
		DefaultStatus: http.StatusCreated,
		Responses:     map[string]*huma.Response{"201": {Description: "The webhook, with the secret that signs."}},
		Errors:        bodyErrors(http.StatusConflict),
	}, a.createWebhook)
	describeBody(a, webhooksPath, WebhookRequest{URL: "https://example.com/postcard-events", Statuses: []string{"delivered", "undelivered", "failed"}})
	registerForPerson(a, huma.Operation{
		OperationID: "listWebhooks", Method: http.MethodGet, Path: webhooksPath, Tags: []string{"webhooks"},
		Summary:   "List your webhooks",
		Responses: map[string]*huma.Response{"200": {Description: "Your webhooks."}},
	}, a.listWebhooks)
	registerForPerson(a, huma.Operation{
		OperationID: "getWebhook", Method: http.MethodGet, Path: one, Tags: []string{"webhooks"},
		Summary:   "Read a webhook",
		Responses: map[string]*huma.Response{"200": {Description: "The webhook."}},
		Errors:    []int{http.StatusNotFound},
	}, a.getWebhook)
	registerForPerson(a, huma.Operation{
		OperationID: "deleteWebhook", Method: http.MethodDelete, Path: one, Tags: []string{"webhooks"},
		Summary:   "Remove a webhook",
		Responses: map[string]*huma.Response{"204": {Description: "It is told nothing more, and its events are removed."}},
		Errors:    []int{http.StatusNotFound},
	}, a.deleteWebhook)
	registerForPerson(a, huma.Operation{
		OperationID: "rotateWebhookSecret", Method: http.MethodPost, Path: one + "/rotate-secret", Tags: []string{"webhooks"},
		Summary:     "Change a webhook's secret",
		Description: "For 24 hours the old secret signs beside the new one.",
		Responses:   map[string]*huma.Response{"200": {Description: "The webhook, with the new secret."}},
		Errors:      []int{http.StatusNotFound},
	}, a.rotateSecret)
	registerForPerson(a, huma.Operation{
		OperationID: "enableWebhook", Method: http.MethodPost, Path: one + "/enable", Tags: []string{"webhooks"},
		Summary:   "Switch a webhook on again",
		Responses: map[string]*huma.Response{"200": {Description: "The webhook."}},
		Errors:    []int{http.StatusNotFound},
	}, a.enableWebhook)
	registerForPerson(a, huma.Operation{
		OperationID: "testWebhook", Method: http.MethodPost, Path: one + "/test", Tags: []string{"webhooks"},
		Summary:       "Send a test event",
		Description:   "Of type webhook.test. What came of it stands among the webhook's events.",
		DefaultStatus: http.StatusAccepted,
		Responses:     map[string]*huma.Response{"202": {Description: "The event; it is sent at once."}},
		Errors:        []int{http.StatusNotFound, http.StatusConflict},
	}, a.testWebhook)
	registerForPerson(a, huma.Operation{
		OperationID: "listWebhookEvents", Method: http.MethodGet, Path: one + "/events", Tags: []string{"webhooks"},
		Summary:   "List what a webhook was told",
		Responses: map[string]*huma.Response{"200": {Description: "One page of events."}},
		Errors:    []int{http.StatusBadRequest, http.StatusNotFound},
	}, a.listWebhookEvents)
	registerForPerson(a, huma.Operation{
		OperationID: "replayWebhookEvent", Method: http.MethodPost, Path: one + "/events/{event}/replay", Tags: []string{"webhooks"},
		Summary:       "Send an event again",
		DefaultStatus: http.StatusAccepted,
		Responses:     map[string]*huma.Response{"202": {Description: "The event; it is sent at once."}},
		Errors:        []int{http.StatusNotFound, http.StatusConflict},
	}, a.replayEvent)
}

type secretOutput struct{ Body WebhookWithSecret }

func (a *api) createWebhook(ctx context.Context, who identity.Principal, in *bodyInput) (*secretOutput, error) {
	var body WebhookRequest
	if err := readObject(in.Request, &body); err != nil {
		return nil, err
	}
	params := webhook.Params{URL: body.URL, Description: body.Description, Statuses: body.Statuses}
	endpoint, secret, err := webhook.Create(ctx, a.Webhooks, who.UserID, params, a.PrivateWebhooks)
	if err != nil {
		return nil, err
	}
	return &secretOutput{Body: WebhookWithSecret{Webhook: webhookOf(endpoint), Secret: string(secret)}}, nil
}

type webhooksOutput struct{ Body WebhookList }

func (a *api) listWebhooks(ctx context.Context, who identity.Principal, _ *noBody) (*webhooksOutput, error) {
	list, err := a.Webhooks.Webhooks(ctx, who.UserID)
	if err != nil {
		return nil, err
	}
	out := &webhooksOutput{Body: WebhookList{Webhooks: make([]Webhook, len(list))}}
	for i, w := range list {
		out.Body.Webhooks[i] = webhookOf(w)
	}
	return out, nil
}

// WebhookInput names a webhook in the path.
type WebhookInput struct {
	ID string `path:"id" format:"uuid" doc:"The webhook's id."`
}

func (in *WebhookInput) id() (uuid.UUID, error) {
	id, err := parseID(in.ID)
	if err != nil {
		return uuid.Nil, webhook.ErrNotFound
	}
	return id, nil
}

type webhookOutput struct{ Body Webhook }

func (a *api) getWebhook(ctx context.Context, who identity.Principal, in *WebhookInput) (*webhookOutput, error) {
	endpoint, err := a.webhook(ctx, who, in)
	return &webhookOutput{Body: webhookOf(endpoint)}, err
}

func (a *api) webhook(ctx context.Context, who identity.Principal, in *WebhookInput) (webhook.Endpoint, error) {
	id, err := in.id()
	if err != nil {
		return webhook.Endpoint{}, err
	}
	return a.Webhooks.Webhook(ctx, who.UserID, id)
}

func (a *api) deleteWebhook(ctx context.Context, who identity.Principal, in *WebhookInput) (*noBody, error) {
	id, err := in.id()
	if err != nil {
		return nil, err
	}
	return nil, a.Webhooks.DeleteWebhook(ctx, who.UserID, id)
}

func (a *api) rotateSecret(ctx context.Context, who identity.Principal, in *WebhookInput) (*secretOutput, error) {
	id, err := in.id()
	if err != nil {
		return nil, err
	}
	secret := webhook.NewSecret()
	if err := a.Webhooks.RotateSecret(ctx, who.UserID, id, secret); err != nil {
		return nil, err
	}
	endpoint, err := a.Webhooks.Webhook(ctx, who.UserID, id)
	return &secretOutput{Body: WebhookWithSecret{Webhook: webhookOf(endpoint), Secret: string(secret)}}, err
}

func (a *api) enableWebhook(ctx context.Context, who identity.Principal, in *WebhookInput) (*webhookOutput, error) {
	id, err := in.id()
	if err != nil {
		return nil, err
	}
	if err := a.Webhooks.EnableWebhook(ctx, who.UserID, id); err != nil {
		return nil, err
	}
	return a.getWebhook(ctx, who, in)
}

type eventOutput struct{ Body WebhookEvent }

func (a *api) testWebhook(ctx context.Context, who identity.Principal, in *WebhookInput) (*eventOutput, error) {
	endpoint, err := a.enabled(ctx, who, in)
	if err != nil {
		return nil, err
	}
	event, err := a.Webhooks.CreateTestEvent(ctx, who.UserID, endpoint.ID)
	return &eventOutput{Body: webhookEventOf(event)}, err
}

// enabled is the webhook, unless it is switched off.
func (a *api) enabled(ctx context.Context, who identity.Principal, in *WebhookInput) (webhook.Endpoint, error) {
	endpoint, err := a.webhook(ctx, who, in)
	if err == nil && endpoint.DisabledAt != nil {
		return endpoint, newProblem(http.StatusConflict, "The webhook is switched off. Switch it on first.")
	}
	return endpoint, err
}

type webhookEventsInput struct {
	CursorInput
	WebhookInput
}

type webhookEventsOutput struct{ Body WebhookEventList }

func (a *api) listWebhookEvents(ctx context.Context, who identity.Principal, in *webhookEventsInput) (*webhookEventsOutput, error) {
	cursor, limit, err := in.paging()
	if err != nil {
		return nil, err
	}
	endpoint, err := a.webhook(ctx, who, &in.WebhookInput)
	if err != nil {
		return nil, err
	}
	list, more, err := a.Webhooks.WebhookEvents(ctx, who.UserID, endpoint.ID, int64(numberInCursor(cursor)), limit)
	if err != nil {
		return nil, err
	}
	out := &webhookEventsOutput{Body: WebhookEventList{Events: make([]WebhookEvent, len(list))}}
	for i, e := range list {
		out.Body.Events[i] = webhookEventOf(e)
	}
	if more {
		out.Body.NextCursor = cursorAfterNumber(int(list[len(list)-1].Sequence))
	}
	return out, nil
}

type replayInput struct {
	WebhookInput
	Event string `path:"event" format:"uuid" doc:"The event's id."`
}

func (a *api) replayEvent(ctx context.Context, who identity.Principal, in *replayInput) (*eventOutput, error) {
	endpoint, err := a.enabled(ctx, who, &in.WebhookInput)
	if err != nil {
		return nil, err
	}
	id, err := parseID(in.Event)
	if err != nil {
		return nil, webhook.ErrNotFound
	}
	event, err := a.Webhooks.ReplayEvent(ctx, who.UserID, endpoint.ID, id)
	return &eventOutput{Body: webhookEventOf(event)}, err
}

func webhookOf(w webhook.Endpoint) Webhook {
	return Webhook{
		ID: w.ID, URL: w.URL, Description: w.Description, Statuses: append([]mms.Status{}, w.Statuses...), Enabled: w.DisabledAt == nil,
		Explanation: w.Explain(), FailingSince: utc(w.FailingSince), DisabledAt: utc(w.DisabledAt), OldSecretUntil: utc(w.OldSecretUntil),
		CreatedAt: w.CreatedAt.UTC(),
	}
}

func webhookEventOf(e webhook.Event) WebhookEvent {
	out := WebhookEvent{
		ID: e.ID, Type: e.Type(), MessageID: idIfAny(e.MessageID), Version: e.Version, OccurredAt: e.OccurredAt.UTC(), State: e.State,
		Attempts: e.Attempts, AttemptedAt: utc(e.AttemptedAt), HTTPStatus: e.HTTPStatus, Error: e.Error,
	}
	if e.State == webhook.Pending {
		out.NextAttemptAt = utc(&e.DueAt)
	}
	return out
}
