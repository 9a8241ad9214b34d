package postgres

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/identity"
)

type identityRow struct {
	Issuer      string     `db:"issuer"`
	Subject     string     `db:"subject"`
	UserID      uuid.UUID  `db:"user_id"`
	Email       string     `db:"email"`
	CreatedAt   time.Time  `db:"created_at"`
	LastLoginAt *time.Time `db:"last_login_at"`
}

const selectIdentity = `
SELECT issuer, subject, user_id, email, created_at, last_login_at FROM identities WHERE user_id = $1 AND issuer = $2`

// Identity returns the user's account at the issuer, or identity.ErrNoIdentity.
func (s *Store) Identity(ctx context.Context, user uuid.UUID, issuer string) (identity.Identity, error) {
	var row identityRow
	err := s.db.GetContext(ctx, &row, selectIdentity, user, issuer)
	if errors.Is(err, sql.ErrNoRows) {
		return identity.Identity{}, identity.ErrNoIdentity
	}
	return identity.Identity(row), wrapError(err, "reading a linked account")
}

// changedUser selects the user of the CTE u and, if the CTE's condition revoked is true,
// tells all processes that the user's access has changed.
const changedUser = `
SELECT ` + userColumns + `, CASE WHEN u.revoked THEN pg_notify('` + AccessRevokedChannel + `', u.id::text)::text ELSE '' END AS notified FROM u`

type changedUserRow struct {
	userRow
	Notified string `db:"notified"`
}

const updateLoginByIdentity = `
WITH i AS (
    UPDATE identities SET last_login_at = now() WHERE issuer = $1 AND subject = $2 RETURNING user_id
), u AS (
    UPDATE users u SET role = coalesce(nullif($3, ''), u.role)
    FROM i JOIN users old ON old.id = i.user_id WHERE u.id = old.id
    RETURNING u.*, u.role <> old.role AS revoked
)` + changedUser

// LoginByIdentity records that the account at the provider was used to log in, and returns
// its user, or identity.ErrNoUser. The user gets the role, unless it is empty.
func (s *Store) LoginByIdentity(ctx context.Context, issuer, subject string, role identity.Role) (identity.User, error) {
	user, err := s.changeUser(ctx, "logging in by a linked account", updateLoginByIdentity, issuer, subject, string(role))
	if errors.Is(err, sql.ErrNoRows) {
		return user, identity.ErrNoUser
	}
	return user, err
}

// A repeated statement finds its own row by identities_one_per_issuer.
const insertUserWithIdentity = `
WITH u AS (
    INSERT INTO users (id, email, role) VALUES ($3, $4, $5) ON CONFLICT (id) DO NOTHING RETURNING id
), w AS (
    INSERT INTO workspaces (id, name) SELECT id, $6 FROM u RETURNING id
), m AS (
    INSERT INTO members (workspace_id, user_id, permissions) SELECT id, id, '{read,send,manage}' FROM w
)
INSERT INTO identities (issuer, subject, user_id, email, last_login_at) VALUES ($1, $2, $3, $4, now())
ON CONFLICT ON CONSTRAINT identities_one_per_issuer DO NOTHING`

// CreateUserWithIdentity adds a user without a password, with a workspace of their own and
// their account at the provider. It returns identity.ErrEmailTaken or identity.ErrIdentityTaken. It is
// idempotent by the user's id.
func (s *Store) CreateUserWithIdentity(ctx context.Context, u identity.User, i identity.Identity) error {
	_, err := s.db.ExecContext(ctx, insertUserWithIdentity, i.Issuer, i.Subject, u.ID, u.Email, string(u.Role), identity.WorkspaceNameOf(u.Email))
	switch {
	case violates(err, "users_email_taken"):
		return identity.ErrEmailTaken
	case violates(err, "identities_pkey"):
		return identity.ErrIdentityTaken
	}
	return wrapError(err, "adding a user with a linked account")
}

const linkIdentity = `
WITH i AS (
    INSERT INTO identities (issuer, subject, user_id, email) VALUES ($1, $2, $3, $4)
    ON CONFLICT (issuer, subject) DO UPDATE SET email = EXCLUDED.email WHERE identities.user_id = EXCLUDED.user_id
    RETURNING user_id
), u AS (
    SELECT u.*, true AS revoked FROM users u JOIN i ON i.user_id = u.id
), locked AS (
    SELECT s.id FROM user_sessions s JOIN i ON i.user_id = s.user_id ORDER BY s.id FOR UPDATE OF s
), ended AS (
    DELETE FROM user_sessions WHERE id IN (SELECT id FROM locked)
)` + changedUser

// LinkIdentity links the account at the provider to its user, ends all of the user's
// sessions and returns the user. It returns identity.ErrIdentityTaken or
// identity.ErrOtherIdentity.
func (s *Store) LinkIdentity(ctx context.Context, i identity.Identity) (identity.User, error) {
	user, err := s.changeUser(ctx, "linking an account", linkIdentity, i.Issuer, i.Subject, i.UserID, i.Email)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return user, identity.ErrIdentityTaken
	case violates(err, "identities_one_per_issuer"):
		return user, identity.ErrOtherIdentity
	}
	return user, err
}

const unlinkIdentity = `
WITH i AS (
    DELETE FROM identities i USING users u
    WHERE i.user_id = $1 AND i.issuer = $2 AND u.id = i.user_id AND u.password_hash IS NOT NULL
    RETURNING i.user_id
), u AS (
    SELECT u.*, true AS revoked FROM users u JOIN i ON i.user_id = u.id
), locked AS (
    SELECT s.id FROM user_sessions s JOIN i ON i.user_id = s.user_id ORDER BY s.id FOR UPDATE OF s
), ended AS (
    DELETE FROM user_sessions WHERE id IN (SELECT id FROM locked)
)` + changedUser

// UnlinkIdentity removes the user's account at the issuer, ends all of the user's sessions
// and returns the user. It returns identity.ErrNoIdentity if there is none, or if the user
// has no password and could not log in any more.
func (s *Store) UnlinkIdentity(ctx context.Context, user uuid.UUID, issuer string) (identity.User, error) {
	changed, err := s.changeUser(ctx, "unlinking an account", unlinkIdentity, user, issuer)
	if errors.Is(err, sql.ErrNoRows) {
		return changed, identity.ErrNoIdentity
	}
	return changed, err
}

func (s *Store) changeUser(ctx context.Context, doing, query string, args ...any) (identity.User, error) {
	var row changedUserRow
	err := s.db.GetContext(ctx, &row, query, args...)
	if err != nil {
		return identity.User{}, wrapError(err, doing)
	}
	return row.user()
}
