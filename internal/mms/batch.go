package mms

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/invalid"
)

var (
	// ErrBatchCanceled says that a batch was canceled for good.
	ErrBatchCanceled = errors.New("the batch is canceled")

	// ErrBatchNotFound says that there is no such batch, or none that the asking
	// person may see.
	ErrBatchNotFound = errors.New("no such batch")
)

// BatchState says whether the messages of a batch are being sent.
type BatchState string

// The states of a batch. A canceled one stays so.
const (
	BatchRunning  BatchState = "running"
	BatchPaused   BatchState = "paused"
	BatchCanceled BatchState = "canceled"
)

// Limits of a batch; our own.
const (
	MaxRows         = 100_000
	MaxBatchName    = 100    // characters
	MaxRowErrors    = 10_000 // kept of a batch
	BatchValidFor   = 7 * 24 * time.Hour
	maxErrorField   = 200 // bytes
	maxErrorMessage = 500 // bytes
	errorsShown     = 1000
)

// Batch is messages that were taken on together.
type Batch struct {
	ID        uuid.UUID // UUIDv7
	Owner     uuid.UUID
	KeyID     uuid.UUID // the API key it came with; uuid.Nil: by a person
	Name      string    // may be empty
	State     BatchState
	Created   int // rows that became messages
	Rejected  int // rows that did not
	CreatedAt time.Time
	Counts    map[Status]int // of its messages, by where they stand; nil where they were not counted
	HasUnsent bool           // some of its messages have not been handed to Plivo, or ended
	Paused    Reason         // why nothing of anybody is sent at present; empty while sending goes on
}

// Open counts the messages whose status is not final.
func (b Batch) Open() int {
	open := 0
	for status, n := range b.Counts {
		if !status.Final() && status != Sent && status != Submitted {
			open += n
		}
	}
	return open
}

func (b Batch) isDone() bool { return !b.HasUnsent && b.Open() == 0 }

// Title is where the batch stands, as a heading.
func (b Batch) Title() string {
	switch {
	case b.State == BatchCanceled:
		return "Canceled"
	case b.isDone():
		return "Done"
	case b.State == BatchPaused:
		return "Paused"
	case b.Paused != "":
		return "Waiting"
	}
	return "Being sent"
}

// Explain says in plain words where a batch stands whose messages were counted.
func (b Batch) Explain() string {
	left := "Left: " + Counted(b.Open(), "message") + "."
	switch {
	case b.State == BatchCanceled:
		return "The batch is canceled. What had been handed to Plivo before stays sent."
	case b.isDone():
		const words = "All messages of the batch have been handed to Plivo or have ended."
		if bad := b.Counts[Failed] + b.Counts[Undelivered]; bad > 0 {
			return fmt.Sprintf("%s %s failed or could not be delivered.", words, Counted(bad, "message"))
		}
		return words
	case b.State == BatchPaused:
		return "The batch is paused. Messages whose time runs out meanwhile fail. " + left
	case b.Paused != "":
		return "All sending is paused. " + b.Paused.Description() + " " + left
	default:
		return "The batch is being sent. " + left
	}
}

// BatchParams is a batch as somebody wrote it down, without its rows. Text,
// MediaURLs and the values of Metadata may hold placeholders like {{name}}, which
// stand for a row's column.
type BatchParams struct {
	Name         string
	CreateParams      // of each message; To is not used
	CreateValid  bool // take the rows on that are right, although others are not
}

// RowError is one fault of one row.
type RowError struct {
	Row int // from 1
	invalid.Field
}

// RowErrors are the faults of a batch's rows, none of which was taken on.
type RowErrors struct {
	Errors   []RowError // the first ones
	Rejected int        // rows with a fault
}

func (f RowErrors) Error() string {
	return fmt.Sprintf("%d rows of the batch are not right", f.Rejected)
}

// Shown are the faults of an answer that stays in proportion.
func (f RowErrors) Shown() []RowError { return f.Errors[:min(len(f.Errors), errorsShown)] }

// BatchRequest is a batch to be taken on, and under what conditions.
type BatchRequest struct {
	Batch
	Caps        []Cap
	Idempotency Idempotency
}

// BatchResult is a batch that was taken on.
type BatchResult struct {
	Batch
	Errors   []RowError // the first ones
	Replayed bool
}

