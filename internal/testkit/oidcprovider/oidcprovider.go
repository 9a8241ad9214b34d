// Package oidcprovider runs an OpenID provider for tests: the one of zitadel/oidc, which is
// certified, with people who log in by name and password. Tests can make it answer wrongly.
package oidcprovider

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"html/template"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// The provider's client.
const (
	ClientID     = "postcard"
	ClientSecret = "a secret of the client & more"
)

// Password is the password of each person.
const Password = "verysecure"

// Person is somebody who has an account at the provider. The subject is also the name to log
// in with.
type Person struct {
	Subject       string
	Email         string
	EmailVerified bool
	Groups        []string
}

// Provider is a running provider.
type Provider struct {
	Issuer string

	t       testing.TB
	storage *people
	op      *op.Provider
	server  *httptest.Server

	mu    sync.Mutex
	forge func(claims map[string]any) // changes the claims of the next ID tokens
}

// Start starts a provider with a client that has the redirect URL.
func Start(t testing.TB, redirectURL string) *Provider {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	p := &Provider{t: t, Issuer: "http://" + server.Listener.Addr().String(), server: server}
	p.serve(redirectURL)
	return p
}

// StartAt starts a provider at an address that was free until now.
func StartAt(t testing.TB, address, redirectURL string) *Provider {
	t.Helper()
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(nil)
	server.Listener.Close()
	server.Listener = listener
	p := &Provider{t: t, Issuer: "http://" + address, server: server}
	p.serve(redirectURL)
	return p
}

