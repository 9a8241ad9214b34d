package httpapi

import (
	"context"
	"math"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/postcard-mms/postcard/internal/httpkit"
	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/intake"
	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/mms"
)

const sendPath = "/api/send-mms"

// SendRequest is the body of sendMms. Its tags only document the limits; mms.Rules
// enforces them.
type SendRequest struct {
	To        string            `json:"to" doc:"The recipient's phone number: best in E.164 form, like +14155550123. A number of the US or Canada may also be written as people do, like (415) 555-0123." example:"+14155550123"`
	Text      string            `json:"text,omitempty" doc:"The text of the message. Line breaks of any system become \\n, and tabs become spaces." maxLength:"1600" example:"Greetings from the coast"`
	MediaURL  string            `json:"mediaUrl,omitempty" doc:"The URL of the picture. Must be http or https and publicly reachable, because Plivo fetches it." format:"uri" maxLength:"2000" example:"https://example.com/picture.jpg"`
	MediaURLs []string          `json:"mediaUrls,omitempty" doc:"The URLs of several pictures, instead of mediaUrl." minItems:"1" maxItems:"10" maxLength:"2000" format:"uri" nullable:"false"`
	MediaIDs  []string          `json:"mediaIds,omitempty" doc:"The IDs of uploaded pictures, beside or instead of URLs: 10 pictures together at most. See uploadMedia." minItems:"1" maxItems:"10" format:"uuid" nullable:"false"`
	Fit       string            `json:"fit,omitempty" doc:"What to do with pictures that are too large for some carriers: auto copies a picture behind a URL and makes it smaller if it would not fit; always copies each; never sends the URL as it is, and an upload without making it smaller. Location and other metadata of uploads are removed in any case." enum:"auto,always,never" default:"auto"`
	From      string            `json:"from,omitempty" doc:"The sender's phone number, one of this installation's. Default: the sender of the newest message to the recipient, or one that Postcard chooses." example:"+14155550100"`
	SendAt    string            `json:"sendAt,omitempty" doc:"When to send the message, up to 30 days ahead. Default: immediately." format:"date-time" example:"2026-12-24T18:00:00-05:00"`
	ValidFor  *int              `json:"validFor,omitempty" doc:"How many seconds the message can wait to be sent, counted from sendAt or its creation. A message that cannot be sent in time fails." minimum:"60" maximum:"2592000" default:"10800"`
	Priority  string            `json:"priority,omitempty" doc:"The priority among waiting messages." enum:"high,normal,bulk" default:"normal"`
	Metadata  map[string]string `json:"metadata,omitempty" doc:"Key-value pairs of your own, returned with the message and searchable. Up to 20 entries; keys up to 40 characters, values up to 500." example:"{\"order\":\"1017\"}"`
	DryRun    bool              `json:"dryRun,omitempty" doc:"Validate the message and return a forecast with status 200, without creating it."`
}

// TransformSchema implements huma.SchemaTransformer.
func (SendRequest) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	s.Description = "The message to send. One of mediaUrl, mediaUrls and mediaIds is required; mediaUrl and mediaUrls exclude each other."
	s.AnyOf = []*huma.Schema{{Required: []string{"mediaUrl"}}, {Required: []string{"mediaUrls"}}, {Required: []string{"mediaIds"}}}
	return exactly(s)
}

// CreatedMessage is the response of sendMms and resendMessage.
type CreatedMessage struct {
	Message
	Warnings  []string `json:"warnings,omitempty" nullable:"false" doc:"What may be wrong with the message although it is valid, in plain language; for example, that the recipient's area code is unknown. Absent if there is nothing." example:"[\"Check the number +1 624-555-0142: Postcard knows no numbers that begin with 624-555. The area code may be new, or a digit may be wrong.\"]"`
	Simulated bool     `json:"simulated" doc:"Whether the message is sent to a simulator instead of Plivo." example:"false"`
}

