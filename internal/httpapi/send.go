package httpapi

import (
	"context"
	"math"
	"net/http"
	"reflect"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/intake"
	"github.com/postcard-mms/postcard/internal/mms"
)

const sendPath = "/api/send-mms"

// SendRequest is a picture message to be sent. The limits in its tags only
// describe; mms.Rules decide.
type SendRequest struct {
	To        string            `json:"to" doc:"The recipient's phone number in E.164 form." pattern:"^\\+[1-9][0-9]{6,14}$" example:"+14155550123"`
	Text      string            `json:"text,omitempty" doc:"The text below the picture." maxLength:"1600" example:"Greetings from the coast"`
	MediaURL  string            `json:"mediaUrl,omitempty" doc:"Where Plivo fetches the picture: http or https, reachable from the internet." format:"uri" maxLength:"2000" example:"https://example.com/picture.jpg"`
	MediaURLs []string          `json:"mediaUrls,omitempty" doc:"Several pictures, in place of mediaUrl." minItems:"1" maxItems:"10" maxLength:"2000" format:"uri" nullable:"false"`
	From      string            `json:"from,omitempty" doc:"One of this installation's sender numbers. Left out, Postcard chooses, and chooses the same one for a recipient every time." pattern:"^\\+[1-9][0-9]{6,14}$"`
	SendAt    string            `json:"sendAt,omitempty" doc:"When to send it, up to 30 days ahead; left out: at once." format:"date-time" example:"2026-12-24T18:00:00-05:00"`
	ValidFor  *int              `json:"validFor,omitempty" doc:"For how many seconds it may wait to be sent, from sendAt on. What cannot be sent in time fails and is not sent late." minimum:"60" maximum:"2592000" default:"10800"`
	Priority  string            `json:"priority,omitempty" doc:"Who goes first where messages wait." enum:"high,normal,bulk" default:"normal"`
	Metadata  map[string]string `json:"metadata,omitempty" doc:"Your own words about it, given back everywhere: up to 20 entries, keys of up to 40 characters, values of up to 500." example:"{\"order\":\"1017\"}"`
	DryRun    bool              `json:"dryRun,omitempty" doc:"Check it and tell what would become of it, with 200; nothing is stored or sent."`
}

// TransformSchema adds what tags cannot say.
func (SendRequest) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	s.Description = "A picture message. It needs either mediaUrl or mediaUrls."
	s.OneOf = []*huma.Schema{{Required: []string{"mediaUrl"}}, {Required: []string{"mediaUrls"}}}
	return exactly(s)
}

// CreatedMessage is a message that was taken on.
type CreatedMessage struct {
	Message
	Simulated bool `json:"simulated" doc:"Whether the message goes to a simulator instead of to a phone." example:"false"`
}

// Forecast is what would become of a message.
type Forecast struct {
	DryRun        bool              `json:"dryRun" doc:"Always true: nothing was stored."`
	To            mms.PhoneNumber   `json:"to" example:"+14155550123"`
	From          mms.PhoneNumber   `json:"from" doc:"The sender number that was asked for or would be chosen." example:"+14155550100"`
	Priority      string            `json:"priority" example:"normal"`
	Metadata      map[string]string `json:"metadata,omitempty"`
	PerMinute     float64           `json:"perMinute,omitempty" doc:"How many messages a minute its sender may send; absent: no limit." example:"14.9"`
	Ahead         int               `json:"ahead" doc:"How many messages wait before it, counted up to 5000."`
	EstimatedAt   time.Time         `json:"estimatedSendAt" doc:"About when it would be handed to Plivo; at the soonest, where 5000 or more wait before it."`
	EstimatedCost string            `json:"estimatedCost" doc:"About what Plivo would charge, in US dollars: the average of your latest messages, or the list price." example:"0.016000"`
	Suppressed    bool              `json:"suppressed" doc:"Whether it would fail, because the recipient has opted out."`
	Paused        string            `json:"paused,omitempty" doc:"Why all sending is paused at present, in plain words: it would be sent later than estimated. Absent while sending goes on."`
}

// Once describes the header of requests that can be made idempotent.
type Once struct {
	IdempotencyKey string `header:"Idempotency-Key" doc:"Up to 255 characters of your choice. A request with the same key and body within 24 hours gets the first one's answer, and sends nothing more." maxLength:"255"`
}

type sendInput struct {
	Request
	Once
}

