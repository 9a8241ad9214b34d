package intake

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/google/uuid"

	"postcard/internal/failpoint"
	"postcard/internal/invalid"
	"postcard/internal/mms"
)

// Rows are the rows of a batch, one after the other. Next returns io.EOF behind
// the last, and invalid.Fields for a row that cannot be read although the next
// may be.
type Rows interface {
	Next() (map[string]string, error)
}

// rowsAtOnce is how many messages are stored with one statement.
const rowsAtOnce = 1000

// AcceptBatch takes a batch on: all its rows, or with AcceptGood those that are
// right, or nothing. Faults of what the rows have in common come back as
// invalid.Fields, faults of rows as mms.RowFaults.
func (in *Intake) AcceptBatch(ctx context.Context, by mms.Author, d mms.BatchDraft, rows Rows) (mms.TakenBatch, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return mms.TakenBatch{}, fmt.Errorf("making a batch id: %w", err)
	}
	now, err := in.now(ctx, d.Draft)
	if err != nil {
		return mms.TakenBatch{}, err
	}
	batch, err := in.Rules.CheckBatch(d, id, by.User, now)
	if err != nil {
		return mms.TakenBatch{}, err
	}
	batch.KeyID = by.Key
	order := mms.BatchOrder{Batch: batch, Caps: by.Caps(in.DailyCap), Idempotency: d.Idempotency, AcceptGood: d.AcceptGood}
	failpoint.Hit(failpoint.APIBeforeCommit)
	taken, err := in.Store.AcceptBatch(ctx, order, func(ctx context.Context, insert func(context.Context, []mms.Message) error) (int, mms.RowFaults, error) {
		f := filler{check: func(row map[string]string) (mms.Message, error) {
			id, err := uuid.NewV7()
			if err != nil {
				return mms.Message{}, fmt.Errorf("making a message id: %w", err)
			}
			return in.Rules.CheckRow(d, row, batch, id, now)
		}, insert: insert, seen: map[[16]byte]int{}, keepGoing: d.AcceptGood}
		accepted, faults, err := f.fill(ctx, rows)
		failpoint.Hit(failpoint.APIBatchFilled)
		return accepted, faults, err
	})
	if err != nil {
		return mms.TakenBatch{}, fmt.Errorf("storing a batch: %w", err)
	}
	failpoint.Hit(failpoint.APICommitted)
	return taken, nil
}

// filler turns rows into stored messages.
type filler struct {
	check     func(row map[string]string) (mms.Message, error)
	insert    func(context.Context, []mms.Message) error
	keepGoing bool // store good rows also after bad ones

	row      int
	ready    []mms.Message // checked, and not yet stored
	accepted int
	faults   mms.RowFaults
	seen     map[[16]byte]int // the row of each message, by a hash of it
}

func (f *filler) fill(ctx context.Context, rows Rows) (int, mms.RowFaults, error) {
	for {
		row, err := rows.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if f.row++; f.row > mms.MaxRows {
			return 0, f.faults, invalid.Fields{{Name: "rows", Rule: "max_items", Message: fmt.Sprintf("must be at most %d", mms.MaxRows)}}
		}
		if err == nil {
			err = f.take(ctx, row)
		}
		var fields invalid.Fields
		if errors.As(err, &fields) {
			f.reject(fields)
		} else if err != nil {
			return 0, f.faults, err
		}
	}
	if f.row == 0 {
		return 0, f.faults, invalid.Fields{{Name: "rows", Rule: "required", Message: "are missing: a batch needs at least one"}}
	}
	return f.accepted, f.faults, f.flush(ctx)
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
	f.accepted++
	f.ready = append(f.ready, m)
	if len(f.ready) < rowsAtOnce {
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
	f.faults.Rejected++
	if len(f.faults.Faults) < mms.MaxRowFaults {
		f.faults.Faults = append(f.faults.Faults, mms.Faults(f.row, fields)...)
	}
}

// flush stores what is ready, unless it would be taken back anyhow.
func (f *filler) flush(ctx context.Context) error {
	defer func() { f.ready = f.ready[:0] }()
	if len(f.ready) == 0 || f.faults.Rejected > 0 && !f.keepGoing {
		return nil
	}
	return f.insert(ctx, f.ready)
}
