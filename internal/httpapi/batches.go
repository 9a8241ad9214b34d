package httpapi

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/intake"
	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/mms"
)

const batchesPath = "/api/batches"

// What onError can be.
const (
	rejectAll   = "reject_all"
	createValid = "create_valid"
)

// BatchRequest is a batch of messages. The limits in its tags only describe;
// mms.Rules decide.
type BatchRequest struct {
	Name      string              `json:"name,omitempty" doc:"Something to know the batch by." maxLength:"100" example:"Spring greetings"`
	Text      string              `json:"text,omitempty" doc:"The text below the picture. {{column}} stands for a row's value." example:"Hello {{name}}"`
	MediaURL  string              `json:"mediaUrl,omitempty" doc:"As for one message; may hold {{column}}." example:"https://example.com/{{picture}}.jpg"`
	MediaURLs []string            `json:"mediaUrls,omitempty" doc:"Several pictures, in place of mediaUrl." nullable:"false"`
	From      string              `json:"from,omitempty" doc:"As for one message."`
	SendAt    string              `json:"sendAt,omitempty" doc:"As for one message." format:"date-time"`
	ValidFor  *int                `json:"validFor,omitempty" doc:"As for one message." minimum:"60" maximum:"2592000" default:"604800"`
	Priority  string              `json:"priority,omitempty" doc:"As for one message." enum:"high,normal,bulk" default:"bulk"`
	Metadata  map[string]string   `json:"metadata,omitempty" doc:"As for one message; values may hold {{column}}." example:"{\"order\":\"{{order}}\"}"`
	OnError   string              `json:"onError,omitempty" doc:"What to do when rows are not right: take on nothing, or the others." enum:"reject_all,create_valid" default:"reject_all"`
	Rows      []map[string]string `json:"rows" doc:"Up to 100,000 rows. Each has the recipient as to, and values for the placeholders; numbers, true and false are taken as they are written." minItems:"1" maxItems:"100000" nullable:"false"`
}

// TransformSchema adds what tags cannot say.
func (BatchRequest) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema { return exactly(s) }

// Batch is messages that were taken on together.
type Batch struct {
	ID          uuid.UUID          `json:"id" format:"uuid" doc:"The batch's id."`
	Name        string             `json:"name,omitempty"`
	State       mms.BatchState     `json:"state" enum:"running,paused,canceled" doc:"Whether its messages are being sent." example:"running"`
	Explanation string             `json:"explanation,omitempty" doc:"Where it stands, in a sentence or two."`
	Created     int                `json:"created" doc:"Rows that became messages." example:"2"`
	Rejected    int                `json:"rejected" doc:"Rows that were not right."`
	Open        *int               `json:"open,omitempty" doc:"Messages that are not with Plivo yet and have not ended."`
	Counts      map[mms.Status]int `json:"counts,omitempty" doc:"Its messages by where they stand." example:"{\"queued\":2}"`
	CreatedAt   time.Time          `json:"createdAt"`
	StatusURL   string             `json:"statusUrl" doc:"Where to ask for its progress." format:"uri-reference"`
	MessagesURL string             `json:"messagesUrl" doc:"Its messages." format:"uri-reference"`
	KeyID       *uuid.UUID         `json:"apiKeyId,omitempty" format:"uuid" doc:"The API key that it came with."`
}

// NewBatch is a batch that was taken on.
type NewBatch struct {
	Batch
	Errors []RowError `json:"errors" nullable:"false" doc:"What was wrong with rows that were not taken on: the first hundred; listBatchErrors has them all."`
}

// RowError is one fault of one row.
type RowError struct {
	Row     int    `json:"row" doc:"From 1." example:"3"`
	Field   string `json:"field" example:"to"`
	Rule    string `json:"rule" doc:"The broken rule as a stable code." example:"e164"`
	Message string `json:"message" doc:"The rule in words."`
}

// BatchList is one page of batches.
type BatchList struct {
	Batches    []Batch `json:"batches" nullable:"false" doc:"Newest first, without counts."`
	NextCursor string  `json:"nextCursor,omitempty" doc:"For the page behind this one; absent on the last."`
}

// RowErrorList is one page of what was wrong with rows.
type RowErrorList struct {
	Errors     []RowError `json:"errors" nullable:"false" doc:"In the order of the rows."`
	NextCursor string     `json:"nextCursor,omitempty" doc:"For the page behind this one; absent on the last."`
}

