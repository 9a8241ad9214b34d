package maintenance

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/operator"
)

// AccountCheckStore keeps what Plivo says about the account and its numbers.
type AccountCheckStore interface {
	ReserveGetCall(ctx context.Context) (wait time.Duration, err error)
	SaveAccount(ctx context.Context, authID string, a operator.Account) error
	SaveAccountProblem(ctx context.Context, authID, problem string) error
	SaveNumber(ctx context.Context, sender mms.PhoneNumber, n operator.Number) error
	SaveNumberProblem(ctx context.Context, sender mms.PhoneNumber, problem string) error
	CountSenderWeek(ctx context.Context) error
}

// AccountGetter asks Plivo about the account and its numbers.
type AccountGetter interface {
	Account(ctx context.Context) (operator.Account, error)
	Number(ctx context.Context, number mms.PhoneNumber) (operator.Number, error)
}

// AccountCheckOptions are what AccountCheck needs.
type AccountCheckOptions struct {
	Store     AccountCheckStore
	WithLease WithLease
	Plivo     AccountGetter
	AuthID    string
	Senders   *operator.SenderList
	Problem   func(error) string // describes an error of Plivo for operators
}

// AccountCheck returns the job that asks Plivo about the account and the senders, and counts
// what was sent from them. One process at a time runs it. A problem of Plivo is stored, and
// is no error.
func AccountCheck(o AccountCheckOptions) Job {
	return Job{Name: "account check", Interval: 5 * time.Minute, Run: func(ctx context.Context) error {
		return o.WithLease(ctx, "account_check", o.run)
	}}
}

func (o AccountCheckOptions) run(ctx context.Context) error {
	return errors.Join(o.Store.CountSenderWeek(ctx), o.ask(ctx))
}

// ask asks Plivo about the account and each sender.
func (o AccountCheckOptions) ask(ctx context.Context) error {
	if err := o.Senders.Refresh(ctx); err != nil {
		return err
	}
	if err := o.checkAccount(ctx); err != nil {
		return err
	}
	for _, sender := range o.Senders.All() {
		if err := o.checkNumber(ctx, sender); err != nil {
			return err
		}
	}
	return nil
}

func (o AccountCheckOptions) checkAccount(ctx context.Context) error {
	if err := o.await(ctx); err != nil {
		return err
	}
	callCtx, cancel := context.WithTimeout(ctx, getTimeout)
	defer cancel()
	account, err := o.Plivo.Account(callCtx)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("checking the account: %w", context.Cause(ctx))
	case err != nil:
		return o.Store.SaveAccountProblem(ctx, o.AuthID, o.Problem(err))
	}
	return o.Store.SaveAccount(ctx, o.AuthID, account)
}

// checkNumber makes up to two calls, the second about the number's application.
func (o AccountCheckOptions) checkNumber(ctx context.Context, sender mms.PhoneNumber) error {
	for range 2 {
		if err := o.await(ctx); err != nil {
			return err
		}
	}
	callCtx, cancel := context.WithTimeout(ctx, getTimeout)
	defer cancel()
	number, err := o.Plivo.Number(callCtx, sender)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("checking a sender: %w", context.Cause(ctx))
	case err != nil:
		return o.Store.SaveNumberProblem(ctx, sender, o.Problem(err))
	}
	return o.Store.SaveNumber(ctx, sender, number)
}

// await reserves a call and waits for it.
func (o AccountCheckOptions) await(ctx context.Context) error {
	wait, err := o.Store.ReserveGetCall(ctx)
	if err != nil {
		return err
	}
	return sleep(ctx, wait)
}
