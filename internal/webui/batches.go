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
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/csvrows"
	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/intake"
	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/mms"
)

// Batches reads an owner's batches and changes their state.
type Batches interface {
	Batch(ctx context.Context, owner, id uuid.UUID) (mms.Batch, error)
	Batches(ctx context.Context, owner, before uuid.UUID, limit int) (list []mms.Batch, more bool, err error)
	BatchErrors(ctx context.Context, owner, id uuid.UUID, after, limit int) (list []mms.RowError, more bool, err error)
	SetBatchState(ctx context.Context, owner, id uuid.UUID, state mms.BatchState) error
}

const (
	maxBatchFile   = 64 << 20 // bytes
	batchTime      = 2 * time.Minute
	maxErrorsShown = 100
)

type batchesPage struct {
	Batches []mms.Batch
	Older   string // the address of the page behind; empty at the end
}

func (p *Pages) batches(w http.ResponseWriter, r *http.Request, who identity.Principal) {
	before, err := uuid.Parse(r.URL.Query().Get("before"))
	if err != nil && r.URL.Query().Get("before") != "" {
		p.NotFound(w, r)
		return
	}
	list, more, err := p.Batches.Batches(r.Context(), who.UserID, before, pageSize)
	if err != nil {
		p.failed(w, r, err)
		return
	}
	body := batchesPage{Batches: list}
	if more {
		body.Older = "/batches?before=" + list[len(list)-1].ID.String()
	}
	show(p, w, r, http.StatusOK, "batches", frame{Title: "Batches"}, body)
}

// newBatchPage is the form for a batch, with what was typed.
type newBatchPage struct {
	Name, Text, MediaURL, From string
	CreateValid                bool
	Once                       string // makes a second click the same request
	Senders                    []mms.PhoneNumber
	Errors                     []string
	Rejected                   int // rows that were not right
}

func (p *Pages) batchForm(w http.ResponseWriter, r *http.Request, _ identity.Principal) {
	p.showBatchForm(w, r, http.StatusOK, newBatchPage{})
}

func (p *Pages) showBatchForm(w http.ResponseWriter, r *http.Request, status int, body newBatchPage) {
	if body.Once == "" {
		body.Once = rand.Text()
	}
	body.Senders = p.Senders
	show(p, w, r, status, "newbatch", frame{Title: "New batch"}, body)
}

func (p *Pages) createBatch(w http.ResponseWriter, r *http.Request, who identity.Principal) {
	control := http.NewResponseController(w)
	until := time.Now().Add(batchTime)
	if err := errors.Join(control.SetReadDeadline(until), control.SetWriteDeadline(until)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		p.failed(w, r, fmt.Errorf("allowing a long upload: %w", err))
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBatchFile)
	if err := r.ParseMultipartForm(1 << 20); err != nil {
		p.showError(w, r, http.StatusBadRequest, "Not understood", "The file could not be read, or is larger than 64 MiB.")
		return
	}
	defer r.MultipartForm.RemoveAll() //nolint:errcheck // files in the system's temporary folder
	body := newBatchPage{
		Name: r.PostForm.Get("name"), Text: r.PostForm.Get("text"), MediaURL: strings.TrimSpace(r.PostForm.Get("mediaUrl")),
		From: r.PostForm.Get("from"), CreateValid: r.PostForm.Get("onError") == "create_valid", Once: r.PostForm.Get("once"),
	}
	status := http.StatusUnprocessableEntity
	taken, err := p.takeBatch(r, who, body)
	var fields invalid.Fields
	var bad mms.RowErrors
	var full mms.CapError
	var broken csvrows.BrokenError
	switch {
	case err == nil:
		http.Redirect(w, r, "/batches/"+taken.ID.String(), http.StatusSeeOther)
		return
	case errors.As(err, &fields):
		for _, f := range fields {
			body.Errors = append(body.Errors, f.Name+" "+f.Message)
		}
	case errors.As(err, &bad):
		body.Rejected = bad.Rejected
		for _, f := range bad.Errors[:min(len(bad.Errors), maxErrorsShown)] {
			body.Errors = append(body.Errors, fmt.Sprintf("Row %d: %s %s", f.Row, f.Name, f.Message))
		}
	case errors.Is(err, mms.ErrKeyReused):
		body.Once = ""
		body.Errors = []string{"This form was sent before, with other contents: see your batches. Send it again to send this as a batch of its own."}
	case errors.As(err, &full), errors.As(err, &broken), errors.Is(err, mms.ErrInFlight):
		body.Errors = []string{err.Error()}
	default:
		// Whether it was stored cannot be known where the database went away at the end.
		// The form stays the same request.
		status = p.logFailure(r, err)
		body.Errors = []string{"Postcard could not make sure that the batch was stored. Please choose the file and send it again: nothing will be sent twice."}
	}
	p.showBatchForm(w, r, status, body)
}

