// Package receipts applies what Plivo reports about messages after it took
// them. A report can come before the answer to our own call, twice, or in the
// wrong order: the message's status never moves back.
package receipts

import (
	"context"
	"errors"
	"fmt"

	"postcard/internal/mms"
)

// ErrMismatch says that a report names another message of Plivo's than the
// attempt it was sent for.
var ErrMismatch = errors.New("the report is about another message")

// Store keeps attempts and messages.
type Store interface {
	AttemptByToken(ctx context.Context, token string) (ref mms.AttemptRef, plivoUUID string, err error)
	Submit(ctx context.Context, ref mms.AttemptRef, v mms.Verdict) (bool, error)
	ApplyReport(ctx context.Context, ref mms.AttemptRef, r mms.Report, to mms.Status) (bool, error)
	NoteReport(ctx context.Context, ref mms.AttemptRef, r mms.Report) error
}

// Receipts applies delivery reports.
type Receipts struct{ Store Store }

// Apply applies one report. It returns mms.ErrNotFound for a token that no
// attempt has, and ErrMismatch for a foreign UUID; nothing is changed then. A
// report that says nothing new is no error.
func (rc Receipts) Apply(ctx context.Context, r mms.Report) error {
	ref, known, err := rc.Store.AttemptByToken(ctx, r.Token)
	if err != nil {
		return fmt.Errorf("finding the attempt of a report: %w", err)
	}
	if known == "" {
		// Only Plivo can have called the attempt's secret URL, so it has the
		// message: this settles a doubt, or is quicker than the answer.
		proof := mms.Verdict{Outcome: mms.Accepted, PlivoUUID: r.PlivoUUID}
		if _, err := rc.Store.Submit(ctx, ref, proof); err != nil {
			return fmt.Errorf("adopting a reported message: %w", err)
		}
	} else if known != r.PlivoUUID {
		return ErrMismatch
	}
	return rc.advance(ctx, ref, r)
}

func (rc Receipts) advance(ctx context.Context, ref mms.AttemptRef, r mms.Report) error {
	if r.State == "queued" {
		return nil // that Plivo has it is all this says
	}
	to, ok := mms.Reported(r.State)
	if !ok {
		if err := rc.Store.NoteReport(ctx, ref, r); err != nil {
			return fmt.Errorf("noting a report of an unknown state: %w", err)
		}
		return nil
	}
	if _, err := rc.Store.ApplyReport(ctx, ref, r, to); err != nil {
		return fmt.Errorf("applying a report: %w", err)
	}
	return nil
}
