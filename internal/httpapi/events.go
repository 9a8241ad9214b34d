package httpapi

import (
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/postcard-mms/postcard/internal/webhook"
)

// describeEvents documents the requests that webhooks receive.
func describeEvents(doc *huma.OpenAPI) {
	doc.Webhooks = map[string]*huma.PathItem{
		"messageEvent": {Post: eventOperation[webhook.MessageEvent](doc, "receiveMessageEvent", "Receive an event about a message",
			"Postcard posts this to your webhook for each change of a message's status. Events can arrive more than once and out of order: use webhook-id to detect duplicates and data.version to order events.")},
		"testEvent": {Post: eventOperation[webhook.TestEvent](doc, "receiveTestEvent", "Receive a test event",
			"Postcard posts this to your webhook when you send a test event.")},
	}
	doc.Components.Schemas.Map()["TestEvent"].Properties["type"].Enum = []any{webhook.TestType}
}

func eventOperation[T any](doc *huma.OpenAPI, id, summary, description string) *huma.Operation {
	header := func(name, description string) *huma.Param {
		return &huma.Param{Name: name, In: "header", Required: true, Description: description, Schema: &huma.Schema{Type: huma.TypeString}}
	}
	retry := map[string]*huma.Param{"Retry-After": {
		Description: "How long to wait before the next attempt, in seconds or as a date; at most 24 hours.", Schema: &huma.Schema{Type: huma.TypeString},
	}}
	return &huma.Operation{
		OperationID: id, Summary: summary, Description: description, Tags: []string{"webhooks"}, Security: []map[string][]string{},
		Parameters: []*huma.Param{
			header("webhook-id", "The ID of the event: the same for every attempt."),
			header("webhook-timestamp", "When the attempt was made, in seconds since 1970."),
			header("webhook-signature", "One signature for each secret in use, separated by spaces (Standard Webhooks)."),
		},
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
			mediaType: {Schema: doc.Components.Schemas.Schema(reflect.TypeFor[T](), true, "")},
		}},
		Responses: map[string]*huma.Response{
			"2XX":     {Description: "The event is delivered."},
			"410":     {Description: http.StatusText(http.StatusGone) + ": the webhook is disabled."},
			"429":     {Description: "You are overloaded: the event is sent again later.", Headers: retry},
			"503":     {Description: "You are overloaded: the event is sent again later.", Headers: retry},
			"default": {Description: "The event is sent again later, with increasing delays for about three days. Redirects are not followed."},
		},
	}
}
