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

// Webhooks stores webhooks and their events. A webhook of another workspace is
// webhook.ErrNotFound.
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

// WebhookRequest is the body of createWebhook.
type WebhookRequest struct {
	URL         string   `json:"url" doc:"The URL that events are posted to. Must be https and publicly reachable." format:"uri" maxLength:"2000" example:"https://example.com/postcard-events"`
	Description string   `json:"description,omitempty" doc:"A description of the webhook." maxLength:"200"`
	Statuses    []string `json:"statuses,omitempty" doc:"The message statuses to send events for. Default: all." nullable:"false" example:"[\"delivered\",\"undelivered\",\"failed\"]"`
}

// TransformSchema implements huma.SchemaTransformer.
func (WebhookRequest) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	return exactly(s)
}

// Webhook is a user's endpoint that receives events about their messages.
type Webhook struct {
	ID             uuid.UUID    `json:"id" format:"uuid" doc:"The ID of the webhook."`
	URL            string       `json:"url" format:"uri" doc:"The URL that events are posted to." example:"https://example.com/postcard-events"`
	Description    string       `json:"description,omitempty" doc:"The description of the webhook."`
	Statuses       []mms.Status `json:"statuses" nullable:"false" doc:"The message statuses that events are sent for. Empty means all."`
	Enabled        bool         `json:"enabled" doc:"Whether events are sent. A webhook whose deliveries fail for three days is disabled automatically."`
	Explanation    string       `json:"explanation" doc:"The state of the webhook in plain language."`
	FailingSince   *time.Time   `json:"failingSince,omitempty" doc:"When deliveries started to fail, or when the webhook was enabled again. Absent after a success."`
	DisabledAt     *time.Time   `json:"disabledAt,omitempty" doc:"When the webhook was disabled."`
	OldSecretUntil *time.Time   `json:"oldSecretUntil,omitempty" doc:"Until then, events are also signed with the previous secret."`
	CreatedAt      time.Time    `json:"createdAt" doc:"When the webhook was created."`
}

// WebhookWithSecret is a webhook with its secret, which only createWebhook and
// rotateWebhookSecret return.
type WebhookWithSecret struct {
	Webhook
	Secret string `json:"secret" doc:"The secret that verifies the webhook-signature header (Standard Webhooks)." example:"whsec_..."`
}

// WebhookList is all of a user's webhooks.
type WebhookList struct {
	Webhooks []Webhook `json:"webhooks" nullable:"false" doc:"All of your webhooks."`
}

// WebhookEvent is an event and its delivery.
type WebhookEvent struct {
	ID            uuid.UUID          `json:"id" format:"uuid" doc:"The ID of the event, sent as the webhook-id header of every attempt."`
	Type          string             `json:"type" doc:"The type of the event." example:"message.delivered"`
	MessageID     *uuid.UUID         `json:"messageId,omitempty" format:"uuid" doc:"The ID of the message. Absent for a test event."`
	Version       int64              `json:"version,omitempty" doc:"The version of the message. Use it to order events."`
	OccurredAt    time.Time          `json:"occurredAt" doc:"When the event occurred."`
	State         webhook.EventState `json:"state" enum:"pending,delivered,failed" doc:"The state of the delivery."`
	Attempts      int                `json:"attempts" doc:"The number of delivery attempts so far."`
	NextAttemptAt *time.Time         `json:"nextAttemptAt,omitempty" doc:"When the next attempt is due. Only present while a pending event waits for a retry: absent once the attempt is due."`
	AttemptedAt   *time.Time         `json:"attemptedAt,omitempty" doc:"When the last attempt was made."`
	HTTPStatus    int                `json:"httpStatus,omitempty" doc:"The HTTP status of the last response. Absent if there was none."`
	Error         string             `json:"error,omitempty" doc:"Why the last attempt failed."`
}

// WebhookEventList is one page of a webhook's events.
type WebhookEventList struct {
	Events     []WebhookEvent `json:"events" nullable:"false" doc:"The events, newest first. Events are kept for 30 days."`
	NextCursor string         `json:"nextCursor,omitempty" doc:"Pass this as cursor to get the next page. Absent on the last page."`
}

