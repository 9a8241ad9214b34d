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

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/auth"
	"github.com/postcard-mms/postcard/internal/csvrows"
	"github.com/postcard-mms/postcard/internal/httpkit"
	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/media"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/operator"
	"github.com/postcard-mms/postcard/internal/webhook"
)

// Problem is an error response (RFC 9457). Its type is always about:blank and left
// out: the status is the kind of the error, and errors lists the invalid fields.
type Problem struct {
	Title     string       `json:"title" doc:"The name of the HTTP status." example:"Bad Request"`
	Status    int          `json:"status" doc:"The HTTP status." example:"400"`
	Detail    string       `json:"detail" doc:"A human-readable explanation of the error." example:"2 fields are invalid."`
	RequestID string       `json:"requestId,omitempty" doc:"The ID of the request. Include it when you contact the operator."`
	Errors    []FieldError `json:"errors,omitempty" nullable:"false" doc:"The invalid fields of the request."`
	Code      string       `json:"code,omitempty" doc:"What to do next: confirm the log-in with POST /api/login/factor, or set up a second factor in the browser."`
	Outcome   string       `json:"outcome,omitempty" enum:"unknown" doc:"unknown with a status of 503 if the request may have been carried out, or may still be: the database did not answer in time. Absent if it was not carried out."`
	ID        *uuid.UUID   `json:"id,omitempty" format:"uuid" doc:"With outcome unknown: the ID of the message or batch, if it was created."`

	headers http.Header
}

// FieldError is one violation by one field.
type FieldError struct {
	Field   string `json:"field" doc:"The name of the field, query parameter or header; body for the body as a whole." example:"to"`
	Rule    string `json:"rule" doc:"The violated rule, as a stable code. The introduction lists the codes." example:"e164"`
	Message string `json:"message" doc:"A human-readable explanation, to be shown after the field's name." example:"must be a phone number in E.164 form"`
}

// Error returns the detail. A problem contains nothing that clients must not see.
func (p *Problem) Error() string { return p.Detail }

// GetStatus implements huma.StatusError.
func (p *Problem) GetStatus() int { return p.Status }

// GetHeaders implements huma.HeadersError.
func (p *Problem) GetHeaders() http.Header { return p.headers }

// ContentType implements huma.ContentTypeFilter.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

func newProblem(status int, detail string) *Problem {
	p := &Problem{Title: http.StatusText(status), Status: status, Detail: detail, headers: http.Header{}}
	if status == http.StatusUnauthorized {
		p.headers.Set("WWW-Authenticate", `Bearer realm="postcard"`) // RFC 9110 requires a challenge
	}
	return p
}

func (p *Problem) retryAfter(wait time.Duration) *Problem {
	p.headers.Set("Retry-After", strconv.Itoa(max(1, int(math.Ceil(wait.Seconds())))))
	return p
}

func (p *Problem) withCode(code string) *Problem {
	p.Code = code
	return p
}

// sentence formats an error text as a sentence.
func sentence(text string) string { return strings.ToUpper(text[:1]) + text[1:] + "." }

var (
	// errUnauthenticated is returned if a request has neither session nor API key.
	errUnauthenticated = errors.New("the request is not authenticated")

	// errFactorSetup is returned if the user must set up a second factor first.
	errFactorSetup = errors.New("the user must set up a second factor")

	// errUsersOnly is returned if an API key calls an endpoint for logged-in users.
	errUsersOnly = errors.New("the endpoint is not available to API keys")
)

const (
	internalError = "An internal error occurred. If it persists, send the requestId to the operator."

	howToAuthenticate = `Authentication is required. Send an API key in the header Authorization: Bearer pc_..., or log in with POST /api/login and send the session cookie it sets.`
)

