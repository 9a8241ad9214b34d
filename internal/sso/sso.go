// Package sso speaks OpenID Connect (authorization code flow with PKCE) with the provider
// through which people log in. It says who has logged in there.
//
// It must not know users or sessions, and does not decide who may log in here.
package sso

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

var (
	// ErrUnreachable says that the provider does not answer, or does not answer as it should.
	ErrUnreachable = errors.New("the provider of single sign-on cannot be reached")

	// ErrInvalidResponse says that the provider's response is not for this log-in, or not
	// from this provider: it may be forged, repeated or too old.
	ErrInvalidResponse = errors.New("the provider's response is not valid")
)

// RefusedError says that the provider did not log the person in. Code is that of OAuth 2.0,
// for example access_denied, if it has the form of one.
type RefusedError struct{ Code string }

func (e RefusedError) Error() string { return "the provider refused the log-in: " + e.Code }

// Config describes the provider, and this installation as its client.
type Config struct {
	Issuer       string // exactly as the provider spells it
	ClientID     string
	ClientSecret string
	RedirectURL  string // where the provider sends the browser back to
	Groups       bool   // ask for the groups of people
}

// Attempt is one attempt to log in. It belongs to one browser, is kept secret and used once.
type Attempt struct {
	State    string // comes back in the response
	Nonce    string // comes back in the ID token
	Verifier string // proves that who exchanges the code is who began (PKCE)
}

// LogValue keeps the secrets out of logs.
func (Attempt) LogValue() slog.Value { return slog.StringValue("[hidden]") }

// Provider is the OpenID provider. It can be used once Run has discovered its endpoints.
type Provider struct {
	config  Config
	logger  *slog.Logger
	client  *http.Client
	current atomic.Pointer[endpoints]
}

// endpoints are what the provider's discovery document says.
type endpoints struct {
	provider      *oidc.Provider
	verifier      *oidc.IDTokenVerifier
	oauth         oauth2.Config
	sendsIssuer   bool // with each response (RFC 9207)
	knowsUserinfo bool
}

// New returns a provider that is not yet discovered.
func New(c Config, logger *slog.Logger) *Provider {
	return &Provider{config: c, logger: logger, client: newClient()}
}

// Issuer returns the provider's issuer.
func (p *Provider) Issuer() string { return p.config.Issuer }

// Reachable reports whether the provider's endpoints are known.
func (p *Provider) Reachable() bool { return p.current.Load() != nil }

// Times between two discoveries. Endpoints and keys change rarely.
const (
	firstRetry   = time.Second
	maxRetry     = 30 * time.Second
	rediscovered = time.Hour
)

