package postgres

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/postcard-mms/postcard/internal/identity"
)

// keyColumns are the columns of a keyRow. The table must be aliased as k.
const keyColumns = `k.id, k.workspace_id, k.created_by, k.name, k.prefix, k.scopes, coalesce(k.daily_cap, 0) AS daily_cap, k.created_at, k.last_used_at,
    k.expires_at, k.revoked_at, coalesce(k.expires_at <= now(), false) AS expired`

type keyRow struct {
	ID          uuid.UUID      `db:"id"`
	WorkspaceID uuid.UUID      `db:"workspace_id"`
	CreatedBy   uuid.UUID      `db:"created_by"`
	Name        string         `db:"name"`
	Prefix      string         `db:"prefix"`
	Scopes      pq.StringArray `db:"scopes"`
	DailyCap    int            `db:"daily_cap"`
	CreatedAt   time.Time      `db:"created_at"`
	LastUsedAt  *time.Time     `db:"last_used_at"`
	ExpiresAt   *time.Time     `db:"expires_at"`
	RevokedAt   *time.Time     `db:"revoked_at"`
	Expired     bool           `db:"expired"`
}

func (r keyRow) key() identity.Key {
	scopes := make([]identity.Permission, len(r.Scopes))
	for i, scope := range r.Scopes {
		scopes[i] = identity.Permission(scope)
	}
	return identity.Key{
		ID: r.ID, WorkspaceID: r.WorkspaceID, CreatedBy: r.CreatedBy, Name: r.Name, Prefix: r.Prefix, Scopes: scopes, DailyCap: r.DailyCap, CreatedAt: r.CreatedAt,
		LastUsedAt: r.LastUsedAt, ExpiresAt: r.ExpiresAt, RevokedAt: r.RevokedAt, Expired: r.Expired,
	}
}

const insertKey = `
INSERT INTO api_keys AS k (id, workspace_id, name, prefix, scopes, daily_cap, key_hash, expires_at, created_by)
SELECT $1, $2, $3, $4, $5, nullif($6, 0), $7, now() + $8 * interval '1 day', $10
WHERE (SELECT count(*) FROM api_keys WHERE workspace_id = $2 AND id <> $1 AND revoked_at IS NULL AND coalesce(expires_at > now(), true)) < $9
ON CONFLICT (id) DO UPDATE SET key_hash = EXCLUDED.key_hash
RETURNING ` + keyColumns

// CreateKey adds an API key that expires after the given number of days; nil means
// never. It returns identity.ErrTooManyKeys when the workspace has identity.MaxKeys valid
// keys. It is idempotent by the id, because database/sql repeats a statement whose
// connection broke.
func (s *Store) CreateKey(ctx context.Context, k identity.Key, hash [32]byte, days *int) (identity.Key, error) {
	var row keyRow
	err := s.db.GetContext(ctx, &row, insertKey,
		k.ID, k.WorkspaceID, k.Name, k.Prefix, pq.Array(k.Scopes), k.DailyCap, hash[:], days, identity.MaxKeys, k.CreatedBy)
	if errors.Is(err, sql.ErrNoRows) {
		return identity.Key{}, identity.ErrTooManyKeys
	}
	return row.key(), wrapError(err, "adding an API key")
}

const selectKeys = `
SELECT ` + keyColumns + ` FROM api_keys k WHERE workspace_id = $1
ORDER BY revoked_at IS NOT NULL OR coalesce(expires_at <= now(), false), id DESC LIMIT 200`

// Keys returns the workspace's keys, the valid ones first, 200 at most.
func (s *Store) Keys(ctx context.Context, workspace uuid.UUID) ([]identity.Key, error) {
	var rows []keyRow
	if err := s.db.SelectContext(ctx, &rows, selectKeys, workspace); err != nil {
		return nil, wrapError(err, "listing API keys")
	}
	keys := make([]identity.Key, len(rows))
	for i, row := range rows {
		keys[i] = row.key()
	}
	return keys, nil
}

const revokeKey = `
WITH k AS (
    UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE id = $1 AND workspace_id = $2 RETURNING id, created_by
)
SELECT pg_notify('` + AccessRevokedChannel + `', id::text), pg_notify('` + AccessRevokedChannel + `', created_by::text) FROM k`

// RevokeKey revokes a key of the workspace. Revoking it again does nothing. It returns
// identity.ErrNoKey for an unknown key and for another workspace's.
func (s *Store) RevokeKey(ctx context.Context, workspace, id uuid.UUID) error {
	result, err := s.db.ExecContext(ctx, revokeKey, id, workspace)
	if err != nil {
		return wrapError(err, "revoking an API key")
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return errors.Join(identity.ErrNoKey, err)
	}
	return nil
}

// selectKeyHolder selects a valid key, its workspace and who created it by the key's hash.
const selectKeyHolder = `
SELECT ` + keyColumns + `, u.email, w.name AS workspace, coalesce(w.daily_cap, 0) AS workspace_cap,
    coalesce(k.last_used_at < now() - interval '1 minute', true) AS stale
FROM api_keys k JOIN workspaces w ON w.id = k.workspace_id JOIN users u ON u.id = k.created_by
WHERE k.key_hash = $1 AND k.revoked_at IS NULL AND coalesce(k.expires_at > now(), true) AND u.disabled_at IS NULL`

const touchKey = `
UPDATE api_keys SET last_used_at = now() WHERE id = $1 AND coalesce(last_used_at < now() - interval '1 minute', true)`

// PrincipalByKey returns the principal that authenticates with the key of this hash,
// and updates the key's last use, at most once a minute. It returns identity.ErrNoKey
// for a key that is unknown, revoked, expired or of a disabled user.
func (s *Store) PrincipalByKey(ctx context.Context, hash [32]byte) (identity.Principal, error) {
	var row struct {
		keyRow
		Email        string `db:"email"`
		Workspace    string `db:"workspace"`
		WorkspaceCap int    `db:"workspace_cap"`
		Stale        bool   `db:"stale"`
	}
	err := s.db.GetContext(ctx, &row, selectKeyHolder, hash[:])
	if errors.Is(err, sql.ErrNoRows) {
		return identity.Principal{}, identity.ErrNoKey
	}
	if err != nil {
		return identity.Principal{}, wrapError(err, "looking up an API key")
	}
	if row.Stale {
		if _, err := s.db.ExecContext(ctx, touchKey, row.ID); err != nil {
			return identity.Principal{}, wrapError(err, "updating the last use of an API key")
		}
	}
	key := row.key()
	return identity.Principal{
		UserID: row.CreatedBy, Email: row.Email, Role: identity.RoleUser, WorkspaceID: row.WorkspaceID, Workspace: row.Workspace,
		Permissions: key.Scopes, DailyCap: row.WorkspaceCap, Key: &key,
	}, nil
}
