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

func (a *api) registerActs() {
	registerFor(a, identity.SendScope, huma.Operation{
		OperationID: "cancelMessage", Method: http.MethodPost, Path: messagesPath + "/{id}/cancel", Tags: []string{"messages"},
		Summary:     "Cancel a message",
		Description: "Takes back a message that is scheduled or queued. 409 says that it is too late. That it is canceled already is fine.",
		Responses:   map[string]*huma.Response{"200": {Description: "The message is canceled."}},
		Errors:      []int{http.StatusNotFound, http.StatusConflict},
	}, a.cancel)
	registerFor(a, identity.SendScope, huma.Operation{
		OperationID: "sendAgain", Method: http.MethodPost, Path: messagesPath + "/{id}/resend", Tags: []string{"messages"},
		Summary: "Send a message again",
		Description: "Makes a new message that says the same and names the old one in resendOf. " +
			"409 says that the old one's story is not over: sending it now could reach the recipient twice.",
		DefaultStatus: http.StatusAccepted,
		Responses:     map[string]*huma.Response{"202": a.jsonResponse("Stored safely; it will be sent.", reflect.TypeFor[CreatedMessage]())},
		Errors:        []int{http.StatusBadRequest, http.StatusNotFound, http.StatusConflict, http.StatusUnprocessableEntity},
	}, a.resend)
}

type actInput struct {
	Request
	ID string `path:"id" format:"uuid" doc:"The message's id."`
}

type historyOutput struct{ Body *History }

func (a *api) cancel(ctx context.Context, who identity.Principal, in *actInput) (*historyOutput, error) {
	id, err := parseID(in.ID)
	if err != nil {
		return nil, err
	}
	if err := a.Messages.Cancel(ctx, who.UserID, id); err != nil {
		return nil, err
	}
	body, err := a.read(ctx, who.UserID, id)
	return &historyOutput{Body: body}, err
}

type resendInput struct {
	Request
	Once
	ID string `path:"id" format:"uuid" doc:"The message's id."`
}

func (a *api) resend(ctx context.Context, who identity.Principal, in *resendInput) (*sendOutput, error) {
	id, err := parseID(in.ID)
	if err != nil {
		return nil, err
	}
	key := idempotency(in.Request, intake.Fingerprint("resend", mms.CreateParams{}, in.ID))
	result, err := a.Intake.Resend(ctx, submitterOf(who), id, key)
	if err != nil {
		return nil, err
	}
	return a.createdMessage(result), nil
}
