package intake

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/postcard-mms/postcard/internal/failpoint"
	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/mms"
)

// Rows yields the rows of a batch in order. Next returns io.EOF after the last row,
// and invalid.Fields for a malformed row; later rows may still be readable.
// Row returns the number of the row that Next returned last, as the submitter numbers rows.
type Rows interface {
	Next() (map[string]string, error)
	Row() int
}

// NoRows are rows that cannot be read, or the rows of a request that is invalid for
// another reason. CreateBatch returns its violations together with those of the batch.
type NoRows invalid.Fields

// Next implements Rows.
func (NoRows) Next() (map[string]string, error) { return nil, io.EOF }

// Row implements Rows.
func (NoRows) Row() int { return 0 }

// insertBatchSize is how many messages are stored with one statement.
const insertBatchSize = 1000

// CreateBatch creates a message from each row: all of them or none, or with
// CreateValid those that are valid. It returns violations of the batch's common
// fields as invalid.Fields, and those of rows as mms.RowErrors. If the database is
// unavailable, the error is mms.ErrNotStored, or mms.OutcomeUnknownError when the batch
// may be stored.
func (in *Intake) CreateBatch(ctx context.Context, by mms.Submitter, params mms.BatchParams, rows Rows) (mms.BatchResult, error) {
	now, err := in.now(ctx, params.CreateParams)
	if err != nil {
		return mms.BatchResult{}, notStored(err)
	}
	params = params.FromColumns()
	batch, err := in.validateBatch(ctx, by, &params, now, rows)
	if err != nil {
		replayed, err := in.replayBatch(ctx, by, params.Idempotency, err)
		return replayed, notStored(err)
	}
	request := mms.BatchRequest{Batch: batch, Candidates: in.rules().Candidates(params.From), Caps: by.Caps(in.DailyCap), Idempotency: params.Idempotency}
	failpoint.Hit(failpoint.APIBeforeCommit)
	result, err := in.storeBatch(ctx, request, params, now, rows)
	if err != nil {
		return mms.BatchResult{}, notStored(fmt.Errorf("storing a batch: %w", err))
	}
	failpoint.Hit(failpoint.APICommitted)
	return result, nil
}

// validateBatch validates the common fields of a batch, and replaces the MediaIDs of params by
// what is sent of them.
func (in *Intake) validateBatch(ctx context.Context, by mms.Submitter, params *mms.BatchParams, now time.Time, rows Rows) (mms.Batch, error) {
	id, err := in.IDs.next()
	if err != nil {
		return mms.Batch{}, err
	}
	batch, err := in.rules().ValidateBatch(*params, id, by.Workspace, now)
	if err = withRowViolations(err, rows); err != nil {
		return mms.Batch{}, err
	}
	batch.KeyID, batch.CreatedBy = by.Key, by.User
	if len(params.MediaIDs) > 0 {
		params.Uploads, err = in.resolve(ctx, by.Workspace, params.MediaIDs, mms.Fit(params.Fit))
		params.MediaIDs = nil
	}
	return batch, err
}

// withRowViolations adds what is wrong with the rows as a whole to the violations of the
// batch, so that one response lists everything.
func withRowViolations(err error, rows Rows) error {
	var violations invalid.Fields
	if err != nil && !errors.As(err, &violations) {
		return err
	}
	none, noRows := rows.(NoRows)
	violations = append(violations, none...)
	if err != nil && !noRows {
		if _, err := rows.Next(); errors.Is(err, io.EOF) {
			violations = append(violations, rowsMissing)
		}
	}
	return violations.Err()
}

var rowsMissing = invalid.Field{Name: "rows", Rule: "required", Message: "are missing: a batch needs at least one, with the recipient as to"}

func (in *Intake) storeBatch(ctx context.Context, request mms.BatchRequest, params mms.BatchParams, now time.Time, rows Rows) (mms.BatchResult, error) {
	writer, replayed, err := in.Store.BeginBatch(ctx, request)
	if err != nil {
		return mms.BatchResult{}, err
	}
	if replayed != nil {
		return *replayed, nil
	}
	defer writer.Rollback()
	reader := messageReader{ids: in.IDs, rules: in.rules(), params: params, batch: request.Batch, now: now, rows: rows, rowOf: map[[16]byte]int{}}
	for !reader.done {
		messages, err := reader.next(insertBatchSize)
		if err != nil {
			return mms.BatchResult{}, err
		}
		if reader.rejected.Rejected > 0 && !params.CreateValid {
			continue // the batch will not be created; the other rows are read for their errors
		}
		if err := writer.Add(ctx, messages); err != nil {
			return mms.BatchResult{}, err
		}
	}
	failpoint.Hit(failpoint.APIBatchInserted)
	if reader.rejected.Rejected > 0 && (!params.CreateValid || reader.created == 0) {
		return mms.BatchResult{}, reader.rejected
	}
	return writer.Commit(ctx, reader.rejected)
}

// messageReader turns rows into messages.
type messageReader struct {
	ids    *IDs
	rules  mms.Rules
	params mms.BatchParams
	batch  mms.Batch
	now    time.Time
	rows   Rows

	read     int // the number of rows read
	created  int // the number of messages returned
	rejected mms.RowErrors
	rowOf    map[[16]byte]int // the row of each message, by its contentHash
	done     bool             // all rows are read
}

// next returns the messages of the next valid rows, limit at most.
func (r *messageReader) next(limit int) ([]mms.Message, error) {
	var messages []mms.Message
	for len(messages) < limit {
		row, err := r.rows.Next()
		if errors.Is(err, io.EOF) {
			r.done = true
			break
		}
		if r.read++; r.read > mms.MaxRows {
			return nil, invalid.Fields{{Name: "rows", Rule: "max_items", Message: fmt.Sprintf("must be at most %d", mms.MaxRows)}}
		}
		var message mms.Message
		if err == nil {
			message, err = r.message(row)
		}
		var violations invalid.Fields
		switch {
		case errors.As(err, &violations):
			r.reject(violations)
		case err != nil:
			return nil, err
		default:
			messages = append(messages, message)
		}
	}
	if r.read == 0 {
		return nil, invalid.Fields{rowsMissing}
	}
	r.created += len(messages)
	return messages, nil
}

// message validates the current row.
func (r *messageReader) message(row map[string]string) (mms.Message, error) {
	id, err := r.ids.next()
	if err != nil {
		return mms.Message{}, err
	}
	m, err := r.rules.ValidateRow(r.params, row, r.batch, id, r.now)
	if err != nil {
		return mms.Message{}, err
	}
	hash := contentHash(m)
	if first, ok := r.rowOf[hash]; ok {
		return mms.Message{}, invalid.Fields{{Name: "to", Rule: "duplicate", Message: fmt.Sprintf("gets the same message as in row %d", first)}}
	}
	m.BatchRow = r.rows.Row()
	r.rowOf[hash] = m.BatchRow
	return m, nil
}

// contentHash is equal for messages that look the same to the same recipient.
func contentHash(m mms.Message) [16]byte {
	sum := sha256.Sum256([]byte(string(m.Recipient) + "\x00" + m.Text + "\x00" + strings.Join(m.MediaURLs, "\x00")))
	return [16]byte(sum[:16])
}

func (r *messageReader) reject(violations invalid.Fields) {
	r.rejected.Rejected++
	if len(r.rejected.Errors) < mms.MaxRowErrors {
		r.rejected.Errors = append(r.rejected.Errors, mms.NewRowErrors(r.rows.Row(), violations)...)
	}
}
