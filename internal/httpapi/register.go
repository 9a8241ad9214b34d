package httpapi

import (
	"context"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"

	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/invalid"
)

// Request gives a handler the HTTP request, for what huma's inputs cannot express.
// Inputs embed it. It is exported because huma sets it by reflection.
type Request struct {
	w http.ResponseWriter
	r *http.Request
}

// Resolve implements huma.Resolver. huma calls it before the handler.
func (q *Request) Resolve(ctx huma.Context) []error {
	q.r, q.w = humachi.Unwrap(ctx)
	return nil
}

type requestKey struct{}

// keepRequest puts the request into its own context, for checkInput.
func keepRequest(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), requestKey{}, Request{w: w, r: r})))
	})
}

// readsQuery marks operations that check the parameters of their query themselves.
var readsQuery = map[string]any{"readsQuery": true}

// checkInput rejects parameters and fields that the operation does not have. A client
// that adds dryRun=true to the path of sendMms must not send a message.
func (a *api) checkInput(ctx context.Context, op huma.Operation) error {
	q, _ := ctx.Value(requestKey{}).(Request)
	if op.Metadata == nil {
		query, err := queryOf(q.r.URL.RawQuery)
		if err != nil {
			return err
		}
		var violations invalid.Fields
		checkParameters(query, nil, &violations)
		if err := violations.Err(); err != nil {
			return err
		}
	}
	if op.Method == http.MethodPost && a.huma.OpenAPI().Paths[op.Path].Post.RequestBody == nil {
		return readNothing(q)
	}
	return nil
}

// register documents an operation and serves it. huma decodes parameters and
// encodes responses but validates nothing: the domain does that, and readObject
// decodes bodies. Every error becomes a Problem here, so that huma's own errors (a
// 422, or a 500 that exposes err.Error()) never reach a client and the global
// huma.NewError need not be replaced.
func register[I, O any](a *api, op huma.Operation, handle func(context.Context, *I) (*O, error)) {
	op.SkipValidateParams, op.SkipValidateBody = true, true
	if op.Responses == nil {
		op.Responses = map[string]*huma.Response{}
	}
	switch {
	case op.Method == http.MethodPost, op.Method == http.MethodPatch:
		op.Errors = bodyErrors(op.Errors...) // also without fields: see checkInput
	case op.Metadata == nil:
		op.Errors = append(op.Errors, http.StatusBadRequest)
	}
	describeProblems(a.huma.OpenAPI(), &op, http.StatusInternalServerError, http.StatusServiceUnavailable)
	huma.Register(a.huma, op, func(ctx context.Context, in *I) (*O, error) {
		if len(op.Security) == 0 {
			if err := a.checkInput(ctx, op); err != nil {
				return nil, answerTo(ctx, a.Logger, err)
			}
		}
		out, err := handle(ctx, in)
		if err != nil {
			return nil, markUnknown(answerTo(ctx, a.Logger, err), op.Method, err)
		}
		return out, nil
	})
}

// registerForUser registers an operation for logged-in users. Unauthenticated
// requests are answered 401 before anything else is checked, API keys 403.
func registerForUser[I, O any](a *api, op huma.Operation, handle func(context.Context, identity.Principal, *I) (*O, error)) {
	op.Security = []map[string][]string{{sessionScheme: {}}}
	op.Errors = append(op.Errors, http.StatusUnauthorized, http.StatusForbidden)
	register(a, op, func(ctx context.Context, in *I) (*O, error) {
		principal, ok := identity.PrincipalFrom(ctx)
		switch {
		case !ok:
			return nil, unauthenticated(ctx)
		case principal.Key != nil:
			return nil, errUsersOnly
		}
		if err := a.checkInput(ctx, op); err != nil {
			return nil, err
		}
		return handle(ctx, principal, in)
	})
}

// registerForManager registers an operation for logged-in users who may manage the
// workspace of their session.
func registerForManager[I, O any](a *api, op huma.Operation, handle func(context.Context, identity.Principal, *I) (*O, error)) {
	op.Description += " You need the manage permission in the workspace."
	registerForUser(a, op, func(ctx context.Context, principal identity.Principal, in *I) (*O, error) {
		if !principal.May(identity.Manage) {
			return nil, notPermitted(principal, identity.Manage)
		}
		return handle(ctx, principal, in)
	})
}

