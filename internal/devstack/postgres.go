package devstack

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/lib/pq"
)

// database is the name of the development database. Its number is that of the
// layout: when a new baseline migration cannot upgrade the databases of the one
// before, it gets a new number, and the old database stays as it is.
const database = "postcard_2"

// olderDatabases are the names of databases of older layouts.
var olderDatabases = []string{"postcard"}

// PostgresOptions configure StartPostgres.
type PostgresOptions struct {
	URL          string // of an existing server; empty: start a private one
	StateDir     string // where a private server keeps its data
	Throwaway    bool   // trade durability for speed
	DieWithUs    bool   // kill the server when this process exits (Linux)
	AllowInstall bool   // install or download the server programs if missing
	Statistics   bool   // load pg_stat_statements if it is installed
	Logger       *slog.Logger
}

// Postgres is a running Postgres. A private one has the development database,
// which is empty at first.
type Postgres struct {
	URL    string
	Source string // where it comes from, for display

	// Older names the database of an older layout in the same server, and is
	// empty when there is none or the current one existed already.
	Older string

	options PostgresOptions
	account *account
	bin     string // directory of the server programs
	data    string
	port    int
	server  *server // nil unless the server is private
	standby bool
	unlock  func()
}

// postgresDirs are where Debian, Homebrew and Fedora keep the server programs.
var postgresDirs = []string{
	"/usr/lib/postgresql/*/bin", "/opt/homebrew/opt/postgresql@*/bin", "/usr/local/opt/postgresql@*/bin",
	"/opt/homebrew/bin", "/usr/local/bin", "/usr/pgsql-*/bin",
}

// StartPostgres starts a private server on a free loopback port with a random
// password, unless o.URL has a server, for which the processes wait themselves. A
// later start with the same o.StateDir finds the data again.
func StartPostgres(ctx context.Context, o PostgresOptions) (*Postgres, error) {
	if o.URL != "" {
		return &Postgres{URL: o.URL, Source: "the server at DATABASE_URL"}, nil
	}
	p := &Postgres{options: o}
	if err := p.prepare(ctx); err != nil {
		return nil, err
	}
	if err := p.start(ctx); err != nil {
		p.unlock()
		return nil, err
	}
	p.Source = fmt.Sprintf("a private server in %s, port %d", p.data, p.port)
	return p, nil
}

// prepare finds the server programs, locks the state directory and creates a
// cluster in it unless one exists.
func (p *Postgres) prepare(ctx context.Context) (err error) {
	if p.account, err = serverAccount(); err != nil {
		return err
	}
	if p.bin, err = postgresPrograms(ctx, p.options); err != nil {
		return err
	}
	if err := os.MkdirAll(p.options.StateDir, 0o711); err != nil {
		return fmt.Errorf("creating the state directory: %w", err)
	}
	if p.unlock, err = lock(filepath.Join(p.options.StateDir, "postgres.lock")); err != nil {
		return err
	}
	home := filepath.Join(p.options.StateDir, "postgres")
	p.data = filepath.Join(home, "data")
	if err = p.account.ownDir(home); err == nil {
		err = errors.Join(p.stopLeftover(ctx), p.initialize(ctx))
	}
	if err != nil {
		p.unlock()
	}
	return err
}

// postgresPrograms returns the directory of initdb and postgres.
func postgresPrograms(ctx context.Context, o PostgresOptions) (string, error) {
	if path := find("initdb", postgresDirs...); path != "" {
		return realDir(path)
	}
	if !o.AllowInstall {
		return "", errors.New("Postgres is not installed; " + advice("postgresql", "postgresql@17"))
	}
	if canInstall() {
		o.Logger.InfoContext(ctx, "installing Postgres")
		if err := installPackages(ctx, io.Discard, "postgresql"); err != nil {
			return "", err
		}
		return realDir(find("initdb", postgresDirs...))
	}
	if os.Geteuid() == 0 {
		return "", errors.New("Postgres is not installed; " + advice("postgresql", "postgresql@17"))
	}
	o.Logger.InfoContext(ctx, "downloading Postgres")
	return downloadPostgres(o.StateDir)
}