func (a *api) registerWebhooks() {
	one := webhooksPath + "/{id}"
	registerForManager(a, huma.Operation{
		OperationID: "createWebhook", Method: http.MethodPost, Path: webhooksPath, Tags: []string{"webhooks"},
		Summary: "Create a webhook",
		Description: "Creates a webhook that receives an event for each change of a message's status. Events are signed according to Standard Webhooks (https://www.standardwebhooks.com). " +
			"An event is retried with increasing delays for three days until your endpoint responds with a 2xx status. If it responds with 429 or 503, its Retry-After is honored. " +
			"Events can arrive more than once and out of order: use webhook-id to detect duplicates and data.version to order events. " +
			"If the response is lost, the webhook may exist: find it with listWebhooks, and get a secret with rotateWebhookSecret.",
		DefaultStatus: http.StatusCreated,
		Responses:     map[string]*huma.Response{"201": {Description: "The webhook with its secret."}},
		Errors:        bodyErrors(http.StatusConflict),
	}, a.createWebhook)
	describeBody(a, webhooksPath, WebhookRequest{URL: "https://example.com/postcard-events", Statuses: []string{"delivered", "undelivered", "failed"}})
	registerForManager(a, huma.Operation{
		OperationID: "listWebhooks", Method: http.MethodGet, Path: webhooksPath, Tags: []string{"webhooks"},
		Summary:     "List webhooks",
		Description: "Lists all of your webhooks, without their secrets.",
		Responses:   map[string]*huma.Response{"200": {Description: "All of your webhooks."}},
	}, a.listWebhooks)
	registerForManager(a, huma.Operation{
		OperationID: "getWebhook", Method: http.MethodGet, Path: one, Tags: []string{"webhooks"},
		Summary:     "Get a webhook",
		Description: "Returns a webhook, without its secret, and explains its state.",
		Responses:   map[string]*huma.Response{"200": {Description: "The webhook."}},
		Errors:      []int{http.StatusNotFound},
	}, a.getWebhook)
	registerForManager(a, huma.Operation{
		OperationID: "deleteWebhook", Method: http.MethodDelete, Path: one, Tags: []string{"webhooks"},
		Summary:     "Delete a webhook",
		Description: "Deletes a webhook and its events. No event is sent to it any more.",
		Responses:   map[string]*huma.Response{"204": {Description: "The webhook and its events were deleted."}},
		Errors:      []int{http.StatusNotFound},
	}, a.deleteWebhook)
	registerForManager(a, huma.Operation{
		OperationID: "rotateWebhookSecret", Method: http.MethodPost, Path: one + "/rotate-secret", Tags: []string{"webhooks"},
		Summary:     "Rotate a webhook's secret",
		Description: "Creates a new secret. For 24 hours, events are signed with both the old and the new secret.",
		Responses:   map[string]*huma.Response{"200": {Description: "The webhook with its new secret."}},
		Errors:      []int{http.StatusNotFound},
	}, a.rotateSecret)
	registerForManager(a, huma.Operation{
		OperationID: "enableWebhook", Method: http.MethodPost, Path: one + "/enable", Tags: []string{"webhooks"},
		Summary: "Enable a webhook",
		Description: "Enables a webhook that was disabled. It counts as failing until a delivery succeeds, and is disabled again if none does within three days. Enabling an enabled webhook changes nothing. " +
			"Replay the events that failed: changes of messages while it was disabled caused no events.",
		Responses: map[string]*huma.Response{"200": {Description: "The webhook."}},
		Errors:    []int{http.StatusNotFound},
	}, a.enableWebhook)
	registerForManager(a, huma.Operation{
		OperationID: "testWebhook", Method: http.MethodPost, Path: one + "/test", Tags: []string{"webhooks"},
		Summary:       "Send a test event",
		Description:   "Sends an event of type webhook.test. Use listWebhookEvents to see the result.",
		DefaultStatus: http.StatusAccepted,
		Responses:     map[string]*huma.Response{"202": {Description: "The event. It is sent immediately."}},
		Errors:        []int{http.StatusNotFound, http.StatusConflict},
	}, a.testWebhook)
	registerForManager(a, huma.Operation{
		OperationID: "listWebhookEvents", Method: http.MethodGet, Path: one + "/events", Tags: []string{"webhooks"},
		Summary:     "List a webhook's events",
		Description: "Lists the events of a webhook, newest first, with the result of the last attempt to deliver each. To get the next page, pass nextCursor as cursor.",
		Responses:   map[string]*huma.Response{"200": {Description: "One page of events."}},
		Errors:      []int{http.StatusBadRequest, http.StatusNotFound},
		Metadata:    readsQuery,
	}, a.listWebhookEvents)
	registerForManager(a, huma.Operation{
		OperationID: "replayWebhookEvent", Method: http.MethodPost, Path: one + "/events/{event}/replay", Tags: []string{"webhooks"},
		Summary:       "Replay an event",
		Description:   "Sends an event again, with the same webhook-id.",
		DefaultStatus: http.StatusAccepted,
		Responses:     map[string]*huma.Response{"202": {Description: "The event. It is sent immediately."}},
		Errors:        []int{http.StatusNotFound, http.StatusConflict},
	}, a.replayEvent)
}

type secretOutput struct{ Body WebhookWithSecret }

func (a *api) createWebhook(ctx context.Context, principal identity.Principal, in *bodyInput) (*secretOutput, error) {
	var body WebhookRequest
	if err := readObject(in.Request, &body); err != nil {
		return nil, err
	}
	params := webhook.Params{URL: body.URL, Description: body.Description, Statuses: body.Statuses}
	endpoint, secret, err := webhook.Create(ctx, a.Webhooks, principal.WorkspaceID, params, a.PrivateWebhooks)
	if err != nil {
		return nil, err
	}
	return &secretOutput{Body: WebhookWithSecret{Webhook: webhookOf(endpoint), Secret: string(secret)}}, nil
}

type webhooksOutput struct{ Body WebhookList }