// notPermitted says which permission the principal lacks.
func notPermitted(principal identity.Principal, permission identity.Permission) *Problem {
	switch {
	case principal.Key != nil:
		return newProblem(http.StatusForbidden, "This API key does not have the "+string(permission)+" scope. Create a key that has it.")
	case len(principal.Memberships) == 0:
		return newProblem(http.StatusForbidden, "You are not a member of a workspace. Create one, or ask a member to invite you.")
	default:
		return newProblem(http.StatusForbidden, "You do not have the "+string(permission)+" permission in this workspace. Ask a member who may manage it.")
	}
}

// registerFor registers an operation for users who have the permission in the workspace of
// their session, and for API keys that have it as a scope.
func registerFor[I, O any](a *api, permission identity.Permission, op huma.Operation, handle func(context.Context, identity.Principal, *I) (*O, error)) {
	op.Description = strings.TrimSpace(op.Description + " API keys need the " + string(permission) + " scope.")
	op.Security = []map[string][]string{{keyScheme: {}}, {sessionScheme: {}}}
	op.Errors = append(op.Errors, http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests)
	register(a, op, func(ctx context.Context, in *I) (*O, error) {
		principal, ok := identity.PrincipalFrom(ctx)
		switch {
		case !ok:
			return nil, unauthenticated(ctx)
		case !principal.May(permission):
			return nil, notPermitted(principal, permission)
		}
		if err := a.checkInput(ctx, op); err != nil {
			return nil, err
		}
		return handle(ctx, principal, in)
	})
}

// describeProblems documents the operation's errors as problems. Left to itself,
// huma would document its own error type.
func describeProblems(doc *huma.OpenAPI, op *huma.Operation, more ...int) {
	schema := doc.Components.Schemas.Schema(reflect.TypeFor[Problem](), true, "")
	for _, status := range slices.Concat(op.Errors, more) {
		response := &huma.Response{
			Description: problemDescriptions[status],
			Content:     map[string]*huma.MediaType{"application/problem+json": {Schema: schema}},
		}
		if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
			response.Headers = map[string]*huma.Param{"Retry-After": {Description: "Seconds to wait before retrying.", Schema: &huma.Schema{Type: huma.TypeInteger}}}
		}
		op.Responses[strconv.Itoa(status)] = response
	}
	op.Errors = nil
}

var problemDescriptions = map[int]string{
	http.StatusBadRequest:            "The request is invalid. errors lists the invalid fields.",
	http.StatusUnauthorized:          "Authentication is missing or invalid, the email, password or code is wrong, or a second factor is required.",
	http.StatusForbidden:             "The API key lacks the required scope, or the user the permission in the workspace, the operation is not available to API keys, sign-up is closed, the user must set up a second factor first, or a browser sent the request from another site's page.",
	http.StatusNotFound:              "The resource does not exist or belongs to another workspace.",
	http.StatusConflict:              "The request conflicts with the current state of the resource. detail says why.",
	http.StatusRequestEntityTooLarge: "The request body is too large.",
	http.StatusUnsupportedMediaType:  "The Content-Type or Content-Encoding is not supported.",
	http.StatusUnprocessableEntity:   "The Idempotency-Key was already used for a different request.",
	http.StatusTooManyRequests:       "Too many requests, or a daily cap is reached.",
	http.StatusInternalServerError:   "An internal error occurred.",
	http.StatusServiceUnavailable: "The service is temporarily unavailable. Without an outcome, the request was not carried out: repeat it after the time in Retry-After. " +
		"With outcome unknown, it may have been: a request with an Idempotency-Key can be repeated with the same key; otherwise check first, by id if there is one.",
}

// bodyErrors are the error statuses of an operation with a body.
func bodyErrors(more ...int) []int {
	return append([]int{http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType}, more...)
}

// describeBody documents the body of an operation that uses readObject. It must be
// called after register: huma would decode a body that it knows about.
func describeBody[T any](a *api, path string, example T) {
	doc := a.huma.OpenAPI()
	schema := doc.Components.Schemas.Schema(reflect.TypeFor[T](), true, "")
	op := doc.Paths[path].Post
	if op == nil {
		op = doc.Paths[path].Patch
	}
	op.RequestBody = &huma.RequestBody{
		Required: true,
		Content:  map[string]*huma.MediaType{mediaType: {Schema: schema, Example: example}},
	}
}

// exactly closes the schema of a request body, in which unknown fields are
// rejected. Response schemas stay open, so that fields can be added later.
func exactly(s *huma.Schema) *huma.Schema {
	s.AdditionalProperties = false
	return s
}
