package httpapi

import (
	"context"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/mms"
)

const decisionPath = messagesPath + "/{id}/decision"

// Decision resolves a message that is held in doubt.
type Decision struct {
	Decision mms.Decision `json:"decision" enum:"was_sent,retry,give_up" doc:"was_sent: the message reached the recipient, mark it as sent. retry: it did not, send it again. give_up: do not send it again, mark it as failed." example:"retry"`
}

// TransformSchema implements huma.SchemaTransformer.
func (Decision) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema { return exactly(s) }

func (a *api) registerDecision() {
	registerFor(a, identity.Send, huma.Operation{
		OperationID: "decideMessage", Method: http.MethodPost, Path: decisionPath, Tags: []string{"messages"},
		Summary: "Resolve a held message",
		Description: "Resolves a message whose held field is true. A message is held when there is no evidence whether Plivo received it, or when several messages at Plivo match it. " +
			"Only the first decision counts; later ones are answered with 409.",
		Responses: map[string]*huma.Response{"204": {Description: "The decision was recorded."}},
		Errors:    bodyErrors(http.StatusNotFound, http.StatusConflict),
	}, a.decide)
	describeBody(a, decisionPath, Decision{Decision: mms.DecideRetry})
}

type decisionInput struct {
	Request
	ID string `path:"id" format:"uuid" doc:"The ID of the message."`
}

func (a *api) decide(ctx context.Context, principal identity.Principal, in *decisionInput) (*struct{}, error) {
	id, err := parseID(in.ID, mms.ErrNotFound)
	if err != nil {
		return nil, err
	}
	var body Decision
	if err := readObject(in.Request, &body); err != nil {
		return nil, err
	}
	if !slices.Contains(mms.Decisions(), body.Decision) {
		rule := "one_of"
		if body.Decision == "" {
			rule = "required"
		}
		return nil, invalid.Fields{{Name: "decision", Rule: rule, Message: "must be was_sent, retry or give_up"}}
	}
	return nil, a.Messages.Decide(ctx, principal.WorkspaceID, id, body.Decision)
}
