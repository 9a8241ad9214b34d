package httpapi

import (
	"context"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"postcard/internal/identity"
	"postcard/internal/mms"
)

const sendPath = "/api/send-mms"

// SendRequest is a picture message to be sent. The limits in its tags only
// describe; mms.Rules decide.
type SendRequest struct {
	To        string   `json:"to" doc:"The recipient's phone number in E.164 form." pattern:"^\\+[1-9][0-9]{6,14}$" example:"+14155550123"`
	Text      string   `json:"text,omitempty" doc:"The text below the picture." maxLength:"1600" example:"Greetings from the coast"`
	MediaURL  string   `json:"mediaUrl,omitempty" doc:"Where Plivo fetches the picture: http or https, reachable from the internet." format:"uri" maxLength:"2000" example:"https://example.com/picture.jpg"`
	MediaURLs []string `json:"mediaUrls,omitempty" doc:"Several pictures, in place of mediaUrl." minItems:"1" maxItems:"10" maxLength:"2000" format:"uri" nullable:"false"`
	From      string   `json:"from,omitempty" doc:"One of this installation's sender numbers. Left out, Postcard chooses, and chooses the same one for a recipient every time." pattern:"^\\+[1-9][0-9]{6,14}$"`
	ValidFor  *int     `json:"validFor,omitempty" doc:"For how many seconds it may wait to be sent. What cannot be sent in time fails and is not sent late." minimum:"60" maximum:"259200" default:"10800"`
}

// TransformSchema adds what tags cannot say.
func (SendRequest) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	s.Description = "A picture message. It needs either mediaUrl or mediaUrls."
	s.OneOf = []*huma.Schema{{Required: []string{"mediaUrl"}}, {Required: []string{"mediaUrls"}}}
	return exactly(s)
}

// Accepted is a message that was taken on.
type Accepted struct {
	Message
	Simulated bool `json:"simulated" doc:"Whether the message goes to a simulator instead of to a phone." example:"false"`
}

type sendInput struct{ Request }

type sendOutput struct {
	Location  string `header:"Location" doc:"The path of the message's status."`
	Simulated string `header:"Postcard-Simulated" doc:"true where messages go to a simulator; else left out."`
	Body      Accepted
}

func (a *api) registerSend() {
	registerForUser(a, huma.Operation{
		OperationID: "sendMms", Method: http.MethodPost, Path: sendPath, Tags: []string{"messages"},
		Summary: "Send a picture message",
		Description: "Takes the message on and answers at once: 202 means that it is stored safely and will be sent. " +
			"What becomes of it stands at statusUrl. All faults of the input are listed in one answer.",
		DefaultStatus: http.StatusAccepted,
		Responses:     map[string]*huma.Response{"202": {Description: "Stored safely; it will be sent."}},
		Errors:        bodyErrors(),
	}, a.send)
	describeBody(a, sendPath, SendRequest{
		To: "+14155550123", Text: "Greetings from the coast", MediaURL: "https://example.com/picture.jpg",
	})
}

func (a *api) send(ctx context.Context, who identity.Principal, in *sendInput) (*sendOutput, error) {
	var body SendRequest
	if err := readObject(in.Request, &body); err != nil {
		return nil, err
	}
	message, err := a.Intake.Accept(ctx, who.UserID, mms.Draft{
		To: body.To, From: body.From, Text: body.Text, MediaURL: body.MediaURL, MediaURLs: body.MediaURLs, ValidFor: body.ValidFor,
	})
	if err != nil {
		return nil, err
	}
	out := &sendOutput{
		Location: messagePath(message.ID),
		Body:     Accepted{Message: a.message(message), Simulated: a.Simulated},
	}
	if a.Simulated {
		out.Simulated = strconv.FormatBool(true)
	}
	return out, nil
}
