package httpapi

import (
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

// description is the frame of the OpenAPI document; the operations fill it. It
// starts from an empty huma.Config: huma's default one adds $schema links to
// answers, and a page that loads scripts from a CDN.
func description(o Options) huma.Config {
	cookie := o.SessionCookie
	if cookie == "" {
		cookie = "session"
	}
	doc := &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info: &huma.Info{
			Title: "Postcard", Version: "1", Description: introduction(),
		},
		Components: &huma.Components{
			Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
			SecuritySchemes: map[string]*huma.SecurityScheme{
				sessionScheme: {Type: "apiKey", In: "cookie", Name: cookie, Description: "The cookie that POST /api/login sets."},
				keyScheme:     {Type: "http", Scheme: "bearer", Description: "An API key, made under Settings or with createKey."},
			},
		},
		Tags: []*huma.Tag{
			{Name: "messages", Description: "Sending picture messages and following them."},
			{Name: "batches", Description: "Sending to many at once."},
			{Name: "webhooks", Description: "Being told what happens, at an address of your own."},
			{Name: "keys", Description: "API keys, for programs."},
			{Name: "account", Description: "Logging in and out."},
		},
	}
	if o.PublicURL != "" {
		doc.Servers = []*huma.Server{{URL: o.PublicURL}}
	}
	config := huma.Config{
		OpenAPI:       doc,
		Formats:       map[string]huma.Format{mediaType: huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat},
		DefaultFormat: mediaType,
	}
	config.AllowAdditionalPropertiesByDefault = true
	return config
}

const introductionHead = `Postcard sends picture messages (MMS) through Plivo and tells you what became of each.

Make an API key under Settings, send, and ask for news:

    curl -H "Authorization: Bearer $KEY" -H 'Content-Type: application/json' -H 'Idempotency-Key: order-1017' -d '{"to":"+14155550123","text":"Hello","mediaUrl":"https://example.com/picture.jpg"}' $HOST/api/send-mms
    curl -H "Authorization: Bearer $KEY" $HOST/api/messages/{id}

A request that is repeated with the same Idempotency-Key within 24 hours sends nothing more, and gets the first answer; 409 with Retry-After says that the first is still being worked on.
Bodies are JSON objects in UTF-8 of at most 64 KiB, of batches 64 MiB; fields that are not known are refused. Times are RFC 3339 in UTC. Fields with nothing to say are left out.
Errors are problem details (RFC 9457, application/problem+json); errors lists the faults of the input by field and rule: first all of its form, such as unknown fields and wrong types, then all of its values.

The statuses of a message:

`

func introduction() string {
	var b strings.Builder
	b.WriteString(introductionHead)
	for _, s := range mms.Statuses() {
		final := ""
		if s.Final() {
			final = " (final)"
		}
		fmt.Fprintf(&b, "- `%s`: %s%s\n", s, s.Title(), final)
	}
	return b.String()
}

// serveDescription serves the document as it stands once all operations are
// registered.
func serveDescription(doc *huma.OpenAPI) http.HandlerFunc {
	// huma registers its own error type with the first operation; no answer has it.
	for _, name := range []string{"ErrorModel", "ErrorDetail"} {
		delete(doc.Components.Schemas.Map(), name)
	}
	body, err := json.Marshal(doc)
	if err != nil {
		panic(fmt.Sprintf("the API's description cannot be written: %v", err)) // fixed at compile time; a test makes it
	}
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", mediaType)
		_, _ = w.Write(body) // the client may be gone
	}
}
