package httpapi

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/postcard-mms/postcard/internal/auth"
	"github.com/postcard-mms/postcard/internal/invalid"
)

// The codes of problems that tell clients what to do next.
const (
	codeFactorRequired = "second_factor_required"
	codeFactorSetup    = "second_factor_setup_required"
)

// FactorCode is the body of a request that confirms a log-in.
type FactorCode struct {
	Code string `json:"code" doc:"A code of the authenticator app, or a recovery code. Each works once." maxLength:"100" example:"123456"`
}

// TransformSchema implements huma.SchemaTransformer.
func (FactorCode) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema { return exactly(s) }

func (a *api) registerLoginFactor() {
	register(a, huma.Operation{
		OperationID: "loginFactor", Method: http.MethodPost, Path: factorPath, Tags: []string{"account"},
		Summary:     "Confirm a log-in with a second factor",
		Description: "Starts the session after POST /api/login has answered with the code second_factor_required. Send the cookie of that answer.",
		Responses:   sessionResponse("200", "Logged in."),
		Errors:      bodyErrors(http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests),
	}, a.loginFactor)
	describeBody(a, factorPath, FactorCode{Code: "123456"})
}

type factorInput struct{ Request }

func (a *api) loginFactor(ctx context.Context, in *factorInput) (*sessionOutput, error) {
	var c FactorCode
	if err := readObject(in.Request, &c); err != nil {
		return nil, err
	}
	if c.Code == "" {
		return nil, invalid.Fields{{Name: "code", Rule: "required", Message: "is missing"}}
	}
	principal, err := a.Auth.LoginWithCode(ctx, c.Code)
	if err != nil {
		return nil, err
	}
	return sessionOf(principal), nil
}

// unauthenticated returns why a request without a principal is refused.
func unauthenticated(ctx context.Context) error {
	if _, ok := auth.MustSetUpFactor(ctx); ok {
		return errFactorSetup
	}
	return errUnauthenticated
}
