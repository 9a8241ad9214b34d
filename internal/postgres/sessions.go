package postgres

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// Sessions stores the sessions of scs in Postgres, so that losing Redis logs nobody
// out. It implements scs.CtxStore.
type Sessions struct{ store *Store }

// Sessions returns the session store.
func (s *Store) Sessions() *Sessions { return &Sessions{store: s} }

const selectSession = `SELECT data FROM sessions WHERE token = $1 AND expiry > now()`

// FindCtx returns the data of a session; false when it is unknown or expired.
func (s *Sessions) FindCtx(ctx context.Context, token string) ([]byte, bool, error) {
	var data []byte
	err := s.store.db.GetContext(ctx, &data, selectSession, token)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, false, nil
	}
	return data, err == nil, wrapError(err, "reading a session")
}

const upsertSession = `
INSERT INTO sessions (token, data, expiry) VALUES ($1, $2, now() + $3 * interval '1 second')
ON CONFLICT (token) DO UPDATE SET data = EXCLUDED.data, expiry = EXCLUDED.expiry`

// CommitCtx stores a session until its expiry, which scs takes from the clock of this
// process. The database's clock decides whether the session has expired, so its lifetime is
// stored by that clock.
func (s *Sessions) CommitCtx(ctx context.Context, token string, data []byte, expiry time.Time) error {
	_, err := s.store.db.ExecContext(ctx, upsertSession, token, data, time.Until(expiry).Seconds())
	return wrapError(err, "storing a session")
}

const deleteSession = `DELETE FROM sessions WHERE token = $1`

// DeleteCtx deletes a session. An unknown session is no error.
func (s *Sessions) DeleteCtx(ctx context.Context, token string) error {
	_, err := s.store.db.ExecContext(ctx, deleteSession, token)
	return wrapError(err, "deleting a session")
}

// Find is FindCtx without a context, which scs.Store requires.
func (s *Sessions) Find(token string) ([]byte, bool, error) {
	return s.FindCtx(context.Background(), token)
}

// Commit is CommitCtx without a context.
func (s *Sessions) Commit(token string, data []byte, expiry time.Time) error {
	return s.CommitCtx(context.Background(), token, data, expiry)
}

// Delete is DeleteCtx without a context.
func (s *Sessions) Delete(token string) error { return s.DeleteCtx(context.Background(), token) }

const deleteExpiredSessions = `
DELETE FROM sessions WHERE token IN (SELECT token FROM sessions WHERE expiry < now() FOR UPDATE SKIP LOCKED)`

// DeleteExpired deletes expired sessions, their entries in the lists of users, and expired
// links that reset a password.
func (s *Sessions) DeleteExpired(ctx context.Context) error {
	for _, statement := range []string{deleteExpiredSessions, deleteExpiredUserSessions, deleteExpiredResets} {
		if _, err := s.store.db.ExecContext(ctx, statement); err != nil {
			return wrapError(err, "deleting expired sessions")
		}
	}
	return nil
}
