package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/pasted"
)

// KeyLookup finds the principal of an API key. It returns identity.ErrNoKey for an
// unknown, expired or revoked key.
type KeyLookup interface {
	PrincipalByKey(ctx context.Context, hash [32]byte) (identity.Principal, error)
}

// MiddlewareWithKeys authenticates a request with a bearer token (RFC 6750) by that
// API key, without touching a session, and every other request by its session, as
// Middleware does. onError gets identity.ErrNoKey for an invalid key.
func (s *Service) MiddlewareWithKeys(keys KeyLookup, onError func(http.ResponseWriter, *http.Request, error)) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		withSession := s.Middleware(onError)(next)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			header := r.Header.Get("Authorization")
			if header == "" {
				withSession.ServeHTTP(w, r)
				return
			}
			principal, err := principalByHeader(r.Context(), keys, header)
			if err != nil {
				onError(w, r, err)
				return
			}
			next.ServeHTTP(w, r.WithContext(identity.WithPrincipal(r.Context(), principal)))
		})
	}
}

// principalByHeader authenticates an Authorization header.
func principalByHeader(ctx context.Context, keys KeyLookup, header string) (identity.Principal, error) {
	scheme, secret, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return identity.Principal{}, identity.ErrNoKey
	}
	principal, err := keys.PrincipalByKey(ctx, identity.KeySecret(pasted.Clean(secret)).Hash())
	if err != nil && !errors.Is(err, identity.ErrNoKey) {
		return identity.Principal{}, fmt.Errorf("loading the principal of an API key: %w", err)
	}
	return principal, err
}
