package auth_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/auth"
	"github.com/postcard-mms/postcard/internal/identity"
)

// fakeKeys has one key and counts its look-ups.
type fakeKeys struct {
	id      uuid.UUID
	revoked bool
	lookups int
	during  func() // runs during a look-up, after the key was read
}

func (k *fakeKeys) PrincipalByKey(context.Context, [32]byte) (identity.Principal, error) {
	k.lookups++
	revoked := k.revoked
	if k.during != nil {
		k.during()
	}
	if revoked {
		return identity.Principal{}, identity.ErrNoKey
	}
	return identity.Principal{Key: &identity.Key{ID: k.id}}, nil
}

func TestKeysAreCachedForTheTTL(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		keys := &fakeKeys{id: uuid.New()}
		cache := auth.NewKeyCache(keys)
		lookUp := func() error { _, err := cache.PrincipalByKey(t.Context(), [32]byte{1}); return err }
		for range 3 {
			if err := lookUp(); err != nil || keys.lookups != 1 {
				t.Fatalf("within the TTL: got %d look-ups, %v; want 1", keys.lookups, err)
			}
		}
		time.Sleep(6 * time.Second)
		if err := lookUp(); err != nil || keys.lookups != 2 {
			t.Errorf("after the TTL: got %d look-ups, %v; want 2", keys.lookups, err)
		}
		keys.revoked = true
		cache.Drop(uuid.New())
		if err := lookUp(); err != nil {
			t.Errorf("another key revoked: got %v, want no error", err)
		}
		cache.Drop(keys.id)
		for range 2 {
			if err := lookUp(); !errors.Is(err, identity.ErrNoKey) {
				t.Errorf("key revoked: got %v, want %v", err, identity.ErrNoKey)
			}
		}
	})
}

func TestKeyRevokedDuringItsLookUpIsNotCached(t *testing.T) {
	t.Parallel()
	keys := &fakeKeys{id: uuid.New()}
	cache := auth.NewKeyCache(keys)
	keys.during = func() { keys.revoked = true; cache.Drop(keys.id) }
	if _, err := cache.PrincipalByKey(t.Context(), [32]byte{1}); err != nil {
		t.Fatal(err)
	}
	keys.during = nil
	if _, err := cache.PrincipalByKey(t.Context(), [32]byte{1}); !errors.Is(err, identity.ErrNoKey) {
		t.Errorf("got %v, want %v", err, identity.ErrNoKey)
	}
}

func TestForgetDropsOneKeyOrAll(t *testing.T) {
	t.Parallel()
	keys := &fakeKeys{id: uuid.New()}
	cache := auth.NewKeyCache(keys)
	for _, step := range []struct {
		wantLookups int
		thenForget  uuid.UUID
	}{{1, keys.id}, {2, uuid.New()}, {2, uuid.Nil}, {3, uuid.New()}} {
		if _, err := cache.PrincipalByKey(t.Context(), [32]byte{1}); err != nil || keys.lookups != step.wantLookups {
			t.Errorf("got %d look-ups, %v; want %d", keys.lookups, err, step.wantLookups)
		}
		cache.Drop(step.thenForget)
	}
}

// countingUsers has one user and counts the look-ups by ID.
type countingUsers struct {
	auth.Users
	user    identity.User
	lookups int
}

func (u *countingUsers) UserByID(context.Context, uuid.UUID) (identity.User, error) {
	u.lookups++
	return u.user, nil
}

func (u *countingUsers) UserByEmail(context.Context, string) (identity.User, error) {
	return u.user, nil
}

func TestUsersAreCachedUntilTheirPasswordChanges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		users := &countingUsers{user: identity.User{ID: uuid.New(), PasswordHash: "old"}}
		cache := auth.NewUserCache(users)
		want := func(lookups int, hash identity.PasswordHash) {
			t.Helper()
			if u, err := cache.UserByID(t.Context(), users.user.ID); err != nil || users.lookups != lookups || u.PasswordHash != hash {
				t.Errorf("got %d look-ups and hash %q, %v; want %d and %q", users.lookups, u.PasswordHash, err, lookups, hash)
			}
		}
		want(1, "old")
		users.user.PasswordHash = "new"
		want(1, "old")
		cache.Drop(uuid.New()) // another user
		want(1, "old")
		cache.Drop(users.user.ID)
		want(2, "new")
		time.Sleep(6 * time.Second)
		want(3, "new")
		cache.Drop(uuid.Nil)
		want(4, "new")
		users.user.PasswordHash = "newer"
		if _, err := cache.UserByEmail(t.Context(), ""); err != nil { // a login
			t.Fatal(err)
		}
		want(5, "newer")
	})
}
