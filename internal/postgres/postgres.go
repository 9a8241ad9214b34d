// Package postgres keeps users and messages. It is the only place with SQL and
// the only one that sees driver errors: callers get the errors of mms and
// identity.
//
// A message changes its status here and nowhere else: one function and one
// statement per transition, guarded by the status it comes from, which writes
// the event together with the change. That a guard matched nothing is an
// outcome, not an error.
package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"github.com/postcard-mms/postcard/internal/groupcommit"
	"github.com/postcard-mms/postcard/internal/mms"
)

// Store is the database. It is safe for concurrent use.
type Store struct {
	db         *preparedDB
	notifier   changeNotifier
	creating   *groupcommit.Committer[creation]
	claiming   *groupcommit.Committer[claimCall]
	submitting *groupcommit.Committer[submission]
}

// StatementTimeout is how long a process waits for the answer to one statement.
const StatementTimeout = 15 * time.Second

// Open makes a store on the database at the address, a URL, with at most maxConns
// connections. It waits for nothing: a database that is away shows itself in Ping. A
// statement that is not answered within patience fails, and its connection is closed;
// 0 waits for ever, for migrations and audits.
func Open(address string, maxConns int, patience time.Duration) (*Store, error) {
	connector, err := pq.NewConnector(withOptions(address, patience))
	if err != nil {
		return nil, errors.New("opening the database: its URL cannot be read") // the cause may repeat its password
	}
	if patience > 0 {
		// Last of all, so that a statement that is given up is first canceled there.
		connector.Dialer(timeoutDialer{dialer: net.Dialer{Timeout: dialTimeout}, timeout: patience * 11 / 10})
	}
	db := sqlx.NewDb(sql.OpenDB(connector), "postgres")
	db.SetMaxOpenConns(maxConns)
	db.SetMaxIdleConns(maxConns)
	db.SetConnMaxIdleTime(5 * time.Minute)
	return &Store{
		db:         &preparedDB{DB: db, timeout: patience, statements: map[string]*sqlx.Stmt{}},
		creating:   groupcommit.New[creation](groupcommit.Options{Timeout: StatementTimeout}),
		claiming:   groupcommit.New[claimCall](groupcommit.Options{Timeout: StatementTimeout, Delay: true}),
		submitting: groupcommit.New[submission](groupcommit.Options{Timeout: StatementTimeout, Delay: true}),
	}, nil
}

// withOptions has the driver send a statement with its parameters in one round trip
// instead of two, and the planner use indexes wherever there are any: plans are
// kept, and what was planned for an empty table must be right for a full one.
//
// The database itself gives up a little before patience is over: a statement that
// waits for a lock would be carried out after its caller was told that it failed. A
// transaction that nobody goes on with, of a process that was stopped, ends as well.
func withOptions(raw string, patience time.Duration) string {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" && u.RawQuery == "" && u.Path == "" {
		return raw
	}
	query := u.Query()
	query.Set("binary_parameters", "yes")
	query.Set("enable_seqscan", "off")
	query.Set("jit", "off") // it takes longer than any of our statements
	if patience > 0 {
		query.Set("statement_timeout", strconv.FormatInt((patience*9/10).Milliseconds(), 10))
		query.Set("idle_in_transaction_session_timeout", strconv.FormatInt(patience.Milliseconds(), 10))
	}
	u.RawQuery = query.Encode()
	return u.String()
}

// DB is the connection pool, for the session store and for migrations.
func (s *Store) DB() *sql.DB { return s.db.DB.DB }

// Close closes all connections.
func (s *Store) Close() error { return s.db.Close() }

// Ping asks whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	return wrapError(s.db.PingContext(ctx), "pinging the database")
}

// Now is the database's time, the one that counts.
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	var now time.Time
	err := s.db.GetContext(ctx, &now, `SELECT now()`)
	return now, wrapError(err, "asking for the database's time")
}

// wrapError wraps err with what was being done, and adds mms.ErrUnavailable
// where the database could not be reached or broke off.
func wrapError(err error, doing string) error {
	switch {
	case err == nil:
		return nil
	case isUnavailable(err):
		return fmt.Errorf("%s: %w: %w", doing, mms.ErrUnavailable, err)
	default:
		return fmt.Errorf("%s: %w", doing, err)
	}
}

// isUnavailable recognises lost connections, and the SQLSTATE classes 08
// (connection), 25P03 (idle for too long within a transaction), 40 (rolled back for
// another transaction's sake), 53 (out of resources), 57 (given up after patience,
// shutting down, starting up).
func isUnavailable(err error) bool {
	var netErr net.Error
	if errors.As(err, &netErr) || errors.Is(err, sql.ErrConnDone) || errors.Is(err, driver.ErrBadConn) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return true
	}
	var pqErr *pq.Error
	if !errors.As(err, &pqErr) {
		return false
	}
	state := pqErr.SQLState()
	for _, class := range []string{"08", "25P03", "40", "53", "57"} {
		if strings.HasPrefix(state, class) {
			return true
		}
	}
	return false
}

// violates reports whether err is the breach of the named constraint.
func violates(err error, constraint string) bool {
	var pqErr *pq.Error
	return errors.As(err, &pqErr) && pqErr.Constraint == constraint
}
