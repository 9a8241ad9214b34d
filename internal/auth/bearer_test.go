package auth

import (
	"context"
	"errors"
	"testing"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/identity"
)

// oneKey knows one API key.
type oneKey identity.KeySecret

func (k oneKey) PrincipalByKey(_ context.Context, hash [32]byte) (identity.Principal, error) {
	if hash != identity.KeySecret(k).Hash() {
		return identity.Principal{}, identity.ErrNoKey
	}
	return identity.Principal{UserID: uuid.UUID{15: 1}}, nil
}

func TestBearerTokensArePasted(t *testing.T) {
	t.Parallel()
	for header, valid := range map[string]bool{
		"Bearer pc_KEY": true, "bearer   pc_KEY  ": true, "Bearer \u200bpc_KEY\u00a0": true, "Bearer \ufeffpc_KEY": true, "Bearer pc_\u00adKEY": true,
		"Bearer pc_OTHER": false, "Bearer pc_ KEY": false, "Bearer": false, "Basic pc_KEY": false,
	} {
		principal, err := principalByHeader(t.Context(), oneKey("pc_KEY"), header)
		if (err == nil) != valid || (principal.UserID != uuid.Nil) != valid || err != nil && !errors.Is(err, identity.ErrNoKey) {
			t.Errorf("%q: got %v, %v, want valid: %t", header, principal.UserID, err, valid)
		}
	}
}
