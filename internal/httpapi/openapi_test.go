package httpapi_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/postcard-mms/postcard/internal/httpapi"
	"github.com/postcard-mms/postcard/internal/mms"
)

// document is the part of an OpenAPI description that the tests check.
type document struct {
	OpenAPI    string
	Info       struct{ Title, Version, Description string }
	Servers    []struct{ URL string }
	Paths      map[string]map[string]operation
	Components struct {
		Schemas         map[string]schema
		SecuritySchemes map[string]struct{ Type, In, Name string }
	}
}

type operation struct {
	OperationID string
	Summary     string
	Security    []map[string][]string
	RequestBody struct {
		Required bool
		Content  map[string]struct {
			Schema  schema
			Example any
		}
	}
	Responses map[string]struct {
		Description string
		Content     map[string]struct{ Schema schema }
	}
}

type schema struct {
	Ref                  string `json:"$ref"`
	Type                 any
	Description          string
	Properties           map[string]schema
	Required             []string
	AdditionalProperties any
	MaxLength, MaxItems  int
	Items                *schema
}

func readDocument(t *testing.T, change ...func(*httpapi.Options)) (document, string) {
	t.Helper()
	got := newSystem(t, change...).anonymous().do("GET", "/openapi.json", "")
	if got.status != 200 || got.header.Get("Content-Type") != "application/json" {
		t.Fatalf("%d %s", got.status, got.header.Get("Content-Type"))
	}
	return decode[document](t, got), got.body
}

func TestDescriptionListsEveryRoute(t *testing.T) {
	t.Parallel()
	doc, _ := readDocument(t)
	var described, served []string
	for path, operations := range doc.Paths {
		for method := range operations {
			described = append(described, strings.ToUpper(method)+" "+path)
		}
	}
	routes, ok := httpapi.New(httpapi.Options{}).(chi.Routes)
	if !ok {
		t.Fatal("the handler is not a chi router")
	}
	err := chi.Walk(routes, func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		if route != "/openapi.json" {
			served = append(served, method+" "+route)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(described)
	slices.Sort(served)
	want := []string{
		"DELETE /api/account/sessions",
		"DELETE /api/account/sessions/{id}",
		"DELETE /api/admin/senders/{number}",
		"DELETE /api/invitations/{id}",
		"DELETE /api/keys/{id}",
		"DELETE /api/media/{id}",
		"DELETE /api/members/{id}",
		"DELETE /api/webhooks/{id}",
		"GET /api/account",
		"GET /api/account/sessions",
		"GET /api/admin/health",
		"GET /api/admin/senders",
		"GET /api/admin/settings",
		"GET /api/admin/verifications",
		"GET /api/batches",
		"GET /api/batches/{id}",
		"GET /api/batches/{id}/errors",
		"GET /api/invitations",
		"GET /api/keys",
		"GET /api/me",
		"GET /api/media/{id}",
		"GET /api/media/{id}/content",
		"GET /api/members",
		"GET /api/messages",
		"GET /api/messages/export",
		"GET /api/messages/stream",
		"GET /api/messages/{id}",
		"GET /api/messages/{id}/stream",
		"GET /api/webhooks",
		"GET /api/webhooks/{id}",
		"GET /api/webhooks/{id}/events",
		"GET /api/workspaces",
		"PATCH /api/account",
		"POST /api/admin/senders",
		"POST /api/admin/senders/{number}/put-back",
		"POST /api/admin/senders/{number}/rate",
		"POST /api/admin/senders/{number}/rest",
		"POST /api/batches",
		"POST /api/batches/{id}/cancel",
		"POST /api/batches/{id}/pause",
		"POST /api/batches/{id}/resume",
		"POST /api/invitations",
		"POST /api/keys",
		"POST /api/login",
		"POST /api/login/factor",
		"POST /api/logout",
		"POST /api/media",
		"POST /api/media/check",
		"POST /api/members/{id}",
		"POST /api/messages/{id}/cancel",
		"POST /api/messages/{id}/decision",
		"POST /api/messages/{id}/resend",
		"POST /api/send-mms",
		"POST /api/signup",
		"POST /api/webhooks",
		"POST /api/webhooks/{id}/enable",
		"POST /api/webhooks/{id}/events/{event}/replay",
		"POST /api/webhooks/{id}/rotate-secret",
		"POST /api/webhooks/{id}/test",
		"POST /api/workspace",
		"POST /api/workspaces",
		"POST /api/workspaces/{id}/leave",
		"POST /api/workspaces/{id}/switch",
	}
	if diff := cmp.Diff(want, described); diff != "" {
		t.Errorf("described: %s", diff)
	}
	if diff := cmp.Diff(want, served); diff != "" {
		t.Errorf("served: %s", diff)
	}
}

func TestDescriptionIsComplete(t *testing.T) {
	t.Parallel()
	doc, body := readDocument(t, func(o *httpapi.Options) {
		o.PublicURL, o.SessionCookie = "https://postcard.example.com", "postcard_session"
	})
	if doc.OpenAPI != "3.1.0" || doc.Info.Title == "" || doc.Info.Version == "" || !strings.Contains(doc.Info.Description, "curl") {
		t.Errorf("openapi %q, info %+v", doc.OpenAPI, doc.Info)
	}
	if diff := cmp.Diff([]struct{ URL string }{{"https://postcard.example.com"}}, doc.Servers); diff != "" {
		t.Error(diff)
	}
	if got := doc.Components.SecuritySchemes["session"]; got.Type != "apiKey" || got.In != "cookie" || got.Name != "postcard_session" {
		t.Errorf("security scheme %+v", got)
	}
	for _, ref := range references(t, body) {
		if _, ok := doc.Components.Schemas[strings.TrimPrefix(ref, "#/components/schemas/")]; !ok {
			t.Errorf("reference %s is not defined", ref)
		}
	}
	for _, foreign := range []string{"ErrorModel", "ErrorDetail", "$schema", `"null"`} {
		if strings.Contains(body, foreign) {
			t.Errorf("the description contains %s", foreign)
		}
	}
}

// references collects every $ref.
func references(t *testing.T, body string) (refs []string) {
	t.Helper()
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, element := range v {
				walk(element)
			}
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok {
				refs = append(refs, ref)
			}
			for _, value := range v {
				walk(value)
			}
		}
	}
	var all any
	if err := json.Unmarshal([]byte(body), &all); err != nil {
		t.Fatal(err)
	}
	walk(all)
	if len(refs) == 0 {
		t.Error("got no references")
	}
	return refs
}

