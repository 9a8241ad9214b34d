package httpapi_test

import (
	"encoding/json"
	"flag"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"

	"github.com/postcard-mms/postcard/internal/httpapi"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/webhook"
)

// writeOpenAPI is where `make check-openapi` wants the description.
var writeOpenAPI = flag.String("write-openapi", "", "write the OpenAPI description to this file")

// TestDescriptionIsValid checks the document against the schema of OpenAPI 3.1.
func TestDescriptionIsValid(t *testing.T) {
	t.Parallel()
	_, body := readDocument(t, func(o *httpapi.Options) { o.PublicURL = "https://mms.postcard.test" })
	if *writeOpenAPI != "" {
		if err := os.WriteFile(*writeOpenAPI, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	parsed, err := libopenapi.NewDocument([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	v, errs := validator.NewValidator(parsed)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	if ok, violations := v.ValidateDocument(); !ok {
		for _, v := range violations {
			t.Errorf("%s: %s", v.Message, v.Reason)
		}
	}
}

// codedDocument is the part of a description that holds codes.
type codedDocument struct {
	Info struct {
		License struct{ Name, Identifier string }
	}
	Webhooks   map[string]map[string]operation
	Components struct{ Schemas map[string]codedSchema }
}

type codedSchema struct {
	Ref        string `json:"$ref"`
	Enum       []string
	Properties map[string]codedSchema
	Items      *codedSchema
}

func readCodes(t *testing.T) codedDocument {
	t.Helper()
	_, body := readDocument(t)
	var doc codedDocument
	if err := json.Unmarshal([]byte(body), &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

func texts[T ~string](values []T) []string {
	var list []string
	for _, v := range values {
		list = append(list, string(v))
	}
	return list
}

// TestDescriptionListsEveryCode compares the enums with the constants.
func TestDescriptionListsEveryCode(t *testing.T) {
	t.Parallel()
	doc := readCodes(t)
	for name, want := range map[string][]string{
		"Status": texts(mms.Statuses()), "Reason": texts(mms.Reasons()), "EventKind": texts(mms.EventKinds()),
		"MessageEventType": webhook.MessageTypes(), "WebhookEventType": webhook.EventTypes(),
	} {
		if diff := cmp.Diff(want, doc.Components.Schemas[name].Enum); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	for schema, fields := range map[string][]string{
		"Message": {"status", "reason"}, "History": {"status", "reason"}, "Event": {"status", "kind"}, "FieldError": {"rule"}, "RowError": {"rule"},
		"WebhookEvent": {"type"}, "MessageEvent": {"type"}, "MessageEventData": {"status", "reason"},
	} {
		for _, field := range fields {
			ref := strings.TrimPrefix(doc.Components.Schemas[schema].Properties[field].Ref, "#/components/schemas/")
			if len(doc.Components.Schemas[ref].Enum) == 0 {
				t.Errorf("%s.%s lists no codes", schema, field)
			}
		}
	}
	// Every field with one of these names holds a code.
	for schema, s := range doc.Components.Schemas {
		for field, p := range s.Properties {
			coded := slices.Contains([]string{"reason", "rule", "kind", "statuses", "state", "outcome", "role", "keyword", "responsible"}, field)
			if coded && p.Ref == "" && len(p.Enum) == 0 && (p.Items == nil || p.Items.Ref == "" && len(p.Items.Enum) == 0) {
				t.Errorf("%s.%s lists no codes", schema, field)
			}
		}
	}
}

// TestDescriptionOfWebhooks compares the documented events with what is posted.
func TestDescriptionOfWebhooks(t *testing.T) {
	t.Parallel()
	doc := readCodes(t)
	if want := (struct{ Name, Identifier string }{"MIT License", "MIT"}); doc.Info.License != want {
		t.Errorf("license: got %+v, want %+v", doc.Info.License, want)
	}
	for name, event := range map[string]any{"messageEvent": webhook.MessageEvent{}, "testEvent": webhook.TestEvent{}} {
		op := doc.Webhooks[name]["post"]
		schema := reflect.TypeOf(event).Name()
		if got := op.RequestBody.Content["application/json"].Schema.Ref; got != "#/components/schemas/"+schema || op.OperationID == "" || op.Security == nil {
			t.Errorf("%s: got body %q, ID %q, security %v", name, got, op.OperationID, op.Security)
		}
		for _, status := range []string{"2XX", "410", "429", "503", "default"} {
			if op.Responses[status].Description == "" {
				t.Errorf("%s: what %s means is not documented", name, status)
			}
		}
	}
	test := webhook.Delivery{}.Payload()
	message := webhook.Delivery{Event: webhook.Event{MessageID: [16]byte{1}, Status: mms.Sent}}.Payload()
	if test.(webhook.TestEvent).Type != webhook.TestType || message.(webhook.MessageEvent).Type != "message.sent" {
		t.Errorf("got payloads %+v and %+v", test, message)
	}
}
