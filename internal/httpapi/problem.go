package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/postcard-mms/postcard/internal/auth"
	"github.com/postcard-mms/postcard/internal/csvrows"
	"github.com/postcard-mms/postcard/internal/httpkit"
	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/webhook"
)

// Problem is an error answer (RFC 9457). Its type is about:blank and left out:
// the status says what kind it is, and errors what is wrong with which field.
type Problem struct {
	Title     string       `json:"title" doc:"The status in words." example:"Bad Request"`
	Status    int          `json:"status" doc:"The HTTP status." example:"400"`
	Detail    string       `json:"detail" doc:"What went wrong, for people." example:"2 fields are not right."`
	RequestID string       `json:"requestId,omitempty" doc:"Names this request in the operator's logs."`
	Errors    []FieldError `json:"errors,omitempty" nullable:"false" doc:"Every fault of the input that was found."`

	headers http.Header
}

// FieldError is one fault of one field.
type FieldError struct {
	Field   string `json:"field" doc:"The field or query parameter, as it was sent; body for the body as a whole." example:"to"`
	Rule    string `json:"rule" doc:"The broken rule as a stable code." example:"e164"`
	Message string `json:"message" doc:"The rule in words, to be read behind the field's name." example:"must be a phone number in E.164 form"`
}

// Error is the detail: a problem holds nothing that its reader may not see.
func (p *Problem) Error() string { return p.Detail }

// GetStatus tells huma the status.
func (p *Problem) GetStatus() int { return p.Status }

// GetHeaders tells huma the headers that go with the problem.
func (p *Problem) GetHeaders() http.Header { return p.headers }

// ContentType tells huma the media type.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

func newProblem(status int, detail string) *Problem {
	p := &Problem{Title: http.StatusText(status), Status: status, Detail: detail, headers: http.Header{}}
	if status == http.StatusUnauthorized {
		p.headers.Set("WWW-Authenticate", `Bearer realm="postcard"`) // RFC 9110 wants a challenge with every 401
	}
	return p
}

func (p *Problem) retryAfter(wait time.Duration) *Problem {
	p.headers.Set("Retry-After", strconv.Itoa(max(1, int(math.Ceil(wait.Seconds())))))
	return p
}

func sentence(words string) string { return strings.ToUpper(words[:1]) + words[1:] + "." }

var (
	// errNotLoggedIn says that an endpoint wants to know who asks.
	errNotLoggedIn = errors.New("nobody is logged in")

	// errPeopleOnly says that an endpoint is not for API keys.
	errPeopleOnly = errors.New("only people may do this")
)

const (
	opaque = "Something went wrong on our side. The request id names this failure in the operator's logs."

	howToLogIn = `Send an API key as Authorization: Bearer pc_..., or log in: POST /api/login with {"email":"...","password":"..."}, then send along the cookie that it sets (curl: -c jar to keep it, -b jar to send it).`
)

// kinds is the one place where kinds of error become statuses. An error that
// is not of one of these kinds is a 500.
var kinds = []struct {
	is     error
	status int
	detail string
}{
	{errNotLoggedIn, http.StatusUnauthorized, howToLogIn},
	{errPeopleOnly, http.StatusForbidden, "Only people who are logged in may do this, not API keys."},
	{identity.ErrNoKey, http.StatusUnauthorized, "The API key is not known, has expired or was revoked. It goes into the header Authorization: Bearer pc_..."},
	{identity.ErrTooManyKeys, http.StatusConflict, "You have too many API keys. Revoke those that are not used any more."},
	{auth.ErrInvalidCredentials, http.StatusUnauthorized, "The email or the password is wrong."},
	{auth.ErrSignupClosed, http.StatusForbidden, "Sign-up is closed. An operator can add users."},
	{mms.ErrNotFound, http.StatusNotFound, "There is no such message."},
	{mms.ErrBatchNotFound, http.StatusNotFound, "There is no such batch."},
	{webhook.ErrNotFound, http.StatusNotFound, "There is no such webhook or event."},
	{webhook.ErrTooMany, http.StatusConflict, "You have as many webhooks as there can be. Remove one that is not needed any more."},
	{mms.ErrBatchCanceled, http.StatusConflict, "The batch is canceled, and stays so."},
	{mms.ErrTooLate, http.StatusConflict, "It is too late to cancel the message: it is being handed to Plivo, or has been."},
	{mms.ErrNotFinal, http.StatusConflict, "The message's story is not over yet: sending it again now could reach the recipient twice."},
	{mms.ErrKeyReused, http.StatusUnprocessableEntity, "This Idempotency-Key was used for another request in the last 24 hours. Use a new key for each thing that you want done."},
	{mms.ErrNotHeld, http.StatusConflict, "The message is not held for a decision, or somebody has decided already."},
	{mms.ErrUnavailable, http.StatusServiceUnavailable, "The database cannot be reached at present. Try again in a moment."},
}

