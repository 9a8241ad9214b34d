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

// PostgresOptions say where Postgres comes from.
type PostgresOptions struct {
	URL          string // of a server that is there already; empty: bring one
	StateDir     string // where a server of our own keeps its data
	Throwaway    bool   // trade durability for speed
	DieWithUs    bool   // let the server end when this process does
	AllowInstall bool   // install or download server programs where there are none
	Statistics   bool   // have the server count statements, where it can (pg_stat_statements)
	Logger       *slog.Logger
}

// Postgres is a running Postgres with an empty or older database postcard.
type Postgres struct {
	URL    string
	Source string // in plain words, for the greeting

	options PostgresOptions
	account *account
	bin     string // folder of the server programs
	data    string
	port    int
	server  *server // nil where the server is not ours
	unlock  func()
}

// postgresFolders are where Debian, Homebrew and Fedora keep server programs.
var postgresFolders = []string{
	"/usr/lib/postgresql/*/bin", "/opt/homebrew/opt/postgresql@*/bin", "/usr/local/opt/postgresql@*/bin",
	"/opt/homebrew/bin", "/usr/local/bin", "/usr/pgsql-*/bin",
}

// StartPostgres waits for the server at options.URL, or starts a private one: on
// a free loopback port, with a password of its own, on data that a later start
// finds again.
func StartPostgres(ctx context.Context, o PostgresOptions) (*Postgres, error) {
	if o.URL != "" {
		p := &Postgres{URL: o.URL, Source: "the one that DATABASE_URL names"}
		return p, await(ctx, "the Postgres of DATABASE_URL", p.ping)
	}
	p := &Postgres{options: o}
	if err := p.prepare(ctx); err != nil {
		return nil, err
	}
	if err := p.start(ctx); err != nil {
		p.unlock()
		return nil, err
	}
	p.Source = fmt.Sprintf("a private one in %s, port %d", p.data, p.port)
	return p, nil
}

// prepare finds the programs, takes the state folder and makes a cluster in it
// unless there is one.
func (p *Postgres) prepare(ctx context.Context) (err error) {
	if p.account, err = serverAccount(); err != nil {
		return err
	}
	if p.bin, err = postgresPrograms(ctx, p.options); err != nil {
		return err
	}
	if err := os.MkdirAll(p.options.StateDir, 0o711); err != nil {
		return fmt.Errorf("making the state folder: %w", err)
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

// postgresPrograms returns the folder of initdb and postgres.
func postgresPrograms(ctx context.Context, o PostgresOptions) (string, error) {
	if path := find("initdb", postgresFolders...); path != "" {
		return realDir(path)
	}
	if !o.AllowInstall {
		return "", errors.New("no Postgres server was found; " + advice("postgresql", "postgresql@17"))
	}
	if canInstall() {
		o.Logger.InfoContext(ctx, "installing Postgres")
		if err := installPackages(ctx, io.Discard, "postgresql"); err != nil {
			return "", err
		}
		return realDir(find("initdb", postgresFolders...))
	}
	if os.Geteuid() == 0 {
		return "", errors.New("no Postgres server was found; " + advice("postgresql", "postgresql@17"))
	}
	o.Logger.InfoContext(ctx, "downloading Postgres")
	return downloadPostgres(o.StateDir)
}

// realDir is the folder a program really stands in: Debian's and Homebrew's
// links point to where its siblings are.
func realDir(path string) (string, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", fmt.Errorf("finding Postgres' programs: %w", err)
	}
	return filepath.Dir(real), nil
}

// initialize makes the cluster. It is made aside and moved into place, so that
// one that was interrupted is not taken for a whole one.
func (p *Postgres) initialize(ctx context.Context) error {
	if _, err := os.Stat(filepath.Join(p.data, "PG_VERSION")); err == nil {
		return p.checkVersion()
	}
	making := p.data + ".new"
	if err := os.RemoveAll(making); err != nil {
		return fmt.Errorf("removing an unfinished cluster: %w", err)
	}
	password := rand.Text()
	passwordFile := filepath.Join(p.options.StateDir, "postgres", "password")
	if err := p.writeOwned(passwordFile, password); err != nil {
		return err
	}
	args := []string{"-D", making, "-U", "postcard", "-A", "scram-sha-256", "--pwfile", passwordFile, "-E", "UTF8", "--locale=C"}
	if p.options.Throwaway {
		args = append(args, "--no-sync")
	}
	if out, err := p.run(ctx, "initdb", args...); err != nil {
		return fmt.Errorf("making a Postgres cluster: %w\n%s", err, out)
	}
	if err := os.Rename(making, p.data); err != nil {
		return fmt.Errorf("making a Postgres cluster: %w", err)
	}
	return nil
}

// checkVersion says clearly what Postgres itself would only log.
func (p *Postgres) checkVersion() error {
	had, err := os.ReadFile(filepath.Join(p.data, "PG_VERSION"))
	if err != nil {
		return fmt.Errorf("reading the cluster's version: %w", err)
	}
	out, err := exec.Command(filepath.Join(p.bin, "postgres"), "--version").Output()
	if err != nil {
		return fmt.Errorf("asking for Postgres' version: %w", err)
	}
	if version := strings.TrimSpace(string(had)); !strings.Contains(string(out), " "+version+".") {
		return fmt.Errorf("the data in %s is of Postgres %s, and this is %s; install that version, or remove the folder to begin anew",
			p.data, version, strings.TrimSpace(string(out)))
	}
	return nil
}

// writeOwned writes a file that only the account can read.
func (p *Postgres) writeOwned(path, content string) error {
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		return fmt.Errorf("writing %s: %w", filepath.Base(path), err)
	}
	if p.account == nil {
		return nil
	}
	if err := os.Chown(path, p.account.uid, p.account.gid); err != nil {
		return fmt.Errorf("handing over %s: %w", filepath.Base(path), err)
	}
	return nil
}

