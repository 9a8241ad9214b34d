package sso_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postcard-mms/postcard/internal/sso"
	"github.com/postcard-mms/postcard/internal/testkit"
	"github.com/postcard-mms/postcard/internal/testkit/oidcprovider"
)

const redirectURL = "http://postcard.example.com/login/sso/callback"

var ada = oidcprovider.Person{Subject: "ada", Email: "Ada@example.com", EmailVerified: true, Groups: []string{"staff", "admins"}}

func configOf(issuer string) sso.Config {
	return sso.Config{Issuer: issuer, ClientID: oidcprovider.ClientID, ClientSecret: oidcprovider.ClientSecret, RedirectURL: redirectURL, Groups: true}
}

// run runs a provider of the issuer until the test ends.
func run(t *testing.T, c sso.Config) *sso.Provider {
	t.Helper()
	p := sso.New(c, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan struct{})
	go func() { p.Run(ctx); close(stopped) }()
	t.Cleanup(func() { cancel(); <-stopped })
	return p
}

// start starts an OpenID provider that knows Ada, and its client.
func start(t *testing.T, change ...func(*sso.Config)) (*oidcprovider.Provider, *sso.Provider) {
	t.Helper()
	server := oidcprovider.Start(t, redirectURL)
	server.Set(ada)
	c := configOf(server.Issuer)
	for _, f := range change {
		f(&c)
	}
	p := run(t, c)
	testkit.Eventually(t, "the provider is discovered", p.Reachable)
	return server, p
}

func begin(t *testing.T, p *sso.Provider) (sso.Attempt, string) {
	t.Helper()
	attempt, authURL, err := p.Begin()
	if err != nil {
		t.Fatal(err)
	}
	return attempt, authURL
}

func TestLogIn(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		person oidcprovider.Person
		forge  func(claims map[string]any) // nil: the ID token has no claims about the person
		want   sso.Claims                  // beside issuer and subject
	}{
		"claims of the userinfo endpoint": {ada, nil, sso.Claims{Email: "Ada@example.com", EmailVerified: true, Groups: ada.Groups}},
		"claims of the ID token": {ada, func(c map[string]any) {
			c["email"], c["email_verified"], c["groups"] = "other@example.com", true, []string{"staff"}
		}, sso.Claims{Email: "other@example.com", EmailVerified: true, Groups: []string{"staff"}}},
		"claims as strings": {ada, func(c map[string]any) {
			c["email"], c["email_verified"], c["groups"] = "other@example.com", "true", "staff"
		}, sso.Claims{Email: "other@example.com", EmailVerified: true, Groups: []string{"staff"}}},
		"claims of other types": {ada, func(c map[string]any) {
			c["email"], c["email_verified"], c["groups"] = "other@example.com", 1, []any{map[string]any{"name": "staff"}}
		}, sso.Claims{Email: "other@example.com"}},
		"another email in the ID token": {ada, func(c map[string]any) { c["email"] = "other@example.com" }, sso.Claims{Email: "other@example.com", Groups: ada.Groups}},
		"the same email in the ID token": {ada, func(c map[string]any) { c["email"] = "ada@EXAMPLE.com" },
			sso.Claims{Email: "ada@EXAMPLE.com", EmailVerified: true, Groups: ada.Groups}},
		"an unverified email": {oidcprovider.Person{Subject: "eve", Email: "eve@example.com"}, nil, sso.Claims{Email: "eve@example.com"}},
		"no email":            {oidcprovider.Person{Subject: "eve"}, nil, sso.Claims{}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, p := start(t)
			server.Set(c.person)
			server.Forge(c.forge)
			attempt, authURL := begin(t, p)
			got, err := p.Finish(t.Context(), attempt, server.LogIn(authURL, c.person).Query())
			c.want.Issuer, c.want.Subject = server.Issuer, c.person.Subject
			if diff := cmp.Diff(c.want, got); diff != "" || err != nil {
				t.Errorf("claims (-want +got):\n%s%v", diff, err)
			}
		})
	}
}

