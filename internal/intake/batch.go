package intake

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/failpoint"
	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/mms"
)

// Rows are the rows of a batch, one after the other. Next returns io.EOF behind
// the last, and invalid.Fields for a row that cannot be read although the next
// may be.
type Rows interface {
	Next() (map[string]string, error)
}

// insertBatchSize is how many messages are stored with one statement.
const insertBatchSize = 1000

// CreateBatch takes a batch on: all its rows, or with AcceptGood those that are
// right, or nothing. Faults of what the rows have in common come back as
// invalid.Fields, faults of rows as mms.RowFaults.
func (in *Intake) CreateBatch(ctx context.Context, by mms.Submitter, d mms.BatchParams, rows Rows) (mms.BatchResult, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return mms.BatchResult{}, fmt.Errorf("making a batch id: %w", err)
	}
	now, err := in.now(ctx, d.CreateParams)
	if err != nil {
		return mms.BatchResult{}, err
	}
	batch, err := in.Rules.ValidateBatch(d, id, by.User, now)
	if err != nil {
		return mms.BatchResult{}, err
	}
	batch.KeyID = by.Key
	order := mms.BatchRequest{Batch: batch, Caps: by.Caps(in.DailyCap), Idempotency: d.Idempotency, CreateValid: d.CreateValid}
	failpoint.Hit(failpoint.APIBeforeCommit)
	taken, err := in.Store.CreateBatch(ctx, order, func(ctx context.Context, insert func(context.Context, []mms.Message) error) (int, mms.RowErrors, error) {
		f := filler{check: func(row map[string]string) (mms.Message, error) {
			id, err := uuid.NewV7()
			if err != nil {
				return mms.Message{}, fmt.Errorf("making a message id: %w", err)
			}
			return in.Rules.ValidateRow(d, row, batch, id, now)
		}, insert: insert, seen: map[[16]byte]int{}, keepGoing: d.CreateValid}
		accepted, faults, err := f.fill(ctx, rows)
		failpoint.Hit(failpoint.APIBatchInserted)
		return accepted, faults, err
	})
	if err != nil {
		return mms.BatchResult{}, fmt.Errorf("storing a batch: %w", err)
	}
	failpoint.Hit(failpoint.APICommitted)
	return taken, nil
}

// filler turns rows into stored messages.
type filler struct {
	check     func(row map[string]string) (mms.Message, error)
	insert    func(context.Context, []mms.Message) error
	keepGoing bool // store good rows also after bad ones

	row     int
	ready   []mms.Message // checked, and not yet stored
	created int
	errors  mms.RowErrors
	seen    map[[16]byte]int // the row of each message, by a hash of it
}

func (f *filler) fill(ctx context.Context, rows Rows) (int, mms.RowErrors, error) {
	for {
		row, err := rows.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if f.row++; f.row > mms.MaxRows {
			return 0, f.errors, invalid.Fields{{Name: "rows", Rule: "max_items", Message: fmt.Sprintf("must be at most %d", mms.MaxRows)}}
		}
		if err == nil {
			err = f.take(ctx, row)
		}
		var fields invalid.Fields
		if errors.As(err, &fields) {
			f.reject(fields)
		} else if err != nil {
			return 0, f.errors, err
		}
	}
	if f.row == 0 {
		return 0, f.errors, invalid.Fields{{Name: "rows", Rule: "required", Message: "are missing: a batch needs at least one"}}
	}
	return f.created, f.errors, f.flush(ctx)
}

func (f *filler) take(ctx context.Context, row map[string]string) error {
	m, err := f.check(row)
	if err != nil {
		return err
	}
	m.BatchRow = f.row
	if first, ok := f.seen[hashOf(m)]; ok {
		return invalid.Fields{{Name: "to", Rule: "duplicate", Message: fmt.Sprintf("gets the same message as in row %d", first)}}
	}
	f.seen[hashOf(m)] = f.row
	f.created++
	f.ready = append(f.ready, m)
	if len(f.ready) < insertBatchSize {
		return nil
	}
	return f.flush(ctx)
}

// hashOf tells messages apart by what their recipients see.
func hashOf(m mms.Message) [16]byte {
	sum := sha256.Sum256([]byte(string(m.Recipient) + "\x00" + m.Text + "\x00" + strings.Join(m.MediaURLs, "\x00")))
	return [16]byte(sum[:16])
}

func (f *filler) reject(fields invalid.Fields) {
	f.errors.Rejected++
	if len(f.errors.Errors) < mms.MaxRowErrors {
		f.errors.Errors = append(f.errors.Errors, mms.NewRowErrors(f.row, fields)...)
	}
}

// flush stores what is ready, unless it would be taken back anyhow.
func (f *filler) flush(ctx context.Context) error {
	defer func() { f.ready = f.ready[:0] }()
	if len(f.ready) == 0 || f.errors.Rejected > 0 && !f.keepGoing {
		return nil
	}
	return f.insert(ctx, f.ready)
}
