package postgres_test

import (
	"errors"
	"testing"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/postgres"
)

func newKey(t *testing.T, store *postgres.Store, user uuid.UUID, days *int) (identity.Key, identity.KeySecret) {
	t.Helper()
	limit := 7
	key, secret, err := identity.NewKey(uuid.Must(uuid.NewV7()), user, identity.KeyParams{Name: "shop", Scopes: []string{"read"}, DailyCap: &limit})
	if err != nil {
		t.Fatal(err)
	}
	if key, err = store.CreateKey(t.Context(), key, secret.Hash(), days); err != nil {
		t.Fatal(err)
	}
	return key, secret
}

func TestAPIKeys(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	bob := addUser(t, store, "bob@example.com")
	if err := store.SetDailyCap(t.Context(), "ada@example.com", 100); err != nil {
		t.Fatal(err)
	}
	key, secret := newKey(t, store, ada, nil)
	who, err := store.PrincipalByKey(t.Context(), secret.Hash())
	if err != nil || who.UserID != ada || who.Key.ID != key.ID || who.DailyCap != 100 || who.Key.DailyCap != 7 ||
		!who.May(identity.ReadScope) || who.May(identity.SendScope) {
		t.Errorf("%+v, %v", who, err)
	}
	keys, err := store.Keys(t.Context(), ada)
	if err != nil || len(keys) != 1 || keys[0].LastUsedAt == nil || !keys[0].Valid() || keys[0].Hint != string(secret)[:8] {
		t.Errorf("%+v, %v", keys, err)
	}
	if _, err := store.PrincipalByKey(t.Context(), identity.KeySecret("pc_wrong").Hash()); !errors.Is(err, identity.ErrNoKey) {
		t.Errorf("a made-up key: %v", err)
	}
	if err := store.RevokeKey(t.Context(), bob, key.ID); !errors.Is(err, identity.ErrNoKey) {
		t.Errorf("revoked by another: %v", err)
	}
	for range 2 {
		if err := store.RevokeKey(t.Context(), ada, key.ID); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := store.PrincipalByKey(t.Context(), secret.Hash()); !errors.Is(err, identity.ErrNoKey) {
		t.Errorf("a revoked key: %v", err)
	}
	days := 1
	ending, secret := newKey(t, store, ada, &days)
	if ending.ExpiresAt == nil {
		t.Error("the key does not end")
	}
	if _, err := store.DB().Exec(`UPDATE api_keys SET expires_at = now() WHERE id = $1`, ending.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := store.PrincipalByKey(t.Context(), secret.Hash()); !errors.Is(err, identity.ErrNoKey) {
		t.Errorf("a key that has ended: %v", err)
	}
	var plain int
	if err := store.DB().QueryRow(`SELECT count(*) FROM api_keys k WHERE k::text LIKE '%' || $1 || '%'`, string(secret)).Scan(&plain); err != nil || plain != 0 {
		t.Errorf("the key itself is stored: %v", err)
	}
}

func TestTooManyKeys(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	for range identity.MaxKeys {
		newKey(t, store, ada, nil)
	}
	key, secret, err := identity.NewKey(uuid.New(), ada, identity.KeyParams{Name: "one more", Scopes: []string{"read"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.CreateKey(t.Context(), key, secret.Hash(), nil); !errors.Is(err, identity.ErrTooManyKeys) {
		t.Errorf("one too many: %v", err)
	}
}