// BatchWriter stores the messages of one batch: all of them or none.
type BatchWriter interface {
	// Add stores some messages of the batch.
	Add(ctx context.Context, messages []Message) error

	// Commit makes the batch visible, together with the errors of its rejected rows.
	// It returns CapError when the batch exceeds a daily cap.
	Commit(ctx context.Context, rejected RowErrors) (BatchResult, error)

	// Rollback discards the batch unless it is committed. It must be called.
	Rollback()
}

// ValidateBatch makes a batch of the draft, or returns every fault of what its rows
// have in common as invalid.Fields.
func (r Rules) ValidateBatch(d BatchParams, id, owner uuid.UUID, now time.Time) (Batch, error) {
	var faults invalid.Fields
	if utf8.RuneCountInString(d.Name) > MaxBatchName || !IsPrintable(d.Name) {
		faults.Add("name", "max_length", fmt.Sprintf("must be at most %d printable characters long", MaxBatchName))
	}
	if d.From != "" && !slices.Contains(r.Senders, PhoneNumber(d.From)) {
		faults.Add("from", "sender", "is not one of the senders of this installation")
	}
	validateValidFor(d.ValidFor, &faults)
	parseSendAt(d.SendAt, now, &faults)
	parsePriority(d.Priority, Bulk, &faults)
	ValidateMetadata(d.Metadata, &faults)
	d.Idempotency.Validate(&faults)
	if d.MediaURL == "" && len(d.MediaURLs) == 0 {
		faults.Add("mediaUrl", "required", "is missing: a picture message needs at least one picture; {{column}} takes it from the rows")
	}
	return Batch{ID: id, Owner: owner, Name: d.Name, State: BatchRunning}, faults.Err()
}

// ValidateRow makes a message of one row, or returns every fault as invalid.Fields.
// The row's column "to" is the recipient.
func (r Rules) ValidateRow(d BatchParams, row map[string]string, b Batch, id uuid.UUID, now time.Time) (Message, error) {
	var faults invalid.Fields
	draft := d.CreateParams
	draft.To, draft.Idempotency = row["to"], Idempotency{}
	draft.Text = fillPlaceholders("text", draft.Text, row, &faults)
	draft.MediaURL = fillPlaceholders("mediaUrl", draft.MediaURL, row, &faults)
	draft.MediaURLs = slices.Clone(draft.MediaURLs)
	for i, url := range draft.MediaURLs {
		draft.MediaURLs[i] = fillPlaceholders(fmt.Sprintf("mediaUrls[%d]", i), url, row, &faults)
	}
	draft.Metadata = maps.Clone(draft.Metadata)
	for key, value := range draft.Metadata {
		draft.Metadata[key] = fillPlaceholders("metadata."+key, value, row, &faults)
	}
	if draft.Priority == "" {
		draft.Priority = Bulk.String()
	}
	if draft.ValidFor == nil {
		seconds := int(BatchValidFor.Seconds())
		draft.ValidFor = &seconds
	}
	m, err := r.Validate(draft, id, b.Owner, now)
	if more := (invalid.Fields)(nil); errors.As(err, &more) {
		faults = append(faults, more...)
	}
	m.BatchID, m.KeyID = b.ID, b.KeyID
	return m, faults.Err()
}

var placeholder = regexp.MustCompile(`\{\{\s*([^{}]*?)\s*\}\}`)

// fillPlaceholders puts the row's values in place of the placeholders.
func fillPlaceholders(field, template string, row map[string]string, faults *invalid.Fields) string {
	if !strings.Contains(template, "{{") {
		return template
	}
	return placeholder.ReplaceAllStringFunc(template, func(found string) string {
		column := placeholder.FindStringSubmatch(found)[1]
		value, ok := row[column]
		if !ok {
			faults.Add(field, "placeholder", "names the column "+clip(column, MaxMetadataKey)+", which the row does not have")
		}
		return value
	})
}

// NewRowErrors makes storable faults of what is wrong with a row.
func NewRowErrors(row int, fields invalid.Fields) []RowError {
	faults := make([]RowError, len(fields))
	for i, f := range fields {
		faults[i] = RowError{Row: row, Field: invalid.Field{Name: clip(f.Name, maxErrorField), Rule: f.Rule, Message: clip(f.Message, maxErrorMessage)}}
	}
	return faults
}