// Forecast predicts how a message would be sent. It is the response to a dry run.
type Forecast struct {
	DryRun        bool              `json:"dryRun" doc:"Always true: no message was created."`
	To            mms.PhoneNumber   `json:"to" doc:"The recipient's phone number." example:"+14155550123"`
	From          mms.PhoneNumber   `json:"from" doc:"The sender's phone number that would be used." example:"+14155550100"`
	Priority      string            `json:"priority" doc:"The priority among waiting messages." example:"normal"`
	Metadata      map[string]string `json:"metadata,omitempty" doc:"The metadata of the request."`
	RatePerMinute float64           `json:"ratePerMinute,omitempty" doc:"The sender's rate limit in messages per minute. Absent if there is none." example:"14.9"`
	Ahead         int               `json:"ahead" doc:"The number of messages ahead, counted up to 5000."`
	EstimatedAt   time.Time         `json:"estimatedSendAt" doc:"When the message would be handed to Plivo. The earliest time if 5000 or more messages are ahead."`
	EstimatedCost string            `json:"estimatedCost" doc:"What Plivo would charge in US dollars: the average of your latest messages, or the list price." example:"0.016000"`
	Warnings      []string          `json:"warnings,omitempty" nullable:"false" doc:"See sendMms."`
	Suppressed    bool              `json:"suppressed" doc:"Whether the message would fail because the recipient has opted out."`
	Pause         string            `json:"pauseExplanation,omitempty" doc:"Why all sending is paused, in plain language. The message would then be sent later than estimated. Absent if sending is not paused."`
}

// IdempotencyInput is the Idempotency-Key header.
type IdempotencyInput struct {
	IdempotencyKey string `header:"Idempotency-Key" doc:"A unique value of your choice, up to 255 characters. Repeating a request with the same key within 24 hours creates nothing new and returns the original response. An empty value is rejected." minLength:"1" maxLength:"255"`
}

type sendInput struct {
	Request
	IdempotencyInput
}

type sendOutput struct {
	Status    int
	Location  string `header:"Location" doc:"The path of the message."`
	Simulated string `header:"Postcard-Simulated" doc:"true if messages are sent to a simulator. Otherwise absent."`
	Replayed  string `header:"Idempotency-Replayed" doc:"true if this is the response of an earlier request with the same Idempotency-Key. Otherwise absent."`
	Body      any
}

func (a *api) registerSend() {
	registerFor(a, identity.Send, huma.Operation{
		OperationID: "sendMms", Method: http.MethodPost, Path: sendPath, Tags: []string{"messages"},
		Summary: "Send a message",
		Description: "Creates a message and returns immediately. 202 means that the message is stored durably and will be sent. " +
			"Track its status with getMessage, streamMessage or a webhook.",
		DefaultStatus: http.StatusAccepted,
		Responses: map[string]*huma.Response{
			"200": a.jsonResponse("The forecast, if dryRun is true.", reflect.TypeFor[Forecast]()),
			"202": a.jsonResponse("The message was created and will be sent.", reflect.TypeFor[CreatedMessage]()),
		},
		Errors: bodyErrors(http.StatusConflict, http.StatusUnprocessableEntity),
	}, a.send)
	describeBody(a, sendPath, SendRequest{
		To: "+14155550123", Text: "Greetings from the coast", MediaURL: "https://example.com/picture.jpg",
	})
}

// jsonResponse documents a response body that huma cannot derive from the output's
// type.
func (a *api) jsonResponse(description string, t reflect.Type) *huma.Response {
	return &huma.Response{Description: description, Content: map[string]*huma.MediaType{
		mediaType: {Schema: a.huma.OpenAPI().Components.Schemas.Schema(t, true, "")},
	}}
}

