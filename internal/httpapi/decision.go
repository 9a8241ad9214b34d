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

// Decision is what its owner says about a message that is held in doubt.
type Decision struct {
	Decision mms.Decision `json:"decision" enum:"was_sent,resend,give_up" doc:"was_sent: it reached the recipient; resend: it did not, and shall; give_up: it did not, and shall not." example:"resend"`
}

// TransformSchema adds what tags cannot say.
func (Decision) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema { return exactly(s) }

func (a *api) registerDecision() {
	registerFor(a, identity.SendScope, huma.Operation{
		OperationID: "decideMessage", Method: http.MethodPost, Path: decisionPath, Tags: []string{"messages"},
		Summary: "Decide on a message held in doubt",
		Description: "A message is held where nothing shows whether Plivo has it, or where several of Plivo's messages could be it. " +
			"The first decision counts; a later one is told 409.",
		Responses: map[string]*huma.Response{"204": {Description: "Decided; the message goes on."}},
		Errors:    bodyErrors(http.StatusNotFound, http.StatusConflict),
	}, a.decide)
	describeBody(a, decisionPath, Decision{Decision: mms.DecideResend})
}

type decisionInput struct {
	Request
	ID string `path:"id" format:"uuid" doc:"The message's id."`
}

func (a *api) decide(ctx context.Context, who identity.Principal, in *decisionInput) (*struct{}, error) {
	id, err := parseID(in.ID)
	if err != nil {
		return nil, err
	}
	var body Decision
	if err := readObject(in.Request, &body); err != nil {
		return nil, err
	}
	if !slices.Contains(mms.Decisions(), body.Decision) {
		return nil, invalid.Fields{{Name: "decision", Rule: "enum", Message: "must be was_sent, resend or give_up"}}
	}
	return nil, a.Messages.Decide(ctx, who.UserID, id, body.Decision)
}
