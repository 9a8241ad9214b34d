package httpapi

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/csvrows"
	"github.com/postcard-mms/postcard/internal/httpkit"
	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/intake"
	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/mms"
)

const batchesPath = "/api/batches"

// The values of onError.
const (
	rejectAll   = "reject_all"
	createValid = "create_valid"
)

// BatchRequest is the body of createBatch. Its tags only document the limits;
// mms.Rules enforces them.
type BatchRequest struct {
	Name      string              `json:"name,omitempty" doc:"A name for the batch." maxLength:"100" example:"Spring greetings"`
	Text      string              `json:"text,omitempty" doc:"The text of each message. {{column}} is replaced with the row's value." example:"Hello {{name}}"`
	MediaURL  string              `json:"mediaUrl,omitempty" doc:"See sendMms. Can contain {{column}}." example:"https://example.com/{{picture}}.jpg"`
	MediaURLs []string            `json:"mediaUrls,omitempty" doc:"Several pictures, instead of mediaUrl. Can contain {{column}}." nullable:"false"`
	MediaIDs  []string            `json:"mediaIds,omitempty" doc:"The IDs of uploaded pictures for all messages. See sendMms." format:"uuid" nullable:"false"`
	Fit       string              `json:"fit,omitempty" doc:"See sendMms." enum:"auto,always,never" default:"auto"`
	From      string              `json:"from,omitempty" doc:"See sendMms."`
	SendAt    string              `json:"sendAt,omitempty" doc:"See sendMms." format:"date-time"`
	ValidFor  *int                `json:"validFor,omitempty" doc:"See sendMms." minimum:"60" maximum:"2592000" default:"604800"`
	Priority  string              `json:"priority,omitempty" doc:"See sendMms." enum:"high,normal,bulk" default:"bulk"`
	Metadata  map[string]string   `json:"metadata,omitempty" doc:"See sendMms. Values can contain {{column}}." example:"{\"order\":\"{{order}}\"}"`
	OnError   string              `json:"onError,omitempty" doc:"What to do if rows are invalid: reject the whole batch, or create the messages of the valid rows." enum:"reject_all,create_valid" default:"reject_all"`
	Rows      []map[string]string `json:"rows" doc:"The rows of the batch, one message each. A row contains the recipient as to and a value for each placeholder. Numbers and booleans are converted to strings." minItems:"1" maxItems:"100000" nullable:"false"`
}

// TransformSchema implements huma.SchemaTransformer.
func (BatchRequest) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema { return exactly(s) }

// Batch is a set of messages that were created with one request.
type Batch struct {
	ID          uuid.UUID          `json:"id" format:"uuid" doc:"The ID of the batch."`
	Name        string             `json:"name,omitempty" doc:"The name of the batch."`
	State       mms.BatchState     `json:"state" enum:"running,paused,canceled,finished" doc:"The state of the batch. finished: each of its messages has been submitted to Plivo, has failed or was canceled." example:"running"`
	Explanation string             `json:"explanation,omitempty" doc:"The progress of the batch in plain language."`
	Created     int                `json:"created" doc:"The number of messages that were created." example:"2"`
	Rejected    int                `json:"rejected" doc:"The number of rows that were rejected as invalid."`
	Remaining   *int               `json:"remaining,omitempty" doc:"The number of messages that are neither submitted to Plivo nor final."`
	Counts      map[mms.Status]int `json:"counts,omitempty" doc:"The number of messages in each status." example:"{\"queued\":2}"`
	CreatedAt   time.Time          `json:"createdAt" doc:"When the batch was created."`
	StatusURL   string             `json:"statusUrl" doc:"The URL of this batch." format:"uri-reference"`
	MessagesURL string             `json:"messagesUrl" doc:"The URL of the batch's messages." format:"uri-reference"`
	KeyID       *uuid.UUID         `json:"apiKeyId,omitempty" format:"uuid" doc:"The ID of the API key that created the batch."`
}

// NewBatch is the response of createBatch.
type NewBatch struct {
	Batch
	Errors []RowError `json:"errors" nullable:"false" doc:"The first 100 errors of rejected rows. Use listBatchErrors for the rest."`
}