func (a *api) send(ctx context.Context, principal identity.Principal, in *sendInput) (*sendOutput, error) {
	var body SendRequest
	if err := readObject(in.Request, &body); err != nil {
		return nil, err
	}
	params := mms.CreateParams{
		To: body.To, From: body.From, Text: body.Text, MediaURL: body.MediaURL, MediaURLs: body.MediaURLs, MediaIDs: body.MediaIDs, Fit: body.Fit,
		ValidFor: body.ValidFor, SendAt: body.SendAt, Priority: body.Priority, Metadata: body.Metadata,
	}
	var err error
	if params.Idempotency, err = idempotency(in.Request, intake.Fingerprint("send", params)); err != nil {
		return nil, err
	}
	if len(params.MediaIDs) > 1 { // they share the budget, so each may have to be made smaller
		var cancel context.CancelFunc
		ctx, cancel = httpkit.WithDeadline(ctx, sharingTimeout)
		defer cancel()
	}
	if body.DryRun {
		forecast, err := a.Intake.Forecast(ctx, submitterOf(principal), params)
		if err != nil {
			return nil, err
		}
		return &sendOutput{Status: http.StatusOK, Body: forecastOf(forecast)}, nil
	}
	result, err := a.Intake.CreateMessage(ctx, submitterOf(principal), params)
	if err != nil {
		return nil, err
	}
	return a.createdMessage(result), nil
}

func (a *api) createdMessage(result mms.CreateResult) *sendOutput {
	out := &sendOutput{
		Status: http.StatusAccepted, Location: a.base + messagePath(result.ID),
		Body: CreatedMessage{Message: a.message(result.Message), Warnings: warnings(result.Message), Simulated: a.Simulated},
	}
	if a.Simulated {
		out.Simulated = strconv.FormatBool(true)
	}
	if result.Replayed {
		out.Replayed = strconv.FormatBool(true)
	}
	return out
}

// warnings says what may be wrong with a valid message.
func warnings(m mms.Message) []string {
	if warning := m.Recipient.Warning(); warning != "" {
		return []string{warning}
	}
	return nil
}

func forecastOf(f mms.Forecast) Forecast {
	out := Forecast{
		DryRun: true, To: f.Recipient, From: f.Sender, Priority: f.Priority.String(), Metadata: f.Metadata, Ahead: f.Ahead,
		EstimatedAt: f.SendAt.UTC(), EstimatedCost: f.Cost, Warnings: warnings(f.Message), Suppressed: f.Suppressed, Pause: f.Pause.Explain(),
	}
	if f.Interval > 0 {
		out.RatePerMinute = math.Round(600/f.Interval.Seconds()) / 10
	}
	return out
}

// submitterOf returns the principal as a submitter, with its daily caps.
func submitterOf(principal identity.Principal) mms.Submitter {
	submitter := mms.Submitter{Workspace: principal.WorkspaceID, User: principal.UserID, WorkspaceCap: principal.DailyCap}
	if principal.Key != nil {
		submitter.Key, submitter.KeyCap = principal.Key.ID, principal.Key.DailyCap
	}
	return submitter
}

// idempotency reads the request's idempotency key. It rejects a header without a value: the
// client means to send a key, and repeating the request would create a second message. A
// header that is given twice with the same value counts once.
func idempotency(q Request, fingerprint [32]byte) (mms.Idempotency, error) {
	key, err := idempotencyKey(q.r.Header.Values(mms.IdempotencyHeader))
	return mms.Idempotency{Key: key, Fingerprint: fingerprint}, err
}

func idempotencyKey(values []string) (string, error) {
	if len(values) == 0 {
		return "", nil
	}
	key := strings.Trim(values[0], " \t")
	var violations invalid.Fields
	for _, other := range values[1:] {
		if strings.Trim(other, " \t") != key {
			violations.Add(mms.IdempotencyHeader, "duplicate", "is given more than once, with different values: send one key")
			return "", violations
		}
	}
	if key == "" {
		violations.Add(mms.IdempotencyHeader, "required", "is empty: send a unique value, or leave the header out")
		return "", violations
	}
	mms.Idempotency{Key: key}.Validate(&violations)
	return key, violations.Err()
}
