package intake

import (
	"context"
	"errors"

	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/mms"
)

// A request that was valid may be invalid when it is repeated: its uploads have been
// deleted, or its sendAt has passed. Its submitter must learn nevertheless that it was
// carried out. Otherwise they would correct the request, send it with a new idempotency
// key, and the recipient would get the message twice.

// replayMessage returns the message that an earlier request with the same idempotency key
// created, and violations if there was none.
func (in *Intake) replayMessage(ctx context.Context, by mms.Submitter, idempotency mms.Idempotency, violations error) (mms.CreateResult, error) {
	if !replayable(idempotency, violations) {
		return mms.CreateResult{}, violations
	}
	result, err := in.Store.MessageCreatedUnder(ctx, by.Workspace, idempotency)
	if errors.Is(err, mms.ErrNotFound) || errors.Is(err, mms.ErrKeyReused) {
		return mms.CreateResult{}, violations
	}
	return result, err
}

// replayBatch is like replayMessage.
func (in *Intake) replayBatch(ctx context.Context, by mms.Submitter, idempotency mms.Idempotency, violations error) (mms.BatchResult, error) {
	if !replayable(idempotency, violations) {
		return mms.BatchResult{}, violations
	}
	result, err := in.Store.BatchCreatedUnder(ctx, by.Workspace, idempotency)
	if errors.Is(err, mms.ErrBatchNotFound) || errors.Is(err, mms.ErrKeyReused) {
		return mms.BatchResult{}, violations
	}
	return result, err
}

// replayable reports whether a request with this idempotency key may have been carried out
// before it violated a rule.
func replayable(idempotency mms.Idempotency, err error) bool {
	var violations, malformed invalid.Fields
	idempotency.Validate(&malformed)
	return idempotency.Key != "" && malformed == nil && errors.As(err, &violations)
}