// RowError is one violation by one row.
type RowError struct {
	Row     int    `json:"row" doc:"The number of the row. In JSON, the first row has number 1. In CSV, rows are numbered as in a spreadsheet: the first row names the columns, and empty rows count." example:"3"`
	Field   string `json:"field" doc:"The invalid field or column." example:"to"`
	Rule    string `json:"rule" doc:"The violated rule, as a stable code." example:"e164"`
	Message string `json:"message" doc:"A human-readable explanation."`
}

// BatchList is one page of batches.
type BatchList struct {
	Batches    []Batch `json:"batches" nullable:"false" doc:"The batches, newest first, without counts, remaining and explanation."`
	NextCursor string  `json:"nextCursor,omitempty" doc:"Pass this as cursor to get the next page. Absent on the last page."`
}

// RowErrorList is one page of row errors.
type RowErrorList struct {
	Errors     []RowError `json:"errors" nullable:"false" doc:"The errors, in the order of the rows."`
	NextCursor string     `json:"nextCursor,omitempty" doc:"Pass this as cursor to get the next page. Absent on the last page."`
}

func (a *api) registerBatches() {
	registerFor(a, identity.Send, huma.Operation{
		OperationID: "createBatch", Method: http.MethodPost, Path: batchesPath, Tags: []string{"batches"},
		Summary: "Create a batch",
		Description: "Creates up to 100,000 messages with one request. By default, the batch is rejected if any row is invalid; with onError=create_valid, the messages of the valid rows are created. " +
			"To upload CSV instead of JSON, send text/csv with a header row that contains the column to, and pass the other fields as query parameters. " +
			"Without a column to, one column with another name for the recipients, like Phone, Mobile number or Recipient, takes its place. " +
			"CSV is read as spreadsheets save it: separated by commas, semicolons, tabs or vertical bars, in UTF-8 or UTF-16, or in Windows-1252 if the Content-Type declares charset=windows-1252. Rows without values are ignored. " +
			"Placeholders like {{name}} find a column in any case. Without text, a column of the CSV named Text, Message or Body is the text; without mediaUrl, one named Media, Image, Picture or Photo is the picture. " +
			"The body can be up to 64 MiB.",
		DefaultStatus: http.StatusAccepted,
		Responses:     map[string]*huma.Response{"202": {Description: "The batch was created and its messages will be sent."}},
		Errors:        bodyErrors(http.StatusConflict, http.StatusUnprocessableEntity),
		Metadata:      readsQuery,
	}, a.createBatch)
	describeBody(a, batchesPath, BatchRequest{
		Name: "Spring greetings", Text: "Hello {{name}}", MediaURL: "https://example.com/picture.jpg",
		Rows: []map[string]string{{"to": "+14155550123", "name": "Ada"}, {"to": "+14165551000", "name": "Bob"}},
	})
	a.huma.OpenAPI().Paths[batchesPath].Post.RequestBody.Content["text/csv"] = &huma.MediaType{
		Schema: &huma.Schema{Type: huma.TypeString}, Example: "to,name\n+14155550123,Ada\n+14165551000,Bob\n",
	}
	registerFor(a, identity.Read, huma.Operation{
		OperationID: "listBatches", Method: http.MethodGet, Path: batchesPath, Tags: []string{"batches"},
		Summary:   "List batches",
		Responses: map[string]*huma.Response{"200": {Description: "One page of batches."}},
		Errors:    []int{http.StatusBadRequest},
		Metadata:  readsQuery,
	}, a.listBatches)
	registerFor(a, identity.Read, huma.Operation{
		OperationID: "getBatch", Method: http.MethodGet, Path: batchesPath + "/{id}", Tags: []string{"batches"},
		Summary:   "Get a batch",
		Responses: map[string]*huma.Response{"200": {Description: "The batch."}},
		Errors:    []int{http.StatusNotFound},
	}, a.getBatch)
	registerFor(a, identity.Read, huma.Operation{
		OperationID: "listBatchErrors", Method: http.MethodGet, Path: batchesPath + "/{id}/errors", Tags: []string{"batches"},
		Summary:     "List the row errors of a batch",
		Description: "Lists the errors of the rows that were rejected. Up to 10,000 errors are kept for each batch.",
		Responses:   map[string]*huma.Response{"200": {Description: "One page of errors."}},
		Errors:      []int{http.StatusBadRequest, http.StatusNotFound},
		Metadata:    readsQuery,
	}, a.listBatchErrors)
	for _, action := range []struct {
		verb, summary, description string
		state                      mms.BatchState
		errors                     []int
	}{
		{"pause", "Pause a batch", "Stops sending the batch until it is resumed. Messages already submitted to Plivo are not affected. Waiting messages can expire while the batch is paused.",
			mms.BatchPaused, []int{http.StatusNotFound, http.StatusConflict}},
		{"resume", "Resume a batch", "Resumes sending a paused batch.", mms.BatchRunning, []int{http.StatusNotFound, http.StatusConflict}},
		{"cancel", "Cancel a batch", "Permanently cancels all messages of the batch that have not been handed to Plivo.", mms.BatchCanceled, []int{http.StatusNotFound}},
	} {
		registerFor(a, identity.Send, huma.Operation{
			OperationID: action.verb + "Batch", Method: http.MethodPost, Path: batchesPath + "/{id}/" + action.verb, Tags: []string{"batches"},
			Summary: action.summary, Description: action.description,
			Responses: map[string]*huma.Response{"200": {Description: "The batch."}},
			Errors:    action.errors,
		}, func(ctx context.Context, principal identity.Principal, in *BatchInput) (*batchOutput, error) {
			return a.setBatchState(ctx, principal, in, action.state)
		})
	}
}

