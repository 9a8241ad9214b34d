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

// userColumns are read into a userRow; the table is named u.
const userColumns = `u.id, u.email, u.password_hash, u.role, coalesce(u.daily_cap, 0) AS daily_cap, u.created_at`

func (r userRow) user() identity.User {
	return identity.User{
		ID: r.ID, Email: r.Email, PasswordHash: identity.PasswordHash(r.PasswordHash),
		Role: identity.Role(r.Role), DailyCap: r.DailyCap, CreatedAt: r.CreatedAt,
	}
}

const insertUser = `
INSERT INTO users (id, email, password_hash, role) VALUES ($1, $2, $3, $4)`

// CreateUser adds a user, or returns identity.ErrEmailTaken.
func (s *Store) CreateUser(ctx context.Context, u identity.User) error {
	_, err := s.db.ExecContext(ctx, insertUser, u.ID, u.Email, string(u.PasswordHash), string(u.Role))
	if violates(err, "users_email_taken") {
		return identity.ErrEmailTaken
	}
	return wrapError(err, "adding a user")
}

const selectUserByEmail = `
SELECT ` + userColumns + ` FROM users u WHERE email = $1`

// UserByEmail returns the user with the normalised email, or identity.ErrNoUser.
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

// SetPassword changes a user's password, which ends all of their sessions, or returns
// identity.ErrNoUser.
func (s *Store) SetPassword(ctx context.Context, email string, hash identity.PasswordHash) error {
	return s.updateUser(ctx, "changing a password", updatePassword, email, string(hash))
}

const notifyLogout = `SELECT pg_notify('` + AccessRevokedChannel + `', $1)`

// NotifyLogout tells all processes that a session of the user's has ended.
func (s *Store) NotifyLogout(ctx context.Context, user uuid.UUID) error {
	_, err := s.db.ExecContext(ctx, notifyLogout, user.String())
	return wrapError(err, "announcing a logout")
}

const updateDailyCap = `
UPDATE users SET daily_cap = nullif($2, 0) WHERE email = $1`

// SetDailyCap sets how many messages a user may send in a day, UTC; 0 for the
// installation's cap. It returns identity.ErrNoUser.
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

// CreateFirstAdmin adds the user as an admin where there is no admin yet, and
// reports whether it did.
func (s *Store) CreateFirstAdmin(ctx context.Context, u identity.User) (bool, error) {
	result, err := s.db.ExecContext(ctx, insertFirstAdmin, u.ID, u.Email, string(u.PasswordHash))
	if err != nil {
		return false, wrapError(err, "adding the first admin")
	}
	n, err := result.RowsAffected()
	return n == 1, wrapError(err, "adding the first admin")
}

const countHit = `
INSERT INTO throttles (key, hits, window_ends) VALUES ($1, 1, now() + $2 * interval '1 second')
ON CONFLICT (key) DO UPDATE SET
    hits       = CASE WHEN throttles.window_ends <= now() THEN 1 ELSE throttles.hits + 1 END,
    window_ends = CASE WHEN throttles.window_ends <= now() THEN EXCLUDED.window_ends ELSE throttles.window_ends END
RETURNING hits, extract(epoch FROM window_ends - clock_timestamp())`

// Throttle counts one more try under the key and returns how long to wait when
// there were more than limit in the current window, else 0.
func (s *Store) Throttle(ctx context.Context, key [32]byte, limit int, window time.Duration) (time.Duration, error) {
	var tries int
	var left float64
	ctx, cancel := s.db.withTimeout(ctx)
	defer cancel()
	err := s.db.QueryRowContext(ctx, countHit, key[:], window.Seconds()).Scan(&tries, &left)
	if err != nil {
		return 0, wrapError(err, "counting a try")
	}
	if tries <= limit {
		return 0, nil
	}
	return seconds(left), nil
}

const deleteThrottle = `
DELETE FROM throttles WHERE key = $1 OR window_ends < now() - interval '1 hour'`

// Unthrottle forgets the tries under the key, and all that are long over.
func (s *Store) Unthrottle(ctx context.Context, key [32]byte) error {
	_, err := s.db.ExecContext(ctx, deleteThrottle, key[:])
	return wrapError(err, "forgetting tries")
}

// seconds turns a number of seconds, as the database counts them, into a duration.
func seconds(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }
