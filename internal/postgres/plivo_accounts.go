package postgres

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/postcard-mms/postcard/internal/operator"
)

const saveAccount = `
INSERT INTO plivo_accounts (auth_id, checked_at, reached_at, account_type, billing_mode, auto_recharge, credits) VALUES ($1, now(), now(), $2, $3, $4, $5)
ON CONFLICT (auth_id) DO UPDATE SET checked_at = now(), reached_at = now(), problem = '', account_type = EXCLUDED.account_type,
    billing_mode = EXCLUDED.billing_mode, auto_recharge = EXCLUDED.auto_recharge, credits = EXCLUDED.credits`

// SaveAccount stores what Plivo said about an account.
func (s *Store) SaveAccount(ctx context.Context, authID string, a operator.Account) error {
	_, err := s.db.ExecContext(ctx, saveAccount, authID, a.Type, a.BillingMode, a.AutoRecharge, a.Credits)
	return wrapError(err, "storing the Plivo account")
}

const saveAccountProblem = `
INSERT INTO plivo_accounts (auth_id, checked_at, problem) VALUES ($1, now(), $2)
ON CONFLICT (auth_id) DO UPDATE SET checked_at = now(), problem = EXCLUDED.problem`

// SaveAccountProblem stores why Plivo said nothing about an account. What it said before
// stays.
func (s *Store) SaveAccountProblem(ctx context.Context, authID, problem string) error {
	_, err := s.db.ExecContext(ctx, saveAccountProblem, authID, problem)
	return wrapError(err, "storing that Plivo cannot be reached")
}

const noteCallback = `
INSERT INTO plivo_accounts (auth_id, callback_at) VALUES ($1, now())
ON CONFLICT (auth_id) DO UPDATE SET callback_at = EXCLUDED.callback_at`

// NoteCallback records that Plivo has just called us.
func (s *Store) NoteCallback(ctx context.Context, authID string) error {
	_, err := s.db.ExecContext(ctx, noteCallback, authID)
	return wrapError(err, "recording the time of a callback")
}

const selectAccountState = `
SELECT checked_at, reached_at, problem, account_type, billing_mode, auto_recharge, credits, callback_at FROM plivo_accounts WHERE auth_id = $1`

// AccountState returns what is known about an account; the zero value if nothing is.
func (s *Store) AccountState(ctx context.Context, authID string) (operator.AccountState, error) {
	var row struct {
		CheckedAt    *time.Time `db:"checked_at"`
		ReachedAt    *time.Time `db:"reached_at"`
		Problem      string     `db:"problem"`
		Type         string     `db:"account_type"`
		BillingMode  string     `db:"billing_mode"`
		AutoRecharge bool       `db:"auto_recharge"`
		Credits      string     `db:"credits"`
		CallbackAt   *time.Time `db:"callback_at"`
	}
	err := s.db.GetContext(ctx, &row, selectAccountState, authID)
	if errors.Is(err, sql.ErrNoRows) {
		return operator.AccountState{}, nil
	}
	return operator.AccountState{
		Account:   operator.Account{Type: row.Type, BillingMode: row.BillingMode, AutoRecharge: row.AutoRecharge, Credits: row.Credits},
		CheckedAt: row.CheckedAt, ReachedAt: row.ReachedAt, Problem: row.Problem, CallbackAt: row.CallbackAt,
	}, wrapError(err, "reading the Plivo account")
}
