package postgres

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/lib/pq"
)

// conn is a connection of the driver that ends each statement with its context, and
// that the pool gives up as soon as it is of no use: after a failover a connection may
// still answer, and refuse every change.
type conn struct {
	driverConn
	link  *link
	peers *peers

	generation int       // of peers, when it was opened
	doubt      int       // of peers, when the server last answered a check
	retireAt   time.Time // when the pool replaces it
	reused     bool      // whether it was opened for an earlier statement than the current one
	useless    bool
}

// driverConn is what database/sql uses of a connection.
type driverConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.NamedValueChecker
	driver.Pinger
	driver.QueryerContext
	driver.SessionResetter
	driver.Validator
}

// peers is what the connections of a pool tell each other.
type peers struct {
	mu         sync.Mutex
	generation int       // connections of older generations are of no use
	replacedAt time.Time // when the generation began
	doubt      int       // counts reasons to check connections before their next use
}

// minGenerationAge bounds how often all connections are replaced: while a server stays
// read-only, each change shows that again.
const minGenerationAge = time.Second

func (p *peers) current() (generation, doubt int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.generation, p.doubt
}

// replace makes the pool give up all connections up to this generation. The failure of
// one usually means that the server behind all of them has changed.
func (p *peers) replace(generation int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if generation == p.generation && time.Since(p.replacedAt) >= minGenerationAge {
		p.generation++
		p.replacedAt = time.Now()
	}
}

// check makes the pool check each connection before its next use, because the server
// did not answer on one. It may be slow, stopped, or unreachable for good.
func (p *peers) check() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.doubt++
}

// checkTimeout bounds a check. It is short, because a statement waits for it.
const checkTimeout = time.Second

// ResetSession implements driver.SessionResetter: database/sql calls it before it uses
// a connection again.
func (c *conn) ResetSession(ctx context.Context) error {
	c.reused = true
	generation, doubt := c.peers.current()
	if c.useless || c.generation != generation {
		return driver.ErrBadConn
	}
	if err := c.driverConn.ResetSession(ctx); err != nil || c.doubt == doubt {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	if err := c.Ping(ctx); err != nil {
		return driver.ErrBadConn
	}
	c.doubt = doubt
	return nil
}

// IsValid implements driver.Validator: database/sql calls it after each use.
func (c *conn) IsValid() bool {
	return c.usable() && time.Now().Before(c.retireAt)
}

func (c *conn) usable() bool {
	broken, _ := c.link.broken()
	generation, _ := c.peers.current()
	return !c.useless && !broken && c.generation == generation && c.driverConn.IsValid()
}

// Close implements driver.Conn.
func (c *conn) Close() error {
	usable := c.usable()
	c.link.startClosing()
	if err := c.driverConn.Close(); usable {
		return err
	}
	return nil
}

// call is a statement in progress.
type call struct {
	conn    *conn
	ctx     context.Context
	release func()
}

// start begins a statement. The driver must get the returned context.
func (c *conn) start(ctx context.Context) (context.Context, call, error) {
	if err := ctx.Err(); err != nil {
		return nil, call{}, err
	}
	early, release := c.link.limitTo(ctx)
	return early, call{conn: c, ctx: ctx, release: release}, nil
}

// end ends a statement that returned err, and returns the error to report.
func (c call) end(err error) error {
	c.release()
	err = c.conn.judge(err)
	if c.ctx.Err() != nil {
		c.conn.useless = true // the request to cancel the statement may arrive during the next one
	}
	return err
}

// judge gives the connection up if err shows that it is of no use, and returns the
// error to report. It contains driver.ErrBadConn if another connection may do better:
// database/sql then repeats the statement. The driver does the same when the server
// closes a connection, so statements must have the same effect if they are repeated. A
// connection that was opened for this statement shows the server as it is.
func (c *conn) judge(err error) error {
	if err == nil || c.useless {
		return err
	}
	broken, silent := c.link.broken()
	pqErr, answered := errors.AsType[*pq.Error](err)
	switch {
	case silent:
		c.useless = true
		c.peers.check()
		return err
	case broken, answered && serverChanged(pqErr): // broken also when the server has ended the session
		c.useless = true
		if c.reused {
			c.peers.replace(c.generation)
		}
	case answered && sessionLost(pqErr):
		c.useless = true
	}
	if c.useless && c.reused {
		return badConnError{err}
	}
	return err
}

// badConnError is an error of a statement whose connection is of no use.
type badConnError struct{ error }

func (e badConnError) Unwrap() error { return e.error }

// Is makes it a driver.ErrBadConn.
func (badConnError) Is(target error) bool { return target == driver.ErrBadConn } //nolint:errorlint // target is a sentinel

// Ping implements driver.Pinger.
func (c *conn) Ping(ctx context.Context) error {
	early, call, err := c.start(ctx)
	if err != nil {
		return err
	}
	return call.end(c.driverConn.Ping(early))
}

// ExecContext implements driver.ExecerContext.
func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	early, call, err := c.start(ctx)
	if err != nil {
		return nil, err
	}
	result, err := c.driverConn.ExecContext(early, query, args)
	return result, call.end(err)
}

