package callback

import (
	"context"
	"errors"
	"fmt"

	"github.com/postcard-mms/postcard/internal/mms"
)

// ErrMismatch means that a report names another Plivo UUID than the one its
// attempt already has.
var ErrMismatch = errors.New("the report is about another message")

// Store keeps attempts and messages. AttemptByToken returns mms.ErrNotFound for
// an unknown token. ApplyReport reports whether it recorded an event. PollSoon
// has the report poller ask Plivo about the message at its next run.
type Store interface {
	AttemptByToken(ctx context.Context, token string) (ref mms.AttemptRef, plivoUUID string, err error)
	RecordSubmitted(ctx context.Context, ref mms.AttemptRef, v mms.Verdict, kind mms.EventKind) (mms.SubmitResult, error)
	ApplyReport(ctx context.Context, ref mms.AttemptRef, r mms.Report, kind mms.EventKind) (bool, error)
	PollSoon(ctx context.Context, ref mms.AttemptRef) error
}

// Reports applies delivery reports. They may arrive before Plivo's answer to our
// own call, more than once, and in any order.
type Reports struct {
	Store       Store
	OnDuplicate func() // called for each message that turns out to have been sent twice
}

// Apply applies one report. It changes nothing and returns mms.ErrNotFound if no
// attempt has the report's token, or ErrMismatch if the attempt has another
// Plivo UUID. A report that changes nothing is no error.
func (rs Reports) Apply(ctx context.Context, r mms.Report) error {
	ref, plivoUUID, err := rs.Store.AttemptByToken(ctx, r.Token)
	if err != nil {
		return fmt.Errorf("finding the attempt of a report: %w", err)
	}
	if plivoUUID != "" && plivoUUID != r.PlivoUUID {
		return ErrMismatch
	}
	if plivoUUID == "" {
		// Only Plivo knows the attempt's secret URL, so Plivo has the message:
		// the report either resolves a doubt or overtook the answer to our call.
		if err := rs.adopt(ctx, ref, r.PlivoUUID); err != nil {
			return err
		}
	}
	return rs.advance(ctx, ref, r)
}

// adopt records that Plivo has the attempt's message. If the attempt was given
// up and another one followed, the recipient gets the message twice.
func (rs Reports) adopt(ctx context.Context, ref mms.AttemptRef, plivoUUID string) error {
	result, err := rs.Store.RecordSubmitted(ctx, ref, mms.Verdict{PlivoUUID: plivoUUID}, mms.EventSubmitted)
	if err != nil {
		return fmt.Errorf("adopting a reported message: %w", err)
	}
	if result == mms.Duplicate {
		rs.OnDuplicate()
	}
	return nil
}

// advance moves the message to the reported state. A final state that is not
// proven only makes the report poller ask Plivo.
func (rs Reports) advance(ctx context.Context, ref mms.AttemptRef, r mms.Report) error {
	if to, _ := mms.StatusFromReport(r.State); to.Final() && !r.Authenticated {
		if err := rs.Store.PollSoon(ctx, ref); err != nil {
			return fmt.Errorf("scheduling a poll for a report: %w", err)
		}
		return nil
	}
	if _, err := rs.Store.ApplyReport(ctx, ref, r, mms.EventReport); err != nil {
		return fmt.Errorf("applying a report: %w", err)
	}
	return nil
}
