package postgres

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/identity"
)

type userRow struct {
	ID           uuid.UUID `db:"id"`
	Email        string    `db:"email"`
	PasswordHash string    `db:"password_hash"`
	Role         string    `db:"role"`
	CreatedAt    time.Time `db:"created_at"`
	Name         string    `db:"name"`
	TimeZone     string    `db:"time_zone"`
	Disabled     bool      `db:"disabled"`
	SecondFactor bool      `db:"second_factor"`
	Memberships  []byte    `db:"memberships"`
}

// userColumns are the columns of a userRow. The table must be aliased as u.
const userColumns = `u.id, u.email, coalesce(u.password_hash, '') AS password_hash, u.role, u.created_at, u.name, u.time_zone, u.disabled_at IS NOT NULL AS disabled,
    EXISTS (SELECT FROM totp_factors t WHERE t.user_id = u.id AND t.confirmed_at IS NOT NULL)
        OR EXISTS (SELECT FROM passkeys p WHERE p.user_id = u.id) AS second_factor, (
    SELECT coalesce(json_agg(json_build_object('id', w.id, 'name', w.name, 'cap', coalesce(w.daily_cap, 0), 'permissions', m.permissions) ORDER BY m.created_at, w.id), '[]')
    FROM members m JOIN workspaces w ON w.id = m.workspace_id WHERE m.user_id = u.id) AS memberships`

func (r userRow) user() (identity.User, error) {
	var memberships []struct {
		ID          uuid.UUID
		Name        string
		Cap         int
		Permissions []identity.Permission
	}
	if err := json.Unmarshal(r.Memberships, &memberships); err != nil {
		return identity.User{}, fmt.Errorf("reading a user's workspaces: %w", err)
	}
	user := identity.User{
		ID: r.ID, Email: r.Email, PasswordHash: identity.PasswordHash(r.PasswordHash), Role: identity.Role(r.Role), CreatedAt: r.CreatedAt,
		Name: r.Name, TimeZone: r.TimeZone, Disabled: r.Disabled, SecondFactor: r.SecondFactor,
	}
	for _, m := range memberships {
		workspace := identity.Workspace{ID: m.ID, Name: m.Name, DailyCap: m.Cap}
		user.Memberships = append(user.Memberships, identity.Membership{Workspace: workspace, Permissions: m.Permissions})
	}
	return user, nil
}

// insertUser adds a user with a workspace of their own, which has the same id.
const insertUser = `
WITH u AS (
    INSERT INTO users (id, email, password_hash, role) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO NOTHING RETURNING id
), w AS (
    INSERT INTO workspaces (id, name) SELECT id, $5 FROM u RETURNING id
)
INSERT INTO members (workspace_id, user_id, permissions) SELECT id, id, '{read,send,manage}' FROM w`

// CreateUser adds a user with a workspace of their own, or returns
// identity.ErrEmailTaken. It is idempotent by the id, because database/sql repeats a
// statement whose connection broke.
func (s *Store) CreateUser(ctx context.Context, u identity.User) error {
	_, err := s.db.ExecContext(ctx, insertUser, u.ID, u.Email, string(u.PasswordHash), string(u.Role), identity.WorkspaceNameOf(u.Email))
	if violates(err, "users_email_taken") {
		return identity.ErrEmailTaken
	}
	return wrapError(err, "adding a user")
}

const selectUserByEmail = `
SELECT ` + userColumns + ` FROM users u WHERE email = $1`

// UserByEmail returns the user with the normalized email, or identity.ErrNoUser.
func (s *Store) UserByEmail(ctx context.Context, email string) (identity.User, error) {
	return s.user(ctx, selectUserByEmail, email)
}

const selectUserByID = `
SELECT ` + userColumns + ` FROM users u WHERE id = $1`

// UserByID returns the user, or identity.ErrNoUser.
func (s *Store) UserByID(ctx context.Context, id uuid.UUID) (identity.User, error) {
	return s.user(ctx, selectUserByID, id)
}

func (s *Store) user(ctx context.Context, query string, arg any) (identity.User, error) {
	var row userRow
	err := s.db.GetContext(ctx, &row, query, arg)
	if errors.Is(err, sql.ErrNoRows) {
		return identity.User{}, identity.ErrNoUser
	}
	if err != nil {
		return identity.User{}, wrapError(err, "reading a user")
	}
	return row.user()
}

const updatePassword = `
WITH u AS (
    UPDATE users SET password_hash = $2 WHERE email = $1 RETURNING id
), ended AS (
    DELETE FROM user_sessions s USING u WHERE s.user_id = u.id
)
SELECT pg_notify('` + AccessRevokedChannel + `', id::text) FROM u`

// SetPassword changes a user's password and with that ends all of the user's
// sessions. It returns identity.ErrNoUser.
func (s *Store) SetPassword(ctx context.Context, email string, hash identity.PasswordHash) error {
	return s.updateUser(ctx, "changing a password", updatePassword, email, string(hash))
}

func (s *Store) updateUser(ctx context.Context, doing, query string, args ...any) error {
	result, err := s.db.ExecContext(ctx, query, args...)
	if err != nil {
		return wrapError(err, doing)
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return errors.Join(identity.ErrNoUser, err)
	}
	return nil
}

const insertFirstAdmin = `
WITH u AS (
    INSERT INTO users (id, email, password_hash, role)
    SELECT $1, $2, $3, 'admin' WHERE NOT EXISTS (SELECT FROM users WHERE role = 'admin')
    ON CONFLICT DO NOTHING RETURNING id
), w AS (
    INSERT INTO workspaces (id, name) SELECT id, $4 FROM u RETURNING id
)
INSERT INTO members (workspace_id, user_id, permissions) SELECT id, id, '{read,send,manage}' FROM w`

// CreateFirstAdmin adds the user as an admin if there is no admin yet. It returns
// false when there is one, or the email is taken.
func (s *Store) CreateFirstAdmin(ctx context.Context, u identity.User) (bool, error) {
	result, err := s.db.ExecContext(ctx, insertFirstAdmin, u.ID, u.Email, string(u.PasswordHash), identity.WorkspaceNameOf(u.Email))
	if err != nil {
		return false, wrapError(err, "adding the first admin")
	}
	n, err := result.RowsAffected()
	return n == 1, wrapError(err, "adding the first admin")
}
