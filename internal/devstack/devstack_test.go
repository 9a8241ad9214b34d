package devstack_test

import (
	"context"
	"database/sql"
	"log/slog"
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
	for keep, want := range []int64{0, 1} { // first with, then without its data
		if err := r.Restart(t.Context(), keep == 0); err != nil {
			t.Fatal(err)
		}
		if n, err := client.Exists(t.Context(), "kept").Result(); err != nil || n != 1-want {
			t.Errorf("restart %d: %d keys, %v, want %d", keep, n, err, 1-want)
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

// TestServersLeftBehindAreStopped plays a launcher that was killed: its servers
// run on, on the same files.
func TestServersLeftBehindAreStopped(t *testing.T) {
	t.Parallel()
	dir := stateDir(t)
	left := startRedis(t, dir)
	leftPostgres := startPostgres(t, dir)
	left.Abandon()
	leftPostgres.Abandon()
	startRedis(t, dir)
	startPostgres(t, dir)
	if pingRedis(t, left.URL) == nil {
		t.Error("the Redis left behind still runs")
	}
	if pingPostgres(t, leftPostgres.URL) == nil {
		t.Error("the Postgres left behind still runs")
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

// TestAnotherLaunchersRedisIsLeftAlone has one that uses a Postgres of its
// owner's, so that only Redis stands in the folder.
func TestAnotherLaunchersRedisIsLeftAlone(t *testing.T) {
	t.Parallel()
	dir := stateDir(t)
	first := startRedis(t, dir)
	_, err := devstack.StartRedis(t.Context(), devstack.RedisOptions{StateDir: dir, AOF: true, RequireReal: true, Logger: quiet()})
	if err == nil || !strings.Contains(err.Error(), "stop it first") {
		t.Errorf("a second start on the same folder: %v, want a clear refusal", err)
	}
	if err := pingRedis(t, first.URL); err != nil {
		t.Errorf("the first launcher's Redis: %v", err)
	}
}

// TestAProcessThatInheritedTheNumberIsLeftAlone has stale files that name a
// process of somebody else's.
func TestAProcessThatInheritedTheNumberIsLeftAlone(t *testing.T) {
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
		t.Fatal("a process of somebody else's was ended")
	default:
	}
}
