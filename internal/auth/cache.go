package auth

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/identity"
)

// cacheTTL bounds how stale a cached key or user may be. A revoked key and a changed
// password are dropped at once (see Drop); the TTL matters if that notification is
// lost, and for changed caps and names of workspaces.
const cacheTTL = 5 * time.Second

// maxCacheEntries bounds the memory of a cache. A full cache is emptied.
const maxCacheEntries = 10_000

// KeyCache caches the principals of API keys for cacheTTL.
type KeyCache struct {
	keys  KeyLookup
	cache ttlCache[[32]byte, identity.Principal]
}

// NewKeyCache returns an empty cache in front of keys.
func NewKeyCache(keys KeyLookup) *KeyCache { return &KeyCache{keys: keys} }

// PrincipalByKey implements KeyLookup.
func (c *KeyCache) PrincipalByKey(ctx context.Context, hash [32]byte) (identity.Principal, error) {
	return c.cache.get(hash, func() (identity.Principal, *time.Time, error) {
		principal, err := c.keys.PrincipalByKey(ctx, hash)
		if err != nil {
			return principal, nil, err
		}
		return principal, principal.Key.ExpiresAt, nil
	})
}

// Drop drops a key from the cache, because it was revoked, or all keys that a user has created, whose
// access has changed; uuid.Nil drops all.
func (c *KeyCache) Drop(id uuid.UUID) {
	c.cache.drop(func(p identity.Principal) bool { return id == uuid.Nil || p.Key.ID == id || p.Key.CreatedBy == id })
}

// UserCache caches the users of sessions for cacheTTL. Sessions themselves are not
// cached.
type UserCache struct {
	Users
	cache ttlCache[uuid.UUID, identity.User]
}

// NewUserCache returns an empty cache in front of users.
func NewUserCache(users Users) *UserCache { return &UserCache{Users: users} }

// UserByID implements Users.
func (c *UserCache) UserByID(ctx context.Context, id uuid.UUID) (identity.User, error) {
	return c.cache.get(id, func() (identity.User, *time.Time, error) {
		user, err := c.Users.UserByID(ctx, id)
		return user, nil, err
	})
}

// UserByEmail implements Users. It is not cached, and drops the user, so that a new
// session is checked against the newest password.
func (c *UserCache) UserByEmail(ctx context.Context, email string) (identity.User, error) {
	user, err := c.Users.UserByEmail(ctx, email)
	if err == nil {
		c.Drop(user.ID)
	}
	return user, err
}

// ChangeProfile implements Profiles.
func (c *UserCache) ChangeProfile(ctx context.Context, u identity.User) error {
	defer c.Drop(u.ID)
	return c.Users.ChangeProfile(ctx, u)
}

// ChangeCredentials implements Profiles.
func (c *UserCache) ChangeCredentials(ctx context.Context, u identity.User, hash identity.PasswordHash, session identity.Session, lifetime time.Duration) error {
	defer c.Drop(u.ID)
	return c.Users.ChangeCredentials(ctx, u, hash, session, lifetime)
}

// Drop drops a user from the cache, because the user was changed; uuid.Nil
// drops all.
func (c *UserCache) Drop(id uuid.UUID) {
	c.cache.drop(func(u identity.User) bool { return id == uuid.Nil || u.ID == id })
}

// ttlCache caches values for cacheTTL. The zero value is empty.
type ttlCache[K comparable, V any] struct {
	mu      sync.Mutex
	entries map[K]cacheEntry[V]
	drops   int // calls of drop: a value that was loaded before the last one is not cached
}

type cacheEntry[V any] struct {
	value     V
	expiresAt time.Time
}

// get returns the cached value, or loads and caches it. Errors are not cached. load
// may return a time after which the value must not be used.
func (c *ttlCache[K, V]) get(key K, load func() (value V, validUntil *time.Time, err error)) (V, error) {
	now := time.Now()
	c.mu.Lock()
	entry, ok := c.entries[key]
	drops := c.drops
	c.mu.Unlock()
	if ok && now.Before(entry.expiresAt) {
		return entry.value, nil
	}
	value, validUntil, err := load()
	if err != nil {
		return value, err
	}
	expiresAt := now.Add(cacheTTL)
	if validUntil != nil && validUntil.Before(expiresAt) {
		expiresAt = *validUntil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries == nil || len(c.entries) >= maxCacheEntries {
		c.entries = map[K]cacheEntry[V]{}
	}
	if c.drops == drops {
		c.entries[key] = cacheEntry[V]{value: value, expiresAt: expiresAt}
	}
	return value, nil
}

// drop removes the values that match.
func (c *ttlCache[K, V]) drop(matches func(V) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drops++
	for key, entry := range c.entries {
		if matches(entry.value) {
			delete(c.entries, key)
		}
	}
}
