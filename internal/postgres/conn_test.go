package postgres_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/postgres"
	"github.com/postcard-mms/postcard/internal/testkit"
)

// otherPool returns a connection pool that is not the store's.
func otherPool(t *testing.T, database string) *sql.DB {
	t.Helper()
	db, err := sql.Open("postgres", database)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func mustExec(t *testing.T, db *sql.DB, statement string) {
	t.Helper()
	if _, err := db.Exec(statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// setReadOnly makes new transactions of the database read-only, or lets them write.
func setReadOnly(t *testing.T, admin *sql.DB, value string) {
	t.Helper()
	mustExec(t, admin, `DO $$ BEGIN EXECUTE 'ALTER DATABASE ' || current_database() || ' SET default_transaction_read_only = `+value+`'; END $$`)
}

// endSessions ends all other sessions of the database.
func endSessions(t *testing.T, admin *sql.DB) {
	t.Helper()
	mustExec(t, admin, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`)
}

// fillPool makes the pool open n connections.
func fillPool(t *testing.T, store *postgres.Store, n int) {
	t.Helper()
	var connections []*sql.Conn
	for range n {
		connection, err := store.DB().Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		connections = append(connections, connection)
	}
	for _, connection := range connections {
		if err := connection.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if open := store.DB().Stats().OpenConnections; open != n {
		t.Fatalf("got %d connections, want %d", open, n)
	}
}

// TestReadOnlyConnectionsAreDiscarded makes the database read-only, as a failover or a full
// disk does, and writable again. No statement may fail because of connections that were opened
// meanwhile.
func TestReadOnlyConnectionsAreDiscarded(t *testing.T) {
	t.Parallel()
	database := testkit.Database(t)
	store, workspace := newStoreOn(t, database, postgres.StatementTimeout)
	admin := otherPool(t, database+"&default_transaction_read_only=off")
	admin.SetMaxOpenConns(1)
	setReadOnly(t, admin, "on")
	endSessions(t, admin)
	fillPool(t, store, 10) // they are read-only
	_, err := store.CreateMessage(t.Context(), newRequest(workspace))
	if !errors.Is(err, mms.ErrUnavailable) || !strings.Contains(fmt.Sprint(err), "the database is read-only") {
		t.Errorf("CreateMessage: got error %v, want ErrUnavailable and that the database is read-only", err)
	}
	if err := store.CheckWritable(t.Context()); !errors.Is(err, mms.ErrUnavailable) {
		t.Errorf("CheckWritable: got error %v, want ErrUnavailable", err)
	}
	if err := store.Ping(t.Context()); err != nil {
		t.Errorf("Ping: got error %v, want none: reading still works", err)
	}
	fillPool(t, store, 10)
	setReadOnly(t, admin, "off")
	for range 20 {
		create(t, store, workspace)
	}
	if err := store.CheckWritable(t.Context()); err != nil {
		t.Errorf("CheckWritable: got error %v, want none", err)
	}
}

// TestEndedConnectionsAreDiscarded ends all connections of a full pool. Statements are
// repeated on a new one.
func TestEndedConnectionsAreDiscarded(t *testing.T) {
	t.Parallel()
	database := testkit.Database(t)
	store, workspace := newStoreOn(t, database, postgres.StatementTimeout)
	fillPool(t, store, 10)
	endSessions(t, otherPool(t, database))
	for range 10 {
		create(t, store, workspace)
	}
}

// TestLostStatementsAreReplaced deletes the prepared statements of a session, as a pooler
// does when it gives a client another session, and changes the type of a column, as a
// later version's migration may.
func TestLostStatementsAreReplaced(t *testing.T) {
	t.Parallel()
	database := testkit.Database(t)
	store := openStore(t, database, 1, postgres.StatementTimeout)
	for name, statement := range map[string]string{
		"deleted statements": `DEALLOCATE ALL`,
		"changed column":     `ALTER TABLE messages ALTER COLUMN version TYPE int USING version::int`,
	} {
		if _, err := store.Versions(t.Context(), []uuid.UUID{uuid.New()}); err != nil {
			t.Fatal(err)
		}
		if _, err := store.DB().Exec(statement); err != nil {
			t.Fatal(err)
		}
		if _, err := store.Versions(t.Context(), []uuid.UUID{uuid.New()}); err != nil {
			t.Errorf("%s: got error %v, want none", name, err)
		}
	}
}

// TestStatementEndsWithItsContext runs each kind of statement on a connection whose
// packets are lost. Only the test's own limit would end it otherwise.
func TestStatementEndsWithItsContext(t *testing.T) {
	t.Parallel()
	database := testkit.Database(t)
	for name, statement := range map[string]func(ctx context.Context, store *postgres.Store) error{
		"prepared statement": func(ctx context.Context, store *postgres.Store) error {
			_, err := store.Now(ctx)
			return err
		},
		"statement with arguments": func(ctx context.Context, store *postgres.Store) error {
			_, err := store.DB().ExecContext(ctx, `SELECT $1`, "x")
			return err
		},
		"statement": func(ctx context.Context, store *postgres.Store) error {
			_, err := store.DB().ExecContext(ctx, `SELECT 1`)
			return err
		},
		"BEGIN": func(ctx context.Context, store *postgres.Store) error {
			_, err := store.DB().BeginTx(ctx, nil)
			return err
		},
		"ping": func(ctx context.Context, store *postgres.Store) error { return store.Ping(ctx) },
	} {
		for _, timeout := range []time.Duration{postgres.StatementTimeout, 0} {
			for _, end := range []string{"deadline", "cancellation"} {
				t.Run(fmt.Sprintf("%s, timeout %v, %s", name, timeout, end), func(t *testing.T) {
					t.Parallel()
					proxy := testkit.StartProxy(t, testkit.HostOf(t, database))
					store := openStore(t, proxy.URL(t, database), 3, timeout)
					if _, err := store.Now(t.Context()); err != nil { // prepares the statement
						t.Fatal(err)
					}
					fillPool(t, store, 3)
					proxy.Lose()
					ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
					if end == "cancellation" {
						ctx, cancel = context.WithCancel(t.Context())
						time.AfterFunc(500*time.Millisecond, cancel)
					}
					defer cancel()
					if err := statementWithin(t, func() error { return statement(ctx, store) }); err == nil {
						t.Error("got no error on a lost connection")
					}
					proxy.Heal()
					// Each of the others is checked before it is used.
					ctx, cancel = context.WithTimeout(t.Context(), 10*time.Second)
					defer cancel()
					if _, err := store.Now(ctx); err != nil {
						t.Errorf("after the network has healed: got error %v, want none", err)
					}
				})
			}
		}
	}
}

// statementWithin fails the test if the statement goes on for long after its context
// has ended.
func statementWithin(t *testing.T, statement func() error) error {
	t.Helper()
	result := make(chan error, 1)
	go func() { result <- statement() }()
	select {
	case err := <-result:
		return err
	case <-time.After(8 * time.Second):
		t.Fatal("the statement goes on after its context has ended")
		return nil
	}
}

// TestLockedStatementIsCanceled waits for a lock. The server must answer that it has
// canceled the statement, so that it is not carried out later and the connection remains.
func TestLockedStatementIsCanceled(t *testing.T) {
	t.Parallel()
	database := testkit.Database(t)
	store, workspace := newStoreOn(t, database, postgres.StatementTimeout)
	create(t, store, workspace)
	lock, err := otherPool(t, database).Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Rollback()
	if _, err := lock.Exec(`LOCK TABLE messages`); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err = store.Versions(ctx, []uuid.UUID{uuid.New()})
	if pqErr, ok := errors.AsType[*pq.Error](err); !ok || pqErr.SQLState() != "57014" || !errors.Is(err, mms.ErrUnavailable) {
		t.Errorf("got error %v, want 57014 and ErrUnavailable", err)
	}
	if n := count(t, store, `SELECT count(*) FROM pg_locks WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`); n != 0 {
		t.Errorf("got %d statements that wait for a lock, want none", n)
	}
}

// TestFullPoolIsNotWritable has other statements use all connections.
func TestFullPoolIsNotWritable(t *testing.T) {
	t.Parallel()
	store := openStore(t, testkit.Database(t), 1, postgres.StatementTimeout)
	tx, err := store.DB().Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := store.CheckWritable(ctx); !errors.Is(err, mms.ErrUnavailable) {
		t.Errorf("got error %v, want ErrUnavailable", err)
	}
}

// TestConflictIsNotCalledUnreachable has Postgres end a deadlock.
func TestConflictIsNotCalledUnreachable(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	a, b := create(t, store, workspace), create(t, store, workspace)
	var group sync.WaitGroup
	var locked sync.WaitGroup
	locked.Add(2)
	errs := make(chan error, 2)
	for _, order := range [][2]uuid.UUID{{a.ID, b.ID}, {b.ID, a.ID}} {
		group.Go(func() {
			tx, err := store.DB().Begin()
			if err != nil {
				t.Error(err)
				locked.Done()
				return
			}
			defer tx.Rollback()
			_, err = tx.Exec(`SELECT FROM messages WHERE id = $1 FOR UPDATE`, order[0])
			locked.Done()
			locked.Wait()
			if err == nil {
				_, err = tx.Exec(`SELECT FROM messages WHERE id = $1 FOR UPDATE`, order[1])
			}
			if err != nil {
				errs <- err
			}
		})
	}
	group.Wait()
	err := postgres.WrapError(<-errs, "locking")
	if !errors.Is(err, mms.ErrUnavailable) || !strings.Contains(err.Error(), "a deadlock") || strings.Contains(err.Error(), "reached") {
		t.Errorf("got error %v, want ErrUnavailable and that it is a deadlock", err)
	}
}

// TestServerNoticesVanishedClients reads the settings with which the server notices that a
// process has gone.
func TestServerNoticesVanishedClients(t *testing.T) {
	t.Parallel()
	database := testkit.Database(t)
	for _, timeout := range []time.Duration{postgres.StatementTimeout, 0} {
		store, err := postgres.Open(database, 1, timeout)
		if err != nil {
			t.Fatal(err)
		}
		for setting, want := range map[string]string{
			"tcp_keepalives_idle": "20", "tcp_keepalives_interval": "10", "tcp_keepalives_count": "3",
			"tcp_user_timeout": "40000", "client_connection_check_interval": "2s",
		} {
			var got string
			if err := store.DB().QueryRow(`SELECT current_setting($1)`, setting).Scan(&got); err != nil || got != want {
				t.Errorf("timeout %v: got %s = %q, %v, want %q", timeout, setting, got, err, want)
			}
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}
}
