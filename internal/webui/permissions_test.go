package webui_test

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/webui"
)

// needed has the permission that each route needs, beside a session. A new route must be
// added here, or to one of the two lists below.
var needed = map[identity.Permission][]string{
	identity.Read: {
		"GET /messages", "GET /overview", "GET /messages/{id}", "GET /messages/{id}/pictures/{position}", "GET /batches", "GET /batches/{id}",
	},
	identity.Send: {
		"GET /messages/new", "POST /messages/new", "POST /uploads", "POST /uploads/link", "GET /uploads/{id}", "POST /messages/{id}/decision",
		"POST /messages/{id}/cancel", "POST /messages/{id}/resend", "GET /batches/new", "POST /batches/new", "POST /batches/{id}/{action}",
	},
	identity.Manage: {
		"GET /settings/keys", "POST /settings/keys", "POST /settings/keys/{id}/revoke", "GET /settings/webhooks", "POST /settings/webhooks",
		"GET /settings/webhooks/{id}", "POST /settings/webhooks/{id}/{action}", "GET /settings/members", "POST /settings/members/{user}/{action:change|remove}",
		"POST /settings/invitations", "POST /settings/invitations/{id}/withdraw", "POST /settings/workspace",
	},
}

// forEverybody are the routes of visitors and of every user.
var forEverybody = []string{
	"GET /", "GET /static/*", "GET /favicon.ico", "GET /login", "POST /login", "GET /signup", "POST /signup", "POST /logout",
	"GET /login/sso", "GET /login/sso/callback", "GET /account/sso", "POST /account/sso/link", "POST /account/sso/unlink",
	"GET /login/factor", "POST /login/factor", "POST /login/passkey", "POST /login/passkey/options",
	"GET /account/second-factor", "POST /account/second-factor/totp", "POST /account/second-factor/totp/confirm", "POST /account/second-factor/totp/remove", "POST /account/second-factor/recovery-codes",
	"POST /account/second-factor/passkeys", "POST /account/second-factor/passkeys/options", "POST /account/second-factor/passkeys/{id}/remove",
	"GET /reset", "POST /reset", "GET /reset/new", "POST /reset/new", "GET /account", "POST /account", "GET /account/sessions", "POST /account/sessions/end-others", "POST /account/sessions/{id}/end",
	"GET /settings", "GET /workspaces", "POST /workspaces", "POST /workspaces/switch", "POST /workspaces/{id}/leave",
	"GET /invitations/{token}", "POST /invitations/{token}",
}

var forAdmins = []string{
	"POST /admin/resume", "GET /admin/suppressions", "POST /admin/suppressions", "POST /admin/suppressions/remove",
	"GET /admin/health", "GET /admin/senders", "POST /admin/senders", "POST /admin/senders/put-back", "POST /admin/senders/rate", "POST /admin/senders/remove", "POST /admin/senders/rest", "GET /admin/settings", "GET /admin/verification",
}

var parameter = regexp.MustCompile(`\{[^}]*\}`)

// TestPermissions requests every route as members who lack a permission and as a user
// without a workspace.
func TestPermissions(t *testing.T) {
	t.Parallel()
	_, f, b := newFactorBackend(t, identity.RequireOff, func(o *webui.Options) { o.Uploads = &fakeUploads{} })
	b.login(userEmail)
	member := func(permissions ...identity.Permission) []identity.Membership {
		return []identity.Membership{{Workspace: identity.Workspace{ID: uuid.New(), Name: "Shop"}, Permissions: permissions}}
	}
	people := map[string][]identity.Membership{
		"reader":      member(identity.Read),
		"sender":      member(identity.Read, identity.Send),
		"manager":     member(identity.Read, identity.Manage),
		"nobody's":    {},
		"everything":  member(identity.MemberPermissions()...),
		"other first": append(member(identity.Read), member(identity.MemberPermissions()...)...),
	}
	seen := 0
	err := chi.Walk(b.pages.Routes(), func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		if method != http.MethodGet && method != http.MethodPost || route == "/settings" || route == "/logout" {
			return nil
		}
		seen++
		name := method + " " + route
		permission, public, admins := permissionOf(name), slices.Contains(forEverybody, name), slices.Contains(forAdmins, name)
		if permission == "" && !public && !admins {
			t.Errorf("%s is in no list of this test", name)
		}
		for who, memberships := range people {
			f.users[0].Memberships = memberships
			status := b.statusOf(method, pathOf(route))
			granted := len(memberships) > 0 && slices.Contains(memberships[0].Permissions, permission)
			switch {
			case admins && status != http.StatusNotFound:
				t.Errorf("%s, %s: got %d, want 404", who, name, status)
			case permission != "" && granted == (status == http.StatusForbidden):
				t.Errorf("%s, %s: got %d, want 403: %t", who, name, status, !granted)
			case public && status == http.StatusForbidden:
				t.Errorf("%s, %s: got 403", who, name)
			}
		}
		return nil
	})
	if err != nil || seen < 40 {
		t.Errorf("got error %v after %d routes, want at least 40", err, seen)
	}
}

// pathOf returns a path of the route.
func pathOf(route string) string {
	path := strings.ReplaceAll(route, "{action:change|remove}", "change")
	return strings.ReplaceAll(parameter.ReplaceAllString(path, uuid.NewString()), "*", "postcard.css")
}

func permissionOf(route string) identity.Permission {
	for permission, routes := range needed {
		if slices.Contains(routes, route) {
			return permission
		}
	}
	return ""
}

// statusOf requests a path and returns the status alone.
func (b *browser) statusOf(method, path string) int {
	b.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(""))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.AddCookie(b.cookie)
	w := httptest.NewRecorder()
	b.handler.ServeHTTP(w, r)
	return w.Code
}
