package httpapi

import (
	"net/http"

	"github.com/swaggest/swgui"
	"github.com/swaggest/swgui/v5emb"
)

// DocsPath is the path of the API documentation.
const DocsPath = "/docs"

// DocsCSP is the content security policy of the documentation. Swagger UI needs an
// inline script.
const DocsCSP = "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; " +
	"img-src 'self' data:; font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// NewDocs returns the handler of the API documentation, which shows /openapi.json. base is
// the path of the public URL. Its files are embedded in the program; nothing is loaded from
// other hosts.
func NewDocs(base string) http.Handler {
	return v5emb.NewHandlerWithConfig(swgui.Config{
		Title: "Postcard", SwaggerJSON: base + "/openapi.json", BasePath: base + DocsPath + "/", InternalBasePath: DocsPath + "/",
		SettingsUI: map[string]string{
			"validatorUrl":             "null", // otherwise the page calls a public validator
			"docExpansion":             `"list"`,
			"defaultModelsExpandDepth": "0",
			"tryItOutEnabled":          "false",
		},
	})
}
