package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
)

// ErrSharedSessions says that a connection pooler lets other clients use the sessions of
// this process between its transactions. Prepared statements, the settings of sessions,
// LISTEN and the lock for migrations need sessions that belong to one process.
var ErrSharedSessions = errors.New("the connection pooler in front of Postgres shares sessions between clients (transaction mode), " +
	"and Postcard needs sessions of its own: use the pooler's session mode (pool_mode=session in PgBouncer, port 5432 at Supabase) " +
	"or a direct connection (a host without -pooler at Neon)")

// sessionChecks is how many pairs of connections CheckSessions opens. A pooler reuses the
// session that was returned last, so one pair is enough if the pooler is one process and
// has no other client at that moment. Providers run several poolers behind one address.
const sessionChecks = 8

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

// sharesSessions reports whether the session of a new connection was another's before,
// or becomes another's during a transaction.
func (s *Store) sharesSessions(ctx context.Context) (bool, error) {
	one, err := s.db.Conn(ctx)
	if err != nil {
		return false, err
	}
	defer discard(one)
	two, err := s.db.Conn(ctx)
	if err != nil {
		return false, err
	}
	defer discard(two)
	before, used, err := markSession(ctx, one)
	if err != nil || used {
		return used, err
	}
	tx, err := two.BeginTx(ctx, nil)
	if err != nil {
		return false, err
	}
	defer func() { _ = tx.Rollback() }() // the connection is closed anyway
	other, used, err := markSession(ctx, tx)
	if err != nil || used || other == before {
		return err == nil, err
	}
	after, _, err := markSession(ctx, one)
	return err == nil && after != before, err
}

// discard closes a connection instead of returning it to the pool.
func discard(conn *sql.Conn) {
	_ = conn.Raw(func(any) error { return driver.ErrBadConn })
}

// markSession returns the id of the session, and whether it was marked before. A pooler
// in session mode removes the mark before it gives the session to another connection.
func markSession(ctx context.Context, db interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}) (id int, marked bool, err error) {
	const read = `SELECT pg_backend_pid(), coalesce(current_setting('postcard.checked', true), '') <> ''`
	if err := db.QueryRowContext(ctx, read).Scan(&id, &marked); err != nil {
		return 0, false, err
	}
	_, err = db.ExecContext(ctx, `SET postcard.checked = on`)
	return id, marked, err
}

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
