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
)

// Request gives a handler the HTTP request, for what huma's inputs cannot say.
// It is embedded in inputs, and exported because huma must reach it.
type Request struct {
	w http.ResponseWriter
	r *http.Request
}

// Resolve is called by huma before the handler.
func (q *Request) Resolve(ctx huma.Context) []error {
	q.r, q.w = humachi.Unwrap(ctx)
	return nil
}

// register describes an operation and serves it. huma reads parameters and
// writes answers, but judges nothing: the rules live in the heart, bodies are
// read by readObject, and every error becomes a Problem here, so that no error
// of huma's own (422, or a 500 that repeats err.Error()) can come about and
// its package-level huma.NewError stays untouched.
func register[I, O any](a *api, op huma.Operation, handle func(context.Context, *I) (*O, error)) {
	op.SkipValidateParams, op.SkipValidateBody = true, true
	if op.Responses == nil {
		op.Responses = map[string]*huma.Response{}
	}
	describeProblems(a.huma.OpenAPI(), &op, http.StatusInternalServerError, http.StatusServiceUnavailable)
	huma.Register(a.huma, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := handle(ctx, in)
		if err != nil {
			return nil, answerTo(ctx, a.Logger, err)
		}
		return out, nil
	})
}

// registerForPerson is register for people who are logged in; all others get 401
// before anything else is looked at, and API keys 403.
func registerForPerson[I, O any](a *api, op huma.Operation, handle func(context.Context, identity.Principal, *I) (*O, error)) {
	op.Security = []map[string][]string{{sessionScheme: {}}}
	op.Errors = append(op.Errors, http.StatusUnauthorized, http.StatusForbidden)
	register(a, op, func(ctx context.Context, in *I) (*O, error) {
		who, ok := identity.PrincipalFrom(ctx)
		switch {
		case !ok:
			return nil, errNotLoggedIn
		case who.Key != nil:
			return nil, errPeopleOnly
		}
		return handle(ctx, who, in)
	})
}

// registerFor is registerForPerson for API keys with the scope, too.
func registerFor[I, O any](a *api, scope identity.Scope, op huma.Operation, handle func(context.Context, identity.Principal, *I) (*O, error)) {
	op.Description = strings.TrimSpace(op.Description + " An API key needs the scope " + string(scope) + ".")
	op.Security = []map[string][]string{{keyScheme: {}}, {sessionScheme: {}}}
	op.Errors = append(op.Errors, http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests)
	register(a, op, func(ctx context.Context, in *I) (*O, error) {
		who, ok := identity.PrincipalFrom(ctx)
		switch {
		case !ok:
			return nil, errNotLoggedIn
		case !who.May(scope):
			return nil, newProblem(http.StatusForbidden, "This API key may not do that: it lacks the scope "+string(scope)+".")
		}
		return handle(ctx, who, in)
	})
}

// describeProblems documents the operation's errors as problems, in huma's
// place: huma would describe its own type.
func describeProblems(doc *huma.OpenAPI, op *huma.Operation, more ...int) {
	schema := doc.Components.Schemas.Schema(reflect.TypeFor[Problem](), true, "")
	for _, status := range slices.Concat(op.Errors, more) {
		response := &huma.Response{
			Description: problemWords[status],
			Content:     map[string]*huma.MediaType{"application/problem+json": {Schema: schema}},
		}
		if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
			response.Headers = map[string]*huma.Param{"Retry-After": {Description: "Seconds to wait.", Schema: &huma.Schema{Type: huma.TypeInteger}}}
		}
		op.Responses[strconv.Itoa(status)] = response
	}
	op.Errors = nil
}

var problemWords = map[int]string{
	http.StatusBadRequest:            "The input is not right; errors names its faults.",
	http.StatusUnauthorized:          "Nobody is logged in, the API key is not valid, or the email or the password is wrong.",
	http.StatusForbidden:             "This is not for you: the API key lacks the scope, only people may do it, or sign-up is closed.",
	http.StatusNotFound:              "There is no such thing, or it belongs to somebody else.",
	http.StatusConflict:              "It cannot be done as things stand; the detail says why.",
	http.StatusRequestEntityTooLarge: "The body is too large.",
	http.StatusUnsupportedMediaType:  "The body is not declared as what is read here.",
	http.StatusUnprocessableEntity:   "The Idempotency-Key was used for another request.",
	http.StatusTooManyRequests:       "Too many requests or attempts, or a daily cap is reached.",
	http.StatusInternalServerError:   "Something went wrong on our side.",
	http.StatusServiceUnavailable:    "The database cannot be reached at present.",
}

// bodyErrors are the errors of every operation that reads a body.
func bodyErrors(more ...int) []int {
	return append([]int{http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType}, more...)
}

// describeBody documents the body of an operation that readObject reads. It
// comes after register: a body that huma knew of, it would read itself.
func describeBody[T any](a *api, path string, example T) {
	doc := a.huma.OpenAPI()
	schema := doc.Components.Schemas.Schema(reflect.TypeFor[T](), true, "")
	doc.Paths[path].Post.RequestBody = &huma.RequestBody{
		Required: true,
		Content:  map[string]*huma.MediaType{mediaType: {Schema: schema, Example: example}},
	}
}

// exactly is for the schemas of bodies, in which other fields are refused.
// Answers may get more fields one day.
func exactly(s *huma.Schema) *huma.Schema {
	s.AdditionalProperties = false
	return s
}