type sendOutput struct {
	Status    int
	Location  string `header:"Location" doc:"The path of the message's status."`
	Simulated string `header:"Postcard-Simulated" doc:"true where messages go to a simulator; else left out."`
	Replayed  string `header:"Idempotency-Replayed" doc:"true where this is the answer of an earlier request with the same Idempotency-Key; else left out."`
	Body      any
}

func (a *api) registerSend() {
	registerFor(a, identity.SendScope, huma.Operation{
		OperationID: "sendMms", Method: http.MethodPost, Path: sendPath, Tags: []string{"messages"},
		Summary: "Send a picture message",
		Description: "Takes the message on and answers at once: 202 means that it is stored safely and will be sent. " +
			"What becomes of it stands at statusUrl. The faults of the input are listed together.",
		DefaultStatus: http.StatusAccepted,
		Responses: map[string]*huma.Response{
			"200": a.jsonResponse("What would become of it; the answer to dryRun.", reflect.TypeFor[Forecast]()),
			"202": a.jsonResponse("Stored safely; it will be sent.", reflect.TypeFor[CreatedMessage]()),
		},
		Errors: bodyErrors(http.StatusConflict, http.StatusUnprocessableEntity),
	}, a.send)
	describeBody(a, sendPath, SendRequest{
		To: "+14155550123", Text: "Greetings from the coast", MediaURL: "https://example.com/picture.jpg",
	})
}

// jsonResponse describes an answer that huma cannot see in the output's type.
func (a *api) jsonResponse(words string, t reflect.Type) *huma.Response {
	return &huma.Response{Description: words, Content: map[string]*huma.MediaType{
		mediaType: {Schema: a.huma.OpenAPI().Components.Schemas.Schema(t, true, "")},
	}}
}

func (a *api) send(ctx context.Context, who identity.Principal, in *sendInput) (*sendOutput, error) {
	var body SendRequest
	if err := readObject(in.Request, &body); err != nil {
		return nil, err
	}
	params := mms.CreateParams{
		To: body.To, From: body.From, Text: body.Text, MediaURL: body.MediaURL, MediaURLs: body.MediaURLs,
		ValidFor: body.ValidFor, SendAt: body.SendAt, Priority: body.Priority, Metadata: body.Metadata,
	}
	params.Idempotency = idempotency(in.Request, intake.Fingerprint("send", params))
	if body.DryRun {
		forecast, err := a.Intake.Forecast(ctx, submitterOf(who), params)
		if err != nil {
			return nil, err
		}
		return &sendOutput{Status: http.StatusOK, Body: forecastOf(forecast)}, nil
	}
	taken, err := a.Intake.CreateMessage(ctx, submitterOf(who), params)
	if err != nil {
		return nil, err
	}
	return a.createdMessage(taken), nil
}

func (a *api) createdMessage(taken mms.CreateResult) *sendOutput {
	out := &sendOutput{
		Status: http.StatusAccepted, Location: messagePath(taken.ID),
		Body: CreatedMessage{Message: a.message(taken.Message), Simulated: a.Simulated},
	}
	if a.Simulated {
		out.Simulated = strconv.FormatBool(true)
	}
	if taken.Replayed {
		out.Replayed = strconv.FormatBool(true)
	}
	return out
}

func forecastOf(f mms.Forecast) Forecast {
	out := Forecast{
		DryRun: true, To: f.Recipient, From: f.Sender, Priority: f.Priority.String(), Metadata: f.Metadata, Ahead: f.Ahead,
		EstimatedAt: f.SendAt.UTC(), EstimatedCost: f.Cost, Suppressed: f.Suppressed, Paused: f.Paused.Description(),
	}
	if f.Interval > 0 {
		out.PerMinute = math.Round(600/f.Interval.Seconds()) / 10
	}
	return out
}

// submitterOf is the principal as a sender of messages.
func submitterOf(who identity.Principal) mms.Submitter {
	by := mms.Submitter{User: who.UserID, UserCap: who.DailyCap}
	if who.Key != nil {
		by.Key, by.KeyCap = who.Key.ID, who.Key.DailyCap
	}
	return by
}

// idempotency reads the request's idempotency key.
func idempotency(q Request, fingerprint [32]byte) mms.Idempotency {
	return mms.Idempotency{Key: q.r.Header.Get(mms.IdempotencyHeader), Fingerprint: fingerprint}
}
