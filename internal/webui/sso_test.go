package webui_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/auth"
	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/sso"
	"github.com/postcard-mms/postcard/internal/webui"
)

// fakeProvider stands for package sso. The tests of that package and of e2e use a real
// provider.
type fakeProvider struct {
	down   bool
	claims sso.Claims
	err    error // of Finish
}

func (f *fakeProvider) Issuer() string  { return "https://id.example.com" }
func (f *fakeProvider) Reachable() bool { return !f.down }

func (f *fakeProvider) Begin() (sso.Attempt, string, error) {
	if f.down {
		return sso.Attempt{}, "", sso.ErrUnreachable
	}
	return sso.Attempt{State: "1"}, "https://id.example.com/authorize?state=1&nonce=2", nil
}

func (f *fakeProvider) Finish(context.Context, sso.Attempt, url.Values) (sso.Claims, error) {
	return f.claims, f.err
}

// fakeIdentities is the store of single sign-on.
type fakeIdentities struct {
	*fakeBackend
	link    *identity.Identity
	err     error
	linkErr error // of LinkIdentity only
}

func (f *fakeIdentities) Identity(context.Context, uuid.UUID, string) (identity.Identity, error) {
	if f.err != nil {
		return identity.Identity{}, f.err
	}
	if f.link == nil {
		return identity.Identity{}, identity.ErrNoIdentity
	}
	return *f.link, nil
}

func (f *fakeIdentities) LoginByIdentity(ctx context.Context, _, _ string, _ identity.Role) (identity.User, error) {
	if f.err != nil {
		return identity.User{}, f.err
	}
	if f.link == nil {
		return identity.User{}, identity.ErrNoUser
	}
	return f.UserByID(ctx, f.link.UserID)
}

func (f *fakeIdentities) CreateUserWithIdentity(ctx context.Context, u identity.User, i identity.Identity) error {
	i.UserID = u.ID
	f.link = &i
	return f.CreateUser(ctx, u)
}

func (f *fakeIdentities) LinkIdentity(ctx context.Context, i identity.Identity) (identity.User, error) {
	if err := errors.Join(f.err, f.linkErr); err != nil {
		return identity.User{}, err
	}
	f.link = &i
	return f.UserByID(ctx, i.UserID)
}

func (f *fakeIdentities) UnlinkIdentity(ctx context.Context, user uuid.UUID, _ string) (identity.User, error) {
	if f.err != nil {
		return identity.User{}, f.err
	}
	f.link = nil
	return f.UserByID(ctx, user)
}

// newSSOBackend is newBackend with single sign-on.
func newSSOBackend(t *testing.T, signupOpen, passwords bool) (*fakeProvider, *fakeIdentities, *browser) {
	t.Helper()
	provider := &fakeProvider{claims: sso.Claims{Issuer: "https://id.example.com", Subject: "eve", Email: "eve@example.com", EmailVerified: true}}
	identities := &fakeIdentities{}
	var b *browser
	identities.fakeBackend, b = newBackend(t, signupOpen, func(o *webui.Options) {
		o.Auth.UseSingleSignOn(auth.SingleSignOn{Provider: provider, Name: "Example <ID>", Identities: identities, Drop: func(uuid.UUID) {}}, passwords)
	})
	return provider, identities, b
}

const callback = webui.SSOCallbackPath + "?state=1&code=2"

