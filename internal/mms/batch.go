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

	"postcard/internal/invalid"
)

var (
	// ErrBatchOver says that a batch was canceled for good.
	ErrBatchOver = errors.New("the batch is canceled")

	// ErrNoBatch says that there is no such batch, or none that the asking
	// person may see.
	ErrNoBatch = errors.New("no such batch")
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
	MaxRowFaults    = 10_000 // kept of a batch
	BatchValidFor   = 7 * 24 * time.Hour
	maxFaultField   = 200 // bytes
	maxFaultMessage = 500 // bytes
	faultsTold      = 1000
)

// Batch is messages that were taken on together.
type Batch struct {
	ID        uuid.UUID // UUIDv7
	Owner     uuid.UUID
	KeyID     uuid.UUID // the API key it came with; uuid.Nil: by a person
	Name      string    // may be empty
	State     BatchState
	Accepted  int // rows that became messages
	Rejected  int // rows that did not
	CreatedAt time.Time
	Counts    map[Status]int // of its messages, by where they stand; nil where they were not counted
	Left      bool           // some of its messages have not been handed to Plivo, or ended
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

func (b Batch) over() bool { return !b.Left && b.Open() == 0 }

// Title is where the batch stands, as a heading.
func (b Batch) Title() string {
	switch {
	case b.State == BatchCanceled:
		return "Canceled"
	case b.over():
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
	case b.over():
		const words = "All messages of the batch have been handed to Plivo or have ended."
		if bad := b.Counts[Failed] + b.Counts[Undelivered]; bad > 0 {
			return fmt.Sprintf("%s %s failed or could not be delivered.", words, Counted(bad, "message"))
		}
		return words
	case b.State == BatchPaused:
		return "The batch is paused. Messages whose time runs out meanwhile fail. " + left
	case b.Paused != "":
		return "All sending is paused. " + b.Paused.Words() + " " + left
	default:
		return "The batch is being sent. " + left
	}
}

// BatchDraft is a batch as somebody wrote it down, without its rows. Text,
// MediaURLs and the values of Metadata may hold placeholders like {{name}}, which
// stand for a row's column.
type BatchDraft struct {
	Name       string
	Draft           // of each message; To is not used
	AcceptGood bool // take the rows on that are right, although others are not
}

// RowFault is one fault of one row.
type RowFault struct {
	Row int // from 1
	invalid.Field
}

// RowFaults are the faults of a batch's rows, none of which was taken on.
type RowFaults struct {
	Faults   []RowFault // the first ones
	Rejected int        // rows with a fault
}

func (f RowFaults) Error() string {
	return fmt.Sprintf("%d rows of the batch are not right", f.Rejected)
}

// Told are the faults of an answer that stays in proportion.
func (f RowFaults) Told() []RowFault { return f.Faults[:min(len(f.Faults), faultsTold)] }

// BatchOrder is a batch to be taken on, and under what conditions.
type BatchOrder struct {
	Batch
	Caps        []Cap
	Idempotency Idempotency
	AcceptGood  bool
}

// TakenBatch is a batch that was taken on.
type TakenBatch struct {
	Batch
	Faults   []RowFault // the first ones
	Replayed bool
}

// Fill puts a batch's messages into a store with insert, some at a time, and
// returns how many, and what was wrong with the other rows.
type Fill func(ctx context.Context, insert func(context.Context, []Message) error) (accepted int, faults RowFaults, err error)

// CheckBatch makes a batch of the draft, or returns every fault of what its rows
// have in common as invalid.Fields.
func (r Rules) CheckBatch(d BatchDraft, id, owner uuid.UUID, now time.Time) (Batch, error) {
	var faults invalid.Fields
	if utf8.RuneCountInString(d.Name) > MaxBatchName || !printable(d.Name) {
		faults.Add("name", "max_length", fmt.Sprintf("must be at most %d printable characters long", MaxBatchName))
	}
	if d.From != "" && !slices.Contains(r.Senders, Number(d.From)) {
		faults.Add("from", "sender", "is not one of the senders of this installation")
	}
	checkValidFor(d.ValidFor, &faults)
	readSendAt(d.SendAt, now, &faults)
	readPriority(d.Priority, Bulk, &faults)
	CheckMetadata(d.Metadata, &faults)
	d.Idempotency.Check(&faults)
	if d.MediaURL == "" && len(d.MediaURLs) == 0 {
		faults.Add("mediaUrl", "required", "is missing: a picture message needs at least one picture; {{column}} takes it from the rows")
	}
	return Batch{ID: id, Owner: owner, Name: d.Name, State: BatchRunning}, faults.Err()
}

// CheckRow makes a message of one row, or returns every fault as invalid.Fields.
// The row's column "to" is the recipient.
func (r Rules) CheckRow(d BatchDraft, row map[string]string, b Batch, id uuid.UUID, now time.Time) (Message, error) {
	var faults invalid.Fields
	draft := d.Draft
	draft.To, draft.Idempotency = row["to"], Idempotency{}
	draft.Text = fill("text", draft.Text, row, &faults)
	draft.MediaURL = fill("mediaUrl", draft.MediaURL, row, &faults)
	draft.MediaURLs = slices.Clone(draft.MediaURLs)
	for i, url := range draft.MediaURLs {
		draft.MediaURLs[i] = fill(fmt.Sprintf("mediaUrls[%d]", i), url, row, &faults)
	}
	draft.Metadata = maps.Clone(draft.Metadata)
	for key, value := range draft.Metadata {
		draft.Metadata[key] = fill("metadata."+key, value, row, &faults)
	}
	if draft.Priority == "" {
		draft.Priority = Bulk.String()
	}
	if draft.ValidFor == nil {
		seconds := int(BatchValidFor.Seconds())
		draft.ValidFor = &seconds
	}
	m, err := r.Check(draft, id, b.Owner, now)
	if more := (invalid.Fields)(nil); errors.As(err, &more) {
		faults = append(faults, more...)
	}
	m.BatchID, m.KeyID = b.ID, b.KeyID
	return m, faults.Err()
}

var placeholder = regexp.MustCompile(`\{\{\s*([^{}]*?)\s*\}\}`)

// fill puts the row's values in place of the placeholders.
func fill(field, template string, row map[string]string, faults *invalid.Fields) string {
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

// Faults makes storable faults of what is wrong with a row.
func Faults(row int, fields invalid.Fields) []RowFault {
	faults := make([]RowFault, len(fields))
	for i, f := range fields {
		faults[i] = RowFault{Row: row, Field: invalid.Field{Name: clip(f.Name, maxFaultField), Rule: f.Rule, Message: clip(f.Message, maxFaultMessage)}}
	}
	return faults
}