func (p *Pages) takeBatch(r *http.Request, who identity.Principal, body newBatchPage) (mms.BatchResult, error) {
	file, _, err := r.FormFile("file")
	if err != nil {
		return mms.BatchResult{}, invalid.Fields{{Name: "file", Rule: "required", Message: "is missing: a CSV file with the recipients"}}
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return mms.BatchResult{}, fmt.Errorf("reading an uploaded file: %w", err)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return mms.BatchResult{}, fmt.Errorf("reading an uploaded file: %w", err)
	}
	list, err := csvrows.NewCSV(file)
	if err != nil {
		return mms.BatchResult{}, err
	}
	params := mms.BatchParams{
		Name: body.Name, CreateValid: body.CreateValid,
		CreateParams: mms.CreateParams{Text: body.Text, MediaURL: body.MediaURL, From: body.From},
	}
	params.Idempotency = mms.Idempotency{
		Key:         onceKey(r),
		Fingerprint: intake.Fingerprint("batch", params.CreateParams, params.Name, strconv.FormatBool(params.CreateValid), hex.EncodeToString(hash.Sum(nil))),
	}
	return p.Intake.CreateBatch(r.Context(), submitterOf(who), params, list)
}

type batchPage struct {
	mms.Batch
	Open     int
	Percent  int
	Statuses []mms.Status
	Errors   []mms.RowError
}

func (p *Pages) batch(w http.ResponseWriter, r *http.Request, who identity.Principal) {
	id, err := uuid.Parse(chi.URLParam(r, "id"))
	if err != nil {
		p.NotFound(w, r)
		return
	}
	batch, err := p.Batches.Batch(r.Context(), who.UserID, id)
	if err != nil {
		p.failed(w, r, err)
		return
	}
	faults, _, err := p.Batches.BatchErrors(r.Context(), who.UserID, id, 0, maxErrorsShown)
	if err != nil {
		p.failed(w, r, err)
		return
	}
	body := batchPage{Batch: batch, Open: batch.Open(), Errors: faults, Statuses: mms.Statuses()}
	if batch.Created > 0 {
		body.Percent = 100 * (batch.Created - body.Open) / batch.Created
	}
	title := batch.Name
	if title == "" {
		title = "Batch"
	}
	show(p, w, r, http.StatusOK, "batch", frame{Title: title, Refresh: body.Open > 0}, body)
}

var batchActions = map[string]mms.BatchState{"pause": mms.BatchPaused, "resume": mms.BatchRunning, "cancel": mms.BatchCanceled}

func (p *Pages) batchAction(w http.ResponseWriter, r *http.Request, who identity.Principal) {
	id, err := uuid.Parse(chi.URLParam(r, "id"))
	state, known := batchActions[chi.URLParam(r, "act")]
	if err != nil || !known {
		p.NotFound(w, r)
		return
	}
	err = p.Batches.SetBatchState(r.Context(), who.UserID, id, state)
	switch {
	case errors.Is(err, mms.ErrBatchCanceled):
		p.Auth.Flash(r.Context(), "The batch is canceled, and stays so.")
	case err != nil:
		p.failed(w, r, err)
		return
	}
	http.Redirect(w, r, "/batches/"+id.String(), http.StatusSeeOther)
}

// submitterOf is the person as a sender of messages.
func submitterOf(who identity.Principal) mms.Submitter {
	return mms.Submitter{User: who.UserID, UserCap: who.DailyCap}
}

// onceKey is the idempotency key of a form: a second click sends nothing more.
func onceKey(r *http.Request) string {
	once := r.PostForm.Get("once")
	if once == "" {
		return ""
	}
	return "form " + url.QueryEscape(once[:min(len(once), 100)])
}
