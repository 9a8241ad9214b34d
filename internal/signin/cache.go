package signin

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"

	"postcard/internal/identity"
)

// keyCacheTime is how long it is remembered whose a key is. A key that is revoked
// is forgotten at once; the time bounds what a lost word of that can do, and how
// long a changed cap takes to count.
const keyCacheTime = 5 * time.Second

// keyCacheMax bounds the memory; there are far fewer keys in use.
const keyCacheMax = 10_000

// KeyCache remembers for a few seconds whose API keys are.
type KeyCache struct {
	keys Keys

	mu    sync.Mutex
	known map[[32]byte]cachedKey
	drops int // how often something was forgotten: an answer from before is not kept
}

type cachedKey struct {
	who   identity.Principal
	until time.Time
}

// NewKeyCache makes an empty cache in front of keys.
func NewKeyCache(keys Keys) *KeyCache {
	return &KeyCache{keys: keys, known: map[[32]byte]cachedKey{}}
}

// PrincipalByKey implements Keys.
func (c *KeyCache) PrincipalByKey(ctx context.Context, hash [32]byte) (identity.Principal, error) {
	now := time.Now()
	c.mu.Lock()
	cached, ok := c.known[hash]
	drops := c.drops
	c.mu.Unlock()
	if ok && now.Before(cached.until) {
		return cached.who, nil
	}
	who, err := c.keys.PrincipalByKey(ctx, hash)
	if err != nil {
		return who, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.known) >= keyCacheMax {
		clear(c.known)
	}
	until := now.Add(keyCacheTime)
	if who.Key.ExpiresAt != nil && who.Key.ExpiresAt.Before(until) {
		until = *who.Key.ExpiresAt
	}
	if c.drops == drops {
		c.known[hash] = cachedKey{who: who, until: until}
	}
	return who, nil
}

// Forget drops what is remembered of a key, because it was revoked; uuid.Nil:
// of all.
func (c *KeyCache) Forget(id uuid.UUID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drops++
	for hash, cached := range c.known {
		if id == uuid.Nil || cached.who.Key.ID == id {
			delete(c.known, hash)
		}
	}
}
