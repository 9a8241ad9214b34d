package postgres_test

import (
	"errors"
	"testing"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/webhook"
)

// database/sql repeats a statement whose connection broke, even if the server has
// committed it.
func TestRepeatedStatementsHaveTheSameEffect(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	ctx := t.Context()
	user := identity.User{ID: uuid.Must(uuid.NewV7()), Email: "eve@example.com", PasswordHash: "$2a$04$qsXqA2XUCZ0QQa3ovHRFBO1yjTSLOHMKrTL241J.egA6LC1Lf/5uy", Role: identity.RoleUser}
	for range 2 {
		if err := store.CreateUser(ctx, user); err != nil {
			t.Errorf("creating a user: %v", err)
		}
	}
	user.ID = uuid.Must(uuid.NewV7())
	if err := store.CreateUser(ctx, user); !errors.Is(err, identity.ErrEmailTaken) {
		t.Errorf("creating another user: got %v, want ErrEmailTaken", err)
	}
	// The last key and webhook that the user may have.
	for i := range identity.MaxKeys {
		key, secret, err := identity.NewKey(uuid.Must(uuid.NewV7()), ada, ada, identity.KeyParams{Name: "shop", Scopes: []string{"send"}})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if got, err := store.CreateKey(ctx, key, secret.Hash(), nil); err != nil || got.ID != key.ID {
				t.Errorf("creating key %d: got %+v, %v", i, got, err)
			}
		}
	}
	first, second := webhook.NewSecret(), webhook.NewSecret()
	endpoint := webhook.Endpoint{Workspace: ada, URL: "https://example.com/"}
	for i := range webhook.MaxEndpoints {
		endpoint.ID = uuid.Must(uuid.NewV7())
		for range 2 {
			if got, err := store.CreateWebhook(ctx, endpoint, first); err != nil || got.ID != endpoint.ID {
				t.Errorf("creating webhook %d: got %+v, %v", i, got, err)
			}
		}
	}
	for range 2 {
		if err := store.RotateSecret(ctx, ada, endpoint.ID, second); err != nil {
			t.Fatal(err)
		}
	}
	if n := count(t, store, `SELECT count(*) FROM webhooks WHERE secret = '`+string(second)+`' AND old_secret = '`+string(first)+`'`); n != 1 {
		t.Error("a repeated rotation lost the old secret")
	}
	if n := count(t, store, `SELECT count(*) FROM api_keys`); n != identity.MaxKeys {
		t.Errorf("got %d keys, want %d", n, identity.MaxKeys)
	}
}
