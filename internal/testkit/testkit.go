// Package testkit gives tests a fresh, migrated database and an empty Redis, on real
// servers that it starts once per test process, and waits with a deadline. It never
// skips a test: a missing server fails it.
package testkit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "github.com/lib/pq" // the driver for creating databases
	"github.com/redis/go-redis/v9"

	"github.com/postcard-mms/postcard/internal/devstack"
	"github.com/postcard-mms/postcard/internal/postgres"
)

// servers are shared by all tests of this process, because starting them takes
// seconds.
var servers struct {
	mu       sync.Mutex
	dir      string
	postgres *devstack.Postgres
	redis    *devstack.Redis
	created  atomic.Int64 // databases so far, of Postgres and Redis
}

const (
	startTimeout = 2 * time.Minute
	template     = "postcard_template"
)

// Main runs a package's tests, stops the servers they used, calls the cleanup
// functions, and exits. A package calls it from TestMain.
func Main(m *testing.M, cleanup ...func()) {
	end := func(code int) {
		stopServers()
		for _, f := range cleanup {
			f()
		}
		os.Exit(code)
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-interrupted
		end(1)
	}()
	end(m.Run())
}

func stopServers() {
	servers.mu.Lock()
	defer servers.mu.Unlock()
	var errs []error
	if servers.redis != nil {
		errs = append(errs, servers.redis.Kill())
	}
	if servers.postgres != nil {
		errs = append(errs, servers.postgres.Kill())
	}
	if servers.dir != "" {
		errs = append(errs, os.RemoveAll(servers.dir))
	}
	if err := errors.Join(errs...); err != nil {
		fmt.Fprintln(os.Stderr, "testkit:", err)
	}
}

// StateDir creates a state directory for the servers of one test, and removes it at
// the end. The account that servers run as can reach it.
func StateDir(t testing.TB) string {
	t.Helper()
	dir, err := devstack.MemoryStateDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// Database returns the URL of a fresh, migrated database, which is dropped at the end
// of the test.
func Database(t testing.TB) string {
	t.Helper()
	server, err := postgresServer()
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("test_%d", servers.created.Add(1))
	if err := execute(server.URL, "CREATE DATABASE "+name+" TEMPLATE "+template); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := execute(server.URL, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Error(err)
		}
	})
	return withDatabase(server.URL, name)
}

// PgBouncer starts a connection pooler in front of a database, for one test, and
// returns the URL through it. The settings are lines of its configuration.
func PgBouncer(t testing.TB, database string, settings ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	pooler, err := devstack.StartPgBouncer(ctx, devstack.PgBouncerOptions{
		Server: database, StateDir: StateDir(t), Settings: settings, DieWithUs: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pooler.Kill(); err != nil {
			t.Error(err)
		}
	})
	return pooler.URL
}

func postgresServer() (*devstack.Postgres, error) {
	servers.mu.Lock()
	defer servers.mu.Unlock()
	if servers.postgres != nil {
		return servers.postgres, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	if err := createDir(); err != nil {
		return nil, err
	}
	server, err := devstack.StartPostgres(ctx, devstack.PostgresOptions{
		StateDir: servers.dir, Throwaway: true, DieWithUs: true, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, err
	}
	servers.postgres = server
	return server, createTemplate(ctx, server.URL)
}

// createTemplate migrates one database. Cloning it is much faster than migrating
// each.
func createTemplate(ctx context.Context, server string) error {
	if err := execute(server, "CREATE DATABASE "+template); err != nil {
		return err
	}
	db, err := sql.Open("postgres", withDatabase(server, template))
	if err != nil {
		return fmt.Errorf("opening the template: %w", err)
	}
	defer db.Close()
	return postgres.Migrate(ctx, db)
}

func execute(server, statement string) error {
	db, err := sql.Open("postgres", server)
	if err != nil {
		return fmt.Errorf("opening the database: %w", err)
	}
	defer db.Close()
	if _, err := db.ExecContext(context.Background(), statement); err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}

func withDatabase(server, name string) string {
	u, err := url.Parse(server)
	if err != nil {
		panic("testkit: the server's URL is not valid")
	}
	u.Path = "/" + name
	return u.String()
}

// Redis returns the URL of an empty logical database of a real Redis, which is
// flushed at the end of the test.
func Redis(t testing.TB) string {
	t.Helper()
	server, err := redisServer()
	if err != nil {
		t.Fatal(err)
	}
	u := withDatabase(server.URL, fmt.Sprint(servers.created.Add(1)))
	o, err := redis.ParseURL(u)
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(o)
	t.Cleanup(func() {
		if err := client.FlushDB(context.Background()).Err(); err != nil {
			t.Error(err)
		}
		client.Close()
	})
	return u
}

func redisServer() (*devstack.Redis, error) {
	servers.mu.Lock()
	defer servers.mu.Unlock()
	if servers.redis != nil {
		return servers.redis, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	if err := createDir(); err != nil {
		return nil, err
	}
	server, err := devstack.StartRedis(ctx, devstack.RedisOptions{
		StateDir: servers.dir, RequireReal: true, Databases: 1024, DieWithUs: true, Logger: slog.New(slog.DiscardHandler),
	})
	servers.redis = server
	return server, err
}

func createDir() (err error) {
	if servers.dir == "" {
		servers.dir, err = devstack.MemoryStateDir()
	}
	return err
}