// kinds maps errors to statuses and details. An error that is neither here nor in
// problemOf is a 500.
var kinds = []struct {
	target error
	status int
	detail string
}{
	{errUnauthenticated, http.StatusUnauthorized, howToAuthenticate},
	{errAdminsOnly, http.StatusNotFound, "This path does not exist."},
	{operator.ErrNoSender, http.StatusNotFound, "No sender has this number."},
	{operator.ErrSenderOfEnvironment, http.StatusConflict, "The sender is in PLIVO_SENDER_NUMBER. Remove it there and restart the processes, or let it rest."},
	{errUsersOnly, http.StatusForbidden, "This endpoint is not available to API keys. Log in instead."},
	{identity.ErrNoKey, http.StatusUnauthorized, "The API key is invalid, expired or revoked. Send a valid key in the header Authorization: Bearer pc_..."},
	{identity.ErrNoMember, http.StatusNotFound, "The user is not a member of the workspace."},
	{identity.ErrLastManager, http.StatusConflict, "Nobody else may manage the workspace. Let another member manage it first."},
	{identity.ErrNoInvitation, http.StatusNotFound, "The invitation does not exist."},
	{identity.ErrTooManyKeys, http.StatusConflict, "The workspace has reached the maximum number of API keys. Revoke one that is no longer used."},
	{auth.ErrInvalidCredentials, http.StatusUnauthorized, "The email or password is incorrect."},
	{identity.ErrDisabled, http.StatusForbidden, "The user is disabled. Ask an admin of this installation."},
	{identity.ErrNoSession, http.StatusNotFound, "The session does not exist, or has ended."},
	{auth.ErrPasswordsOff, http.StatusForbidden, "Logging in with a password is switched off. Log in through single sign-on in a browser, or use an API key."},
	{auth.ErrInvalidCode, http.StatusUnauthorized, "The code is incorrect, or was used before. Wait for the next one."},
	{auth.ErrNoHalfSession, http.StatusUnauthorized, "There is no log-in to confirm, or it has expired. Call POST /api/login first, and send its cookie."},
	{auth.ErrFactorsOff, http.StatusForbidden, "Second factors cannot be checked: the operator must set SECRET_KEY."},
	{auth.ErrSignupClosed, http.StatusForbidden, "Sign-up is closed. Ask the operator to create a user for you."},
	{mms.ErrNotFound, http.StatusNotFound, "The message does not exist."},
	{mms.ErrBatchNotFound, http.StatusNotFound, "The batch does not exist."},
	{webhook.ErrNotFound, http.StatusNotFound, "The webhook or event does not exist."},
	{webhook.ErrTooMany, http.StatusConflict, "You have reached the maximum number of webhooks. Delete one that is no longer needed."},
	{mms.ErrNoUpload, http.StatusNotFound, "The upload does not exist, or has expired."},
	{mms.ErrBatchCanceled, http.StatusConflict, "The batch is canceled and cannot be paused or resumed."},
	{mms.ErrTooLate, http.StatusConflict, "The message can no longer be canceled: sending has started or finished."},
	{mms.ErrNotFinal, http.StatusConflict, "The message is still being sent. Resending it now could deliver it twice. Retry once it is sent or final."},
	{mms.ErrKeyReused, http.StatusUnprocessableEntity, "This Idempotency-Key was used for a different request in the last 24 hours. Use a new key for each new request."},
	{mms.ErrNotHeld, http.StatusConflict, "The message is not held, or a decision has already been made."},
	{media.ErrBusy, http.StatusServiceUnavailable, "Too many pictures are being worked on. Nothing was stored. Repeat the request in a few seconds."},
	{mms.ErrNotStored, http.StatusServiceUnavailable, "The service is temporarily unavailable. Nothing was stored. Repeat the request in a few seconds."},
	{mms.ErrUnavailable, http.StatusServiceUnavailable, "The service is temporarily unavailable. Retry in a few seconds."},
}

// problemOf returns the problem that answers err, and whether err is a failure of
// the service and must be logged.
func problemOf(err error) (p *Problem, failure bool) {
	var violations invalid.Fields
	var tooMany auth.TooManyAttemptsError
	var capError mms.CapError
	var quota mms.QuotaError
	var tooManyChecks media.TooManyChecksError
	var rowErrors mms.RowErrors
	var malformed csvrows.MalformedError
	var unknown mms.OutcomeUnknownError
	switch {
	case errors.As(err, &p):
		return p, false
	case errors.As(err, &violations):
		return fieldsProblem(http.StatusBadRequest, violations), false
	case errors.Is(err, identity.ErrEmailTaken):
		return fieldsProblem(http.StatusConflict, invalid.Fields{{Name: "email", Rule: "taken", Message: "is already in use: log in instead"}}), false
	case errors.Is(err, identity.ErrAlreadyMember):
		return fieldsProblem(http.StatusConflict, invalid.Fields{{Name: "email", Rule: "taken", Message: "is that of a member already"}}), false
	case errors.As(err, &tooMany):
		return newProblem(http.StatusTooManyRequests, "Too many attempts. Retry after the time in Retry-After.").retryAfter(tooMany.RetryAfter), false
	case errors.Is(err, auth.ErrSecondFactorRequired):
		return newProblem(http.StatusUnauthorized, "The user has a second factor. Confirm the log-in with POST /api/login/factor within 10 minutes.").withCode(codeFactorRequired), false
	case errors.Is(err, errFactorSetup):
		return newProblem(http.StatusForbidden, "This installation requires a second factor. Log in with a browser and set one up.").withCode(codeFactorSetup), false
	case errors.As(err, &capError):
		return newProblem(http.StatusTooManyRequests, sentence(capError.Error())).retryAfter(capError.RetryAfter), false
	case errors.As(err, &quota):
		return newProblem(http.StatusConflict, sentence(quota.Error())+" Delete uploads that you no longer need, or wait until they expire."), false
	case errors.As(err, &tooManyChecks):
		return newProblem(http.StatusTooManyRequests, "Too many links were checked. Retry after the time in Retry-After.").retryAfter(tooManyChecks.RetryAfter), false
	case errors.Is(err, mms.ErrInFlight):
		return newProblem(http.StatusConflict, "Another request with this Idempotency-Key is still being processed. Retry in a moment.").retryAfter(time.Second), false
	case errors.As(err, &rowErrors):
		return rowsProblem(rowErrors), false
	case errors.As(err, &malformed):
		return newProblem(http.StatusBadRequest, string(malformed)), false
	case errors.As(err, &unknown):
		return outcomeProblem(unknown), true
	}
	for _, kind := range kinds {
		if errors.Is(err, kind.target) {
			p = newProblem(kind.status, kind.detail)
			if kind.status == http.StatusServiceUnavailable {
				p = p.retryAfter(unavailableFor)
			}
			return p, kind.status >= http.StatusInternalServerError
		}
	}
	return newProblem(http.StatusInternalServerError, internalError), true
}

