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
	// maxCancelLead is how long before a statement's deadline the server is asked to
	// cancel it, at most: its answer then still arrives in time, and what was not told to
	// have succeeded was not carried out. It is also how long a canceled statement may
	// wait for that answer.
	maxCancelLead = time.Second

	// closeTimeout bounds what a connection does when it or a statement is closed.
	closeTimeout = time.Second

	// userTimeout is how long data that was sent may remain unacknowledged.
	userTimeout = 30 * time.Second
)

// keepAlive notices within 45 s that the server has vanished while nothing is sent.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 10 * time.Second, Count: 3}

// dialer opens the network connection of one database connection. Later it opens those
// on which the driver asks the server to cancel a statement.
type dialer struct {
	timeout time.Duration // see link

	mu   sync.Mutex
	link *link
	open bool // whether the database connection is established
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
	link := &link{timeout: d.timeout}
	d.mu.Lock()
	if d.open {
		link.limit = d.link.cancelBy()
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, link.limit)
		defer cancel()
	} else {
		d.link = link
	}
	d.mu.Unlock()
	netDialer := net.Dialer{KeepAliveConfig: keepAlive, Control: setUserTimeout}
	conn, err := netDialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	link.mu.Lock()
	defer link.mu.Unlock()
	link.Conn = conn
	return link, nil
}

// established returns the link of the database connection.
func (d *dialer) established() *link {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open = true
	return d.link
}

// interrupt ends connecting.
func (d *dialer) interrupt() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.link != nil && !d.open {
		d.link.shorten(d.link.statement, time.Now())
	}
}

// link is a network connection to the database. It ends each read and write when the
// current statement must end: the driver does not interrupt a read when its context
// ends, so a server that hangs or has vanished would block callers beyond their
// deadlines. After an error it is broken.
type link struct {
	net.Conn
	timeout time.Duration // for each read and write; 0 means no limit

	mu        sync.Mutex
	statement int       // counts statements
	limit     time.Time // when the current statement ends; zero: never
	driver    time.Time // the driver's own limit, while it connects; zero: none
	err       error     // of the first read or write that failed
}

// deadline returns when a read or write that starts now must end. mu must be held.
func (l *link) deadline() time.Time {
	var deadline time.Time
	if l.timeout > 0 {
		deadline = time.Now().Add(l.timeout)
	}
	for _, limit := range []time.Time{l.limit, l.driver} {
		if !limit.IsZero() && (deadline.IsZero() || limit.Before(deadline)) {
			deadline = limit
		}
	}
	return deadline
}

// Read implements net.Conn.
func (l *link) Read(b []byte) (int, error) {
	if err := l.prepare(net.Conn.SetReadDeadline); err != nil {
		return 0, err
	}
	n, err := l.Conn.Read(b)
	l.fail(err)
	return n, err
}

// Write implements net.Conn.
func (l *link) Write(b []byte) (int, error) {
	if err := l.prepare(net.Conn.SetWriteDeadline); err != nil {
		return 0, err
	}
	n, err := l.Conn.Write(b)
	l.fail(err)
	return n, err
}

// prepare sets the deadline of a read or write. It holds mu, so that shorten comes
// before or after it.
func (l *link) prepare(set func(net.Conn, time.Time) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return set(l.Conn, l.deadline())
}

func (l *link) fail(err error) {
	if err == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = err
	}
}

// SetDeadline implements net.Conn. The driver calls it while it connects.
func (l *link) SetDeadline(t time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.driver = t
	return nil
}

// broken reports whether a read or write has failed, and whether it did because the
// server did not answer in time.
func (l *link) broken() (broken, silent bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err != nil, errors.Is(l.err, os.ErrDeadlineExceeded)
}

// start begins a statement that ends at limit, and returns its number.
func (l *link) start(limit time.Time) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.statement++
	l.limit = limit
	return l.statement
}

// startClosing begins what may take closeTimeout.
func (l *link) startClosing() { l.start(time.Now().Add(closeTimeout)) }

// shorten makes a statement end at limit unless it ends earlier. It does nothing if
// another statement has started.
func (l *link) shorten(statement int, limit time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.statement != statement || !l.limit.IsZero() && l.limit.Before(limit) {
		return
	}
	l.limit = limit
	if l.Conn != nil {
		_ = l.Conn.SetDeadline(limit) // it fails on a closed connection, whose reads fail too
	}
}

// cancelBy returns when a request to cancel the current statement must have ended.
func (l *link) cancelBy() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	limit := time.Now().Add(maxCancelLead)
	if !l.limit.IsZero() && l.limit.Before(limit) {
		return l.limit
	}
	return limit
}

// limitTo makes the statement that starts now end with ctx, whatever the server does,
// until release is called. The driver must get the returned context: it ends a little
// before ctx's deadline, so that the server can still answer that it has canceled the
// statement.
func (l *link) limitTo(ctx context.Context) (early context.Context, release func()) {
	if ctx.Done() == nil {
		l.start(time.Time{})
		return ctx, func() {}
	}
	lead := maxCancelLead
	cancel := func() {}
	deadline, limited := ctx.Deadline()
	if limited {
		lead = min(lead, time.Until(deadline)/10)
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-lead))
	}
	statement := l.start(deadline)
	stop := context.AfterFunc(ctx, func() { l.shorten(statement, time.Now().Add(lead)) })
	return ctx, func() {
		stop()
		cancel()
		l.start(time.Time{})
	}
}

// untilLimit returns the limit of a statement that has no context of its own, such as
// COMMIT, in a transaction that ends at deadline.
func (l *link) untilLimit(deadline time.Time) time.Time {
	if l.timeout == 0 {
		return deadline
	}
	limit := time.Now().Add(l.timeout)
	if !deadline.IsZero() && deadline.Before(limit) {
		return deadline
	}
	return limit
}
