package postgres_test

import (
	"errors"
	"testing"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/postgres"
)

// newKey creates a key with scope read and a daily cap of 7.
func newKey(t *testing.T, store *postgres.Store, user uuid.UUID, days *int) (identity.Key, identity.KeySecret) {
	t.Helper()
	dailyCap := 7
	key, secret, err := identity.NewKey(uuid.Must(uuid.NewV7()), user, user, identity.KeyParams{Name: "shop", Scopes: []string{"read"}, DailyCap: &dailyCap})
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
	if err := store.SetDailyCap(t.Context(), ada, 100); err != nil {
		t.Fatal(err)
	}
	key, secret := newKey(t, store, ada, nil)
	principal, err := store.PrincipalByKey(t.Context(), secret.Hash())
	if err != nil || principal.UserID != ada || principal.Key.ID != key.ID || principal.DailyCap != 100 || principal.Key.DailyCap != 7 ||
		!principal.May(identity.Read) || principal.May(identity.Send) {
		t.Errorf("PrincipalByKey() = %+v, %v, want Ada with scope read", principal, err)
	}
	keys, err := store.Keys(t.Context(), ada)
	if err != nil || len(keys) != 1 || keys[0].LastUsedAt == nil || !keys[0].Valid() || keys[0].Prefix != string(secret)[:8] {
		t.Errorf("Keys() = %+v, %v, want one used key", keys, err)
	}
	if _, err := store.PrincipalByKey(t.Context(), identity.KeySecret("pc_wrong").Hash()); !errors.Is(err, identity.ErrNoKey) {
		t.Errorf("unknown key: got %v, want ErrNoKey", err)
	}
	if err := store.RevokeKey(t.Context(), bob, key.ID); !errors.Is(err, identity.ErrNoKey) {
		t.Errorf("RevokeKey() by another user: got %v, want ErrNoKey", err)
	}
	for range 2 {
		if err := store.RevokeKey(t.Context(), ada, key.ID); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := store.PrincipalByKey(t.Context(), secret.Hash()); !errors.Is(err, identity.ErrNoKey) {
		t.Errorf("revoked key: got %v, want ErrNoKey", err)
	}
	days := 1
	expiring, secret := newKey(t, store, ada, &days)
	if expiring.ExpiresAt == nil {
		t.Error("got a key without expiry, want one that expires after a day")
	}
	if _, err := store.DB().Exec(`UPDATE api_keys SET expires_at = now() WHERE id = $1`, expiring.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := store.PrincipalByKey(t.Context(), secret.Hash()); !errors.Is(err, identity.ErrNoKey) {
		t.Errorf("expired key: got %v, want ErrNoKey", err)
	}
	var plain int
	if err := store.DB().QueryRow(`SELECT count(*) FROM api_keys k WHERE k::text LIKE '%' || $1 || '%'`, string(secret)).Scan(&plain); err != nil || plain != 0 {
		t.Errorf("got %d rows with the key in the clear, %v, want 0", plain, err)
	}
}

func TestTooManyKeys(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	for range identity.MaxKeys {
		newKey(t, store, ada, nil)
	}
	key, secret, err := identity.NewKey(uuid.New(), ada, ada, identity.KeyParams{Name: "one more", Scopes: []string{"read"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.CreateKey(t.Context(), key, secret.Hash(), nil); !errors.Is(err, identity.ErrTooManyKeys) {
		t.Errorf("key %d: got %v, want ErrTooManyKeys", identity.MaxKeys+1, err)
	}
}