func TestDescriptionOfOperations(t *testing.T) {
	t.Parallel()
	doc, _ := readDocument(t)
	public := []string{"login", "loginFactor", "logout", "signup"}
	ids := map[string]bool{}
	for path, operations := range doc.Paths {
		for method, op := range operations {
			if op.OperationID == "" || ids[op.OperationID] || op.Summary == "" {
				t.Errorf("%s %s: id %q, summary %q", method, path, op.OperationID, op.Summary)
			}
			ids[op.OperationID] = true
			if guarded := len(op.Security) > 0; guarded == slices.Contains(public, op.OperationID) {
				t.Errorf("%s: security %v", op.OperationID, op.Security)
			}
			if _, has401 := op.Responses["401"]; has401 != (len(op.Security) > 0 || slices.Contains(public, op.OperationID) && op.OperationID != "logout") {
				t.Errorf("%s: 401 described: %t", op.OperationID, has401)
			}
			for status, response := range op.Responses {
				problem := response.Content["application/problem+json"].Schema.Ref == "#/components/schemas/Problem"
				if response.Description == "" || problem != (status >= "400") {
					t.Errorf("%s: %s has description %q, problem %t", op.OperationID, status, response.Description, problem)
				}
			}
		}
	}
}

// The documented limits must be those that package mms enforces.
func TestDescriptionOfLimits(t *testing.T) {
	t.Parallel()
	doc, _ := readDocument(t)
	send := doc.Components.Schemas["SendRequest"]
	got := map[string]int{
		"text": send.Properties["text"].MaxLength, "mediaUrl": send.Properties["mediaUrl"].MaxLength,
		"mediaUrls": send.Properties["mediaUrls"].MaxItems, "each": send.Properties["mediaUrls"].Items.MaxLength,
	}
	want := map[string]int{"text": mms.MaxText, "mediaUrl": mms.MaxMediaURL, "mediaUrls": mms.MaxMedia, "each": mms.MaxMediaURL}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"to"}, send.Required); diff != "" || send.AdditionalProperties != false {
		t.Errorf("required: %s; additional properties %v", diff, send.AdditionalProperties)
	}
	if doc.Components.Schemas["Message"].AdditionalProperties == false {
		t.Error("response schemas are closed: fields could not be added later")
	}
}

func TestExampleIsValid(t *testing.T) {
	t.Parallel()
	doc, _ := readDocument(t)
	op := doc.Paths["/api/send-mms"]["post"]
	if !op.RequestBody.Required {
		t.Error("the body is optional")
	}
	example, err := json.Marshal(op.RequestBody.Content["application/json"].Example)
	if err != nil {
		t.Fatal(err)
	}
	if got := newSystem(t).ada().do("POST", "/api/send-mms", string(example)); got.status != 202 {
		t.Errorf("%s: %d %s", example, got.status, got.body)
	}
}

func TestNoDocsPage(t *testing.T) {
	t.Parallel()
	c := newSystem(t).anonymous()
	for _, path := range []string{"/docs", "/schemas/Message.json", "/openapi.yaml"} {
		if got := c.do("GET", path, ""); got.status != 404 {
			t.Errorf("%s: %d", path, got.status)
		}
	}
}
