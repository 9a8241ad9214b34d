package postgres

import (
	"context"
	"net"
	"time"
)

// dialTimeout bounds how long a connection to the database may take to open.
const dialTimeout = 5 * time.Second

// timeoutDialer opens connections on which no answer may take longer than patience.
// Without it a server that vanished, or stands still, holds up its callers
// beyond every deadline of theirs: the driver does not break off a read when a
// context ends.
type timeoutDialer struct {
	dialer  net.Dialer
	timeout time.Duration
}

// Dial, DialTimeout and DialContext are what the driver asks for.
func (d timeoutDialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

// DialTimeout is Dial within a time.
func (d timeoutDialer) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return d.DialContext(ctx, network, address)
}

// DialContext is Dial until a context ends.
func (d timeoutDialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := d.dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &timeoutConn{Conn: conn, timeout: d.timeout}, nil
}

type timeoutConn struct {
	net.Conn
	timeout time.Duration
}

func (c *timeoutConn) Read(b []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.timeout)); err != nil {
		return 0, err
	}
	return c.Conn.Read(b)
}

func (c *timeoutConn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}