type createBatchInput struct {
	Request
	IdempotencyInput
}

type newBatchOutput struct {
	Location string `header:"Location" doc:"The path of the batch."`
	Replayed string `header:"Idempotency-Replayed" doc:"true if this is the response of an earlier request with the same Idempotency-Key. Otherwise absent."`
	Body     NewBatch
}

func (a *api) createBatch(ctx context.Context, principal identity.Principal, in *createBatchInput) (*newBatchOutput, error) {
	upload, err := readUpload(in.Request)
	if err != nil {
		return nil, err
	}
	defer upload.Close()
	body, rows, err := upload.open()
	if err != nil {
		return nil, upload.withPlusHint(err)
	}
	if body.OnError != "" && body.OnError != rejectAll && body.OnError != createValid {
		violation := invalid.Field{Name: "onError", Rule: "one_of", Message: "must be reject_all or create_valid"}
		none, _ := rows.(intake.NoRows)
		rows = append(none, violation)
	}
	params := mms.BatchParams{
		Name: body.Name, CreateValid: body.OnError == createValid, Columns: columnsOf(rows),
		CreateParams: mms.CreateParams{
			Text: body.Text, MediaURL: body.MediaURL, MediaURLs: body.MediaURLs, MediaIDs: body.MediaIDs, Fit: body.Fit, From: body.From, SendAt: body.SendAt,
			ValidFor: body.ValidFor, Priority: body.Priority, Metadata: body.Metadata,
		},
	}
	fingerprint := intake.Fingerprint("batch", params.CreateParams, params.Name, strconv.FormatBool(params.CreateValid), upload.hash)
	if params.Idempotency, err = idempotency(in.Request, fingerprint); err != nil {
		return nil, err
	}
	ctx, cancel := httpkit.WithDeadline(ctx, storeTimeout)
	defer cancel()
	result, err := a.Intake.CreateBatch(ctx, submitterOf(principal), params, rows)
	if err != nil {
		return nil, upload.withPlusHint(err)
	}
	out := &newBatchOutput{Location: a.base + batchPath(result.ID), Body: NewBatch{Batch: a.batch(result.Batch), Errors: []RowError{}}}
	out.Body.State = mms.BatchRunning // also when an earlier request is replayed and the batch has since been paused
	for _, e := range result.Errors[:min(len(result.Errors), mms.MaxPage)] {
		out.Body.Errors = append(out.Body.Errors, rowError(e))
	}
	if result.Replayed {
		out.Replayed = strconv.FormatBool(true)
	}
	return out, nil
}

// columnsOf returns the columns of a file, or nil if each row names its own.
func columnsOf(rows intake.Rows) []string {
	if csv, ok := rows.(*csvrows.CSV); ok {
		return csv.Columns()
	}
	return nil
}

func rowError(e mms.RowError) RowError {
	return RowError{Row: e.Row, Field: e.Name, Rule: e.Rule, Message: e.Message}
}

