package postgres

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
)

// ErrSharedSessions says that a connection pooler gives the sessions of this process
// to others between transactions. Prepared statements, the settings of sessions, LISTEN
// and the lock for migrations need sessions of their own.
var ErrSharedSessions = errors.New("the connection pooler in front of Postgres shares sessions between clients (transaction mode), " +
	"and Postcard needs sessions of its own: use the pooler's session mode (pool_mode=session in PgBouncer, port 5432 at Supabase) " +
	"or a direct connection (a host without -pooler at Neon)")

// sessionChecks is how often CheckSessions looks whether two connections share a
// session. A pooler gives out the session that it got back last, so one look is enough
// unless other clients are busy at that moment.
const sessionChecks = 10

// CheckSessions returns ErrSharedSessions if two connections of the store can get the
// same session of the server. The store needs at least two connections.
func (s *Store) CheckSessions(ctx context.Context) error {
	ctx, cancel := s.db.withTimeout(ctx)
	defer cancel()
	lost := 0
	for range sessionChecks {
		shared, err := s.sharesSessions(ctx)
		switch {
		case shared:
			return ErrSharedSessions
		case errors.Is(err, driver.ErrBadConn):
			lost++
		case err != nil:
			return wrapError(err, "checking whether connections keep their sessions")
		}
	}
	if lost == sessionChecks {
		// In statement mode, PgBouncer closes each connection that begins a transaction,
		// and the driver does not say why.
		return ErrSharedSessions
	}
	return nil
}

// sharesSessions reports whether the session of one connection is another's during a
// transaction of that one, or becomes another.
func (s *Store) sharesSessions(ctx context.Context) (bool, error) {
	one, err := s.db.Conn(ctx)
	if err != nil {
		return false, err
	}
	defer one.Close()
	two, err := s.db.Conn(ctx)
	if err != nil {
		return false, err
	}
	defer two.Close()
	var before, other, after int
	if err := one.QueryRowContext(ctx, selectBackend).Scan(&before); err != nil {
		return false, err
	}
	tx, err := two.BeginTx(ctx, nil)
	if err != nil {
		return false, err
	}
	defer func() { _ = tx.Rollback() }() // it has changed nothing
	if err := tx.QueryRowContext(ctx, selectBackend).Scan(&other); err != nil || other == before {
		return err == nil, err
	}
	err = one.QueryRowContext(ctx, selectBackend).Scan(&after)
	return err == nil && after != before, err
}

const selectBackend = `SELECT pg_backend_pid()`

// ConnectionLimit is a limit of the server on the connections of clients.
type ConnectionLimit struct {
	Name string
	Max  int
	Open int // connections that count towards it, without the one that asked
}

// String describes the limit.
func (l ConnectionLimit) String() string {
	return fmt.Sprintf("%s: %d, of which %d are open", l.Name, l.Max, l.Open)
}

// connectionLimits sees only which user and database a session of another user has;
// the type of its process is hidden.
const connectionLimits = `
WITH clients AS (
	SELECT usename, datname FROM pg_stat_activity
	WHERE datid IS NOT NULL AND coalesce(backend_type, 'client backend') = 'client backend' AND pid <> pg_backend_pid()
)
SELECT 'max_connections of the server, without the reserved ones' AS name,
	current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
		- coalesce(current_setting('reserved_connections', true)::int, 0) AS max,
	(SELECT count(*) FROM clients) AS open
UNION ALL
SELECT 'connection limit of the role', rolconnlimit, (SELECT count(*) FROM clients WHERE usename = rolname)
FROM pg_roles WHERE rolname = session_user AND rolconnlimit >= 0
UNION ALL
SELECT 'connection limit of the database', datconnlimit, (SELECT count(*) FROM clients WHERE clients.datname = pg_database.datname)
FROM pg_database WHERE datname = current_database() AND datconnlimit >= 0`

// ConnectionLimits returns the limits of the server that apply to this store.
func (s *Store) ConnectionLimits(ctx context.Context) ([]ConnectionLimit, error) {
	var limits []ConnectionLimit
	err := s.db.SelectContext(ctx, &limits, connectionLimits)
	return limits, wrapError(err, "reading the server's limits on connections")
}
