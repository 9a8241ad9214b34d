// Package webhook answers Plivo's calls to us. It believes nothing that is not
// signed, and hands what it believes to receipts.
package callback

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/plivo"
)

// ReportApplier applies delivery reports.
type ReportApplier interface {
	Apply(ctx context.Context, r mms.Report) error
}

// Inbox takes messages that people send to our numbers. Where mayLift is false,
// START does not end an opt-out.
type Inbox interface {
	RecordInbound(ctx context.Context, in mms.Inbound, mayLift bool) (bool, error)
}

// Verifier checks a callback's signature over its URL and form fields.
type Verifier interface {
	Verify(r *http.Request, form url.Values) (plivo.Scheme, error)
}

// Options wire the webhook.
type Options struct {
	Verifier Verifier
	Reports  ReportApplier
	Inbox    Inbox
	Count    func(result string) // called once for each callback
	Logger   *slog.Logger
}

// StatusPath is the path of the delivery reports of the attempt with the token.
func StatusPath(token string) string { return "/webhooks/plivo/status/" + token }

// InboundPath is the path of messages that people send to our numbers; an
// operator enters it at Plivo as the message URL.
const InboundPath = "/webhooks/plivo/inbound"

// maxCallbackBody bounds the body of a callback, in bytes; a real one has below 1 KiB.
const maxCallbackBody = 64 << 10

// New makes the handler, to be mounted at the root. We ask Plivo to POST, and
// take its GET as well.
func New(o Options) http.Handler {
	r := chi.NewRouter()
	r.Post(StatusPath("{token}"), o.status)
	r.Get(StatusPath("{token}"), o.status)
	r.Post(InboundPath, o.inbound)
	r.Get(InboundPath, o.inbound)
	return r
}

// status answers 200 once a report is applied or says nothing new. Any other
// answer makes Plivo call again, up to three times within seven minutes.
func (o Options) status(w http.ResponseWriter, r *http.Request) {
	scheme, ok := o.read(w, r)
	if !ok {
		return
	}
	report, err := plivo.DecodeReport(chi.URLParam(r, "token"), r.Form)
	if err != nil {
		o.refuse(w, r, "unreadable", http.StatusBadRequest, err)
		return
	}
	report.Proven = scheme == plivo.V3
	o.answer(w, r, o.Reports.Apply(r.Context(), report))
}

// inbound stores a message to one of our numbers. V2 signs no field of it, so
// under V2 nobody is opted in again: not to send is the safe side.
func (o Options) inbound(w http.ResponseWriter, r *http.Request) {
	scheme, ok := o.read(w, r)
	if !ok {
		return
	}
	in, err := plivo.DecodeInbound(r.Form)
	if err != nil {
		o.refuse(w, r, "unreadable", http.StatusBadRequest, err)
		return
	}
	if in.ID, err = uuid.NewV7(); err == nil {
		_, err = o.Inbox.RecordInbound(r.Context(), in, scheme == plivo.V3)
	}
	o.answer(w, r, err)
}

// read reads the fields of a callback into r.Form, those of a POST before those
// of the query, and checks its signature. It answers what is not right.
func (o Options) read(w http.ResponseWriter, r *http.Request) (plivo.Scheme, bool) {
	r.Body = http.MaxBytesReader(w, r.Body, maxCallbackBody)
	if err := r.ParseForm(); err != nil {
		o.refuse(w, r, "unreadable", http.StatusBadRequest, errors.New("the form cannot be read"))
		return 0, false
	}
	scheme, err := o.Verifier.Verify(r, r.PostForm)
	if err != nil {
		o.refuse(w, r, "bad_signature", http.StatusForbidden, err)
		return 0, false
	}
	return scheme, true
}

func (o Options) answer(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case err == nil:
		o.Count("applied")
		w.WriteHeader(http.StatusOK)
	case errors.Is(err, mms.ErrNotFound):
		o.refuse(w, r, "unknown", http.StatusNotFound, errors.New("no attempt has this token"))
	case errors.Is(err, ErrMismatch):
		o.refuse(w, r, "mismatch", http.StatusForbidden, ErrMismatch)
	default:
		o.Count("failed")
		o.Logger.ErrorContext(r.Context(), "callback not applied; Plivo will call again", slog.Any("error", err))
		http.Error(w, "try again", http.StatusInternalServerError)
	}
}

// refuse answers a callback that changes nothing.
func (o Options) refuse(w http.ResponseWriter, r *http.Request, result string, status int, why error) {
	o.Count(result)
	o.Logger.WarnContext(r.Context(), "callback refused", slog.String("result", result), slog.Any("error", why))
	http.Error(w, why.Error(), status)
}