// run runs one of Postgres' programs to its end.
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

// stopLeftover stops a server that a killed launcher left behind on our data.
func (p *Postgres) stopLeftover(ctx context.Context) error {
	path := filepath.Join(p.data, "postmaster.pid")
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking for a server left behind: %w", err)
	}
	first, _, _ := strings.Cut(string(content), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil || errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return nil // dead: Postgres clears its file away
	}
	if !runs(pid, "postgres", p.data) {
		// Postgres would take the heir of the number for its own and not start.
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("removing the trace of a dead server: %w", err)
		}
		return nil
	}
	p.options.Logger.InfoContext(ctx, "stopping a Postgres that an earlier run left behind")
	if out, err := p.run(ctx, "pg_ctl", "stop", "-D", p.data, "-m", "fast", "-w"); err != nil {
		return fmt.Errorf("stopping a Postgres left behind: %w\n%s", err, out)
	}
	return nil
}

// start starts the server on a free port; a port that was taken meanwhile is
// tried again with another.
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
		Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port)), Path: "/postcard", RawQuery: "sslmode=disable",
	}).String()
	args := []string{"-D", p.data, "-p", strconv.Itoa(p.port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "max_connections=200"}
	if p.options.Throwaway {
		args = append(args, "-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off")
	}
	if p.options.Statistics && p.canCount() {
		args = append(args, "-c", "shared_preload_libraries=pg_stat_statements")
	}
	logPath := filepath.Join(p.options.StateDir, "postgres.log")
	command := p.account.command(p.options.DieWithUs, filepath.Join(p.bin, "postgres"), args...)
	if p.server, err = launch(command, logPath); err != nil {
		return err
	}
	if err := p.server.awaitReady(ctx, "Postgres", p.createDatabase); err != nil {
		return errors.Join(err, p.server.kill())
	}
	return nil
}

// canCount reports whether pg_stat_statements stands beside the programs, as it does
// with Debian's.
func (p *Postgres) canCount() bool {
	for _, folder := range []string{"lib", filepath.Join("lib", "postgresql")} {
		if found, _ := filepath.Glob(filepath.Join(filepath.Dir(p.bin), folder, "pg_stat_statements.*")); len(found) > 0 {
			return true
		}
	}
	return false
}

// createDatabase succeeds once the server answers and has the database.
func (p *Postgres) createDatabase(ctx context.Context) error {
	db, err := sql.Open("postgres", strings.Replace(p.URL, "/postcard?", "/postgres?", 1))
	if err != nil {
		return fmt.Errorf("opening the database: %w", err)
	}
	defer db.Close()
	_, err = db.ExecContext(ctx, "CREATE DATABASE postcard")
	var pqErr *pq.Error
	if errors.As(err, &pqErr) && pqErr.Code == "42P04" { // it exists
		return nil
	}
	return err
}

func (p *Postgres) ping(ctx context.Context) error {
	db, err := sql.Open("postgres", p.URL)
	if err != nil {
		return fmt.Errorf("opening the database: %w", err)
	}
	defer db.Close()
	return db.PingContext(ctx)
}

// Stop stops a server of ours and releases its state folder; another's is left
// alone.
func (p *Postgres) Stop(ctx context.Context) error {
	if p.server == nil {
		return nil
	}
	defer p.unlock()
	return p.server.stop(ctx, syscall.SIGINT) // Postgres' fast shutdown
}

// Kill ends the server as a power cut would, for tests of faults.
func (p *Postgres) Kill() error { return p.server.kill() }

// Restart starts a server that was stopped or killed, or stops it first, on the
// same port and data, for tests of faults.
func (p *Postgres) Restart(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if err := p.server.stop(ctx, syscall.SIGINT); err != nil {
		return err
	}
	for {
		err := p.startOnPort(ctx)
		// The shared memory of a killed server goes only with the last of its
		// children.
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