// realDir returns a program's directory with links resolved: Debian's and
// Homebrew's links point to the directory with all server programs.
func realDir(path string) (string, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", fmt.Errorf("finding the Postgres programs: %w", err)
	}
	return filepath.Dir(real), nil
}

// initialize creates the cluster in a temporary directory and renames it, so that
// an interrupted initdb leaves no partial cluster.
func (p *Postgres) initialize(ctx context.Context) error {
	if _, err := os.Stat(filepath.Join(p.data, "PG_VERSION")); err == nil {
		return p.checkVersion(ctx)
	}
	unfinished := p.data + ".new"
	if err := os.RemoveAll(unfinished); err != nil {
		return fmt.Errorf("removing an unfinished cluster: %w", err)
	}
	password := rand.Text()
	passwordFile := filepath.Join(p.options.StateDir, "postgres", "password")
	if err := p.account.writeFile(passwordFile, password); err != nil {
		return err
	}
	args := []string{"-D", unfinished, "-U", "postcard", "--pwfile", passwordFile, "-E", "UTF8", "--locale=C"}
	if p.options.Throwaway {
		// SCRAM makes a login expensive, on purpose; tests log in thousands of times.
		args = append(args, "-A", "md5", "--no-sync")
	} else {
		args = append(args, "-A", "scram-sha-256")
	}
	if out, err := p.run(ctx, "initdb", args...); err != nil {
		return fmt.Errorf("creating a Postgres cluster: %w\n%s", err, out)
	}
	if err := os.Rename(unfinished, p.data); err != nil {
		return fmt.Errorf("creating a Postgres cluster: %w", err)
	}
	return nil
}

// checkVersion returns an error if the cluster belongs to another major version,
// which Postgres would only log.
func (p *Postgres) checkVersion(ctx context.Context) error {
	content, err := os.ReadFile(filepath.Join(p.data, "PG_VERSION"))
	if err != nil {
		return fmt.Errorf("reading the cluster's version: %w", err)
	}
	out, err := exec.CommandContext(ctx, filepath.Join(p.bin, "postgres"), "--version").Output()
	if err != nil {
		return fmt.Errorf("reading the version of Postgres: %w", err)
	}
	if version := strings.TrimSpace(string(content)); !strings.Contains(string(out), " "+version+".") {
		return fmt.Errorf("the data in %s is from Postgres %s, and the installed version is %s; install Postgres %[2]s, or remove the directory to start with an empty database",
			p.data, version, strings.TrimSpace(string(out)))
	}
	return nil
}

// run runs one of the Postgres programs and returns its output.
func (p *Postgres) run(ctx context.Context, name string, args ...string) (string, error) {
	command := p.account.command(p.options.DieWithUs, filepath.Join(p.bin, name), args...)
	var out strings.Builder
	command.Stdout, command.Stderr = &out, &out
	err := onStableThread(command.Start)
	if err != nil {
		return "", err
	}
	stop := context.AfterFunc(ctx, func() { _ = command.Process.Kill() })
	defer stop()
	err = command.Wait()
	return out.String(), err
}

// stopLeftover stops a server that a killed launcher left running on this data.
func (p *Postgres) stopLeftover(ctx context.Context) error {
	path := filepath.Join(p.data, "postmaster.pid")
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking for a leftover Postgres: %w", err)
	}
	first, _, _ := strings.Cut(string(content), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil || errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return nil // it has exited; Postgres removes the stale file
	}
	if !runs(ctx, pid, "postgres", p.data) {
		// Another process has this id now. Postgres would take it for a running
		// server and refuse to start.
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("removing a stale pid file: %w", err)
		}
		return nil
	}
	p.options.Logger.InfoContext(ctx, "stopping a Postgres that an earlier run left running")
	if out, err := p.run(ctx, "pg_ctl", "stop", "-D", p.data, "-m", "fast", "-w"); err != nil {
		return fmt.Errorf("stopping a leftover Postgres: %w\n%s", err, out)
	}
	return nil
}

// start starts the server on a free port, and retries with another if that port
// has been taken in the meantime.
func (p *Postgres) start(ctx context.Context) error {
	var err error
	for range 3 {
		if p.port, err = FreePort(); err != nil {
			return err
		}
		if err = p.startOnPort(ctx); err == nil || !strings.Contains(err.Error(), "ddress already in use") {
			return err
		}
	}
	return err
}