// QueryContext implements driver.QueryerContext.
func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	early, call, err := c.start(ctx)
	if err != nil {
		return nil, err
	}
	return call.rows(c.driverConn.QueryContext(early, query, args))
}

// Prepare implements driver.Conn.
func (c *conn) Prepare(query string) (driver.Stmt, error) {
	return c.PrepareContext(context.Background(), query)
}

// PrepareContext implements driver.ConnPrepareContext.
func (c *conn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	early, call, err := c.start(ctx)
	if err != nil {
		return nil, err
	}
	prepared, err := c.driverConn.PrepareContext(early, query)
	if err := call.end(err); err != nil {
		return nil, err
	}
	statement, ok := prepared.(driverStmt)
	if !ok {
		return nil, errors.Join(fmt.Errorf("preparing a statement: the driver's %T has no context", prepared), prepared.Close())
	}
	return &stmt{driverStmt: statement, conn: c}, nil
}

// Begin implements driver.Conn.
func (c *conn) Begin() (driver.Tx, error) {
	return c.BeginTx(context.Background(), driver.TxOptions{})
}

// BeginTx implements driver.ConnBeginTx. The driver watches ctx until the transaction
// ends, so it must not get the context of BEGIN alone.
func (c *conn) BeginTx(ctx context.Context, options driver.TxOptions) (driver.Tx, error) {
	_, call, err := c.start(ctx)
	if err != nil {
		return nil, err
	}
	begun, err := c.driverConn.BeginTx(ctx, options)
	if err := call.end(err); err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline()
	return &tx{Tx: begun, conn: c, deadline: deadline}, nil
}

// driverStmt is what database/sql uses of a prepared statement.
type driverStmt interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

// stmt is a prepared statement.
type stmt struct {
	driverStmt
	conn *conn
}

// ExecContext implements driver.StmtExecContext.
func (s *stmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	early, call, err := s.conn.start(ctx)
	if err != nil {
		return nil, err
	}
	result, err := s.driverStmt.ExecContext(early, args)
	return result, call.end(err)
}

// QueryContext implements driver.StmtQueryContext.
func (s *stmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	early, call, err := s.conn.start(ctx)
	if err != nil {
		return nil, err
	}
	return call.rows(s.driverStmt.QueryContext(early, args))
}

// Close implements driver.Stmt. The server forgets the statements of a connection that
// is closed, so closing each of them would only take time.
func (s *stmt) Close() error {
	if !s.conn.IsValid() {
		return nil
	}
	s.conn.link.startClosing()
	return s.conn.judge(s.driverStmt.Close())
}

// tx is a transaction. deadline is zero if its context has none.
type tx struct {
	driver.Tx
	conn     *conn
	deadline time.Time
}

// Commit implements driver.Tx.
func (t *tx) Commit() error {
	t.conn.link.start(t.conn.link.untilLimit(t.deadline))
	err := t.conn.judge(t.Tx.Commit())
	t.conn.link.start(time.Time{})
	return err
}

// Rollback implements driver.Tx. The server rolls back what a closed connection leaves.
func (t *tx) Rollback() error {
	t.conn.link.startClosing()
	err := t.conn.judge(t.Tx.Rollback())
	t.conn.link.start(time.Time{})
	return err
}

// driverRows is what database/sql can use of the driver's rows.
type driverRows interface {
	driver.Rows
	driver.RowsNextResultSet
	driver.RowsColumnTypeScanType
	driver.RowsColumnTypeDatabaseTypeName
	driver.RowsColumnTypeLength
	driver.RowsColumnTypePrecisionScale
}

// rows are the result of a statement, which ends when they are closed.
type rows struct {
	driverRows
	call   call
	closed bool
}

// rows returns the result of a statement, or ends it.
func (c call) rows(result driver.Rows, err error) (driver.Rows, error) {
	if err != nil {
		return nil, c.end(err)
	}
	all, ok := result.(driverRows)
	if !ok {
		return nil, c.end(errors.Join(fmt.Errorf("querying: the driver's %T is incomplete", result), result.Close()))
	}
	return &rows{driverRows: all, call: c}, nil
}

// Next implements driver.Rows.
func (r *rows) Next(dest []driver.Value) error {
	err := r.driverRows.Next(dest)
	if err == nil || err == io.EOF { //nolint:errorlint // database/sql compares it, too
		return err
	}
	return r.call.conn.judge(err)
}

// Close implements driver.Rows.
func (r *rows) Close() error {
	err := r.driverRows.Close()
	if r.closed {
		return err
	}
	r.closed = true
	return r.call.end(err)
}
