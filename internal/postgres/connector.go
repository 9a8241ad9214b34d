package postgres

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
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
	config, err := pq.NewConfig(url)
	if err != nil {
		return nil, errors.New("opening the database: its URL cannot be parsed") // err may contain the password
	}
	config.BinaryParameters = true // one round trip instead of two for a statement that is not prepared
	connector, err := pq.NewConnectorConfig(config)
	if err != nil {
		return nil, errors.New("opening the database: its URL cannot be used") // see above
	}
	setup := "SET jit = off; SET enable_seqscan = off"
	if timeout > 0 {
		connector.Dialer(timeoutDialer{dialer: net.Dialer{Timeout: dialTimeout}, timeout: timeout * 11 / 10})
		setup += fmt.Sprintf("; SET statement_timeout = %d; SET idle_in_transaction_session_timeout = %d",
			(timeout * 9 / 10).Milliseconds(), timeout.Milliseconds())
	}
	return sessionConnector{Connector: connector, setup: setup}, nil
}

// sessionConnector runs setup on each new connection. Settings could also be
// sent in the startup packet, but connection poolers refuse connections that do.
type sessionConnector struct {
	*pq.Connector
	setup string
}

// Connect implements driver.Connector.
func (c sessionConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	execer, ok := conn.(driver.ExecerContext)
	if !ok {
		return nil, errors.Join(errors.New("setting up a database connection: the driver cannot execute statements"), conn.Close())
	}
	if _, err := execer.ExecContext(ctx, c.setup, nil); err != nil {
		return nil, errors.Join(fmt.Errorf("setting up a database connection: %w", err), conn.Close())
	}
	return conn, nil
}
