package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/postcard-mms/postcard/internal/identity"
)

// KeyLookup tells whose an API key is; identity.ErrNoKey where it is nobody's, or
// not valid any more.
type KeyLookup interface {
	PrincipalByKey(ctx context.Context, hash [32]byte) (identity.Principal, error)
}

// MiddlewareWithKeys is Middleware for programs and people: a request with a bearer token
// (RFC 6750) acts by that API key and touches no session, all others by their
// session. onError gets identity.ErrNoKey for a key that is not valid.
func (s *Service) MiddlewareWithKeys(keys KeyLookup, onError func(http.ResponseWriter, *http.Request, error)) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		bySession := s.Middleware(onError)(next)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			header := r.Header.Get("Authorization")
			if header == "" {
				bySession.ServeHTTP(w, r)
				return
			}
			who, err := principalOf(r.Context(), keys, header)
			if err != nil {
				onError(w, r, err)
				return
			}
			next.ServeHTTP(w, r.WithContext(identity.WithPrincipal(r.Context(), who)))
		})
	}
}

func principalOf(ctx context.Context, keys KeyLookup, header string) (identity.Principal, error) {
	scheme, secret, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return identity.Principal{}, identity.ErrNoKey
	}
	who, err := keys.PrincipalByKey(ctx, identity.KeySecret(strings.TrimSpace(secret)).Hash())
	if err != nil && !errors.Is(err, identity.ErrNoKey) {
		return identity.Principal{}, fmt.Errorf("loading the user of an API key: %w", err)
	}
	return who, err
}
