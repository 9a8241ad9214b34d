package sso

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// Claims are what the provider says about the person who has logged in.
type Claims struct {
	Issuer        string
	Subject       string // the provider's id of the account; never reused for another person
	Email         string // as the provider spells it; empty if it sent none
	EmailVerified bool   // the provider knows that the person receives its mail
	Groups        []string
}

// InGroup reports whether the person is in the group.
func (c Claims) InGroup(group string) bool { return slices.Contains(c.Groups, group) }

// LogValue keeps the claims out of logs.
func (Claims) LogValue() slog.Value { return slog.StringValue("[hidden]") }

// wireClaims are the claims in the ID token or of the userinfo endpoint.
type wireClaims struct {
	Email    string  `json:"email"`
	Verified *truth  `json:"email_verified"`
	Groups   *groups `json:"groups"`
}

// claims takes from the ID token what it has, and the rest from the userinfo endpoint.
func (e *endpoints) claims(ctx context.Context, token *oauth2.Token, idToken *oidc.IDToken, c Config) (Claims, error) {
	var found wireClaims
	if err := idToken.Claims(&found); err != nil {
		return Claims{}, fmt.Errorf("%w: reading the claims: %w", ErrInvalidResponse, err)
	}
	complete := found.Email != "" && found.Verified != nil && (found.Groups != nil || !c.Groups)
	if !complete && e.knowsUserinfo {
		more, err := e.userinfo(ctx, token, idToken.Subject)
		if err != nil {
			return Claims{}, err
		}
		found.complete(more)
	}
	claims := Claims{Issuer: c.Issuer, Subject: idToken.Subject, Email: found.Email, EmailVerified: found.Verified != nil && bool(*found.Verified)}
	if found.Groups != nil {
		claims.Groups = *found.Groups
	}
	return claims, nil
}

// complete adds what the ID token lacks. Whether an email is verified is a statement about
// that email only.
func (w *wireClaims) complete(more wireClaims) {
	if w.Email == "" {
		w.Email, w.Verified = more.Email, more.Verified
	}
	if w.Verified == nil && strings.EqualFold(w.Email, more.Email) {
		w.Verified = more.Verified
	}
	if w.Groups == nil {
		w.Groups = more.Groups
	}
}

func (e *endpoints) userinfo(ctx context.Context, token *oauth2.Token, subject string) (wireClaims, error) {
	info, err := e.provider.UserInfo(ctx, oauth2.StaticTokenSource(token))
	if err != nil {
		return wireClaims{}, fmt.Errorf("%w: reading the user info: %w", ErrUnreachable, err)
	}
	if info.Subject != subject {
		return wireClaims{}, fmt.Errorf("%w: the user info is about another subject", ErrInvalidResponse)
	}
	var found wireClaims
	if err := info.Claims(&found); err != nil {
		return wireClaims{}, fmt.Errorf("%w: reading the user info: %w", ErrInvalidResponse, err)
	}
	return found, nil
}

// truth is a boolean that some providers send as a string. Anything else is false.
type truth bool

// UnmarshalJSON implements json.Unmarshaler.
func (t *truth) UnmarshalJSON(b []byte) error {
	*t = string(b) == `true` || string(b) == `"true"`
	return nil
}

// groups is a list that some providers send as a single string. Anything else is no group.
type groups []string

// UnmarshalJSON implements json.Unmarshaler.
func (g *groups) UnmarshalJSON(b []byte) error {
	var one string
	var list []string
	switch {
	case json.Unmarshal(b, &one) == nil:
		*g = groups{one}
	case json.Unmarshal(b, &list) == nil:
		*g = list
	}
	return nil
}
