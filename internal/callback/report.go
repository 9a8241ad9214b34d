// Package receipts applies what Plivo reports about messages after it took
// them. A report can come before the answer to our own call, twice, or in the
// wrong order: the message's status never moves back.
package callback

import (
	"context"
	"errors"
	"fmt"

	"github.com/postcard-mms/postcard/internal/mms"
)

// ErrMismatch says that a report names another message of Plivo's than the
// attempt it was sent for.
var ErrMismatch = errors.New("the report is about another message")

// Store keeps attempts and messages. CheckSoon has Plivo asked about a message
// at once.
type Store interface {
	AttemptByToken(ctx context.Context, token string) (ref mms.AttemptRef, plivoUUID string, err error)
	RecordSubmitted(ctx context.Context, ref mms.AttemptRef, v mms.Verdict, kind mms.EventKind) (mms.SubmitResult, error)
	ApplyReport(ctx context.Context, ref mms.AttemptRef, r mms.Report, kind mms.EventKind) (bool, error)
	PollSoon(ctx context.Context, ref mms.AttemptRef) error
}

// Reports applies delivery reports.
type Reports struct {
	Store       Store
	OnDuplicate func() // called for each message that is found to have been sent twice
}

// Apply applies one report. It returns mms.ErrNotFound for a token that no
// attempt has, and ErrMismatch for a foreign UUID; nothing is changed then. A
// report that says nothing new is no error.
func (rc Reports) Apply(ctx context.Context, r mms.Report) error {
	ref, known, err := rc.Store.AttemptByToken(ctx, r.Token)
	if err != nil {
		return fmt.Errorf("finding the attempt of a report: %w", err)
	}
	if known != "" && known != r.PlivoUUID {
		return ErrMismatch
	}
	if known == "" {
		// Only Plivo can have called the attempt's secret URL, so it has the
		// message: this settles a doubt, or is quicker than the answer.
		if err := rc.adopt(ctx, ref, r.PlivoUUID); err != nil {
			return err
		}
	}
	return rc.advance(ctx, ref, r)
}

// adopt binds the reported message to the attempt. That an attempt which was
// given up on and followed by another had been accepted after all is the one
// case in which the recipient gets the message twice.
func (rc Reports) adopt(ctx context.Context, ref mms.AttemptRef, plivoUUID string) error {
	got, err := rc.Store.RecordSubmitted(ctx, ref, mms.Verdict{PlivoUUID: plivoUUID}, mms.EventSubmitted)
	if err != nil {
		return fmt.Errorf("adopting a reported message: %w", err)
	}
	if got == mms.Duplicate {
		rc.OnDuplicate()
	}
	return nil
}

// advance takes the message on to the reported state. A final state that is not
// proven is only a reason to ask Plivo.
func (rc Reports) advance(ctx context.Context, ref mms.AttemptRef, r mms.Report) error {
	if to, _ := mms.StatusFromReport(r.State); to.Final() && !r.Proven {
		if err := rc.Store.PollSoon(ctx, ref); err != nil {
			return fmt.Errorf("having a report checked: %w", err)
		}
		return nil
	}
	if _, err := rc.Store.ApplyReport(ctx, ref, r, mms.EventReport); err != nil {
		return fmt.Errorf("applying a report: %w", err)
	}
	return nil
}
