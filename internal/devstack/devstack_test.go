package devstack_test

import (
	"context"
	"database/sql"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	_ "github.com/lib/pq"
	"github.com/redis/go-redis/v9"

	"postcard/internal/devstack"
)

func stateDir(t *testing.T) string {
	t.Helper()
	dir, err := devstack.TempStateDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// startPostgres starts a server, which is ended with the test.
func startPostgres(t *testing.T, dir string) *devstack.Postgres {
	t.Helper()
	p, err := devstack.StartPostgres(t.Context(), devstack.PostgresOptions{StateDir: dir, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return p
}

func execute(t *testing.T, url, statement string) {
	t.Helper()
	db, err := sql.Open("postgres", url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func TestPostgresKeepsItsDataWhateverEndsIt(t *testing.T) {
	t.Parallel()
	dir := stateDir(t)
	p := startPostgres(t, dir)
	execute(t, p.URL, `CREATE TABLE kept (n int)`)
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := p.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	execute(t, p.URL, `INSERT INTO kept VALUES (1)`)
	if err := p.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	again := startPostgres(t, dir)
	execute(t, again.URL, `SELECT n FROM kept`)
}

func TestOnlyOneStackPerFolder(t *testing.T) {
	t.Parallel()
	dir := stateDir(t)
	startPostgres(t, dir)
	_, err := devstack.StartPostgres(t.Context(), devstack.PostgresOptions{StateDir: dir, Logger: quiet()})
	if err == nil || !strings.Contains(err.Error(), "stop it first") {
		t.Errorf("a second start on the same folder: %v, want a clear refusal", err)
	}
}

func TestTheErrorOfAServerThatDoesNotStartHasItsLog(t *testing.T) {
	t.Parallel()
	dir := stateDir(t)
	p := startPostgres(t, dir)
	if err := p.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "postgres", "data", "postgresql.conf")
	if err := os.WriteFile(config, []byte("nonsense\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := devstack.StartPostgres(t.Context(), devstack.PostgresOptions{StateDir: dir, Logger: quiet()})
	if err == nil || !strings.Contains(err.Error(), "syntax error") {
		t.Errorf("StartPostgres() = %v, want the server's own words", err)
	}
}

func TestRedisForgetsOnlyWhenTold(t *testing.T) {
	t.Parallel()
	r, err := devstack.StartRedis(t.Context(), devstack.RedisOptions{StateDir: stateDir(t), AOF: true, RequireReal: true, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	o, err := redis.ParseURL(r.URL)
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(o)
	t.Cleanup(func() { client.Close() })
	if err := client.Set(t.Context(), "kept", 1, 0).Err(); err != nil {
		t.Fatal(err)
	}
	for keep, want := range []int64{0, 1} { // first with, then without its data
		if err := r.Restart(t.Context(), keep == 0); err != nil {
			t.Fatal(err)
		}
		if n, err := client.Exists(t.Context(), "kept").Result(); err != nil || n != 1-want {
			t.Errorf("restart %d: %d keys, %v, want %d", keep, n, err, 1-want)
		}
	}
}

// TestARedisLeftBehindIsStopped plays a launcher that was killed: its server
// runs on, on the same files.
func TestARedisLeftBehindIsStopped(t *testing.T) {
	t.Parallel()
	dir := stateDir(t)
	options := devstack.RedisOptions{StateDir: dir, AOF: true, RequireReal: true, Logger: quiet()}
	left, err := devstack.StartRedis(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	again, err := devstack.StartRedis(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := again.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	o, err := redis.ParseURL(left.URL)
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(o)
	t.Cleanup(func() { client.Close() })
	if client.Ping(t.Context()).Err() == nil {
		t.Error("the server left behind still runs")
	}
}
