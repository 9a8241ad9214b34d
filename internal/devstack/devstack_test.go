package devstack_test

import (
	"context"
	"database/sql"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	_ "github.com/lib/pq"
	"github.com/redis/go-redis/v9"

	"github.com/postcard-mms/postcard/internal/devstack"
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

// startPostgres starts a server that stops at the end of the test.
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

func TestPostgresKeepsDataAfterKillAndStop(t *testing.T) {
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

// TestOlderDatabaseIsKept starts on the data of an older layout, whose database
// has another name.
func TestOlderDatabaseIsKept(t *testing.T) {
	t.Parallel()
	dir := stateDir(t)
	first := startPostgres(t, dir)
	current, err := url.Parse(first.URL)
	if err != nil {
		t.Fatal(err)
	}
	older := *current
	older.Path = "/postcard"
	execute(t, first.URL, `CREATE DATABASE postcard`)
	execute(t, older.String(), `CREATE TABLE kept (n int)`)
	execute(t, older.String(), `DROP DATABASE `+strings.TrimPrefix(current.Path, "/")+` WITH (FORCE)`)
	if err := first.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}

	second := startPostgres(t, dir)
	if second.Older != "postcard" {
		t.Errorf("got older database %q, want postcard", second.Older)
	}
	execute(t, strings.Replace(second.URL, current.Path, "/postcard", 1), `SELECT n FROM kept`)
	execute(t, second.URL, `CREATE TABLE kept (n int)`) // the new database is empty
	if err := second.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if third := startPostgres(t, dir); third.Older != "" {
		t.Errorf("got older database %q with a current one, want none", third.Older)
	}
}

func TestStateDirIsLocked(t *testing.T) {
	t.Parallel()
	dir := stateDir(t)
	startPostgres(t, dir)
	_, err := devstack.StartPostgres(t.Context(), devstack.PostgresOptions{StateDir: dir, Logger: quiet()})
	if err == nil || !strings.Contains(err.Error(), "stop it first") {
		t.Errorf("second start in the same directory: got %v, want an error that says \"stop it first\"", err)
	}
}

func TestStartErrorContainsServerLog(t *testing.T) {
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
		t.Errorf("got error %v, want the server's syntax error", err)
	}
}

func TestRedisRestartKeepsDataUnlessToldOtherwise(t *testing.T) {
	t.Parallel()
	r := startRedis(t, stateDir(t))
	o, err := redis.ParseURL(r.URL)
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(o)
	t.Cleanup(func() { client.Close() })
	if err := client.Set(t.Context(), "kept", 1, 0).Err(); err != nil {
		t.Fatal(err)
	}
	for _, restart := range []struct {
		keepData bool
		want     int64
	}{{true, 1}, {false, 0}} {
		if err := r.Restart(t.Context(), restart.keepData); err != nil {
			t.Fatal(err)
		}
		if n, err := client.Exists(t.Context(), "kept").Result(); err != nil || n != restart.want {
			t.Errorf("restart with keepData=%v: got %d keys (error %v), want %d", restart.keepData, n, err, restart.want)
		}
	}
}

func startRedis(t *testing.T, dir string) *devstack.Redis {
	t.Helper()
	r, err := devstack.StartRedis(t.Context(), devstack.RedisOptions{StateDir: dir, AOF: true, RequireReal: true, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return r
}

func pingRedis(t *testing.T, url string) error {
	t.Helper()
	o, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(o)
	defer client.Close()
	return client.Ping(t.Context()).Err()
}

// TestLeftoverServersAreStopped simulates a killed launcher, whose servers are
// still running on the same files.
func TestLeftoverServersAreStopped(t *testing.T) {
	t.Parallel()
	dir := stateDir(t)
	oldRedis := startRedis(t, dir)
	oldPostgres := startPostgres(t, dir)
	oldRedis.Abandon()
	oldPostgres.Abandon()
	startRedis(t, dir)
	startPostgres(t, dir)
	if pingRedis(t, oldRedis.URL) == nil {
		t.Error("the leftover Redis is still running")
	}
	if pingPostgres(t, oldPostgres.URL) == nil {
		t.Error("the leftover Postgres is still running")
	}
}

func pingPostgres(t *testing.T, url string) error {
	t.Helper()
	db, err := sql.Open("postgres", url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	return db.PingContext(t.Context())
}

// TestRedisOfRunningLauncherIsNotStopped covers a launcher with DATABASE_URL set,
// which has only Redis in its state directory.
func TestRedisOfRunningLauncherIsNotStopped(t *testing.T) {
	t.Parallel()
	dir := stateDir(t)
	first := startRedis(t, dir)
	_, err := devstack.StartRedis(t.Context(), devstack.RedisOptions{StateDir: dir, AOF: true, RequireReal: true, Logger: quiet()})
	if err == nil || !strings.Contains(err.Error(), "stop it first") {
		t.Errorf("second start in the same directory: got %v, want an error that says \"stop it first\"", err)
	}
	if err := pingRedis(t, first.URL); err != nil {
		t.Errorf("the first launcher's Redis does not answer: %v", err)
	}
}

// TestStalePidFileOfOtherProcess has pid files whose process id belongs to an
// unrelated process by now.
func TestStalePidFileOfOtherProcess(t *testing.T) {
	t.Parallel()
	dir := stateDir(t)
	other := exec.Command("sleep", "600")
	other.Args = []string{"redis-server postgres", "600"}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = other.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = other.Process.Kill()
		<-ended
	})
	for _, stop := range []func(context.Context) error{startRedis(t, dir).Stop, startPostgres(t, dir).Stop} {
		if err := stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	pid := strconv.Itoa(other.Process.Pid)
	data := filepath.Join(dir, "postgres", "data")
	for path, content := range map[string]string{
		filepath.Join(dir, "redis", "redis.pid"): pid + "\n",
		filepath.Join(data, "postmaster.pid"):    pid + "\n" + data + "\n1\n1\n\n127.0.0.1\n\nready\n",
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	startRedis(t, dir)
	startPostgres(t, dir)
	select {
	case <-ended:
		t.Fatal("the unrelated process was killed")
	default:
	}
}

// TestStandbyIsPromoted expects the standby to have a row of the primary, to refuse
// changes, and to take them once it is promoted.
func TestStandbyIsPromoted(t *testing.T) {
	t.Parallel()
	p := startPostgres(t, stateDir(t))
	execute(t, p.URL, `CREATE TABLE kept (n int)`)
	standby, err := p.StartStandby(t.Context(), stateDir(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := standby.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	execute(t, standby.URL, `SELECT n FROM kept`)
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := standby.Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	execute(t, standby.URL, `INSERT INTO kept VALUES (1)`)
}

// The worker waits for a Redis behind Sentinel; the launcher does not look for it.
func TestRedisOfEachURLForm(t *testing.T) {
	t.Parallel()
	started, err := devstack.StartRedis(t.Context(), devstack.RedisOptions{StateDir: stateDir(t), RequireReal: true, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := started.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	for _, url := range []string{started.URL, "redis-sentinel://s1:26379,s2:26379?master=mymaster"} {
		r, err := devstack.StartRedis(t.Context(), devstack.RedisOptions{URL: url, Logger: quiet()})
		if err != nil || r.URL != url {
			t.Errorf("%s: got %v, want the server at the URL", url, err)
		}
	}
}
