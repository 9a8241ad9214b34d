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

// keyring has one key, and counts how often it is asked.
type keyring struct {
	id      uuid.UUID
	revoked bool
	asked   int
	during  func() // while it is asked
}

func (k *keyring) PrincipalByKey(context.Context, [32]byte) (identity.Principal, error) {
	k.asked++
	revoked := k.revoked
	if k.during != nil {
		k.during()
	}
	if revoked {
		return identity.Principal{}, identity.ErrNoKey
	}
	return identity.Principal{Key: &identity.Key{ID: k.id}}, nil
}

func TestKeysAreRememberedForSeconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := &keyring{id: uuid.New()}
		cache := auth.NewKeyCache(k)
		ask := func() error { _, err := cache.PrincipalByKey(t.Context(), [32]byte{1}); return err }
		for range 3 {
			if err := ask(); err != nil || k.asked != 1 {
				t.Fatalf("asked %d times, %v", k.asked, err)
			}
		}
		time.Sleep(6 * time.Second)
		if err := ask(); err != nil || k.asked != 2 {
			t.Errorf("after some seconds: asked %d times, %v", k.asked, err)
		}
		k.revoked = true
		cache.Forget(uuid.New())
		if err := ask(); err != nil {
			t.Errorf("another key was revoked: %v", err)
		}
		cache.Forget(k.id)
		for range 2 {
			if err := ask(); !errors.Is(err, identity.ErrNoKey) {
				t.Errorf("after it was revoked: %v", err)
			}
		}
	})
}

// TestAKeyRevokedWhileItIsLookedUp must not be remembered.
func TestAKeyRevokedWhileItIsLookedUp(t *testing.T) {
	t.Parallel()
	k := &keyring{id: uuid.New()}
	cache := auth.NewKeyCache(k)
	k.during = func() { k.revoked = true; cache.Forget(k.id) }
	if _, err := cache.PrincipalByKey(t.Context(), [32]byte{1}); err != nil {
		t.Fatal(err)
	}
	k.during = nil
	if _, err := cache.PrincipalByKey(t.Context(), [32]byte{1}); !errors.Is(err, identity.ErrNoKey) {
		t.Errorf("a revoked key is remembered: %v", err)
	}
}

func TestForgettingKeys(t *testing.T) {
	t.Parallel()
	k := &keyring{id: uuid.New()}
	cache := auth.NewKeyCache(k)
	for _, forgotten := range []struct {
		id   uuid.UUID
		asks int
	}{{k.id, 1}, {uuid.New(), 2}, {uuid.Nil, 2}, {uuid.New(), 3}} {
		if _, err := cache.PrincipalByKey(t.Context(), [32]byte{1}); err != nil || k.asked != forgotten.asks {
			t.Errorf("asked %d times instead of %d, %v", k.asked, forgotten.asks, err)
		}
		cache.Forget(forgotten.id)
	}
}

// people has one user, and counts how often it is asked.
type people struct {
	auth.Users
	user  identity.User
	asked int
}

func (p *people) UserByID(context.Context, uuid.UUID) (identity.User, error) {
	p.asked++
	return p.user, nil
}

func (p *people) UserByEmail(context.Context, string) (identity.User, error) { return p.user, nil }

// TestUsersAreRememberedForSeconds, and not with a password that was changed.
func TestUsersAreRememberedForSeconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &people{user: identity.User{ID: uuid.New(), PasswordHash: "old"}}
		cache := auth.NewUserCache(p)
		want := func(asked int, hash identity.PasswordHash) {
			t.Helper()
			if u, err := cache.UserByID(t.Context(), p.user.ID); err != nil || p.asked != asked || u.PasswordHash != hash {
				t.Errorf("asked %d times instead of %d; %q, %v", p.asked, asked, u.PasswordHash, err)
			}
		}
		want(1, "old")
		p.user.PasswordHash = "new"
		want(1, "old")
		cache.Forget(uuid.New()) // another's
		want(1, "old")
		cache.Forget(p.user.ID)
		want(2, "new")
		time.Sleep(6 * time.Second)
		want(3, "new")
		cache.Forget(uuid.Nil)
		want(4, "new")
		p.user.PasswordHash = "newer"
		if _, err := cache.UserByEmail(t.Context(), ""); err != nil { // a login
			t.Fatal(err)
		}
		want(5, "newer")
	})
}
