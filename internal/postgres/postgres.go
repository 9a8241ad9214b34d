// Package postgres is the store: every SQL statement of Postcard and every
// driver error stays in it. Callers see the domain types and errors of mms,
// identity, webhook and audit.
//
// Only this package changes a message's status. Each transition is one function
// with one statement, which checks the status that the message comes from and
// inserts the event together with the change. A statement that changes no row
// is a normal outcome, not an error.
//
// The package decides nothing about retries, never calls Plivo and does not
// know the queue.
package postgres

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"github.com/postcard-mms/postcard/internal/groupcommit"
	"github.com/postcard-mms/postcard/internal/mms"
)

// Store is a pool of connections to the database. It is safe for concurrent use.
type Store struct {
	db         *preparedDB
	notifier   changeNotifier
	creating   *groupcommit.Committer[createCall]
	claiming   *groupcommit.Committer[claimCall]
	submitting *groupcommit.Committer[submitCall]

	optOutsOfEverySender bool // mms.OptOutsOfEverySender
	plivoAccount         string
	checksMedia          bool
}

// StatementTimeout is how long the api and the workers wait for one statement.
const StatementTimeout = 15 * time.Second

// Open returns a store on the database at the URL, with at most maxConns
// connections. It does not connect yet: use Ping to see whether the database is
// up. A statement that takes longer than timeout fails with mms.ErrUnavailable;
// 0 means no limit, for migrations and audits. Whatever the timeout, each statement
// ends at the deadline of its context.
func Open(url string, maxConns int, timeout time.Duration) (*Store, error) {
	connector, err := newConnector(url, timeout)
	if err != nil {
		return nil, err
	}
	db := sqlx.NewDb(sql.OpenDB(connector), "postgres")
	db.SetMaxOpenConns(maxConns)
	db.SetMaxIdleConns(maxConns)
	db.SetConnMaxIdleTime(5 * time.Minute)
	s := &Store{
		db:       &preparedDB{DB: db, timeout: timeout, statements: map[string]*sqlx.Stmt{}},
		creating: groupcommit.New[createCall](groupcommit.Options{Timeout: StatementTimeout}),

		optOutsOfEverySender: true,
	}
	s.ExpectCalls(0)
	return s, nil
}

// How long calls wait, under load, for others to share a statement with. A claim
// delays a call to Plivo; nothing waits for the record of a submitted message.
const (
	claimDelay  = 2 * time.Millisecond
	submitDelay = 50 * time.Millisecond

	minFullClaim = 5 // claims; a statement for fewer costs each of them too much
)

// ExpectCalls prepares the store for a worker with up to n calls to Plivo in flight: under
// load its claims and the records of its submitted messages wait a little for others, at
// most until an eighth or half of n share a statement. It must be called before the store
// is used.
func (s *Store) ExpectCalls(n int) {
	s.claiming = groupcommit.New[claimCall](groupcommit.Options{Timeout: StatementTimeout, Delay: claimDelay, FullBatch: min(max(n/8, minFullClaim), n)})
	s.submitting = groupcommit.New[submitCall](groupcommit.Options{Timeout: StatementTimeout, Delay: submitDelay, FullBatch: n / 2})
}

// SetOptOutScope sets for which senders an opt-out holds; the default is every sender. It
// must be called before the store is used. The scope is not part of the data: suppressions
// keep their sender.
func (s *Store) SetOptOutScope(scope mms.OptOutScope) {
	s.optOutsOfEverySender = scope != mms.OptOutsOfOneSender
}

// UseMedia sets the Plivo account whose copies of uploads count, and whether media URLs are
// checked before they are sent. It must be called before the store is used.
func (s *Store) UseMedia(account string, check bool) {
	s.plivoAccount, s.checksMedia = account, check
}

// DB returns the connection pool, for migrations and tests.
func (s *Store) DB() *sql.DB { return s.db.DB.DB }

// Close closes all connections.
func (s *Store) Close() error { return s.db.Close() }

// Ping returns nil when the database answers.
func (s *Store) Ping(ctx context.Context) error {
	ctx, cancel := s.db.withTimeout(ctx)
	defer cancel()
	return wrapError(s.db.PingContext(ctx), "pinging the database")
}

// writeCheck changes a row that nothing else uses. Only a write shows that the database is
// not read-only, not a standby, has room on its disk, and commits.
const writeCheck = `
INSERT INTO leases (name, holder, expires_at) VALUES ('write check', gen_random_uuid(), now())
ON CONFLICT (name) DO UPDATE SET holder = EXCLUDED.holder, expires_at = EXCLUDED.expires_at`

// CheckWritable returns nil when this pool can commit a write. A check writes about
// 200 bytes of WAL.
func (s *Store) CheckWritable(ctx context.Context) error {
	_, err := s.db.ExecContext(ctx, writeCheck)
	return wrapError(err, "checking that the database is writable")
}

// Now returns the database's time. All due times and leases are measured by this clock.
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	var now time.Time
	err := s.db.GetContext(ctx, &now, `SELECT now()`)
	return now, wrapError(err, "reading the database's time")
}

// isCanceled reports whether the database canceled the statement, because of its
// timeout for example (SQLSTATE 57014).
func isCanceled(err error) bool {
	var pqErr *pq.Error
	return errors.As(err, &pqErr) && pqErr.SQLState() == "57014"
}

// violates reports whether err is a violation of the named constraint.
func violates(err error, constraint string) bool {
	var pqErr *pq.Error
	return errors.As(err, &pqErr) && pqErr.Constraint == constraint
}

// seconds converts a number of seconds, as the database returns them, to a duration.
func seconds(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }
