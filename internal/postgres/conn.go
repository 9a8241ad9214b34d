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

// conn is a connection of the driver that ends each statement with its context. The pool
// discards it as soon as it is unusable: after a failover a connection may still answer,
// and refuse every change.
type conn struct {
	driverConn
	netConn *netConn
	pool    *poolState

	epoch      int       // of the pool, when the connection was opened
	checkRound int       // of the pool, when the server last answered a check
	retireAt   time.Time // when the pool replaces the connection
	reused     bool      // whether it was opened for an earlier statement than the current one
	unusable   bool
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

// poolState is what the connections of a pool share: the failure of one shows that the
// others must be discarded or checked.
type poolState struct {
	mu         sync.Mutex
	epoch      int       // connections of an earlier epoch are discarded
	epochBegan time.Time // zero for the first epoch
	checkRound int       // connections of an earlier round are checked before their next use
}

// minEpoch bounds how often all connections are replaced: while a server stays
// read-only, each change shows that again.
const minEpoch = time.Second

func (p *poolState) current() (epoch, checkRound int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.epoch, p.checkRound
}

// replaceAll makes the pool discard all connections up to this epoch. The failure of
// one usually means that the server behind all of them has changed.
func (p *poolState) replaceAll(epoch int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if epoch == p.epoch && time.Since(p.epochBegan) >= minEpoch {
		p.epoch++
		p.epochBegan = time.Now()
	}
}

// checkAll makes the pool check each connection before its next use, because the server
// did not answer on one. The server may be slow, stopped, or unreachable for good.
func (p *poolState) checkAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.checkRound++
}

// checkTimeout bounds a check. It is short, because a statement waits for it.
const checkTimeout = time.Second

// ResetSession implements driver.SessionResetter: database/sql calls it before it uses
// a connection again.
func (c *conn) ResetSession(ctx context.Context) error {
	c.reused = true
	epoch, checkRound := c.pool.current()
	if c.unusable || c.epoch != epoch {
		return driver.ErrBadConn
	}
	if err := c.driverConn.ResetSession(ctx); err != nil || c.checkRound == checkRound {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	if err := c.Ping(ctx); err != nil {
		return driver.ErrBadConn
	}
	c.checkRound = checkRound
	return nil
}

// IsValid implements driver.Validator: database/sql calls it after each use.
func (c *conn) IsValid() bool {
	return c.usable() && time.Now().Before(c.retireAt)
}

func (c *conn) usable() bool {
	broken, _ := c.netConn.broken()
	epoch, _ := c.pool.current()
	return !c.unusable && !broken && c.epoch == epoch && c.driverConn.IsValid()
}

// Close implements driver.Conn.
func (c *conn) Close() error {
	usable := c.usable()
	c.netConn.startClosing()
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
	early, release := c.netConn.limitTo(ctx)
	return early, call{conn: c, ctx: ctx, release: release}, nil
}

// end ends a statement that returned err, and returns the error to report.
func (c call) end(err error) error {
	c.release()
	err = c.conn.judge(err)
	if c.ctx.Err() != nil {
		c.conn.unusable = true // the request to cancel the statement may arrive during the next one
	}
	return err
}

// judge marks the connection as unusable if err shows that it is, and returns the error
// to report. The error contains driver.ErrBadConn if the connection is older than the
// statement: database/sql then repeats the statement on another one. A connection that was
// opened for the statement fails as any other would. The driver also has statements
// repeated when the server closes a connection, so each must have the same effect if it
// is repeated.
func (c *conn) judge(err error) error {
	if err == nil || c.unusable {
		return err
	}
	broken, silent := c.netConn.broken()
	pqErr, answered := errors.AsType[*pq.Error](err)
	switch {
	case silent:
		c.unusable = true
		c.pool.checkAll()
		return err
	case broken, answered && serverChanged(pqErr): // broken also when the server has ended the session
		c.unusable = true
		if c.reused {
			c.pool.replaceAll(c.epoch)
		}
	case answered && sessionLost(pqErr):
		c.unusable = true
	}
	if c.unusable && c.reused {
		return badConnError{err}
	}
	return err
}

// badConnError is an error of a statement whose connection is unusable.
type badConnError struct{ error }

func (e badConnError) Unwrap() error { return e.error }

// Is makes it a driver.ErrBadConn.
func (badConnError) Is(target error) bool { return target == driver.ErrBadConn }

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
	s.conn.netConn.startClosing()
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
	t.conn.netConn.start(t.conn.netConn.untilLimit(t.deadline))
	err := t.conn.judge(t.Tx.Commit())
	t.conn.netConn.start(time.Time{})
	return err
}

// Rollback implements driver.Tx. The server rolls back what a closed connection leaves.
func (t *tx) Rollback() error {
	t.conn.netConn.startClosing()
	err := t.conn.judge(t.Tx.Rollback())
	t.conn.netConn.start(time.Time{})
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
