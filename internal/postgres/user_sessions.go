package postgres

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/identity"
)

type userSessionRow struct {
	ID         uuid.UUID `db:"id"`
	UserID     uuid.UUID `db:"user_id"`
	Browser    string    `db:"browser"`
	Address    string    `db:"address"`
	CreatedAt  time.Time `db:"created_at"`
	LastUsedAt time.Time `db:"last_used_at"`
}

const insertUserSession = `
WITH s AS (
    INSERT INTO user_sessions (id, user_id, browser, address, expires_at)
    SELECT $1, u.id, $3, $4, now() + $5 * interval '1 second' FROM users u WHERE u.id = $2 AND u.disabled_at IS NULL
    ON CONFLICT (id) DO NOTHING
)
SELECT count(*) FROM users u WHERE u.id = $2 AND u.disabled_at IS NULL`

// StartSession stores a session that lasts for the lifetime. It returns
// identity.ErrDisabled for a user who is disabled or does not exist. It is idempotent by the
// id, because database/sql repeats a statement whose connection broke.
func (s *Store) StartSession(ctx context.Context, session identity.Session, lifetime time.Duration) error {
	var users int
	err := s.db.GetContext(ctx, &users, insertUserSession, session.ID, session.UserID, session.Browser, session.Address, lifetime.Seconds())
	if err == nil && users == 0 {
		return identity.ErrDisabled
	}
	return wrapError(err, "storing a session of a user")
}

const selectUserSession = `
SELECT last_used_at < now() - interval '1 minute' FROM user_sessions WHERE id = $1 AND user_id = $2 AND expires_at > now()`

const touchUserSession = `
UPDATE user_sessions SET last_used_at = now(), address = $2 WHERE id = $1 AND last_used_at < now() - interval '1 minute'`

// UseSession updates the last use of a session, at most once a minute. It returns
// identity.ErrNoSession if the session has ended.
func (s *Store) UseSession(ctx context.Context, user, id uuid.UUID, address string) error {
	var stale bool
	err := s.db.GetContext(ctx, &stale, selectUserSession, id, user)
	if errors.Is(err, sql.ErrNoRows) {
		return identity.ErrNoSession
	}
	if err != nil || !stale {
		return wrapError(err, "reading a session of a user")
	}
	_, err = s.db.ExecContext(ctx, touchUserSession, id, address)
	return wrapError(err, "updating the last use of a session")
}

const selectUserSessions = `
SELECT id, user_id, browser, address, created_at, last_used_at FROM user_sessions
WHERE user_id = $1 AND expires_at > now() ORDER BY last_used_at DESC, id LIMIT 200`

// UserSessions returns the sessions of a user, the most recently used first, 200 at most.
func (s *Store) UserSessions(ctx context.Context, user uuid.UUID) ([]identity.Session, error) {
	var rows []userSessionRow
	if err := s.db.SelectContext(ctx, &rows, selectUserSessions, user); err != nil {
		return nil, wrapError(err, "listing the sessions of a user")
	}
	sessions := make([]identity.Session, len(rows))
	for i, row := range rows {
		sessions[i] = identity.Session(row)
	}
	return sessions, nil
}

// deleteUserSession notifies also if there is no such session: its streams may be open.
const deleteUserSession = `
WITH s AS (
    DELETE FROM user_sessions WHERE id = $1 AND user_id = $2 RETURNING id
)
SELECT count(s.id), pg_notify('` + AccessRevokedChannel + `', $2::text) FROM (SELECT) one LEFT JOIN s ON true`

// EndSession ends a session of the user, and notifies all processes, which end the user's
// live streams. It returns identity.ErrNoSession if the session has ended already, or is
// another user's.
func (s *Store) EndSession(ctx context.Context, user, id uuid.UUID) error {
	var row struct {
		Ended  int    `db:"count"`
		Notify string `db:"pg_notify"`
	}
	err := s.db.GetContext(ctx, &row, deleteUserSession, id, user)
	if err == nil && row.Ended == 0 {
		return identity.ErrNoSession
	}
	return wrapError(err, "ending a session")
}

const deleteOtherUserSessions = `
WITH locked AS (
    SELECT id FROM user_sessions WHERE user_id = $1 AND id <> $2 ORDER BY id FOR UPDATE
), s AS (
    DELETE FROM user_sessions WHERE id IN (SELECT id FROM locked)
)
SELECT pg_notify('` + AccessRevokedChannel + `', $1::text)`

// EndOtherSessions ends all sessions of the user except one, and notifies all processes.
func (s *Store) EndOtherSessions(ctx context.Context, user, except uuid.UUID) error {
	_, err := s.db.ExecContext(ctx, deleteOtherUserSessions, user, except)
	return wrapError(err, "ending the other sessions of a user")
}

const deleteExpiredUserSessions = `
DELETE FROM user_sessions WHERE id IN (SELECT id FROM user_sessions WHERE expires_at < now() FOR UPDATE SKIP LOCKED)`
