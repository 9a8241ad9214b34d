package httpapi

import (
	"maps"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/webhook"
)

// codeSchemas are the schemas of stable codes, by name.
func codeSchemas() map[string]*huma.Schema {
	return map[string]*huma.Schema{
		"Status":           codes("The status of a message.", mms.Statuses()),
		"Reason":           codes("Why a message failed or waits.", mms.Reasons()),
		"EventKind":        codes("The kind of an event in the history of a message.", mms.EventKinds()),
		"Keyword":          codes("What a reply asks for: no more messages, messages again, or help.", []mms.Keyword{mms.KeywordStop, mms.KeywordStart, mms.KeywordHelp}),
		"Rule":             codes("The rule that a field violates. The introduction says what each means.", ruleCodes()),
		"ProblemCode":      codes("What a client must do next: confirm the log-in, or have the user set up a second factor.", []string{codeFactorRequired, codeFactorSetup}),
		"MessageEventType": codes("The type of a webhook event about a message: message. and its new status.", webhook.MessageTypes()),
		"WebhookEventType": codes("The type of a webhook event.", webhook.EventTypes()),
	}
}

func codes[T ~string](description string, values []T) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString, Description: description + " New values may be added at any time."}
	for _, value := range values {
		s.Enum = append(s.Enum, string(value))
	}
	return s
}

// codeFields are the fields that hold a code, by schema: the name of the code's schema, and
// with a trailing [] that of each element.
var codeFields = map[string]map[string]string{
	"Message":           {"status": "Status", "reason": "Reason"},
	"MediaCheck":        {"reason": "Reason"},
	"CreatedMessage":    {"status": "Status", "reason": "Reason"},
	"Reply":             {"keyword": "Keyword"},
	"History":           {"status": "Status", "reason": "Reason"},
	"Event":             {"status": "Status", "kind": "EventKind"},
	"FieldError":        {"rule": "Rule"},
	"Problem":           {"code": "ProblemCode"},
	"RowError":          {"rule": "Rule"},
	"Webhook":           {"statuses": "Status[]"},
	"WebhookRequest":    {"statuses": "Status[]"},
	"WebhookWithSecret": {"statuses": "Status[]"},
	"WebhookEvent":      {"type": "WebhookEventType"},
	"MessageEvent":      {"type": "MessageEventType"},
	"MessageEventData":  {"status": "Status", "reason": "Reason"},
}

// describeCodes adds the schemas of codes, and refers to them where a field holds one.
func describeCodes(schemas map[string]*huma.Schema) {
	maps.Copy(schemas, codeSchemas())
	for _, name := range slices.Sorted(maps.Keys(codeFields)) {
		for field, code := range codeFields[name] {
			property := schemas[name].Properties[field]
			if elements, ok := strings.CutSuffix(code, "[]"); ok {
				property, code = property.Items, elements
			}
			*property = huma.Schema{Ref: "#/components/schemas/" + code, Description: property.Description}
		}
	}
}