func TestAuthURL(t *testing.T) {
	t.Parallel()
	_, p := start(t)
	attempt, authURL := begin(t, p)
	u, err := url.Parse(authURL)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	if q.Get("response_type") != "code" || q.Get("code_challenge_method") != "S256" || q.Get("redirect_uri") != redirectURL || q.Get("scope") != "openid email" || q.Get("state") != attempt.State || q.Get("nonce") != attempt.Nonce {
		t.Errorf("got %s", authURL)
	}
	if strings.Contains(authURL, attempt.Verifier) || strings.Contains(authURL, url.QueryEscape(oidcprovider.ClientSecret)) {
		t.Error("the URL contains a secret")
	}
	other, _ := begin(t, p)
	if other.State == attempt.State || other.Nonce == attempt.Nonce || other.Verifier == attempt.Verifier {
		t.Error("two attempts share a secret")
	}
	if text := fmt.Sprint(slog.AnyValue(attempt).Resolve(), slog.AnyValue(sso.Claims{Email: "ada@example.com"}).Resolve()); strings.Contains(text, attempt.State) || strings.Contains(text, "ada") {
		t.Errorf("logged as %s", text)
	}
}

// A provider whose token is forged has our trust otherwise: it signs with its own key.
func TestForgedTokens(t *testing.T) {
	t.Parallel()
	cases := map[string]func(claims map[string]any){
		"wrong nonce":          func(c map[string]any) { c["nonce"] = "another" },
		"no nonce":             func(c map[string]any) { delete(c, "nonce") },
		"wrong audience":       func(c map[string]any) { c["aud"] = "another" },
		"no audience":          func(c map[string]any) { delete(c, "aud") },
		"two audiences":        func(c map[string]any) { c["aud"] = []string{oidcprovider.ClientID, "another"}; delete(c, "azp") },
		"another party":        func(c map[string]any) { c["azp"] = "another" },
		"wrong issuer":         func(c map[string]any) { c["iss"] = "https://id.example.com" },
		"issuer with a slash":  func(c map[string]any) { c["iss"] = fmt.Sprint(c["iss"], "/") },
		"expired":              func(c map[string]any) { c["exp"] = time.Now().Add(-time.Minute).Unix() },
		"no expiry":            func(c map[string]any) { delete(c, "exp") },
		"not valid yet":        func(c map[string]any) { c["nbf"] = time.Now().Add(time.Hour).Unix() },
		"another access token": func(c map[string]any) { c["at_hash"] = "AAAAAAAAAAAAAAAAAAAAAA" },
		"no subject":           func(c map[string]any) { delete(c, "sub") },
		"a long subject":       func(c map[string]any) { c["sub"] = strings.Repeat("x", 256) },
		"another subject":      func(c map[string]any) { c["sub"] = "bob" }, // than that of the user info
	}
	for name, forge := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, p := start(t)
			server.Forge(forge)
			attempt, authURL := begin(t, p)
			got, err := p.Finish(t.Context(), attempt, server.LogIn(authURL, ada).Query())
			if !errors.Is(err, sso.ErrInvalidResponse) {
				t.Errorf("got %+v, %v, want ErrInvalidResponse", got, err)
			}
		})
	}
}

func TestInvalidResponses(t *testing.T) {
	t.Parallel()
	cases := map[string]func(attempt *sso.Attempt, response url.Values){
		"wrong state":                func(_ *sso.Attempt, r url.Values) { r.Set("state", "another") },
		"no state":                   func(_ *sso.Attempt, r url.Values) { r.Del("state") },
		"no state, no attempt":       func(a *sso.Attempt, r url.Values) { r.Del("state"); a.State = "" },
		"wrong verifier":             func(a *sso.Attempt, _ url.Values) { a.Verifier = strings.Repeat("x", 43) },
		"wrong code":                 func(_ *sso.Attempt, r url.Values) { r.Set("code", "another") },
		"another provider's":         func(_ *sso.Attempt, r url.Values) { r.Set("iss", "https://id.example.com") },
		"an error with wrong state":  func(_ *sso.Attempt, r url.Values) { r.Set("state", "another"); r.Set("error", "access_denied") },
		"an error of another issuer": func(_ *sso.Attempt, r url.Values) { r.Set("iss", "x"); r.Set("error", "access_denied") },
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, p := start(t)
			attempt, authURL := begin(t, p)
			response := server.LogIn(authURL, ada).Query()
			change(&attempt, response)
			if got, err := p.Finish(t.Context(), attempt, response); !errors.Is(err, sso.ErrInvalidResponse) {
				t.Errorf("got %+v, %v, want ErrInvalidResponse", got, err)
			}
		})
	}
}

