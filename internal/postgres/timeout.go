package postgres

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

const (
	// maxCancelLead bounds how long before a statement's deadline the server is asked to
	// cancel it. The server's answer then still arrives in time, and says whether the
	// statement was carried out. It is also how long a canceled statement may wait for
	// that answer.
	maxCancelLead = time.Second

	// closeTimeout bounds how long closing a statement or a connection takes.
	closeTimeout = time.Second

	// userTimeout is how long data that was sent may remain unacknowledged.
	userTimeout = 30 * time.Second
)

// keepAlive notices within 45 s that the server has vanished while nothing is sent.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 10 * time.Second, Count: 3}

// dialer opens the network connection of one database connection. Later it opens those
// on which the driver asks the server to cancel a statement.
type dialer struct {
	timeout time.Duration // see netConn

	mu      sync.Mutex
	netConn *netConn
	open    bool // whether the database connection is established
}

// Dial implements pq.Dialer.
func (d *dialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

// DialTimeout implements pq.Dialer.
func (d *dialer) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return d.DialContext(ctx, network, address)
}

// DialContext implements pq.DialerContext.
func (d *dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	opened := &netConn{timeout: d.timeout}
	d.mu.Lock()
	if d.open {
		opened.limit = d.netConn.cancelBy()
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, opened.limit)
		defer cancel()
	} else {
		d.netConn = opened
	}
	d.mu.Unlock()
	netDialer := net.Dialer{KeepAliveConfig: keepAlive, Control: setUserTimeout}
	conn, err := netDialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	opened.mu.Lock()
	defer opened.mu.Unlock()
	opened.Conn = conn
	return opened, nil
}

// established returns the network connection of the database connection, which is now open.
func (d *dialer) established() *netConn {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open = true
	return d.netConn
}

// interrupt ends an attempt to connect.
func (d *dialer) interrupt() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.netConn != nil && !d.open {
		d.netConn.shorten(d.netConn.statement, time.Now())
	}
}

// netConn is a network connection to the database. It ends each read and write when the
// current statement must end: the driver does not interrupt a read when its context
// ends, so a server that hangs or has vanished would block callers beyond their
// deadlines. After an error it is broken.
type netConn struct {
	net.Conn
	timeout time.Duration // for each read and write; 0 means no limit

	mu        sync.Mutex
	statement int       // counts statements
	limit     time.Time // when the current statement ends; zero: never
	driver    time.Time // the driver's own limit, while it connects; zero: none
	err       error     // of the first read or write that failed
}

// deadline returns when a read or write that starts now must end. mu must be held.
func (c *netConn) deadline() time.Time {
	var deadline time.Time
	if c.timeout > 0 {
		deadline = time.Now().Add(c.timeout)
	}
	for _, limit := range []time.Time{c.limit, c.driver} {
		if !limit.IsZero() && (deadline.IsZero() || limit.Before(deadline)) {
			deadline = limit
		}
	}
	return deadline
}

// Read implements net.Conn.
func (c *netConn) Read(b []byte) (int, error) {
	if err := c.prepare(net.Conn.SetReadDeadline); err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(b)
	c.fail(err)
	return n, err
}

// Write implements net.Conn.
func (c *netConn) Write(b []byte) (int, error) {
	if err := c.prepare(net.Conn.SetWriteDeadline); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(b)
	c.fail(err)
	return n, err
}

// prepare sets the deadline of a read or write. It holds mu, so that shorten comes
// before or after it.
func (c *netConn) prepare(set func(net.Conn, time.Time) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return set(c.Conn, c.deadline())
}

func (c *netConn) fail(err error) {
	if err == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
	}
}

// SetDeadline implements net.Conn. The driver calls it while it connects.
func (c *netConn) SetDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.driver = t
	return nil
}

// broken reports whether a read or write has failed, and whether it did because the
// server did not answer in time.
func (c *netConn) broken() (broken, silent bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err != nil, errors.Is(c.err, os.ErrDeadlineExceeded)
}

// start begins a statement that ends at limit, and returns its number.
func (c *netConn) start(limit time.Time) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.statement++
	c.limit = limit
	return c.statement
}

// startClosing begins a closing statement, which may take closeTimeout.
func (c *netConn) startClosing() { c.start(time.Now().Add(closeTimeout)) }

// shorten makes a statement end at limit unless it ends earlier. It does nothing if
// another statement has started.
func (c *netConn) shorten(statement int, limit time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.statement != statement || !c.limit.IsZero() && c.limit.Before(limit) {
		return
	}
	c.limit = limit
	if c.Conn != nil {
		_ = c.Conn.SetDeadline(limit) // it fails on a closed connection, whose reads fail too
	}
}

// cancelBy returns when a request to cancel the current statement must have ended.
func (c *netConn) cancelBy() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	limit := time.Now().Add(maxCancelLead)
	if !c.limit.IsZero() && c.limit.Before(limit) {
		return c.limit
	}
	return limit
}

// limitTo makes the statement that starts now end with ctx, whatever the server does,
// until release is called. The driver must get the returned context: it ends a little
// before ctx's deadline, so that the server can still answer that it has canceled the
// statement.
func (c *netConn) limitTo(ctx context.Context) (early context.Context, release func()) {
	if ctx.Done() == nil {
		c.start(time.Time{})
		return ctx, func() {}
	}
	lead := maxCancelLead
	cancel := func() {}
	deadline, limited := ctx.Deadline()
	if limited {
		lead = min(lead, time.Until(deadline)/10)
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-lead))
	}
	statement := c.start(deadline)
	stop := context.AfterFunc(ctx, func() { c.shorten(statement, time.Now().Add(lead)) })
	return ctx, func() {
		stop()
		cancel()
		c.start(time.Time{})
	}
}

// untilLimit returns the limit of a statement that has no context of its own, such as
// COMMIT, in a transaction that ends at deadline.
func (c *netConn) untilLimit(deadline time.Time) time.Time {
	if c.timeout == 0 {
		return deadline
	}
	limit := time.Now().Add(c.timeout)
	if !deadline.IsZero() && deadline.Before(limit) {
		return deadline
	}
	return limit
}
