// Package webhook answers Plivo's calls to us. It believes nothing that is not
// signed, and hands what it believes to receipts.
package webhook

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"

	"github.com/go-chi/chi/v5"

	"postcard/internal/mms"
	"postcard/internal/plivo"
	"postcard/internal/receipts"
)

// Receipts applies delivery reports.
type Receipts interface {
	Apply(ctx context.Context, r mms.Report) error
}

// Verifier checks a callback's signature over its URL and form fields.
type Verifier interface {
	Verify(r *http.Request, form url.Values) error
}

// Options wire the webhook.
type Options struct {
	Verifier Verifier
	Receipts Receipts
	Logger   *slog.Logger
}

// StatusPath is the path of the delivery reports of the attempt with the token.
func StatusPath(token string) string { return "/webhooks/plivo/status/" + token }

// maxReport bounds the body of a callback, in bytes; a real one has below 1 KiB.
const maxReport = 64 << 10

// New makes the handler, to be mounted at the root.
func New(o Options) http.Handler {
	r := chi.NewRouter()
	r.Post(StatusPath("{token}"), o.status)
	return r
}

// status answers 200 once a report is applied or says nothing new. Any other
// answer makes Plivo call again, up to three times within seven minutes.
func (o Options) status(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxReport)
	if err := r.ParseForm(); err != nil {
		http.Error(w, "the form cannot be read", http.StatusBadRequest)
		return
	}
	if err := o.Verifier.Verify(r, r.PostForm); err != nil {
		o.Logger.WarnContext(r.Context(), "delivery report refused", slog.Any("error", err))
		http.Error(w, "forbidden", http.StatusForbidden)
		return
	}
	report, err := plivo.DecodeReport(chi.URLParam(r, "token"), r.PostForm)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	o.answer(w, r, o.Receipts.Apply(r.Context(), report))
}

func (o Options) answer(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case err == nil:
		w.WriteHeader(http.StatusOK)
	case errors.Is(err, mms.ErrNotFound):
		http.Error(w, "not found", http.StatusNotFound)
	case errors.Is(err, receipts.ErrMismatch):
		o.Logger.WarnContext(r.Context(), "delivery report refused", slog.Any("error", err))
		http.Error(w, "forbidden", http.StatusForbidden)
	default:
		o.Logger.ErrorContext(r.Context(), "delivery report not applied; Plivo will send it again", slog.Any("error", err))
		http.Error(w, "try again", http.StatusInternalServerError)
	}
}
