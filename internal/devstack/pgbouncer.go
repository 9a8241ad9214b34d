package devstack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
)

// PgBouncerOptions configure StartPgBouncer.
type PgBouncerOptions struct {
	Server    string   // URL of the Postgres behind it
	StateDir  string   // where it keeps its configuration and log
	Settings  []string // lines of its configuration, for example "pool_mode = session"; what is not set has PgBouncer's default
	DieWithUs bool     // kill it when this process exits (Linux)
}

// PgBouncer is a running connection pooler.
type PgBouncer struct {
	URL string // of the same database as the server's URL, through the pooler

	server *server
}

func pgBouncerProgram() string { return find("pgbouncer", programDirs...) }

// StartPgBouncer starts a pooler on a free loopback port, which knows the user of
// the server's URL.
func StartPgBouncer(ctx context.Context, o PgBouncerOptions) (*PgBouncer, error) {
	program := pgBouncerProgram()
	if program == "" {
		return nil, errors.New("PgBouncer is not installed; " + advice("pgbouncer", "pgbouncer"))
	}
	account, err := serverAccount()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(o.StateDir, "pgbouncer")
	if err := account.ownDir(dir); err != nil {
		return nil, err
	}
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	b := &PgBouncer{}
	if b.URL, err = writePgBouncerConfig(account, dir, port, o); err != nil {
		return nil, err
	}
	command := account.command(o.DieWithUs, program, filepath.Join(dir, "pgbouncer.ini"))
	if b.server, err = launch(command, filepath.Join(o.StateDir, "pgbouncer.log")); err != nil {
		return nil, err
	}
	if err := b.server.awaitReady(ctx, "PgBouncer", b.answers); err != nil {
		return nil, errors.Join(err, b.server.kill())
	}
	return b, nil
}

// writePgBouncerConfig writes the configuration and returns the URL through the pooler.
func writePgBouncerConfig(account *account, dir string, port int, o PgBouncerOptions) (string, error) {
	u, err := url.Parse(o.Server)
	if err != nil {
		return "", errors.New("starting PgBouncer: the server's URL cannot be parsed") // err may contain the password
	}
	password, _ := u.User.Password()
	users := filepath.Join(dir, "users.txt")
	lines := append([]string{
		"[databases]", "* = host=" + u.Hostname() + " port=" + u.Port(),
		"[pgbouncer]", "listen_addr = 127.0.0.1", "listen_port = " + strconv.Itoa(port), "unix_socket_dir =", "auth_file = " + users,
	}, o.Settings...)
	for path, content := range map[string]string{
		users:                               fmt.Sprintf("%q %q\n", u.User.Username(), password),
		filepath.Join(dir, "pgbouncer.ini"): strings.Join(lines, "\n") + "\n",
	} {
		if err := account.writeFile(path, content); err != nil {
			return "", err
		}
	}
	u.Host = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	return u.String(), nil
}

// answers returns nil when PgBouncer takes a connection. It does not ask the server
// behind it, whose connections a test counts.
func (b *PgBouncer) answers(ctx context.Context) error {
	u, err := url.Parse(b.URL)
	if err != nil {
		return errors.New("the pooler's URL cannot be parsed") // err may contain the password
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return err
	}
	return conn.Close()
}

// Kill sends SIGKILL to the pooler.
func (b *PgBouncer) Kill() error { return b.server.kill() }