func TestRepeatedCode(t *testing.T) {
	t.Parallel()
	server, p := start(t)
	attempt, authURL := begin(t, p)
	response := server.LogIn(authURL, ada).Query()
	if _, err := p.Finish(t.Context(), attempt, response); err != nil {
		t.Fatal(err)
	}
	if got, err := p.Finish(t.Context(), attempt, response); !errors.Is(err, sso.ErrInvalidResponse) {
		t.Errorf("got %+v, %v, want ErrInvalidResponse", got, err)
	}
}

// A code that was made for one attempt is worth nothing in another, whose state somebody
// might slip in.
func TestCodeOfAnotherAttempt(t *testing.T) {
	t.Parallel()
	server, p := start(t)
	_, authURL := begin(t, p)
	mine, _ := begin(t, p)
	response := server.LogIn(authURL, ada).Query()
	response.Set("state", mine.State)
	if got, err := p.Finish(t.Context(), mine, response); !errors.Is(err, sso.ErrInvalidResponse) {
		t.Errorf("got %+v, %v, want ErrInvalidResponse", got, err)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	server, p := start(t)
	attempt, authURL := begin(t, p)
	if _, err := p.Finish(t.Context(), attempt, server.Deny(authURL).Query()); !errors.Is(err, sso.RefusedError{Code: "access_denied"}) {
		t.Errorf("denied: got %v, want access_denied", err)
	}
	forged := url.Values{"state": {attempt.State}, "error": {"<b>Call 555-0100"}}
	if _, err := p.Finish(t.Context(), attempt, forged); !errors.Is(err, sso.RefusedError{Code: "unknown"}) {
		t.Errorf("another text: got %v, want unknown", err)
	}
	server, p = start(t, func(c *sso.Config) { c.ClientSecret = "wrong" })
	attempt, authURL = begin(t, p)
	_, err := p.Finish(t.Context(), attempt, server.LogIn(authURL, ada).Query())
	var refused sso.RefusedError
	if !errors.As(err, &refused) {
		t.Errorf("wrong secret: got %v, want a refusal", err)
	}
}

func TestProviderStartsLater(t *testing.T) {
	t.Parallel()
	probe := httptest.NewServer(http.NotFoundHandler()) // answers, but not as a provider
	address := probe.Listener.Addr().String()
	p := run(t, configOf("http://"+address))
	if _, _, err := p.Begin(); !errors.Is(err, sso.ErrUnreachable) || p.Reachable() {
		t.Errorf("before: got %v, want ErrUnreachable", err)
	}
	if _, err := p.Finish(t.Context(), sso.Attempt{State: "x"}, url.Values{"state": {"x"}}); !errors.Is(err, sso.ErrUnreachable) {
		t.Errorf("before: got %v, want ErrUnreachable", err)
	}
	probe.Close()
	server := oidcprovider.StartAt(t, address, redirectURL)
	server.Set(ada)
	testkit.Eventually(t, "the provider is discovered", p.Reachable)
	attempt, authURL := begin(t, p)
	if got, err := p.Finish(t.Context(), attempt, server.LogIn(authURL, ada).Query()); err != nil || got.Subject != ada.Subject {
		t.Errorf("got %+v, %v, want Ada", got, err)
	}
}

func TestProviderIsDownLater(t *testing.T) {
	t.Parallel()
	server, p := start(t)
	attempt, authURL := begin(t, p)
	response := server.LogIn(authURL, ada).Query()
	server.Stop()
	if _, err := p.Finish(t.Context(), attempt, response); !errors.Is(err, sso.ErrUnreachable) {
		t.Errorf("got %v, want ErrUnreachable", err)
	}
	if _, err := p.Finish(t.Context(), attempt, response); err != nil && strings.Contains(err.Error(), response.Get("code")) {
		t.Errorf("the error contains the code: %v", err)
	}
}

func TestOtherIssuerIsNotDiscovered(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"issuer":"https://id.example.com","authorization_endpoint":"https://id.example.com/a","token_endpoint":"https://id.example.com/t","jwks_uri":"https://id.example.com/k"}`))
		asked <- struct{}{}
	}))
	t.Cleanup(server.Close)
	p := run(t, configOf(server.URL))
	<-asked
	<-asked // the first answer has been dealt with
	if p.Reachable() {
		t.Error("a provider with another issuer is used")
	}
}
