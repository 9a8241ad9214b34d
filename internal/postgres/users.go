package postgres

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/identity"
)

type userRow struct {
	ID           uuid.UUID `db:"id"`
	Email        string    `db:"email"`
	PasswordHash string    `db:"password_hash"`
	Role         string    `db:"role"`
	DailyCap     int       `db:"daily_cap"`
	CreatedAt    time.Time `db:"created_at"`
}

// userColumns are the columns of a userRow. The table must be aliased as u.
const userColumns = `u.id, u.email, u.password_hash, u.role, coalesce(u.daily_cap, 0) AS daily_cap, u.created_at`

func (r userRow) user() identity.User {
	return identity.User{
		ID: r.ID, Email: r.Email, PasswordHash: identity.PasswordHash(r.PasswordHash),
		Role: identity.Role(r.Role), DailyCap: r.DailyCap, CreatedAt: r.CreatedAt,
	}
}

const insertUser = `
INSERT INTO users (id, email, password_hash, role) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO NOTHING`

// CreateUser adds a user, or returns identity.ErrEmailTaken. It is idempotent by the id,
// because database/sql repeats a statement whose connection broke.
func (s *Store) CreateUser(ctx context.Context, u identity.User) error {
	_, err := s.db.ExecContext(ctx, insertUser, u.ID, u.Email, string(u.PasswordHash), string(u.Role))
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
	return row.user(), wrapError(err, "reading a user")
}

const updatePassword = `
WITH u AS (
    UPDATE users SET password_hash = $2 WHERE email = $1 RETURNING id
)
SELECT pg_notify('` + AccessRevokedChannel + `', id::text) FROM u`

// SetPassword changes a user's password and with that ends all of the user's
// sessions. It returns identity.ErrNoUser.
func (s *Store) SetPassword(ctx context.Context, email string, hash identity.PasswordHash) error {
	return s.updateUser(ctx, "changing a password", updatePassword, email, string(hash))
}

const notifyLogout = `SELECT pg_notify('` + AccessRevokedChannel + `', $1)`

// NotifyLogout notifies all processes that a session of the user has ended.
func (s *Store) NotifyLogout(ctx context.Context, user uuid.UUID) error {
	_, err := s.db.ExecContext(ctx, notifyLogout, user.String())
	return wrapError(err, "notifying of a logout")
}

const updateDailyCap = `
UPDATE users SET daily_cap = nullif($2, 0) WHERE email = $1`

// SetDailyCap sets how many messages a user may create per UTC day; 0 for the
// installation's default. It returns identity.ErrNoUser.
func (s *Store) SetDailyCap(ctx context.Context, email string, messages int) error {
	return s.updateUser(ctx, "setting a daily cap", updateDailyCap, email, messages)
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
INSERT INTO users (id, email, password_hash, role)
SELECT $1, $2, $3, 'admin' WHERE NOT EXISTS (SELECT FROM users WHERE role = 'admin')
ON CONFLICT DO NOTHING`

// CreateFirstAdmin adds the user as an admin if there is no admin yet. It returns
// false when there is one, or the email is taken.
func (s *Store) CreateFirstAdmin(ctx context.Context, u identity.User) (bool, error) {
	result, err := s.db.ExecContext(ctx, insertFirstAdmin, u.ID, u.Email, string(u.PasswordHash))
	if err != nil {
		return false, wrapError(err, "adding the first admin")
	}
	n, err := result.RowsAffected()
	return n == 1, wrapError(err, "adding the first admin")
}
