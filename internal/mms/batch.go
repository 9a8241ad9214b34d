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
	"github.com/postcard-mms/postcard/internal/pasted"
)

var (
	// ErrBatchCanceled says that a batch is canceled and cannot be changed.
	ErrBatchCanceled = errors.New("the batch is canceled")

	// ErrBatchNotFound says that a batch does not exist or belongs to another workspace.
	ErrBatchNotFound = errors.New("no such batch")
)

// BatchState says whether the messages of a batch are being sent.
type BatchState string

// The states of a batch. Canceled is final. Finished follows from the messages, and is
// never stored: see Progress.
const (
	BatchRunning  BatchState = "running"
	BatchPaused   BatchState = "paused"
	BatchCanceled BatchState = "canceled"
	BatchFinished BatchState = "finished"
)

// Limits of a batch. Postcard chose them; Plivo has no batches.
const (
	MaxRows         = 100_000
	MaxBatchName    = 100                // characters
	MaxRowErrors    = 10_000             // stored per batch
	BatchValidFor   = 7 * 24 * time.Hour // default of a batch's messages
	maxErrorField   = 200                // bytes
	maxErrorMessage = 500                // bytes
	errorsShown     = 1000               // listed when a batch is rejected; a created one lists the first MaxPage
)

// Batch is a set of messages that were created together.
type Batch struct {
	ID        uuid.UUID // UUIDv7
	Workspace uuid.UUID
	KeyID     uuid.UUID // the API key that created it; uuid.Nil: a person did
	CreatedBy uuid.UUID // the user who created it, or the key
	Name      string    // may be empty
	State     BatchState
	Created   int // rows that became messages
	Rejected  int // rows with errors
	CreatedAt time.Time
	Counts    map[Status]int // of its messages, by status; nil if they were not counted
	HasUnsent bool           // some of its messages are scheduled, queued, sending or in doubt
	Pause     Pause          // of all sending; zero if there is none
}

// Remaining counts the messages that Plivo has yet to accept.
func (b Batch) Remaining() int {
	open := 0
	for status, n := range b.Counts {
		if !status.Final() && status != Sent && status != Submitted {
			open += n
		}
	}
	return open
}

func (b Batch) isDone() bool { return !b.HasUnsent && b.Remaining() == 0 }

// Progress is the batch's state, or BatchFinished when nothing of it is left to send.
func (b Batch) Progress() BatchState {
	if b.State != BatchCanceled && b.isDone() {
		return BatchFinished
	}
	return b.State
}

// Title is the batch's progress as a heading.
func (b Batch) Title() string {
	switch {
	case b.State == BatchCanceled:
		return "Canceled"
	case b.isDone():
		return "Finished"
	case b.State == BatchPaused:
		return "Paused"
	case b.Pause.Active():
		return "Waiting"
	}
	return "Sending"
}

// Explain describes the batch's progress in plain language. Its messages must have
// been counted.
func (b Batch) Explain() string {
	remaining := Counted(b.Remaining(), "message") + " remaining."
	switch {
	case b.State == BatchCanceled:
		return "The batch is canceled. Messages already submitted to Plivo are not recalled."
	case b.isDone():
		const done = "Every message of the batch has been submitted to Plivo, has failed or was canceled."
		if bad := b.Counts[Failed] + b.Counts[Undelivered]; bad > 0 {
			return fmt.Sprintf("%s %s failed or could not be delivered.", done, Counted(bad, "message"))
		}
		return done
	case b.State == BatchPaused:
		return "The batch is paused. Messages that expire in the meantime fail. " + remaining
	case b.Pause.Active():
		return b.Pause.Explain() + " " + remaining
	default:
		return "The batch is being sent. " + remaining
	}
}

// BatchParams is a batch as somebody submitted it, without its rows. In Text,
// MediaURL, MediaURLs and the values of Metadata, a placeholder like {{name}} is
// replaced by the row's value in that column.
type BatchParams struct {
	Name         string
	CreateParams          // for each message; To is not used
	CreateValid  bool     // create the messages of valid rows even if other rows have errors
	Columns      []string // of the file with the rows, as it names them; nil if each row names its own
}

