package webui

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/csvrows"
	"github.com/postcard-mms/postcard/internal/httpkit"
	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/intake"
	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/media"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/pasted"
)

// Batches reads and changes the batches of one workspace. It returns
// mms.ErrBatchNotFound for those of others, and SetBatchState
// mms.ErrBatchCanceled.
type Batches interface {
	Batch(ctx context.Context, workspace, id uuid.UUID) (mms.Batch, error)
	Batches(ctx context.Context, workspace, before uuid.UUID, limit int) (list []mms.Batch, more bool, err error)
	BatchErrors(ctx context.Context, workspace, id uuid.UUID, after, limit int) (list []mms.RowError, more bool, err error)
	SetBatchState(ctx context.Context, workspace, id uuid.UUID, state mms.BatchState) error
}

const (
	maxBatchFile   = 64 << 20 // bytes
	uploadTimeout  = 2 * time.Minute
	storeTimeout   = 90 * time.Second // for a batch that is received
	writeTimeout   = 10 * time.Second // for the page that answers
	maxErrorsShown = 100
)

type batchesPage struct {
	Batches []mms.Batch
	Older   string // URL of the next page; empty on the last
}

func (p *Pages) batches(w http.ResponseWriter, r *http.Request, principal identity.Principal) {
	before, err := uuid.Parse(r.URL.Query().Get("before"))
	if err != nil && r.URL.Query().Get("before") != "" {
		p.NotFound(w, r)
		return
	}
	list, more, err := p.Batches.Batches(r.Context(), principal.WorkspaceID, before, pageSize)
	if err != nil {
		p.fail(w, r, err)
		return
	}
	body := batchesPage{Batches: list}
	if more {
		body.Older = "/batches?before=" + list[len(list)-1].ID.String()
	}
	render(p, w, r, http.StatusOK, "batches", layout{Title: "Batches"}, body)
}

// newBatchPage is the form for a new batch. Form fields hold what the user typed.
type newBatchPage struct {
	Name, Text, MediaURL, From string
	mediaIDs                   []string
	Uploads                    []chosenUpload
	CreateValid                bool
	Windows1252                bool   // the file is in that encoding
	AskWindows1252             bool   // offer it
	FirstFrame                 bool   // send the first frame of animations that are too large
	AskFirstFrame              bool   // offer it
	IdempotencyKey             string // so that submitting the form twice creates one batch
	Senders                    []senderChoice
	Errors                     []string
	Rejected                   int    // rows with errors
	MaybeCreated               string // id of the batch, when it is unknown whether it was created
}

func (p *Pages) batchForm(w http.ResponseWriter, r *http.Request, _ identity.Principal) {
	p.renderBatchForm(w, r, http.StatusOK, newBatchPage{})
}

func (p *Pages) renderBatchForm(w http.ResponseWriter, r *http.Request, status int, body newBatchPage) {
	if body.IdempotencyKey == "" {
		body.IdempotencyKey = rand.Text()
	}
	body.Senders = p.senderChoices(r.Context())
	if principal, ok := identity.PrincipalFrom(r.Context()); ok {
		body.Uploads = p.chosenUploads(r.Context(), principal.WorkspaceID, body.mediaIDs)
	}
	render(p, w, r, status, "newbatch", layout{Title: "New batch"}, body)
}