func (a *api) listWebhooks(ctx context.Context, principal identity.Principal, _ *noBody) (*webhooksOutput, error) {
	list, err := a.Webhooks.Webhooks(ctx, principal.WorkspaceID)
	if err != nil {
		return nil, err
	}
	out := &webhooksOutput{Body: WebhookList{Webhooks: make([]Webhook, len(list))}}
	for i, w := range list {
		out.Body.Webhooks[i] = webhookOf(w)
	}
	return out, nil
}

// WebhookInput is the path parameter of a webhook.
type WebhookInput struct {
	ID string `path:"id" format:"uuid" doc:"The ID of the webhook."`
}

func (in *WebhookInput) id() (uuid.UUID, error) {
	return parseID(in.ID, webhook.ErrNotFound)
}

type webhookOutput struct{ Body Webhook }

func (a *api) getWebhook(ctx context.Context, principal identity.Principal, in *WebhookInput) (*webhookOutput, error) {
	endpoint, err := a.webhook(ctx, principal, in)
	return &webhookOutput{Body: webhookOf(endpoint)}, err
}

func (a *api) webhook(ctx context.Context, principal identity.Principal, in *WebhookInput) (webhook.Endpoint, error) {
	id, err := in.id()
	if err != nil {
		return webhook.Endpoint{}, err
	}
	return a.Webhooks.Webhook(ctx, principal.WorkspaceID, id)
}

func (a *api) deleteWebhook(ctx context.Context, principal identity.Principal, in *WebhookInput) (*noBody, error) {
	id, err := in.id()
	if err != nil {
		return nil, err
	}
	return nil, a.Webhooks.DeleteWebhook(ctx, principal.WorkspaceID, id)
}

func (a *api) rotateSecret(ctx context.Context, principal identity.Principal, in *WebhookInput) (*secretOutput, error) {
	id, err := in.id()
	if err != nil {
		return nil, err
	}
	secret := webhook.NewSecret()
	if err := a.Webhooks.RotateSecret(ctx, principal.WorkspaceID, id, secret); err != nil {
		return nil, err
	}
	endpoint, err := a.Webhooks.Webhook(ctx, principal.WorkspaceID, id)
	return &secretOutput{Body: WebhookWithSecret{Webhook: webhookOf(endpoint), Secret: string(secret)}}, err
}

func (a *api) enableWebhook(ctx context.Context, principal identity.Principal, in *WebhookInput) (*webhookOutput, error) {
	id, err := in.id()
	if err != nil {
		return nil, err
	}
	if err := a.Webhooks.EnableWebhook(ctx, principal.WorkspaceID, id); err != nil {
		return nil, err
	}
	return a.getWebhook(ctx, principal, in)
}

type eventOutput struct{ Body WebhookEvent }

func (a *api) testWebhook(ctx context.Context, principal identity.Principal, in *WebhookInput) (*eventOutput, error) {
	endpoint, err := a.enabled(ctx, principal, in)
	if err != nil {
		return nil, err
	}
	event, err := a.Webhooks.CreateTestEvent(ctx, principal.WorkspaceID, endpoint.ID)
	return &eventOutput{Body: webhookEventOf(event)}, err
}

// enabled returns the webhook, or a conflict if it is disabled.
func (a *api) enabled(ctx context.Context, principal identity.Principal, in *WebhookInput) (webhook.Endpoint, error) {
	endpoint, err := a.webhook(ctx, principal, in)
	if err == nil && endpoint.DisabledAt != nil {
		return endpoint, newProblem(http.StatusConflict, "The webhook is disabled. Enable it first.")
	}
	return endpoint, err
}

type webhookEventsInput struct {
	CursorInput
	WebhookInput
}

type webhookEventsOutput struct{ Body WebhookEventList }

func (a *api) listWebhookEvents(ctx context.Context, principal identity.Principal, in *webhookEventsInput) (*webhookEventsOutput, error) {
	cursor, limit, err := in.paging()
	if err != nil {
		return nil, err
	}
	endpoint, err := a.webhook(ctx, principal, &in.WebhookInput)
	if err != nil {
		return nil, err
	}
	list, more, err := a.Webhooks.WebhookEvents(ctx, principal.WorkspaceID, endpoint.ID, int64(numberInCursor(cursor)), limit)
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
	Event string `path:"event" format:"uuid" doc:"The ID of the event."`
}

func (a *api) replayEvent(ctx context.Context, principal identity.Principal, in *replayInput) (*eventOutput, error) {
	endpoint, err := a.enabled(ctx, principal, &in.WebhookInput)
	if err != nil {
		return nil, err
	}
	id, err := parseID(in.Event, webhook.ErrNotFound)
	if err != nil {
		return nil, err
	}
	event, err := a.Webhooks.ReplayEvent(ctx, principal.WorkspaceID, endpoint.ID, id)
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
	return WebhookEvent{
		ID: e.ID, Type: e.Type(), MessageID: idIfAny(e.MessageID), Version: e.Version, OccurredAt: e.OccurredAt.UTC(), State: e.State,
		Attempts: e.Attempts, AttemptedAt: utc(e.AttemptedAt), HTTPStatus: e.HTTPStatus, Error: e.Error,
		NextAttemptAt: utc(e.DueAt),
	}
}
