package postgres

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/lib/pq"
)

// newConnector opens connections whose statements take at most timeout; 0 means
// no limit.
//
// The server's own limits are a little shorter than the client's. Without them a
// statement that waits for a lock would still be carried out after its caller was
// told that it failed, and the open transaction of a stopped process would keep
// its locks. JIT compilation is off: see docs/decisions/0006-no-jit.md. So are
// sequential scans: see docs/decisions/0009-plans-without-statistics.md.
func newConnector(url string, timeout time.Duration) (driver.Connector, error) {
	config, err := parseURL(url)
	if err != nil {
		return nil, err
	}
	config.BinaryParameters = true // one round trip instead of two for a statement that is not prepared
	settings := setSettings(config.Runtime)
	setup := "SET jit = off; SET enable_seqscan = off"
	if timeout > 0 {
		config.ConnectTimeout = min(config.ConnectTimeout, timeout) // for each host
		setup += fmt.Sprintf("; SET statement_timeout = %d; SET idle_in_transaction_session_timeout = %d",
			(timeout * 9 / 10).Milliseconds(), timeout.Milliseconds())
	}
	hosts, err := newHosts(config)
	if err != nil {
		return nil, err
	}
	return &connector{hosts: hosts, setupTimeout: config.ConnectTimeout, settings: settings, setup: setup, timeout: timeout * 11 / 10, pool: &poolState{}}, nil
}

// watchClient makes the server notice within a minute that the process has gone: by
// default it would keep the session with its locks, and count it towards max_connections,
// for two hours. During a statement the server checks every two seconds whether its client
// is still there. The statement is a query of pg_settings, not SET, because some servers
// lack some of the settings. They are not sent when connecting, because poolers refuse
// that.
const watchClient = `
SELECT set_config(s.name, w.value, false)
FROM pg_settings s
JOIN (VALUES ('tcp_keepalives_idle', '20'), ('tcp_keepalives_interval', '10'), ('tcp_keepalives_count', '3'),
             ('tcp_user_timeout', '40000'), ('client_connection_check_interval', '2000')) AS w (name, value) ON w.name = s.name`

// A connection is replaced after minConnLife to maxConnLife, even if it works: when an
// address or a load balancer has moved to another server, connections to the old one end
// without an error. The server also frees the memory that a session has gathered. Lives
// differ so that connections opened together do not end together, and are much longer than
// it takes to prepare the statements again.
const (
	minConnLife = 10 * time.Minute
	maxConnLife = 15 * time.Minute
)

func connLife() time.Duration { return minConnLife + rand.N(maxConnLife-minConnLife) }

// connector implements driver.Connector. It runs setup on each new connection. Settings
// could also be sent in the startup packet, but connection poolers refuse connections
// that do.
type connector struct {
	hosts        *hosts
	setupTimeout time.Duration
	settings     string // sets those of the connection string; may be empty
	setup        string
	timeout      time.Duration // for each read and write
	pool         *poolState
}

// Driver implements driver.Connector.
func (c *connector) Driver() driver.Driver { return pq.Driver{} }

// Connect implements driver.Connector.
func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	opened, err := c.hosts.connect(ctx, c.open)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.setupTimeout)
	defer cancel()
	if c.settings != "" {
		if _, err := opened.ExecContext(ctx, c.settings, nil); err != nil {
			err = fmt.Errorf("setting the parameters of the connection string that are settings of the server: %w", err)
			return nil, connectError{errors.Join(err, opened.Close())}
		}
	}
	if _, err := opened.ExecContext(ctx, c.setup, nil); err != nil {
		return nil, errors.Join(fmt.Errorf("setting up a database connection: %w", err), opened.Close())
	}
	// A server that refuses these settings works without them.
	if _, err := opened.ExecContext(ctx, watchClient, nil); err != nil && !opened.usable() {
		return nil, errors.Join(fmt.Errorf("setting up a database connection: %w", err), opened.Close())
	}
	return opened, nil
}

// open connects to one host and logs in.
func (c *connector) open(ctx context.Context, host pq.Config) (*conn, error) {
	dialer := &dialer{timeout: c.timeout}
	connector, err := pq.NewConnectorConfig(host.Clone())
	if err != nil {
		return nil, fmt.Errorf("connecting to the database: %w", err)
	}
	connector.Dialer(dialer)
	epoch, checkRound := c.pool.current()
	stop := context.AfterFunc(ctx, dialer.interrupt)
	defer stop()
	opened, err := connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	all, ok := opened.(driverConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("connecting to the database: the driver's %T is incomplete", opened), opened.Close())
	}
	return &conn{
		driverConn: all, netConn: dialer.established(), pool: c.pool,
		epoch: epoch, checkRound: checkRound, retireAt: time.Now().Add(connLife()),
	}, nil
}