func (p *Pages) createBatch(w http.ResponseWriter, r *http.Request, principal identity.Principal) {
	control := http.NewResponseController(w)
	received := time.Now().Add(uploadTimeout)
	if err := errors.Join(control.SetReadDeadline(received), control.SetWriteDeadline(received.Add(storeTimeout+writeTimeout))); err != nil && !errors.Is(err, http.ErrNotSupported) {
		p.fail(w, r, fmt.Errorf("extending the deadlines for an upload: %w", err))
		return
	}
	if !p.readUpload(w, r) {
		return
	}
	defer r.MultipartForm.RemoveAll() //nolint:errcheck // leftovers in the system's temporary directory do no harm
	if !p.checkWorkspace(w, r) {
		return
	}
	body := newBatchPage{
		Name: r.PostForm.Get("name"), Text: r.PostForm.Get("text"), MediaURL: pasted.Trim(r.PostForm.Get("mediaUrl")),
		From: r.PostForm.Get("from"), CreateValid: r.PostForm.Get("onError") == "create_valid", IdempotencyKey: r.PostForm.Get("idempotencyKey"),
		Windows1252: r.PostForm.Get("charset") == string(csvrows.Windows1252), mediaIDs: words(r.PostForm["mediaId"]),
		FirstFrame: r.PostForm.Has(formFirstFrame),
	}
	storing, cancel := httpkit.WithDeadline(r.Context(), storeTimeout)
	defer cancel()
	ids, err := p.savePictures(storing, principal.WorkspaceID, r.MultipartForm)
	body.mediaIDs = append(body.mediaIDs, ids...)
	var result mms.BatchResult
	if err == nil {
		result, err = p.uploadBatch(r.WithContext(storing), principal, body)
	}
	if err == nil {
		p.redirect(w, r, "/batches/"+result.ID.String())
		return
	}
	status := http.StatusUnprocessableEntity
	if !body.explain(err) {
		// The batch may have been stored, for example if the connection broke during
		// the commit. The form keeps its idempotency key.
		status = p.logFailure(r, err)
		body.unavailable(err)
	}
	answering, cancel := httpkit.WithDeadline(r.Context(), httpkit.RequestTimeout)
	defer cancel()
	p.renderBatchForm(w, r.WithContext(answering), status, body)
}

// readUpload parses the form with the file. If that fails, it answers the request and
// returns false.
func (p *Pages) readUpload(w http.ResponseWriter, r *http.Request) bool {
	body, err := httpkit.Body(w, r, maxBatchFile+maxPictureForm)
	if err == nil {
		r.Body = io.NopCloser(body)
		err = r.ParseMultipartForm(1 << 20)
	}
	var encoding httpkit.UnsupportedEncodingError
	switch {
	case errors.As(err, &encoding):
		p.renderError(w, r, http.StatusUnsupportedMediaType, "Unsupported encoding", "The upload could not be read: "+encoding.Error()+". No batch was created.")
	case err != nil:
		p.renderError(w, r, http.StatusBadRequest, "Invalid upload", "The files could not be read or are too large. No batch was created. Split a large file into several batches.")
	}
	return err == nil
}

// unavailable adds an error of the store to the form.
func (b *newBatchPage) unavailable(err error) {
	b.Errors = []string{"Postcard could not confirm that the batch was created. Choose the file and submit the form again: no message will be sent twice."}
	var unknown mms.OutcomeUnknownError
	switch {
	case errors.As(err, &unknown):
		b.MaybeCreated = unknown.ID.String()
	case errors.Is(err, media.ErrBusy):
		b.Errors = []string{"Too many pictures are being worked on at the moment. Submit the form again in a minute."}
	case errors.Is(err, mms.ErrNotStored):
		b.Errors = []string{"Postcard cannot use its database at the moment. Submit the form again in a minute."}
	}
}

// explain adds the error to the form if the user can do something about it, and
// reports whether that is so.
func (b *newBatchPage) explain(err error) bool {
	var violations invalid.Fields
	var rejected mms.RowErrors
	var capped mms.CapError
	var unreadable csvrows.MalformedError
	switch {
	case errors.As(err, &violations):
		b.AskFirstFrame = asksFirstFrame(violations)
		for _, v := range violations {
			b.Errors = append(b.Errors, fieldLabel(v.Name)+" "+v.Message)
			b.AskWindows1252 = b.AskWindows1252 || v.Rule == csvrows.EncodingRule
		}
	case errors.As(err, &rejected):
		b.Rejected = rejected.Rejected
		for _, e := range rejected.Errors[:min(len(rejected.Errors), maxErrorsShown)] {
			b.Errors = append(b.Errors, fmt.Sprintf("Row %d: %s %s", e.Row, fieldLabel(e.Name), e.Message))
		}
	case errors.Is(err, mms.ErrKeyReused):
		b.IdempotencyKey = ""
		b.Errors = []string{"This form was already submitted with different input: see your batches. Submit it again to create another batch."}
	case errors.As(err, &capped), errors.As(err, &unreadable), errors.Is(err, mms.ErrInFlight):
		b.Errors = []string{err.Error()}
	default:
		return false
	}
	return true
}

