package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"time"

	"github.com/jmoiron/sqlx"
)

// preparedDB is a pool that prepares each statement once per connection, because
// planning takes longer than executing the statements that claim or record an
// attempt. The number of statements is fixed: there is one per constant in this
// package. Statements whose text or best plan depends on the values use the
// embedded DB instead.
//
// After a few executions Postgres keeps one plan for a statement. A plan made
// while a table was empty may scan the whole table once it has grown; Postgres
// drops it when autovacuum next analyzes the table, about a minute later.
type preparedDB struct {
	*sqlx.DB
	timeout time.Duration // for one statement, see Open

	mu         sync.Mutex
	statements map[string]*sqlx.Stmt
}

// withTimeout bounds the wait for a free connection and for the result.
// database/sql opens connections for waiting callers one after another: without
// this bound the last of many callers of a database that does not answer would
// wait for all attempts before its own.
func (p *preparedDB) withTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	if p.timeout == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, p.timeout)
}

func (p *preparedDB) statement(ctx context.Context, query string) (*sqlx.Stmt, error) {
	p.mu.Lock()
	statement := p.statements[query]
	p.mu.Unlock()
	if statement != nil {
		return statement, nil
	}
	statement, err := p.PreparexContext(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("preparing a statement: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if earlier := p.statements[query]; earlier != nil {
		return earlier, statement.Close()
	}
	p.statements[query] = statement
	return statement, nil
}

// GetContext is like sqlx.DB.GetContext with a prepared statement.
func (p *preparedDB) GetContext(ctx context.Context, dest any, query string, args ...any) error {
	ctx, cancel := p.withTimeout(ctx)
	defer cancel()
	statement, err := p.statement(ctx, query)
	if err != nil {
		return err
	}
	return statement.GetContext(ctx, dest, args...)
}

// SelectContext is like sqlx.DB.SelectContext with a prepared statement.
func (p *preparedDB) SelectContext(ctx context.Context, dest any, query string, args ...any) error {
	ctx, cancel := p.withTimeout(ctx)
	defer cancel()
	statement, err := p.statement(ctx, query)
	if err != nil {
		return err
	}
	return statement.SelectContext(ctx, dest, args...)
}

// ExecContext is like sqlx.DB.ExecContext with a prepared statement.
func (p *preparedDB) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	ctx, cancel := p.withTimeout(ctx)
	defer cancel()
	statement, err := p.statement(ctx, query)
	if err != nil {
		return nil, err
	}
	return statement.ExecContext(ctx, args...)
}