func TestLoginThroughSSO(t *testing.T) {
	t.Parallel()
	provider, backend, b := newSSOBackend(t, true, true)
	b.want("log-in form", b.get("/login?next=/overview"), http.StatusOK, `href="/login/sso?next=%2foverview"`, "Log in with Example &lt;ID&gt;", `name="password"`)
	b.want("sign-up form", b.get("/signup"), http.StatusOK, "Log in with Example &lt;ID&gt;")
	if got := b.get("/login/sso?next=/overview"); got.status != http.StatusSeeOther || got.location != "https://id.example.com/authorize?state=1&nonce=2" {
		t.Errorf("got %d %s, want the provider", got.status, got.location)
	}
	if got := b.get(callback); got.status != http.StatusSeeOther || got.location != "/overview" {
		t.Errorf("callback: got %d %s, want /overview", got.status, got.location)
	}
	b.want("page", b.get("/account"), http.StatusOK, "eve@example.com", `href="/account/sso"`)
	if got := b.get(callback); got.location != "/messages" {
		t.Errorf("reloaded callback: got %d %s, want /messages", got.status, got.location)
	}
	backend.users[len(backend.users)-1].SecondFactor = true
	second := &browser{t: t, handler: b.handler}
	second.get("/login/sso?next=/overview")
	if got := second.get(callback); got.status != http.StatusSeeOther || got.location != "/login/factor?next=%2Foverview" {
		t.Errorf("with a second factor: got %d %s, want the page that asks for it", got.status, got.location)
	}
	if got := b.get("/login/sso?next=//evil.example"); got.location != "/messages" {
		t.Errorf("begun when logged in: got %s, want /messages", got.location)
	}
	provider.down = true
	visitor := &browser{t: t, handler: b.handler}
	visitor.want("form without the provider", visitor.get("/login"), http.StatusOK, "Example &lt;ID&gt; cannot be reached at the moment", `name="password"`)
	visitor.want("begun without the provider", visitor.get("/login/sso"), http.StatusServiceUnavailable, "Example &lt;ID&gt; cannot be reached at the moment")
}

func TestSSORefusals(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		change func(p *fakeProvider, i *fakeIdentities)
		status int
		text   string
	}{
		"no attempt":       {nil, 403, "began in another browser"},
		"denied":           {func(p *fakeProvider, _ *fakeIdentities) { p.err = sso.RefusedError{Code: "access_denied"} }, 403, "you or your organization denied it"},
		"another error":    {func(p *fakeProvider, _ *fakeIdentities) { p.err = sso.RefusedError{Code: "server_error"} }, 403, "server_error"},
		"invalid response": {func(p *fakeProvider, _ *fakeIdentities) { p.err = sso.ErrInvalidResponse }, 403, "was not valid"},
		"unreachable":      {func(p *fakeProvider, _ *fakeIdentities) { p.err = sso.ErrUnreachable }, 503, "cannot be reached"},
		"unverified email": {func(p *fakeProvider, _ *fakeIdentities) { p.claims.EmailVerified = false }, 403, "that it is verified"},
		"a user's email":   {func(p *fakeProvider, _ *fakeIdentities) { p.claims.Email = userEmail }, 403, "Log in with your password, open “Account”, “Single sign-on” and link it there"},
		"sign-up closed":   {func(*fakeProvider, *fakeIdentities) {}, 403, "sign-up is closed"},
		"broken store":     {func(_ *fakeProvider, i *fakeIdentities) { i.err = errors.New("secret") }, 500, "An internal error occurred"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			provider, identities, b := newSSOBackend(t, false, true)
			if c.change != nil {
				c.change(provider, identities)
				b.get("/login/sso?next=/overview")
			}
			got := b.get(callback)
			b.want(name, got, c.status, c.text)
			if strings.Contains(got.body, "secret") {
				t.Error("the page shows the error")
			}
			if got := b.get("/messages"); got.status != http.StatusSeeOther {
				t.Errorf("got status %d, want a visitor", got.status)
			}
		})
	}
}

func TestSSOLimitOnThePage(t *testing.T) {
	t.Parallel()
	_, identities, b := newSSOBackend(t, true, true)
	identities.throttle = time.Minute
	b.want("too many attempts", b.get("/login/sso"), http.StatusTooManyRequests, "Try again in 1 minute")
	identities.throttle = 0
	b.login(userEmail)
	identities.throttle = time.Minute
	b.want("too many links", b.post("/account/sso/link"), http.StatusTooManyRequests, "Try again in 1 minute")
}

