package httpapi

import (
	"context"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/intake"
	"github.com/postcard-mms/postcard/internal/mms"
)

func (a *api) registerActions() {
	registerFor(a, identity.Send, huma.Operation{
		OperationID: "cancelMessage", Method: http.MethodPost, Path: messagesPath + "/{id}/cancel", Tags: []string{"messages"},
		Summary:     "Cancel a message",
		Description: "Cancels a message that is scheduled or queued. Returns 409 if sending has started or finished. Canceling a canceled message succeeds.",
		Responses:   map[string]*huma.Response{"200": {Description: "The canceled message."}},
		Errors:      []int{http.StatusNotFound, http.StatusConflict},
	}, a.cancel)
	registerFor(a, identity.Send, huma.Operation{
		OperationID: "resendMessage", Method: http.MethodPost, Path: messagesPath + "/{id}/resend", Tags: []string{"messages"},
		Summary: "Resend a message",
		Description: "Creates a new message with the same content, sender, priority, validFor and metadata, whose resendOf is the ID of the original. It is sent immediately. The operation has no fields: to change something, use sendMms. " +
			"Returns 409 unless the original is sent or final: resending it could deliver it twice.",
		DefaultStatus: http.StatusAccepted,
		Responses:     map[string]*huma.Response{"202": a.jsonResponse("The message was created and will be sent.", reflect.TypeFor[CreatedMessage]())},
		Errors:        []int{http.StatusBadRequest, http.StatusNotFound, http.StatusConflict, http.StatusUnprocessableEntity},
	}, a.resend)
}

type actionInput struct {
	Request
	ID string `path:"id" format:"uuid" doc:"The ID of the message."`
}

type historyOutput struct{ Body *History }

func (a *api) cancel(ctx context.Context, principal identity.Principal, in *actionInput) (*historyOutput, error) {
	id, err := parseID(in.ID, mms.ErrNotFound)
	if err != nil {
		return nil, err
	}
	if err := a.Messages.Cancel(ctx, principal.WorkspaceID, id); err != nil {
		return nil, err
	}
	body, err := a.read(ctx, principal.WorkspaceID, id)
	return &historyOutput{Body: body}, err
}

type resendInput struct {
	Request
	IdempotencyInput
	ID string `path:"id" format:"uuid" doc:"The ID of the message."`
}

func (a *api) resend(ctx context.Context, principal identity.Principal, in *resendInput) (*sendOutput, error) {
	id, err := parseID(in.ID, mms.ErrNotFound)
	if err != nil {
		return nil, err
	}
	key, err := idempotency(in.Request, intake.Fingerprint("resend", mms.CreateParams{}, id.String()))
	if err != nil {
		return nil, err
	}
	result, err := a.Intake.Resend(ctx, submitterOf(principal), id, key)
	if err != nil {
		return nil, err
	}
	return a.createdMessage(result), nil
}