func (a *api) registerBatches() {
	registerFor(a, identity.SendScope, huma.Operation{
		OperationID: "createBatch", Method: http.MethodPost, Path: batchesPath, Tags: []string{"batches"},
		Summary: "Send a batch",
		Description: "Takes up to 100,000 messages on at once: all, or with onError=create_valid those that are right, or none. " +
			"Besides JSON it reads CSV in UTF-8 (text/csv) with a header, one of whose columns is to; the other fields then stand in the query. " +
			"A body has at most 64 MiB.",
		DefaultStatus: http.StatusAccepted,
		Responses:     map[string]*huma.Response{"202": {Description: "Stored safely; they will be sent."}},
		Errors:        bodyErrors(http.StatusConflict, http.StatusUnprocessableEntity),
	}, a.createBatch)
	describeBody(a, batchesPath, BatchRequest{
		Name: "Spring greetings", Text: "Hello {{name}}", MediaURL: "https://example.com/picture.jpg",
		Rows: []map[string]string{{"to": "+14155550123", "name": "Ada"}, {"to": "+14165551000", "name": "Bob"}},
	})
	a.huma.OpenAPI().Paths[batchesPath].Post.RequestBody.Content["text/csv"] = &huma.MediaType{
		Schema: &huma.Schema{Type: huma.TypeString}, Example: "to,name\n+14155550123,Ada\n+14165551000,Bob\n",
	}
	registerFor(a, identity.ReadScope, huma.Operation{
		OperationID: "listBatches", Method: http.MethodGet, Path: batchesPath, Tags: []string{"batches"},
		Summary:   "List your batches",
		Responses: map[string]*huma.Response{"200": {Description: "One page of batches."}},
		Errors:    []int{http.StatusBadRequest},
	}, a.listBatches)
	registerFor(a, identity.ReadScope, huma.Operation{
		OperationID: "getBatch", Method: http.MethodGet, Path: batchesPath + "/{id}", Tags: []string{"batches"},
		Summary:   "Read a batch and its progress",
		Responses: map[string]*huma.Response{"200": {Description: "The batch."}},
		Errors:    []int{http.StatusNotFound},
	}, a.getBatch)
	registerFor(a, identity.ReadScope, huma.Operation{
		OperationID: "listBatchErrors", Method: http.MethodGet, Path: batchesPath + "/{id}/errors", Tags: []string{"batches"},
		Summary:     "List what was wrong with rows",
		Description: "Of the rows that were not taken on; up to 10,000 faults are kept.",
		Responses:   map[string]*huma.Response{"200": {Description: "One page of faults."}},
		Errors:      []int{http.StatusBadRequest, http.StatusNotFound},
	}, a.listBatchErrors)
	for _, act := range []struct {
		verb, summary, words string
		state                mms.BatchState
		errors               []int
	}{
		{"pause", "Pause a batch", "Sends none of its messages that are not with Plivo yet, until it is resumed. Their time to be sent runs on.",
			mms.BatchPaused, []int{http.StatusNotFound, http.StatusConflict}},
		{"resume", "Resume a batch", "Goes on sending its messages.", mms.BatchRunning, []int{http.StatusNotFound, http.StatusConflict}},
		{"cancel", "Cancel a batch", "Cancels all of its messages that are not with Plivo yet, for good.", mms.BatchCanceled, []int{http.StatusNotFound}},
	} {
		registerFor(a, identity.SendScope, huma.Operation{
			OperationID: act.verb + "Batch", Method: http.MethodPost, Path: batchesPath + "/{id}/" + act.verb, Tags: []string{"batches"},
			Summary: act.summary, Description: act.words,
			Responses: map[string]*huma.Response{"200": {Description: "The batch."}},
			Errors:    act.errors,
		}, func(ctx context.Context, who identity.Principal, in *BatchInput) (*batchOutput, error) {
			return a.setBatchState(ctx, who, in, act.state)
		})
	}
}

type createBatchInput struct {
	Request
	Once
}

type newBatchOutput struct {
	Location string `header:"Location" doc:"The path of the batch's status."`
	Replayed string `header:"Idempotency-Replayed" doc:"true where this is the answer of an earlier request with the same Idempotency-Key; else left out."`
	Body     NewBatch
}

func (a *api) createBatch(ctx context.Context, who identity.Principal, in *createBatchInput) (*newBatchOutput, error) {
	upload, err := readUpload(in.Request)
	if err != nil {
		return nil, err
	}
	defer upload.Close()
	body, rows, err := upload.open()
	if err != nil {
		return nil, err
	}
	if body.OnError != "" && body.OnError != rejectAll && body.OnError != createValid {
		return nil, invalid.Fields{{Name: "onError", Rule: "one_of", Message: "must be reject_all or create_valid"}}
	}
	params := mms.BatchParams{
		Name: body.Name, CreateValid: body.OnError == createValid,
		CreateParams: mms.CreateParams{
			Text: body.Text, MediaURL: body.MediaURL, MediaURLs: body.MediaURLs, From: body.From, SendAt: body.SendAt,
			ValidFor: body.ValidFor, Priority: body.Priority, Metadata: body.Metadata,
		},
	}
	params.Idempotency = idempotency(in.Request, intake.Fingerprint("batch", params.CreateParams, params.Name, strconv.FormatBool(params.CreateValid), upload.hash))
	result, err := a.Intake.CreateBatch(ctx, submitterOf(who), params, rows)
	if err != nil {
		return nil, err
	}
	out := &newBatchOutput{Location: batchesPath + "/" + result.ID.String(), Body: NewBatch{Batch: a.batch(result.Batch), Errors: []RowError{}}}
	out.Body.State = mms.BatchRunning // also when an earlier request is replayed and the batch has since been paused
	for _, e := range result.Errors[:min(len(result.Errors), mms.MaxPage)] {
		out.Body.Errors = append(out.Body.Errors, rowError(e))
	}
	if result.Replayed {
		out.Replayed = strconv.FormatBool(true)
	}
	return out, nil
}