func (p *Postgres) startOnPort(ctx context.Context) error {
	password, err := os.ReadFile(filepath.Join(p.options.StateDir, "postgres", "password"))
	if err != nil {
		return fmt.Errorf("reading the cluster's password: %w", err)
	}
	p.URL = (&url.URL{
		Scheme: "postgres", User: url.UserPassword("postcard", strings.TrimSpace(string(password))),
		Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port)), Path: "/" + database, RawQuery: "sslmode=disable",
	}).String()
	args := []string{"-D", p.data, "-p", strconv.Itoa(p.port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "max_connections=200"}
	if p.options.Throwaway {
		// A server that is killed leaves its shared memory behind; with mmap that is
		// in its data directory, which is removed.
		args = append(args, "-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off", "-c", "dynamic_shared_memory_type=mmap")
	}
	if p.options.Statistics && p.hasStatistics() {
		args = append(args, "-c", "shared_preload_libraries=pg_stat_statements")
	}
	logPath := filepath.Join(p.options.StateDir, "postgres.log")
	command := p.account.command(p.options.DieWithUs, filepath.Join(p.bin, "postgres"), args...)
	if p.server, err = launch(command, logPath); err != nil {
		return err
	}
	ready := p.createDatabase
	if p.standby {
		ready = p.ping
	}
	if err := p.server.awaitReady(ctx, "Postgres", ready); err != nil {
		return errors.Join(err, p.server.kill())
	}
	return nil
}

// hasStatistics reports whether pg_stat_statements is installed, as it is with Debian's
// Postgres.
func (p *Postgres) hasStatistics() bool {
	for _, dir := range []string{"lib", filepath.Join("lib", "postgresql")} {
		if found, _ := filepath.Glob(filepath.Join(filepath.Dir(p.bin), dir, "pg_stat_statements.*")); len(found) > 0 {
			return true
		}
	}
	return false
}

// createDatabase creates the development database unless it exists. It fails until
// the server accepts connections.
func (p *Postgres) createDatabase(ctx context.Context) error {
	db, err := sql.Open("postgres", strings.Replace(p.URL, "/"+database+"?", "/postgres?", 1))
	if err != nil {
		return fmt.Errorf("opening the database: %w", err)
	}
	defer db.Close()
	var older []string
	err = db.QueryRowContext(ctx, "SELECT array(SELECT datname::text FROM pg_database WHERE datname = ANY($1))", pq.Array(olderDatabases)).Scan(pq.Array(&older))
	if err != nil {
		return fmt.Errorf("looking for an older database: %w", err)
	}
	_, err = db.ExecContext(ctx, "CREATE DATABASE "+database)
	if pqErr, ok := errors.AsType[*pq.Error](err); ok && pqErr.Code == "42P04" { // it exists
		return nil
	}
	if err != nil {
		return fmt.Errorf("creating the database: %w", err)
	}
	p.Older = strings.Join(older, ", ")
	return nil
}

// Private reports whether the server was started here, and is not the one at
// options.URL.
func (p *Postgres) Private() bool { return p.server != nil }

func (p *Postgres) ping(ctx context.Context) error {
	db, err := sql.Open("postgres", p.URL)
	if err != nil {
		return fmt.Errorf("opening the database: %w", err)
	}
	defer db.Close()
	return db.PingContext(ctx)
}

// Stop stops a private server and unlocks its state directory. It does nothing to
// the server at options.URL.
func (p *Postgres) Stop(ctx context.Context) error {
	if p.server == nil {
		return nil
	}
	defer p.unlock()
	return p.server.stop(ctx, syscall.SIGINT) // fast shutdown
}

// Kill sends SIGKILL to the server and its children, for fault tests.
func (p *Postgres) Kill() error { return p.server.kill() }

// Restart restarts the server, which may have been stopped or killed, on the same
// port and data, for fault tests.
func (p *Postgres) Restart(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if err := p.server.stop(ctx, syscall.SIGINT); err != nil {
		return err
	}
	for {
		err := p.startOnPort(ctx)
		// The shared memory of a killed server remains until its last child has
		// exited.
		if err == nil || !strings.Contains(err.Error(), "shared memory block") && !strings.Contains(err.Error(), "ddress already in use") {
			return err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}
