package postgres_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/postgres"
	"github.com/postcard-mms/postcard/internal/testkit"
)

func TestSharedSessionsAreRecognised(t *testing.T) {
	t.Parallel()
	database := testkit.Database(t)
	for name, tt := range map[string]struct {
		url  string
		want error
	}{
		"direct":            {database, nil},
		"session mode":      {testkit.PgBouncer(t, database), nil},
		"transaction mode":  {testkit.PgBouncer(t, database, "pool_mode = transaction"), postgres.ErrSharedSessions},
		"one session":       {testkit.PgBouncer(t, database, "pool_mode = transaction", "default_pool_size = 1"), postgres.ErrSharedSessions},
		"spare sessions":    {testkit.PgBouncer(t, database, "pool_mode = transaction", "min_pool_size = 10"), postgres.ErrSharedSessions},
		"oldest free first": {testkit.PgBouncer(t, database, "pool_mode = transaction", "server_round_robin = 1"), postgres.ErrSharedSessions},
		"statement mode":    {testkit.PgBouncer(t, database, "pool_mode = statement"), postgres.ErrSharedSessions},
	} {
		store, err := postgres.Open(tt.url, 2, postgres.StatementTimeout)
		if err != nil {
			t.Fatal(err)
		}
		if err := store.CheckSessions(t.Context()); !errors.Is(err, tt.want) {
			t.Errorf("%s: got error %v, want %v", name, err, tt.want)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestSharedSessionsOfABusyPooler checks while other clients use the pooler.
func TestSharedSessionsOfABusyPooler(t *testing.T) {
	t.Parallel()
	url := testkit.PgBouncer(t, testkit.Database(t), "pool_mode = transaction")
	busy, err := postgres.Open(url, 10, postgres.StatementTimeout)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for ctx.Err() == nil {
				_, _ = busy.DB().ExecContext(context.WithoutCancel(ctx), `SELECT 1`)
			}
		})
	}
	t.Cleanup(func() { cancel(); clients.Wait(); busy.Close() })
	for range 5 {
		store, err := postgres.Open(url, 2, postgres.StatementTimeout)
		if err != nil {
			t.Fatal(err)
		}
		if err := store.CheckSessions(t.Context()); !errors.Is(err, postgres.ErrSharedSessions) {
			t.Errorf("got error %v, want ErrSharedSessions", err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestSharedSessionsOfSeveralPoolers has two poolers behind one address, which take
// connections in turn.
func TestSharedSessionsOfSeveralPoolers(t *testing.T) {
	t.Parallel()
	database := testkit.Database(t)
	one := testkit.PgBouncer(t, database, "pool_mode = transaction")
	two, err := url.Parse(testkit.PgBouncer(t, database, "pool_mode = transaction"))
	if err != nil {
		t.Fatal(err)
	}
	var connections atomic.Int32
	store, err := postgres.Open(relay(t, one, func(client net.Conn, server string) {
		if connections.Add(1)%2 == 0 {
			server = two.Host
		}
		forward(client, server)
	}), 2, postgres.StatementTimeout)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	if err := store.CheckSessions(t.Context()); !errors.Is(err, postgres.ErrSharedSessions) {
		t.Errorf("got error %v, want ErrSharedSessions", err)
	}
}

// forward connects conn with an address until one of them hangs up.
func forward(conn net.Conn, address string) {
	defer conn.Close()
	server, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer server.Close()
	go func() { _, _ = io.Copy(server, conn); server.Close() }()
	_, _ = io.Copy(conn, server)
}

// TestListenThroughPooler gets a notification through PgBouncer in session mode.
func TestListenThroughPooler(t *testing.T) {
	t.Parallel()
	database := testkit.Database(t)
	notifications, err := postgres.Listen(t.Context(), testkit.PgBouncer(t, database), postgres.MessageChangesChannel, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	id := uuid.NewString()
	if _, err := openOne(t, database).DB().Exec(`SELECT pg_notify('message_changes', $1)`, id); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the notification arrives", func() bool {
		select {
		case got := <-notifications:
			return got == id
		default:
			return false
		}
	})
}

func TestConnectionLimits(t *testing.T) {
	t.Parallel()
	database := testkit.Database(t)
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	admin := openOne(t, database)
	for _, statement := range []string{
		"CREATE ROLE counted LOGIN PASSWORD 'secret' CONNECTION LIMIT 7",
		"ALTER DATABASE " + strings.TrimPrefix(u.Path, "/") + " CONNECTION LIMIT 9",
	} {
		if _, err := admin.DB().Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _, _ = admin.DB().Exec("DROP ROLE counted") })
	u.User = url.UserPassword("counted", "secret")
	limits, err := openOne(t, u.String()).ConnectionLimits(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []postgres.ConnectionLimit{
		{Name: "connection limit of the role", Max: 7, Open: 0},
		{Name: "connection limit of the database", Max: 9, Open: 1},
	}
	server := slices.IndexFunc(limits, func(l postgres.ConnectionLimit) bool { return strings.HasPrefix(l.Name, "max_connections") })
	if server < 0 || limits[server].Max != 197 || limits[server].Open < 1 { // the test server has 200, 3 of them reserved
		t.Errorf("got limits %v, want max_connections with 197", limits)
	}
	if diff := cmp.Diff(want, slices.Delete(limits, server, server+1)); diff != "" {
		t.Error(diff)
	}
}