func rowError(f mms.RowError) RowError {
	return RowError{Row: f.Row, Field: f.Name, Rule: f.Rule, Message: f.Message}
}

// CursorInput is the query of a list without filters.
type CursorInput struct {
	Request
	Limit  limitParam `query:"limit" doc:"How many at most."`
	Cursor string     `query:"cursor" doc:"The nextCursor of the page before."`
}

// paging reads a query of limit and cursor.
func (in *CursorInput) paging() (before uuid.UUID, limit int, err error) {
	query, err := queryOf(in.r.URL.RawQuery)
	if err != nil {
		return uuid.Nil, 0, err
	}
	var faults invalid.Fields
	checkNames(query, []string{"limit", "cursor"}, &faults)
	limit, before = parseLimit(query.Get("limit"), &faults), parseCursor(query.Get("cursor"), &faults)
	return before, limit, faults.Err()
}

type batchesOutput struct{ Body BatchList }

func (a *api) listBatches(ctx context.Context, who identity.Principal, in *CursorInput) (*batchesOutput, error) {
	before, limit, err := in.paging()
	if err != nil {
		return nil, err
	}
	list, more, err := a.Batches.Batches(ctx, who.UserID, before, limit)
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

// BatchInput names a batch in the path.
type BatchInput struct {
	ID string `path:"id" format:"uuid" doc:"The batch's id."`
}

func (in *BatchInput) id() (uuid.UUID, error) {
	id, err := parseID(in.ID)
	if err != nil {
		return uuid.Nil, mms.ErrBatchNotFound
	}
	return id, nil
}

type batchOutput struct{ Body Batch }

func (a *api) getBatch(ctx context.Context, who identity.Principal, in *BatchInput) (*batchOutput, error) {
	id, err := in.id()
	if err != nil {
		return nil, err
	}
	batch, err := a.Batches.Batch(ctx, who.UserID, id)
	return &batchOutput{Body: a.batch(batch)}, err
}

func (a *api) setBatchState(ctx context.Context, who identity.Principal, in *BatchInput, state mms.BatchState) (*batchOutput, error) {
	id, err := in.id()
	if err != nil {
		return nil, err
	}
	if err := a.Batches.SetBatchState(ctx, who.UserID, id, state); err != nil {
		return nil, err
	}
	return a.getBatch(ctx, who, in)
}

type batchErrorsInput struct {
	CursorInput
	BatchInput
}

type batchErrorsOutput struct{ Body RowErrorList }

// listBatchErrors has cursors that are ids in form only: they hold the number of
// the last fault.
func (a *api) listBatchErrors(ctx context.Context, who identity.Principal, in *batchErrorsInput) (*batchErrorsOutput, error) {
	id, err := in.id()
	if err != nil {
		return nil, err
	}
	cursor, limit, err := in.paging()
	if err != nil {
		return nil, err
	}
	if _, err := a.Batches.Batch(ctx, who.UserID, id); err != nil {
		return nil, err
	}
	after := numberInCursor(cursor)
	list, more, err := a.Batches.BatchErrors(ctx, who.UserID, id, after, limit)
	if err != nil {
		return nil, err
	}
	out := &batchErrorsOutput{Body: RowErrorList{Errors: make([]RowError, len(list))}}
	for i, f := range list {
		out.Body.Errors[i] = rowError(f)
	}
	if more {
		out.Body.NextCursor = cursorAfterNumber(after + len(list))
	}
	return out, nil
}

func (a *api) batch(b mms.Batch) Batch {
	path := batchesPath + "/" + b.ID.String()
	out := Batch{
		ID: b.ID, Name: b.Name, State: b.State, Created: b.Created, Rejected: b.Rejected, Counts: b.Counts,
		CreatedAt: b.CreatedAt.UTC(), StatusURL: a.PublicURL + path, MessagesURL: a.PublicURL + messagesPath + "?batch=" + b.ID.String(),
		KeyID: idIfAny(b.KeyID),
	}
	if b.Counts != nil {
		open := b.Open()
		out.Open, out.Explanation = &open, b.Explain()
	}
	return out
}