// RowError is one violation in one row.
type RowError struct {
	Row int // as the submitter numbers rows; see intake.Rows
	invalid.Field
}

// RowErrors are the violations in a batch's rows. As an error, it says that no
// message was created.
type RowErrors struct {
	Errors   []RowError // of the first rejected rows
	Rejected int        // all rows with a violation
}

func (e RowErrors) Error() string {
	return fmt.Sprintf("%d rows of the batch have errors", e.Rejected)
}

// First returns as many violations as a response may list.
func (e RowErrors) First() []RowError { return e.Errors[:min(len(e.Errors), errorsShown)] }

// BatchRequest asks the store to create a batch, unless a cap or the idempotency
// key forbids it.
type BatchRequest struct {
	Batch
	Candidates  []PhoneNumber // of each message; see Rules.Candidates
	Caps        []Cap
	Idempotency Idempotency
}

// BatchResult is the created batch.
type BatchResult struct {
	Batch
	Errors   []RowError // the first ones
	Replayed bool       // an earlier request with the same idempotency key created it
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

// ValidateBatch makes a batch of p, or returns all violations in what its messages
// have in common as invalid.Fields. now is the database's time.
func (r Rules) ValidateBatch(p BatchParams, id, workspace uuid.UUID, now time.Time) (Batch, error) {
	var violations invalid.Fields
	p.Name = pasted.Clean(p.Name)
	if !IsPrintable(p.Name) {
		violations.Add("name", "control", "must contain only printable characters")
	} else if utf8.RuneCountInString(p.Name) > MaxBatchName {
		violations.Add("name", "max_length", fmt.Sprintf("must be at most %d characters long", MaxBatchName))
	}
	if _, ok := findSender(p.From, r.Senders); !ok && p.From != "" {
		violations.Add("from", "sender", r.whyNoSender(p.From))
	}
	validateValidFor(p.ValidFor, &violations)
	parseSendAt(p.SendAt, now, &violations)
	parsePriority(p.Priority, Bulk, &violations)
	ValidateMetadata(p.Metadata, &violations)
	p.Idempotency.Validate(&violations)
	if columns := columnsNamed(p.Columns, textColumns); len(columns) > 1 && p.Text == "" {
		violations.Add("text", "required", fmt.Sprintf("is empty, and the columns %q and %q may both hold it: enter {{%s}} or {{%s}}", columns[0], columns[1], columns[0], columns[1]))
	}
	ParseMediaIDs(p.MediaIDs, &violations)
	validateFit(p.Fit, &violations)
	if p.MediaURL == "" && len(p.MediaURLs) == 0 && len(p.MediaIDs) == 0 {
		column := append(columnsNamed(p.Columns, mediaColumns), "column")[0]
		violations.Add("mediaUrl", "required", fmt.Sprintf("is missing: a picture message needs at least one picture; use {{%s}} to take it from the rows", column))
	}
	return Batch{ID: id, Workspace: workspace, Name: p.Name, State: BatchRunning}, violations.Err()
}

// FromColumns returns the parameters with a placeholder in place of a missing text or
// picture, if exactly one column of the file has a name for it, like "Message" or "Image URL".
func (p BatchParams) FromColumns() BatchParams {
	if columns := columnsNamed(p.Columns, textColumns); len(columns) == 1 && p.Text == "" {
		p.Text = "{{" + columns[0] + "}}"
	}
	if columns := columnsNamed(p.Columns, mediaColumns); len(columns) == 1 && p.MediaURL == "" && len(p.MediaURLs) == 0 && len(p.MediaIDs) == 0 {
		p.MediaURL = "{{" + columns[0] + "}}"
	}
	return p
}

// Names of columns that hold the texts or pictures of messages, in lower case.
var (
	textColumns  = []string{"text", "message", "body", "sms", "mms"}
	mediaColumns = []string{"mediaurl", "mediaurls", "media_url", "media_urls", "media", "image", "image url", "picture", "picture url", "photo", "photo url"}
)

// columnsNamed returns the columns with one of these names.
func columnsNamed(columns, names []string) []string {
	var found []string
	for _, column := range columns {
		if slices.Contains(names, strings.ToLower(column)) {
			found = append(found, column)
		}
	}
	return found
}

// ValidateRow makes a message of one row of batch b, or returns all violations as
// invalid.Fields. The row's column "to" is the recipient.
func (r Rules) ValidateRow(p BatchParams, row map[string]string, b Batch, id uuid.UUID, now time.Time) (Message, error) {
	var violations invalid.Fields
	m, err := r.Validate(p.forRow(row, &violations), id, b.Workspace, now)
	if more := (invalid.Fields)(nil); errors.As(err, &more) {
		violations = append(violations, more...)
	}
	m.BatchID, m.KeyID, m.CreatedBy = b.ID, b.KeyID, b.CreatedBy
	return m, violations.Err()
}

// forRow returns the parameters of one row's message, with its placeholders
// replaced and the defaults of a batch.
func (p BatchParams) forRow(row map[string]string, violations *invalid.Fields) CreateParams {
	params := p.CreateParams
	params.To, params.Idempotency = row["to"], Idempotency{}
	params.Text = fillPlaceholders("text", params.Text, row, violations)
	params.MediaURL = fillPlaceholders("mediaUrl", params.MediaURL, row, violations)
	if urls := strings.Fields(params.MediaURL); params.MediaURL != p.MediaURL && len(p.MediaURLs) == 0 && areURLs(urls) {
		params.MediaURL, params.MediaURLs = "", urls // as exports list several
	}
	params.MediaURLs = slices.Clone(params.MediaURLs)
	for i, url := range params.MediaURLs {
		params.MediaURLs[i] = fillPlaceholders(fmt.Sprintf("mediaUrls[%d]", i), url, row, violations)
	}
	params.Metadata = maps.Clone(params.Metadata)
	for key, value := range params.Metadata {
		params.Metadata[key] = fillPlaceholders("metadata."+key, value, row, violations)
	}
	if params.Priority == "" {
		params.Priority = Bulk.String()
	}
	if params.ValidFor == nil {
		seconds := int(BatchValidFor.Seconds())
		params.ValidFor = &seconds
	}
	return params
}

func areURLs(values []string) bool {
	notURL := func(value string) bool { return !strings.Contains(value, "://") }
	return len(values) > 1 && !slices.ContainsFunc(values, notURL)
}

var placeholder = regexp.MustCompile(`\{\{\s*([^{}]*?)\s*\}\}`)

// fillPlaceholders replaces the placeholders in template by the row's values.
func fillPlaceholders(field, template string, row map[string]string, violations *invalid.Fields) string {
	if !strings.Contains(template, "{{") {
		return template
	}
	return placeholder.ReplaceAllStringFunc(template, func(match string) string {
		column := placeholder.FindStringSubmatch(match)[1]
		value, ok := valueOf(row, column)
		if !ok {
			violations.Add(field, "placeholder", fmt.Sprintf("names the column %q, which the row does not have", clip(column, MaxMetadataKey)))
		}
		return value
	})
}

// valueOf returns the row's value in a column. It ignores the case of the name unless that
// is ambiguous.
func valueOf(row map[string]string, column string) (value string, ok bool) {
	if value, ok := row[column]; ok {
		return value, true
	}
	for name, other := range row {
		if !strings.EqualFold(name, column) {
			continue
		}
		if ok && other != value {
			return "", false
		}
		value, ok = other, true
	}
	return value, ok
}

// NewRowErrors makes the row's violations storable: it bounds their length and
// drops characters that Postgres rejects.
func NewRowErrors(row int, violations invalid.Fields) []RowError {
	rowErrors := make([]RowError, len(violations))
	for i, v := range violations {
		rowErrors[i] = RowError{Row: row, Field: invalid.Field{Name: clip(v.Name, maxErrorField), Rule: v.Rule, Message: clip(v.Message, maxErrorMessage)}}
	}
	return rowErrors
}
