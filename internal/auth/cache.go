package auth

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/identity"
)

// cacheTTL is how long it is remembered whose a key is, and who a user. What has
// ended is forgotten at once; the time bounds what a lost word of that can do, and how
// long a changed cap takes to count.
const cacheTTL = 5 * time.Second

// maxCacheEntries bounds the memory; there are far fewer keys and users at work.
const maxCacheEntries = 10_000

// KeyCache remembers for a few seconds whose API keys are.
type KeyCache struct {
	keys  KeyLookup
	cache ttlCache[[32]byte, identity.Principal]
}

// NewKeyCache makes an empty cache in front of keys.
func NewKeyCache(keys KeyLookup) *KeyCache { return &KeyCache{keys: keys} }

// PrincipalByKey implements Keys.
func (c *KeyCache) PrincipalByKey(ctx context.Context, hash [32]byte) (identity.Principal, error) {
	return c.cache.recall(hash, func() (identity.Principal, *time.Time, error) {
		who, err := c.keys.PrincipalByKey(ctx, hash)
		if err != nil {
			return who, nil, err
		}
		return who, who.Key.ExpiresAt, nil
	})
}

// Forget drops what is remembered of a key, because it was revoked; uuid.Nil:
// of all.
func (c *KeyCache) Forget(id uuid.UUID) {
	c.cache.forget(func(who identity.Principal) bool { return id == uuid.Nil || who.Key.ID == id })
}

// UserCache remembers for a few seconds who the users of sessions are. The session
// itself is asked for each time.
type UserCache struct {
	Users
	cache ttlCache[uuid.UUID, identity.User]
}

// NewUserCache makes an empty cache in front of users.
func NewUserCache(users Users) *UserCache { return &UserCache{Users: users} }

// UserByID implements Users.
func (c *UserCache) UserByID(ctx context.Context, id uuid.UUID) (identity.User, error) {
	return c.cache.recall(id, func() (identity.User, *time.Time, error) {
		user, err := c.Users.UserByID(ctx, id)
		return user, nil, err
	})
}

// UserByEmail implements Users. Whoever logs in is known by the newest password from then on.
func (c *UserCache) UserByEmail(ctx context.Context, email string) (identity.User, error) {
	user, err := c.Users.UserByEmail(ctx, email)
	if err == nil {
		c.Forget(user.ID)
	}
	return user, err
}

// Forget drops what is remembered of a user, because the password was changed;
// uuid.Nil: of all.
func (c *UserCache) Forget(id uuid.UUID) {
	c.cache.forget(func(u identity.User) bool { return id == uuid.Nil || u.ID == id })
}

// ttlCache keeps for a few seconds what was looked up. The zero value is empty.
type ttlCache[K comparable, V any] struct {
	mu      sync.Mutex
	entries map[K]cacheEntry[V]
	drops   int // how often something was forgotten: an answer from before is not kept
}

type cacheEntry[V any] struct {
	value V
	until time.Time
}

// recall returns what is remembered under the key, or looks it up. What look returns
// is remembered, but for errors, and not after its end where it has one.
func (m *ttlCache[K, V]) recall(key K, look func() (value V, end *time.Time, err error)) (V, error) {
	now := time.Now()
	m.mu.Lock()
	old, ok := m.entries[key]
	drops := m.drops
	m.mu.Unlock()
	if ok && now.Before(old.until) {
		return old.value, nil
	}
	value, end, err := look()
	if err != nil {
		return value, err
	}
	until := now.Add(cacheTTL)
	if end != nil && end.Before(until) {
		until = *end
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.entries == nil || len(m.entries) >= maxCacheEntries {
		m.entries = map[K]cacheEntry[V]{}
	}
	if m.drops == drops {
		m.entries[key] = cacheEntry[V]{value: value, until: until}
	}
	return value, nil
}

func (m *ttlCache[K, V]) forget(is func(V) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drops++
	for key, k := range m.entries {
		if is(k.value) {
			delete(m.entries, key)
		}
	}
}