func TestLinkPage(t *testing.T) {
	t.Parallel()
	provider, identities, b := newSSOBackend(t, false, true)
	if got := b.get("/account/sso"); !strings.HasPrefix(got.location, "/login?") {
		t.Errorf("as a visitor: got %d %s, want the log-in form", got.status, got.location)
	}
	b.login(userEmail)
	b.want("nothing linked", b.get("/account/sso"), http.StatusOK, "Link your account at Example &lt;ID&gt;")
	got := b.post("/account/sso/link")
	b.want("linking", got, http.StatusOK, `href="https://id.example.com/authorize?state=1&amp;nonce=2"`)
	if refresh := got.header.Get("Refresh"); refresh != "0; url=https://id.example.com/authorize?state=1&nonce=2" {
		t.Errorf("got Refresh %q, want the provider", refresh)
	}
	identities.linkErr = identity.ErrIdentityTaken
	b.want("another user's account", b.get(callback), http.StatusConflict, "is linked to another account here")
	b.post("/account/sso/link")
	identities.linkErr = identity.ErrOtherIdentity
	b.want("a second account", b.get(callback), http.StatusConflict, "Unlink it first")
	b.post("/account/sso/link")
	identities.linkErr = nil
	if got := b.get(callback); got.location != "/account/sso" {
		t.Fatalf("linked: got %d %s, want /account/sso", got.status, got.location)
	}
	b.want("linked", b.get("/account/sso"), http.StatusOK, "Your account at Example &lt;ID&gt; is linked.", "eve@example.com", "/account/sso/unlink")
	if got := b.post("/account/sso/unlink"); got.location != "/account/sso" || identities.link != nil {
		t.Errorf("unlinking: got %d %s", got.status, got.location)
	}
	b.want("unlinked", b.get("/account/sso"), http.StatusOK, "Your account at Example &lt;ID&gt; is unlinked.")
	if got := b.post("/account/sso/unlink"); got.location != "/account/sso" {
		t.Errorf("unlinking again: got %d %s", got.status, got.location)
	}
	provider.down = true
	b.want("nothing linked, no provider", b.get("/account/sso"), http.StatusOK, "cannot be reached")
	b.want("linking without the provider", b.post("/account/sso/link"), http.StatusServiceUnavailable, "cannot be reached")
}

func TestLinkPageFailures(t *testing.T) {
	t.Parallel()
	_, identities, b := newSSOBackend(t, false, true)
	b.login(userEmail)
	b.post("/account/sso/link")
	identities.err = errors.New("secret")
	b.want("linking", b.get(callback), http.StatusInternalServerError, "An internal error occurred")
	b.want("page", b.get("/account/sso"), http.StatusInternalServerError, "An internal error occurred")
	b.want("unlinking", b.post("/account/sso/unlink"), http.StatusInternalServerError, "An internal error occurred")
}

func TestPasswordsOffOnPages(t *testing.T) {
	t.Parallel()
	provider, identities, b := newSSOBackend(t, true, false)
	form := b.get("/login")
	b.want("form", form, http.StatusOK, "Log in with Example &lt;ID&gt;")
	if strings.Contains(form.body, "password") || strings.Contains(form.body, "/signup") {
		t.Error("the form offers a password or sign-up")
	}
	b.want("log-in", b.post("/login", "email", userEmail, "password", password), http.StatusForbidden, "Logging in with a password is switched off")
	b.want("sign-up", b.post("/signup", "email", "new@example.com", "password", "long enough"), http.StatusForbidden, "Logging in with a password is switched off")
	if got := b.get("/signup"); got.location != "/login" {
		t.Errorf("sign-up form: got %d %s, want /login", got.status, got.location)
	}
	provider.claims.Email = userEmail
	b.get("/login/sso")
	b.want("a user's email", b.get(callback), http.StatusForbidden, "which is switched off. Ask the operator.")
	identities.link = &identity.Identity{UserID: identities.users[0].ID}
	b.get("/login/sso")
	b.get(callback)
	b.want("page", b.get("/account/sso"), http.StatusOK, "You cannot unlink it")
	b.want("unlinking", b.post("/account/sso/unlink"), http.StatusConflict, "Nothing was unlinked")
}

func TestNoSSO(t *testing.T) {
	t.Parallel()
	_, b := newBackend(t, true)
	b.login(userEmail)
	if page := b.get("/messages"); strings.Contains(page.body, "account/sso") {
		t.Error("the navigation leads to single sign-on, which is not configured")
	}
	b.want("begin", b.get("/login/sso"), http.StatusNotFound)
	b.want("callback", b.get(callback), http.StatusNotFound)
	b.want("page", b.get("/account/sso"), http.StatusNotFound)
	b.want("link", b.post("/account/sso/link"), http.StatusNotFound)
	b.want("unlink", b.post("/account/sso/unlink"), http.StatusNotFound)
}
