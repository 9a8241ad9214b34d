package httpapi

import (
	"net/http"

	"github.com/swaggest/swgui"
	"github.com/swaggest/swgui/v5emb"
)

// DocsPath is where the description can be read by people.
const DocsPath = "/docs"

// DocsCSP is the policy that Swagger UI's page needs: it has an inline script.
const DocsCSP = "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; " +
	"img-src 'self' data:; font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// NewDocs makes the pages that show /openapi.json. All their files are part of
// the program: nothing is loaded from elsewhere.
func NewDocs() http.Handler {
	return v5emb.NewHandlerWithConfig(swgui.Config{
		Title: "Postcard", SwaggerJSON: "/openapi.json", BasePath: DocsPath + "/",
		SettingsUI: map[string]string{
			"validatorUrl":             "null", // else it asks a server of Swagger's
			"docExpansion":             `"list"`,
			"defaultModelsExpandDepth": "0",
			"tryItOutEnabled":          "false",
		},
	})
}