func (p *Provider) serve(redirectURL string) {
	p.storage = &people{persons: map[string]Person{}}
	client := storage.WebClient(ClientID, ClientSecret, redirectURL)
	p.storage.Storage = storage.NewStorageWithClients(p.storage, map[string]*storage.Client{ClientID: client})
	var err error
	p.op, err = op.NewProvider(&op.Config{CryptoKey: [32]byte{1}, CryptoKeyId: "1", CodeMethodS256: true, AuthMethodPost: true},
		p.storage, op.StaticIssuer(p.Issuer), op.WithAllowInsecure())
	if err != nil {
		p.t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /login/username", p.loginForm)
	mux.Handle("POST /login/username", op.NewIssuerInterceptor(p.op.IssuerFromRequest).Handler(http.HandlerFunc(p.login)))
	mux.HandleFunc("POST /oauth/token", p.token)
	mux.Handle("/", p.op)
	p.server.Config.Handler = mux
	p.server.Start()
	p.t.Cleanup(p.server.Close)
}

// Stop stops the provider.
func (p *Provider) Stop() { p.server.Close() }

// Set adds a person, or changes the one with this subject.
func (p *Provider) Set(person Person) {
	p.storage.mu.Lock()
	defer p.storage.mu.Unlock()
	p.storage.persons[person.Subject] = person
}

// Forge makes the provider change the claims of each ID token from now on and sign them with
// its key; nil: no longer.
func (p *Provider) Forge(change func(claims map[string]any)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forge = change
}

// Key returns the key that signs ID tokens, and its id.
func (p *Provider) Key() (key any, id string) {
	signing, err := p.storage.SigningKey(context.Background())
	if err != nil {
		p.t.Fatal(err)
	}
	return signing.Key(), signing.ID()
}

var loginPage = template.Must(template.New("login").Parse(`<!doctype html><html lang="en"><title>Log in at the provider</title>
<form method="post" action="/login/username">
<input type="hidden" name="id" value="{{.}}">
<label>Name <input id="username" name="username"></label>
<label>Password <input id="provider-password" type="password" name="password"></label>
<button name="do" value="login">Log in</button>
<button id="deny" name="do" value="deny">Deny</button>
</form></html>`))

func (p *Provider) loginForm(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = loginPage.Execute(w, r.FormValue("authRequestID")) // the browser may be gone
}

func (p *Provider) login(w http.ResponseWriter, r *http.Request) {
	id := r.FormValue("id")
	if r.FormValue("do") == "deny" {
		request, err := p.storage.AuthRequestByID(r.Context(), id)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		op.AuthRequestError(w, r, request, oidc.ErrAccessDenied(), p.op)
		return
	}
	if err := p.storage.CheckUsernamePassword(r.FormValue("username"), r.FormValue("password"), id); err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	http.Redirect(w, r, op.AuthCallbackURL(p.op)(r.Context(), id), http.StatusFound)
}

// token answers the exchange of a code, with a forged ID token if a test wants one.
func (p *Provider) token(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	forge := p.forge
	p.mu.Unlock()
	answer := httptest.NewRecorder()
	p.op.ServeHTTP(answer, r)
	body := answer.Body.Bytes()
	if forge != nil && answer.Code == http.StatusOK {
		body = p.forged(body, forge)
	}
	maps.Copy(w.Header(), answer.Header())
	w.Header().Del("Content-Length")
	w.WriteHeader(answer.Code)
	_, _ = w.Write(body) // the client may be gone
}

func (p *Provider) forged(body []byte, change func(map[string]any)) []byte {
	var answer, claims map[string]any
	p.must(json.Unmarshal(body, &answer))
	signed, err := jose.ParseSignedCompact(answer["id_token"].(string), []jose.SignatureAlgorithm{jose.RS256})
	p.must(err)
	decoder := json.NewDecoder(bytes.NewReader(signed.UnsafePayloadWithoutVerification()))
	decoder.UseNumber()
	p.must(decoder.Decode(&claims))
	change(claims)
	answer["id_token"] = p.Sign(claims)
	body, err = json.Marshal(answer)
	p.must(err)
	return body
}

// Sign returns an ID token with the claims.
func (p *Provider) Sign(claims map[string]any) string {
	key, id := p.Key()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", id))
	p.must(err)
	payload, err := json.Marshal(claims)
	p.must(err)
	signed, err := signer.Sign(payload)
	p.must(err)
	token, err := signed.CompactSerialize()
	p.must(err)
	return token
}

func (p *Provider) must(err error) {
	if err != nil {
		p.t.Errorf("forging an ID token: %v", err)
	}
}

// LogIn logs the person in as a browser would, starting at the URL to which the client has
// sent it, and returns the URL to which the provider sends it back.
func (p *Provider) LogIn(authURL string, person Person) *url.URL {
	p.t.Helper()
	return p.answer(authURL, url.Values{"username": {person.Subject}, "password": {Password}, "do": {"login"}})
}

// Deny is LogIn of somebody who does not want to.
func (p *Provider) Deny(authURL string) *url.URL {
	p.t.Helper()
	return p.answer(authURL, url.Values{"do": {"deny"}})
}

func (p *Provider) answer(authURL string, form url.Values) *url.URL {
	p.t.Helper()
	page, _ := p.do(http.MethodGet, authURL, nil)
	form.Set("id", page.Query().Get("authRequestID"))
	page, location := p.do(http.MethodPost, p.Issuer+"/login/username", form)
	if location == nil {
		p.t.Fatalf("the provider did not redirect from %s to the client", page.Path)
	}
	return location
}

// do makes a request and follows redirects within the provider. It returns the last URL of
// the provider, and where that redirects to, or nil.
func (p *Provider) do(method, target string, form url.Values) (page, location *url.URL) {
	p.t.Helper()
	request, err := http.NewRequestWithContext(p.t.Context(), method, target, strings.NewReader(form.Encode()))
	if err != nil {
		p.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	client := http.Client{CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if !strings.HasPrefix(r.URL.String(), p.Issuer+"/") {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	response, err := client.Do(request)
	if err != nil {
		p.t.Fatal(err)
	}
	defer response.Body.Close()
	location, err = response.Location()
	if err != nil {
		location = nil
	}
	return response.Request.URL, location
}

// people stores the provider's state in memory, and its people.
type people struct {
	*storage.Storage
	mu      sync.Mutex
	persons map[string]Person
}

// GetUserByID implements storage.UserStore.
func (s *people) GetUserByID(id string) *storage.User {
	s.mu.Lock()
	defer s.mu.Unlock()
	person, known := s.persons[id]
	if !known {
		return nil
	}
	return &storage.User{ID: id, Username: id, Password: Password, Email: person.Email, EmailVerified: person.EmailVerified}
}

// GetUserByUsername implements storage.UserStore.
func (s *people) GetUserByUsername(name string) *storage.User { return s.GetUserByID(name) }

// ExampleClientID implements storage.UserStore.
func (s *people) ExampleClientID() string { return "none" }

// SetUserinfoFromToken adds the groups to what the userinfo endpoint answers.
func (s *people) SetUserinfoFromToken(ctx context.Context, info *oidc.UserInfo, token, subject, origin string) error {
	if err := s.Storage.SetUserinfoFromToken(ctx, info, token, subject, origin); err != nil {
		return fmt.Errorf("reading a person: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if list := s.persons[subject].Groups; list != nil {
		info.AppendClaims("groups", list)
	}
	return nil
}