func (p *Pages) uploadBatch(r *http.Request, principal identity.Principal, form newBatchPage) (mms.BatchResult, error) {
	file, _, err := r.FormFile("file")
	if err != nil {
		return p.Intake.CreateBatch(r.Context(), submitterOf(principal), batchParams(form), intake.NoRows{{Name: "file", Rule: "required", Message: "is missing: choose a CSV file with the recipients"}})
	}
	defer file.Close()
	charset := csvrows.Recognize
	if form.Windows1252 {
		charset = csvrows.Windows1252
	}
	hash := sha256.New()
	hash.Write([]byte(charset))
	if _, err := io.Copy(hash, file); err != nil {
		return mms.BatchResult{}, fmt.Errorf("reading an uploaded file: %w", err)
	}
	params := batchParams(form)
	var rows intake.Rows
	if csv, err := csvrows.NewCSV(file, charset); err == nil {
		rows, params.Columns = csv, csv.Columns()
	} else {
		var columns invalid.Fields
		if !errors.As(err, &columns) {
			return mms.BatchResult{}, err
		}
		rows = intake.NoRows(columns)
	}
	fingerprint, err := p.fingerprint(r.Context(), principal.WorkspaceID, "batch", params.CreateParams, params.Name, strconv.FormatBool(params.CreateValid), hex.EncodeToString(hash.Sum(nil)))
	if err != nil {
		return mms.BatchResult{}, err
	}
	params.Idempotency = mms.Idempotency{Key: formKey(r), Fingerprint: fingerprint}
	return p.Intake.CreateBatch(r.Context(), submitterOf(principal), params, rows)
}

// batchPage shows a batch and its progress.
type batchPage struct {
	mms.Batch
	Open       int // messages that are neither submitted to Plivo nor final
	Percent    int // of the messages that are not open
	Statuses   []mms.Status
	Errors     []mms.RowError // the first ones
	MoreErrors bool
}

func (p *Pages) batch(w http.ResponseWriter, r *http.Request, principal identity.Principal) {
	id, err := uuid.Parse(chi.URLParam(r, "id"))
	if err != nil {
		p.NotFound(w, r)
		return
	}
	batch, err := p.Batches.Batch(r.Context(), principal.WorkspaceID, id)
	if err != nil {
		p.fail(w, r, err)
		return
	}
	rowErrors, more, err := p.Batches.BatchErrors(r.Context(), principal.WorkspaceID, id, 0, maxErrorsShown)
	if err != nil {
		p.fail(w, r, err)
		return
	}
	body := batchPage{Batch: batch, Open: batch.Remaining(), Errors: rowErrors, MoreErrors: more, Statuses: mms.Statuses()}
	if batch.Created > 0 {
		body.Percent = 100 * (batch.Created - body.Open) / batch.Created
	}
	title := batch.Name
	if title == "" {
		title = "Batch"
	}
	render(p, w, r, http.StatusOK, "batch", layout{Title: title, Refresh: body.Open > 0}, body)
}

var batchActions = map[string]mms.BatchState{"pause": mms.BatchPaused, "resume": mms.BatchRunning, "cancel": mms.BatchCanceled}

func (p *Pages) batchAction(w http.ResponseWriter, r *http.Request, principal identity.Principal) {
	id, err := uuid.Parse(chi.URLParam(r, "id"))
	state, known := batchActions[chi.URLParam(r, "action")]
	if err != nil || !known {
		p.NotFound(w, r)
		return
	}
	err = p.Batches.SetBatchState(r.Context(), principal.WorkspaceID, id, state)
	switch {
	case errors.Is(err, mms.ErrBatchCanceled):
		p.Auth.Flash(r.Context(), "Nothing was changed: the batch is already canceled.")
	case err != nil:
		p.fail(w, r, err)
		return
	}
	p.redirect(w, r, "/batches/"+id.String())
}

func submitterOf(principal identity.Principal) mms.Submitter {
	return mms.Submitter{Workspace: principal.WorkspaceID, User: principal.UserID, WorkspaceCap: principal.DailyCap}
}

func batchParams(form newBatchPage) mms.BatchParams {
	return mms.BatchParams{
		Name: form.Name, CreateValid: form.CreateValid,
		CreateParams: mms.CreateParams{Text: form.Text, MediaURL: form.MediaURL, MediaIDs: form.mediaIDs, From: form.From},
	}
}

// formKey derives the idempotency key of the request from the form's hidden input.
// The prefix keeps it apart from the keys of API clients.
func formKey(r *http.Request) string {
	key := r.PostForm.Get("idempotencyKey")
	if key == "" {
		return ""
	}
	return "form " + url.QueryEscape(key[:min(len(key), 100)])
}
