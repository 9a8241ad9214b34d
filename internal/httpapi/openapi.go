package httpapi

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/postcard-mms/postcard/internal/mms"
)

// The names of the security schemes in the description.
const (
	sessionScheme = "session"
	keyScheme     = "apiKey"
)

// description returns the OpenAPI document without its operations. It does not use
// huma.DefaultConfig, which adds $schema links to responses and a documentation
// page that loads scripts from a CDN.
func description(o Options) huma.Config {
	cookie := o.SessionCookie
	if cookie == "" {
		cookie = "session"
	}
	doc := &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info: &huma.Info{
			Title: "Postcard", Version: "1", Description: introduction(),
			Contact: &huma.Contact{Name: "Postcard contributors", URL: "https://github.com/postcard-mms/postcard"},
			License: &huma.License{Name: "MIT License", Identifier: "MIT"},
		},
		Components: &huma.Components{
			Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
			SecuritySchemes: map[string]*huma.SecurityScheme{
				sessionScheme: {Type: "apiKey", In: "cookie", Name: cookie, Description: "The session cookie set by POST /api/login."},
				keyScheme:     {Type: "http", Scheme: "bearer", Description: "An API key, created under Settings or with createKey."},
			},
		},
		Tags: []*huma.Tag{
			{Name: "messages", Description: "Send MMS messages and track their delivery."},
			{Name: "batches", Description: "Send many messages with one request."},
			{Name: "media", Description: "Upload pictures to send."},
			{Name: "webhooks", Description: "Receive events about your messages at your own endpoint."},
			{Name: "workspaces", Description: "Switch between workspaces; manage members and invitations."},
			{Name: "keys", Description: "Manage API keys."},
			{Name: "account", Description: "Sign up, log in and log out."},
			{Name: "admin", Description: "Operate the installation. For admins."},
		},
	}
	doc.Servers = []*huma.Server{{URL: cmp.Or(o.PublicURL, "/")}}
	config := huma.Config{
		OpenAPI:       doc,
		Formats:       map[string]huma.Format{mediaType: huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat},
		DefaultFormat: mediaType,
	}
	config.AllowAdditionalPropertiesByDefault = true
	return config
}

const introductionHead = `Postcard sends MMS messages through Plivo and tracks their delivery.

To get started, create an API key under Settings, send a message and check its status:

    curl -H "Authorization: Bearer $KEY" -H 'Content-Type: application/json' -H 'Idempotency-Key: order-1017' -d '{"to":"+14155550123","text":"Hello","mediaUrl":"https://example.com/picture.jpg"}' $HOST/api/send-mms
    curl -H "Authorization: Bearer $KEY" $HOST/api/messages/{id}

**Idempotency.** To retry safely, send an Idempotency-Key, one value that is not empty. A request repeated with the same key within 24 hours creates nothing new and returns the original response. 409 with Retry-After means that the original request is still being processed.

**Requests and responses.** Request bodies are JSON objects in UTF-8 of up to 64 KiB (batches: 64 MiB); they can be compressed with gzip (Content-Encoding). Unknown fields and query parameters are rejected. An optional field that is null counts as absent, and a query parameter without a value too. Timestamps are RFC 3339, in UTC in responses. Responses omit empty optional fields; new fields may be added at any time.

**Errors.** Errors are problem details (RFC 9457, application/problem+json). errors lists every invalid field with the code of the violated rule, listed below; new codes may be added. Unknown fields and wrong types are reported first; values are validated once the form of the request is correct.

`

func introduction() string {
	var b strings.Builder
	b.WriteString(introductionHead)
	b.WriteString("**Rules of violations:**\n\n" + describeRules() + "\n**Message statuses:**\n\n")
	for _, s := range mms.Statuses() {
		final := ""
		if s.Final() {
			final = " (final)"
		}
		fmt.Fprintf(&b, "- `%s`: %s%s\n", s, s.Title(), final)
	}
	return b.String()
}

// describePublicOperations says of operations without security that they need none.
func describePublicOperations(doc *huma.OpenAPI) {
	for _, path := range doc.Paths {
		for _, op := range []*huma.Operation{path.Get, path.Post, path.Put, path.Patch, path.Delete} {
			if op != nil && op.Security == nil {
				op.Security = []map[string][]string{}
			}
		}
	}
}

// serveDescription serves the document. It must be called after all operations
// are registered.
func serveDescription(doc *huma.OpenAPI) http.HandlerFunc {
	// huma registers its own error type with the first operation. No response uses it.
	for _, name := range []string{"ErrorModel", "ErrorDetail"} {
		delete(doc.Components.Schemas.Map(), name)
	}
	describeEvents(doc)
	describeCodes(doc.Components.Schemas.Map())
	describePublicOperations(doc)
	body, err := json.Marshal(doc)
	if err != nil {
		panic(fmt.Sprintf("encoding the OpenAPI description: %v", err)) // depends on the code alone; tests encode it
	}
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", mediaType)
		_, _ = w.Write(body) // the client may have disconnected
	}
}
