package postgres

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/identity"
)

// updateProfile notifies all processes because they cache users: a change of the
// credentials at another one must not restore the old values.
const updateProfile = `
WITH u AS (
    UPDATE users SET name = $2, time_zone = $3 WHERE id = $1 RETURNING id
)
SELECT pg_notify('` + AccessRevokedChannel + `', id::text) FROM u`

// updateCredentials changes a user only while the password is the one that was checked, or
// the new one, if database/sql repeats the statement.
const updateCredentials = `
WITH u AS (
    UPDATE users SET name = $3, time_zone = $4, email = $5, password_hash = $6
    WHERE id = $1 AND password_hash IN ($2, $6) AND disabled_at IS NULL
    RETURNING id
), locked AS (
    SELECT s.id FROM user_sessions s JOIN u ON u.id = s.user_id WHERE s.id <> $7 ORDER BY s.id FOR UPDATE OF s
), ended AS (
    DELETE FROM user_sessions WHERE id IN (SELECT id FROM locked)
), started AS (
    INSERT INTO user_sessions (id, user_id, browser, address, expires_at)
    SELECT $7, u.id, $8, $9, now() + $10 * interval '1 second' FROM u
    ON CONFLICT (id) DO NOTHING
)
SELECT pg_notify('` + AccessRevokedChannel + `', id::text) FROM u`

// ChangeProfile stores the name and the time zone of a user, and notifies all processes. It
// returns identity.ErrNoUser.
func (s *Store) ChangeProfile(ctx context.Context, u identity.User) error {
	return s.updateUser(ctx, "changing a profile", updateProfile, u.ID, u.Name, u.TimeZone)
}

// ChangeCredentials stores the whole profile of a user whose password hash was checked, with
// the new hash. It ends all sessions of the user, starts the given one in their place, and
// notifies all processes. It returns identity.ErrEmailTaken, or identity.ErrNoUser if the
// checked hash is not the user's any more, or the user is disabled.
func (s *Store) ChangeCredentials(ctx context.Context, u identity.User, hash identity.PasswordHash, session identity.Session, lifetime time.Duration) error {
	err := s.updateUser(ctx, "changing credentials", updateCredentials, u.ID, string(u.PasswordHash), u.Name, u.TimeZone, u.Email, string(hash),
		session.ID, session.Browser, session.Address, lifetime.Seconds())
	if violates(err, "users_email_taken") {
		return identity.ErrEmailTaken
	}
	return err
}

const updateDisabled = `
WITH u AS (
    UPDATE users SET disabled_at = CASE WHEN $2 THEN coalesce(disabled_at, now()) END WHERE id = $1 RETURNING id
), locked AS (
    SELECT s.id FROM user_sessions s JOIN u ON u.id = s.user_id WHERE $2 ORDER BY s.id FOR UPDATE OF s
), ended AS (
    DELETE FROM user_sessions WHERE id IN (SELECT id FROM locked)
)
SELECT pg_notify('` + AccessRevokedChannel + `', id::text) FROM u`

// SetDisabled disables or enables a user. A disabled user cannot log in, and neither their
// sessions nor their API keys work. It returns identity.ErrNoUser.
func (s *Store) SetDisabled(ctx context.Context, user uuid.UUID, disabled bool) error {
	return s.updateUser(ctx, "disabling a user", updateDisabled, user, disabled)
}

// insertReset stores what the user has at this moment: a link for an old email or password
// is useless.
const insertReset = `
WITH u AS (
    SELECT id, email, password_hash FROM users WHERE email = $2 AND disabled_at IS NULL AND password_hash IS NOT NULL
), r AS (
    INSERT INTO password_resets (token_hash, user_id, email, password_hash, expires_at)
    SELECT $1, u.id, u.email, sha256(convert_to(u.password_hash, 'UTF8')), now() + $3 * interval '1 second' FROM u
    ON CONFLICT (token_hash) DO NOTHING
)
SELECT count(*) FROM u`

// CreateReset stores the token's hash, with which the user of the email can set a new
// password for identity.ResetLifetime. It returns identity.ErrNoUser, also for a disabled
// user and for one without a password.
func (s *Store) CreateReset(ctx context.Context, email string, tokenHash [32]byte) error {
	var users int
	err := s.db.GetContext(ctx, &users, insertReset, tokenHash[:], email, identity.ResetLifetime.Seconds())
	if err == nil && users == 0 {
		return identity.ErrNoUser
	}
	return wrapError(err, "storing a password reset")
}

// usableReset is the condition under which the reset r can be used for the user u.
const usableReset = `r.token_hash = $1 AND r.expires_at > now() AND u.id = r.user_id AND u.disabled_at IS NULL
    AND u.email = r.email AND sha256(convert_to(u.password_hash, 'UTF8')) = r.password_hash`

const selectReset = `
SELECT u.email FROM password_resets r, users u WHERE ` + usableReset

// CheckReset returns the email of the user whose password the token can reset, or
// identity.ErrNoReset.
func (s *Store) CheckReset(ctx context.Context, tokenHash [32]byte) (email string, err error) {
	err = s.db.GetContext(ctx, &email, selectReset, tokenHash[:])
	if errors.Is(err, sql.ErrNoRows) {
		return "", identity.ErrNoReset
	}
	return email, wrapError(err, "reading a password reset")
}

// useReset changes the user first: a second use of the same link waits for the first one,
// and then finds another password.
const useReset = `
WITH u AS (
    UPDATE users u SET password_hash = $2 FROM password_resets r WHERE ` + usableReset + ` RETURNING u.id, u.email
), locked AS (
    SELECT s.id FROM user_sessions s JOIN u ON u.id = s.user_id ORDER BY s.id FOR UPDATE OF s
), ended AS (
    DELETE FROM user_sessions WHERE id IN (SELECT id FROM locked)
)
SELECT id, email, pg_notify('` + AccessRevokedChannel + `', id::text) FROM u`

// UseReset sets the password of the token's user, ends all of their sessions, and notifies
// all processes. It returns the user's id and email, or identity.ErrNoReset.
func (s *Store) UseReset(ctx context.Context, tokenHash [32]byte, hash identity.PasswordHash) (id uuid.UUID, email string, err error) {
	var row struct {
		ID     uuid.UUID `db:"id"`
		Email  string    `db:"email"`
		Notify string    `db:"pg_notify"`
	}
	err = s.db.GetContext(ctx, &row, useReset, tokenHash[:], string(hash))
	if errors.Is(err, sql.ErrNoRows) {
		return uuid.Nil, "", identity.ErrNoReset
	}
	return row.ID, row.Email, wrapError(err, "resetting a password")
}

const deleteExpiredResets = `
DELETE FROM password_resets WHERE token_hash IN (SELECT token_hash FROM password_resets WHERE expires_at < now() FOR UPDATE SKIP LOCKED)`