// problemOf says how an error is answered, and whether it is a failure of ours
// that belongs into the logs.
func problemOf(err error) (p *Problem, failure bool) {
	var faults invalid.Fields
	var tooMany auth.TooManyAttemptsError
	var full mms.CapError
	var badRows mms.RowErrors
	var broken csvrows.BrokenError
	switch {
	case errors.As(err, &p):
		return p, false
	case errors.As(err, &faults):
		return badInput(http.StatusBadRequest, faults), false
	case errors.Is(err, identity.ErrEmailTaken):
		return badInput(http.StatusConflict, invalid.Fields{{Name: "email", Rule: "taken", Message: "belongs to a user already: log in instead"}}), false
	case errors.As(err, &tooMany):
		return newProblem(http.StatusTooManyRequests, "Too many attempts. Try again later.").retryAfter(tooMany.RetryAfter), false
	case errors.As(err, &full):
		return newProblem(http.StatusTooManyRequests, sentence(full.Error())).retryAfter(full.RetryAfter), false
	case errors.Is(err, mms.ErrInFlight):
		return newProblem(http.StatusConflict, "Another request with this Idempotency-Key is being worked on. Ask again in a moment.").retryAfter(time.Second), false
	case errors.As(err, &badRows):
		return rowProblem(badRows), false
	case errors.As(err, &broken):
		return newProblem(http.StatusBadRequest, string(broken)), false
	}
	for _, kind := range kinds {
		if errors.Is(err, kind.is) {
			p = newProblem(kind.status, kind.detail)
			if kind.status == http.StatusServiceUnavailable {
				p.headers.Set("Retry-After", "5")
			}
			return p, kind.status >= http.StatusInternalServerError
		}
	}
	return newProblem(http.StatusInternalServerError, opaque), true
}

// badInput lists every fault.
func badInput(status int, faults invalid.Fields) *Problem {
	detail := "One field is not right."
	if len(faults) > 1 {
		detail = strconv.Itoa(len(faults)) + " fields are not right."
	}
	p := newProblem(status, detail)
	for _, f := range faults {
		p.Errors = append(p.Errors, FieldError{Field: f.Name, Rule: f.Rule, Message: f.Message})
	}
	return p
}

// rowProblem lists the faults of a batch's rows, none of which was taken on.
func rowProblem(bad mms.RowErrors) *Problem {
	p := newProblem(http.StatusBadRequest, fmt.Sprintf("Rows that are not right: %d. Nothing was taken on; with onError=create_valid the others are, where there are any.", bad.Rejected))
	for _, f := range bad.Shown() {
		p.Errors = append(p.Errors, FieldError{Field: fmt.Sprintf("rows[%d].%s", f.Row, f.Name), Rule: f.Rule, Message: f.Message})
	}
	return p
}

// answerTo turns any error into a problem. It logs a failure of ours, once,
// unless the client has gone: then the failure is most likely just that.
func answerTo(ctx context.Context, logger *slog.Logger, err error) *Problem {
	p, failure := problemOf(err)
	p.RequestID = httpkit.RequestID(ctx)
	if failure && !errors.Is(ctx.Err(), context.Canceled) {
		logger.ErrorContext(ctx, "request failed", slog.Int("status", p.Status),
			slog.String("request_id", p.RequestID), slog.Any("error", err))
	}
	return p
}

// ErrorHandler answers with the problem that fits an error, for middleware in
// front of the API. It never shows the error itself.
func ErrorHandler(logger *slog.Logger) func(http.ResponseWriter, *http.Request, error) {
	return func(w http.ResponseWriter, r *http.Request, err error) {
		write(w, answerTo(r.Context(), logger, err))
	}
}

// WriteProblem answers with a problem of the given status and detail, for
// middleware in front of the API.
func WriteProblem(w http.ResponseWriter, r *http.Request, status int, detail string) {
	p := newProblem(status, detail)
	p.RequestID = httpkit.RequestID(r.Context())
	write(w, p)
}

// WriteFailure answers 500 and says nothing more, for httpkit.Recover.
func WriteFailure(w http.ResponseWriter, r *http.Request) {
	WriteProblem(w, r, http.StatusInternalServerError, opaque)
}

// write replaces an answer that was about to be given, with its headers.
func write(w http.ResponseWriter, p *Problem) {
	for _, name := range []string{"Content-Encoding", "Content-Length", "ETag", "Location"} {
		w.Header().Del(name)
	}
	for name, values := range p.headers {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Type", p.ContentType(""))
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the client may be gone
}
