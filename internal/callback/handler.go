// Package callback handles Plivo's calls to us: delivery reports and inbound
// messages. It rejects calls without a valid signature and never moves a
// message's status backwards. It contains no SQL.
package callback

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/plivo"
)

// ReportApplier applies delivery reports; see Reports.Apply.
type ReportApplier interface {
	Apply(ctx context.Context, r mms.Report) error
}

// Inbox stores inbound messages. RecordInbound reports whether the message is new.
// Unless mayLift, the keyword START does not end an opt-out.
type Inbox interface {
	RecordInbound(ctx context.Context, in mms.Inbound, mayLift bool) (bool, error)
}

// Options configure the handler. All fields are required.
type Options struct {
	Verifier plivo.Verifier
	Reports  ReportApplier
	Inbox    Inbox
	Count    func(result string) // called once per callback
	Logger   *slog.Logger
}

// Prefix is the path below which all callbacks arrive.
const Prefix = "/callbacks"

// StatusPath returns the path to which Plivo sends the delivery reports of the
// attempt with the token.
func StatusPath(token string) string { return Prefix + "/plivo/status/" + token }

// InboundPath is the path to which Plivo sends inbound messages. An operator
// enters it at Plivo as the message URL of an application.
const InboundPath = Prefix + "/plivo/inbound"

// maxCallbackBody limits the body of a callback, in bytes. Real ones are below
// 1 KiB.
const maxCallbackBody = 64 << 10

// New returns the handler, to be mounted at the root. We ask Plivo to POST, but
// it can be configured to GET.
func New(o Options) http.Handler {
	r := chi.NewRouter()
	r.Post(StatusPath("{token}"), o.status)
	r.Get(StatusPath("{token}"), o.status)
	r.Post(InboundPath, o.inbound)
	r.Get(InboundPath, o.inbound)
	return r
}

// status handles a delivery report. It answers 200 when the report is applied
// or repeats what is known. After any other answer Plivo retries up to three
// times within seven minutes (Plivo support, callback retries).
func (o Options) status(w http.ResponseWriter, r *http.Request) {
	scheme, ok := o.read(w, r)
	if !ok {
		return
	}
	report, err := plivo.DecodeReport(chi.URLParam(r, "token"), r.Form)
	if err != nil {
		o.reject(w, r, "unreadable", http.StatusBadRequest, err)
		return
	}
	report.Authenticated = scheme == plivo.V3
	o.respond(w, r, o.Reports.Apply(r.Context(), report))
}

// inbound stores a message to one of our numbers. V2 signs no form field, so a
// START signed with V2 does not end an opt-out: not sending is the safe choice.
func (o Options) inbound(w http.ResponseWriter, r *http.Request) {
	scheme, ok := o.read(w, r)
	if !ok {
		return
	}
	in, err := plivo.DecodeInbound(r.Form)
	if err != nil {
		o.reject(w, r, "unreadable", http.StatusBadRequest, err)
		return
	}
	if in.ID, err = uuid.NewV7(); err == nil {
		_, err = o.Inbox.RecordInbound(r.Context(), in, scheme == plivo.V3)
	}
	o.respond(w, r, err)
}

// read parses the fields of a callback into r.Form, where those of a POST
// precede those of the query, and verifies its signature. If it reports false,
// it has responded.
func (o Options) read(w http.ResponseWriter, r *http.Request) (plivo.Scheme, bool) {
	r.Body = http.MaxBytesReader(w, r.Body, maxCallbackBody)
	if err := r.ParseForm(); err != nil {
		o.reject(w, r, "unreadable", http.StatusBadRequest, errors.New("the form cannot be parsed"))
		return 0, false
	}
	scheme, err := o.Verifier.Verify(r, r.PostForm)
	if err != nil {
		o.reject(w, r, "bad_signature", http.StatusForbidden, err)
		return 0, false
	}
	return scheme, true
}

// respond maps the result of a verified callback to a response.
func (o Options) respond(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case err == nil:
		o.Count("applied")
		w.WriteHeader(http.StatusOK)
	case errors.Is(err, mms.ErrNotFound):
		o.reject(w, r, "unknown", http.StatusNotFound, errors.New("no attempt has this token"))
	case errors.Is(err, ErrMismatch):
		o.reject(w, r, "mismatch", http.StatusForbidden, ErrMismatch)
	default:
		o.Count("failed")
		o.Logger.ErrorContext(r.Context(), "could not apply a callback; Plivo will retry it", slog.Any("error", err))
		status := http.StatusInternalServerError
		if errors.Is(err, mms.ErrUnavailable) {
			status = http.StatusServiceUnavailable
			w.Header().Set("Retry-After", "60") // when Plivo retries by itself
		}
		http.Error(w, "the callback could not be applied; try again", status)
	}
}

// reject responds to a callback that changes nothing.
func (o Options) reject(w http.ResponseWriter, r *http.Request, result string, status int, err error) {
	o.Count(result)
	o.Logger.WarnContext(r.Context(), "callback rejected", slog.String("result", result), slog.Any("error", err))
	http.Error(w, err.Error(), status)
}
