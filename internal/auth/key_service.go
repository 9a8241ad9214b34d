package auth

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/identity"
)

// KeyStore stores API keys. CreateKey returns identity.ErrTooManyKeys, RevokeKey
// identity.ErrNoKey.
type KeyStore interface {
	KeyLookup
	CreateKey(ctx context.Context, k identity.Key, hash [32]byte, expiresInDays *int) (identity.Key, error)
	Keys(ctx context.Context, workspace uuid.UUID) ([]identity.Key, error)
	RevokeKey(ctx context.Context, workspace, id uuid.UUID) error
}

// KeyService manages the API keys of workspaces for the JSON API and the UI.
type KeyService struct {
	store KeyStore
	cache *KeyCache
}

// NewKeyService returns a service whose revoked keys are dropped from cache.
func NewKeyService(store KeyStore, cache *KeyCache) *KeyService {
	return &KeyService{store: store, cache: cache}
}

// Create stores a new key and returns it with its secret, which is shown to the
// user once. It returns violations as invalid.Fields, or
// identity.ErrTooManyKeys.
func (s *KeyService) Create(ctx context.Context, workspace, by uuid.UUID, p identity.KeyParams) (identity.Key, identity.KeySecret, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return identity.Key{}, "", fmt.Errorf("generating a key id: %w", err)
	}
	key, secret, err := identity.NewKey(id, workspace, by, p)
	if err != nil {
		return identity.Key{}, "", err
	}
	key, err = s.store.CreateKey(ctx, key, secret.Hash(), p.ExpiresInDays)
	return key, secret, err
}

// List returns the workspace's keys, valid ones first.
func (s *KeyService) List(ctx context.Context, workspace uuid.UUID) ([]identity.Key, error) {
	return s.store.Keys(ctx, workspace)
}

// Revoke revokes a key of the workspace. It takes effect in this process before it
// returns, and in other processes when the database notifies them. Revoking a
// revoked key succeeds. It returns identity.ErrNoKey for another workspace's key.
func (s *KeyService) Revoke(ctx context.Context, workspace, id uuid.UUID) error {
	err := s.store.RevokeKey(ctx, workspace, id)
	s.cache.Drop(id)
	return err
}
