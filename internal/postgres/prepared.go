package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"time"

	"github.com/jmoiron/sqlx"
)

// preparedDB is a pool that has the database plan each statement once per connection
// and not each time: planning takes longer than carrying out what claims or
// records an attempt. There are as many statements as constants in this package.
//
// A plan that was made while a table was empty must not read the table from end to
// end once it is large: Open has the planner use indexes wherever there are any.
type preparedDB struct {
	*sqlx.DB
	timeout time.Duration // see Open

	mu         sync.Mutex
	statements map[string]*sqlx.Stmt
}

// withTimeout bounds the wait for a connection and for an answer. database/sql opens
// connections for those who wait one after the other: with a database that does not
// answer, the last of many would otherwise wait as often as there are connections'
// worth of them before.
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

// GetContext is sqlx's, prepared.
func (p *preparedDB) GetContext(ctx context.Context, dest any, query string, args ...any) error {
	ctx, cancel := p.withTimeout(ctx)
	defer cancel()
	statement, err := p.statement(ctx, query)
	if err != nil {
		return err
	}
	return statement.GetContext(ctx, dest, args...)
}

// SelectContext is sqlx's, prepared.
func (p *preparedDB) SelectContext(ctx context.Context, dest any, query string, args ...any) error {
	ctx, cancel := p.withTimeout(ctx)
	defer cancel()
	statement, err := p.statement(ctx, query)
	if err != nil {
		return err
	}
	return statement.SelectContext(ctx, dest, args...)
}

// ExecContext is sqlx's, prepared.
func (p *preparedDB) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	ctx, cancel := p.withTimeout(ctx)
	defer cancel()
	statement, err := p.statement(ctx, query)
	if err != nil {
		return nil, err
	}
	return statement.ExecContext(ctx, args...)
}