// unavailableFor is the Retry-After of a 503.
const unavailableFor = 5 * time.Second

// outcomeProblem says how to find out whether a message or batch was created.
func outcomeProblem(unknown mms.OutcomeUnknownError) *Problem {
	what, path := "message", messagePath(unknown.ID)
	if unknown.Batch {
		what, path = "batch", batchPath(unknown.ID)
	}
	p := newProblem(http.StatusServiceUnavailable, "The database did not answer in time, so it is unknown whether the "+what+" was stored. "+
		"If the request had an Idempotency-Key, repeat it with the same key: nothing is created twice. "+
		"Otherwise get "+path+" before you repeat it: if that is still 404 after a minute, the "+what+" was not stored.")
	p.Outcome, p.ID = outcomeUnknown, &unknown.ID
	return p.retryAfter(unavailableFor)
}

const outcomeUnknown = "unknown"

// markUnknown marks the problem of an unavailable database if the request may have been
// carried out: every request that changes something, unless the error says that nothing was
// stored.
func markUnknown(p *Problem, method string, err error) *Problem {
	reads := method == http.MethodGet
	if p.Status != http.StatusServiceUnavailable || p.Outcome != "" || reads || errors.Is(err, mms.ErrNotStored) {
		return p
	}
	p.Outcome = outcomeUnknown
	p.Detail = "The database did not answer in time, so it is unknown whether the request was carried out. Check before you repeat it, unless doing it twice does no harm."
	return p
}

// fieldsProblem lists every violation.
func fieldsProblem(status int, violations invalid.Fields) *Problem {
	detail := "1 field is invalid."
	if len(violations) > 1 {
		detail = strconv.Itoa(len(violations)) + " fields are invalid."
	}
	p := newProblem(status, detail)
	for _, f := range violations {
		p.Errors = append(p.Errors, FieldError{Field: f.Name, Rule: f.Rule, Message: f.Message})
	}
	return p
}

// rowsProblem lists the errors of a rejected batch's rows.
func rowsProblem(rejected mms.RowErrors) *Problem {
	p := newProblem(http.StatusBadRequest, fmt.Sprintf("%s invalid. The batch was not created. Correct the rows, or set onError to create_valid to create the valid ones.", countRows(rejected.Rejected)))
	for _, f := range rejected.First() {
		p.Errors = append(p.Errors, FieldError{Field: fmt.Sprintf("rows[%d].%s", f.Row, f.Name), Rule: f.Rule, Message: f.Message})
	}
	return p
}

func countRows(n int) string {
	if n == 1 {
		return "1 row is"
	}
	return strconv.Itoa(n) + " rows are"
}

// answerTo turns an error into a problem and logs a failure of the service. It does
// not log once the client has disconnected, because that makes queries fail.
func answerTo(ctx context.Context, logger *slog.Logger, err error) *Problem {
	p, failure := problemOf(err)
	p.RequestID = httpkit.RequestID(ctx)
	if failure && !errors.Is(ctx.Err(), context.Canceled) {
		logger.ErrorContext(ctx, "request failed", slog.Int("status", p.Status),
			slog.String("request_id", p.RequestID), slog.Any("error", err))
	}
	return p
}

// ErrorHandler returns a function that answers an error with its problem, for
// middleware in front of the API. It never exposes the error itself.
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

// WriteFailure answers 500 without details, for httpkit.Recover.
func WriteFailure(w http.ResponseWriter, r *http.Request) {
	WriteProblem(w, r, http.StatusInternalServerError, internalError)
}

// write replaces the response that was being prepared, and its headers.
func write(w http.ResponseWriter, p *Problem) {
	for _, name := range []string{"Content-Encoding", "Content-Length", "ETag", "Location"} {
		w.Header().Del(name)
	}
	for name, values := range p.headers {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Type", p.ContentType(""))
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the client may have disconnected
}