// CursorInput is the query of a list without filters.
type CursorInput struct {
	Request
	Limit  limitParam `query:"limit" doc:"The maximum number of items to return."`
	Cursor string     `query:"cursor" doc:"The nextCursor of the previous page."`
}

// paging parses limit and cursor.
func (in *CursorInput) paging() (before uuid.UUID, limit int, err error) {
	query, err := queryOf(in.r.URL.RawQuery)
	if err != nil {
		return uuid.Nil, 0, err
	}
	var violations invalid.Fields
	checkParameters(query, []string{"limit", "cursor"}, &violations)
	limit, before = parseLimit(query.Get("limit"), &violations), parseCursor(query.Get("cursor"), &violations)
	return before, limit, withPlusHint(query, violations).Err()
}

type batchesOutput struct{ Body BatchList }

func (a *api) listBatches(ctx context.Context, principal identity.Principal, in *CursorInput) (*batchesOutput, error) {
	before, limit, err := in.paging()
	if err != nil {
		return nil, err
	}
	list, more, err := a.Batches.Batches(ctx, principal.WorkspaceID, before, limit)
	if err != nil {
		return nil, err
	}
	out := &batchesOutput{Body: BatchList{Batches: make([]Batch, len(list))}}
	for i, b := range list {
		out.Body.Batches[i] = a.batch(b)
	}
	if more {
		out.Body.NextCursor = cursorAfter(list[len(list)-1].ID)
	}
	return out, nil
}

// BatchInput is the path parameter of a batch.
type BatchInput struct {
	ID string `path:"id" format:"uuid" doc:"The ID of the batch."`
}

func (in *BatchInput) id() (uuid.UUID, error) {
	return parseID(in.ID, mms.ErrBatchNotFound)
}

type batchOutput struct{ Body Batch }

func (a *api) getBatch(ctx context.Context, principal identity.Principal, in *BatchInput) (*batchOutput, error) {
	id, err := in.id()
	if err != nil {
		return nil, err
	}
	batch, err := a.Batches.Batch(ctx, principal.WorkspaceID, id)
	return &batchOutput{Body: a.batch(batch)}, err
}

func (a *api) setBatchState(ctx context.Context, principal identity.Principal, in *BatchInput, state mms.BatchState) (*batchOutput, error) {
	id, err := in.id()
	if err != nil {
		return nil, err
	}
	if err := a.Batches.SetBatchState(ctx, principal.WorkspaceID, id, state); err != nil {
		return nil, err
	}
	return a.getBatch(ctx, principal, in)
}

type batchErrorsInput struct {
	CursorInput
	BatchInput
}

type batchErrorsOutput struct{ Body RowErrorList }

// listBatchErrors lists by position. Its cursors encode the number of errors read
// so far.
func (a *api) listBatchErrors(ctx context.Context, principal identity.Principal, in *batchErrorsInput) (*batchErrorsOutput, error) {
	id, err := in.id()
	if err != nil {
		return nil, err
	}
	cursor, limit, err := in.paging()
	if err != nil {
		return nil, err
	}
	if _, err := a.Batches.Batch(ctx, principal.WorkspaceID, id); err != nil {
		return nil, err
	}
	after := numberInCursor(cursor)
	list, more, err := a.Batches.BatchErrors(ctx, principal.WorkspaceID, id, after, limit)
	if err != nil {
		return nil, err
	}
	out := &batchErrorsOutput{Body: RowErrorList{Errors: make([]RowError, len(list))}}
	for i, e := range list {
		out.Body.Errors[i] = rowError(e)
	}
	if more {
		out.Body.NextCursor = cursorAfterNumber(after + len(list))
	}
	return out, nil
}

func batchPath(id uuid.UUID) string { return batchesPath + "/" + id.String() }

func (a *api) batch(b mms.Batch) Batch {
	path := batchPath(b.ID)
	out := Batch{
		ID: b.ID, Name: b.Name, State: b.Progress(), Created: b.Created, Rejected: b.Rejected, Counts: b.Counts,
		CreatedAt: b.CreatedAt.UTC(), StatusURL: a.PublicURL + path, MessagesURL: a.PublicURL + messagesPath + "?batch=" + b.ID.String(),
		KeyID: idIfAny(b.KeyID),
	}
	if b.Counts != nil {
		remaining := b.Remaining()
		out.Remaining, out.Explanation = &remaining, b.Explain()
	}
	return out
}