// Run discovers the provider's endpoints, and again from time to time, until ctx ends. What
// was discovered is used until a later discovery succeeds.
func (p *Provider) Run(ctx context.Context) {
	retry := firstRetry
	for {
		wait := rediscovered
		if found, err := p.discover(ctx); err == nil {
			if p.current.Swap(found) == nil {
				p.logger.InfoContext(ctx, "single sign-on is available", slog.String("issuer", p.config.Issuer))
			}
			retry = firstRetry
		} else if ctx.Err() == nil {
			p.logger.WarnContext(ctx, "the provider of single sign-on was not discovered", slog.String("issuer", p.config.Issuer), slog.Any("error", err))
			wait, retry = retry, min(2*retry, maxRetry)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

func (p *Provider) discover(ctx context.Context) (*endpoints, error) {
	provider, err := oidc.NewProvider(oidc.ClientContext(ctx, p.client), p.config.Issuer)
	if err != nil {
		return nil, fmt.Errorf("discovering the provider: %w", err)
	}
	var metadata struct {
		Userinfo     string   `json:"userinfo_endpoint"`
		AuthMethods  []string `json:"token_endpoint_auth_methods_supported"`
		Scopes       []string `json:"scopes_supported"`
		IssuerInCode bool     `json:"authorization_response_iss_parameter_supported"`
	}
	if err := provider.Claims(&metadata); err != nil {
		return nil, fmt.Errorf("reading the provider's metadata: %w", err)
	}
	endpoint := provider.Endpoint()
	endpoint.AuthStyle = oauth2.AuthStyleInHeader // the default of the standard
	if len(metadata.AuthMethods) > 0 && !slices.Contains(metadata.AuthMethods, "client_secret_basic") {
		endpoint.AuthStyle = oauth2.AuthStyleInParams
	}
	scopes := []string{oidc.ScopeOpenID, "email"}
	if p.config.Groups && slices.Contains(metadata.Scopes, "groups") { // others send the claim without it, and refuse unknown scopes
		scopes = append(scopes, "groups")
	}
	return &endpoints{
		provider: provider, verifier: provider.Verifier(&oidc.Config{ClientID: p.config.ClientID}), sendsIssuer: metadata.IssuerInCode, knowsUserinfo: metadata.Userinfo != "",
		oauth: oauth2.Config{ClientID: p.config.ClientID, ClientSecret: p.config.ClientSecret, Endpoint: endpoint, RedirectURL: p.config.RedirectURL, Scopes: scopes},
	}, nil
}

// Begin starts an attempt and returns the URL of the provider to which the browser must go.
// It returns ErrUnreachable while the provider is not discovered.
func (p *Provider) Begin() (Attempt, string, error) {
	current := p.current.Load()
	if current == nil {
		return Attempt{}, "", ErrUnreachable
	}
	a := Attempt{State: oauth2.GenerateVerifier(), Nonce: oauth2.GenerateVerifier(), Verifier: oauth2.GenerateVerifier()} // 256 random bits each
	return a, current.oauth.AuthCodeURL(a.State, oidc.Nonce(a.Nonce), oauth2.S256ChallengeOption(a.Verifier)), nil
}

// Finish checks the response with which the provider sent the browser back, and returns who
// has logged in. It returns ErrInvalidResponse, ErrUnreachable or RefusedError.
func (p *Provider) Finish(ctx context.Context, a Attempt, response url.Values) (Claims, error) {
	current := p.current.Load()
	if current == nil {
		return Claims{}, ErrUnreachable
	}
	if a.State == "" || subtle.ConstantTimeCompare([]byte(a.State), []byte(response.Get("state"))) != 1 {
		return Claims{}, fmt.Errorf("%w: another state", ErrInvalidResponse)
	}
	if err := current.checkIssuer(response, p.config.Issuer); err != nil {
		return Claims{}, err
	}
	if response.Has("error") {
		return Claims{}, RefusedError{Code: errorCode(response.Get("error"))}
	}
	ctx = oidc.ClientContext(ctx, p.client)
	token, err := current.oauth.Exchange(ctx, response.Get("code"), oauth2.VerifierOption(a.Verifier))
	if err != nil {
		return Claims{}, exchangeError(err)
	}
	idToken, err := current.idToken(ctx, token, a.Nonce, p.config.ClientID)
	if err != nil {
		return Claims{}, err
	}
	return current.claims(ctx, token, idToken, p.config)
}

// checkIssuer detects a response of another provider (RFC 9207).
func (e *endpoints) checkIssuer(response url.Values, issuer string) error {
	if response.Has("iss") && response.Get("iss") != issuer || e.sendsIssuer && !response.Has("iss") {
		return fmt.Errorf("%w: another issuer", ErrInvalidResponse)
	}
	return nil
}

// exchangeError leaves out the provider's answer, which may repeat the code.
func exchangeError(err error) error {
	var refused *oauth2.RetrieveError
	switch {
	case !errors.As(err, &refused):
		return fmt.Errorf("%w: exchanging a code: %w", ErrUnreachable, err)
	case refused.ErrorCode == "invalid_grant":
		return fmt.Errorf("%w: the provider does not accept the code", ErrInvalidResponse)
	case refused.ErrorCode != "":
		return RefusedError{Code: errorCode(refused.ErrorCode)}
	}
	return fmt.Errorf("%w: it answered the exchange of a code with status %d", ErrUnreachable, refused.Response.StatusCode)
}

// idToken checks the ID token as OpenID Connect Core 3.1.3.7 says.
func (e *endpoints) idToken(ctx context.Context, token *oauth2.Token, nonce, client string) (*oidc.IDToken, error) {
	raw, ok := token.Extra("id_token").(string)
	if !ok {
		return nil, fmt.Errorf("%w: no ID token", ErrInvalidResponse)
	}
	verified, err := e.verifier.Verify(ctx, raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidResponse, err)
	}
	if subtle.ConstantTimeCompare([]byte(verified.Nonce), []byte(nonce)) != 1 {
		return nil, fmt.Errorf("%w: another nonce", ErrInvalidResponse)
	}
	if verified.AccessTokenHash != "" {
		if err := verified.VerifyAccessToken(token.AccessToken); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalidResponse, err)
		}
	}
	var party struct {
		Authorized string `json:"azp"`
	}
	if err := verified.Claims(&party); err != nil {
		return nil, fmt.Errorf("%w: reading the authorized party: %w", ErrInvalidResponse, err)
	}
	if party.Authorized != "" && party.Authorized != client || party.Authorized == "" && len(verified.Audience) > 1 {
		return nil, fmt.Errorf("%w: the ID token is for another client", ErrInvalidResponse)
	}
	if len(verified.Subject) == 0 || len(verified.Subject) > maxSubject {
		return nil, fmt.Errorf("%w: a subject of %d bytes", ErrInvalidResponse, len(verified.Subject))
	}
	return verified, nil
}

// maxSubject is the longest subject, in bytes (OpenID Connect Core, 2).
const maxSubject = 255

// errorCode returns the code if it looks like one of OAuth 2.0, since it is shown.
func errorCode(code string) string {
	if len(code) > 50 || slices.ContainsFunc([]byte(code), func(b byte) bool { return (b < 'a' || b > 'z') && b != '_' }) {
		return "unknown"
	}
	return code
}
