package httpapi

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/httpkit"
	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/invalid"
)

// Credentials are the body of a log-in or sign-up request.
type Credentials struct {
	Email    string `json:"email" doc:"The user's email address. Not case-sensitive." format:"email" maxLength:"254" example:"ada@example.com"`
	Password string `json:"password" doc:"The user's password. For sign-up: at least 10 characters, at most 72 bytes." format:"password" example:"correct horse battery"`
}

// TransformSchema implements huma.SchemaTransformer.
func (Credentials) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema { return exactly(s) }

var exampleCredentials = Credentials{Email: "ada@example.com", Password: "correct horse battery"}

// User is a user of Postcard.
type User struct {
	ID    uuid.UUID     `json:"id" format:"uuid" doc:"The ID of the user."`
	Email string        `json:"email" format:"email" doc:"The user's email address, in lower case." example:"ada@example.com"`
	Role  identity.Role `json:"role" enum:"user,admin" doc:"The user's role." example:"user"`
}

// Session is the logged-in user and the workspace that the session uses.
type Session struct {
	User      User       `json:"user"`
	Workspace *Workspace `json:"workspace,omitempty" doc:"The workspace that the session uses. Absent if the user is not a member of any."`
}

type sessionOutput struct {
	Body Session
}

func sessionOf(p identity.Principal) *sessionOutput {
	session := Session{User: User{ID: p.UserID, Email: p.Email, Role: p.Role}}
	if len(p.Memberships) > 0 {
		workspace := workspaceOf(p.WorkspaceID, p.Workspace, p.Permissions)
		session.Workspace = &workspace
	}
	return &sessionOutput{Body: session}
}

const (
	loginPath  = "/api/login"
	factorPath = "/api/login/factor"
	logoutPath = "/api/logout"
	signupPath = "/api/signup"
	mePath     = "/api/me"
)

func (a *api) registerAccount() {
	register(a, huma.Operation{
		OperationID: "login", Method: http.MethodPost, Path: loginPath, Tags: []string{"account"},
		Summary:     "Log in",
		Description: "Starts a session and sets the session cookie. Ends any previous session. If the user has a second factor, the answer is 401 with the code second_factor_required and a cookie; confirm the log-in with POST /api/login/factor within 10 minutes.",
		Responses:   sessionResponse("200", "Logged in."),
		Errors:      bodyErrors(http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests),
	}, a.login)
	describeBody(a, loginPath, exampleCredentials)
	a.registerLoginFactor()

	register(a, huma.Operation{
		OperationID: "logout", Method: http.MethodPost, Path: logoutPath, Tags: []string{"account"},
		Summary:     "Log out",
		Description: "Ends the session and deletes the session cookie. Succeeds if there is no session.",
		Responses:   map[string]*huma.Response{"204": {Description: "Logged out."}},
		Errors:      []int{http.StatusForbidden},
	}, a.logout)

	register(a, huma.Operation{
		OperationID: "signup", Method: http.MethodPost, Path: signupPath, Tags: []string{"account"},
		Summary:       "Sign up",
		Description:   "Creates a user and starts a session. Available if the operator has opened sign-up. Repeating it with the same email and password logs in.",
		DefaultStatus: http.StatusCreated,
		Responses:     sessionResponse("201", "Signed up and logged in."),
		Errors:        bodyErrors(http.StatusUnauthorized, http.StatusForbidden, http.StatusConflict, http.StatusTooManyRequests),
	}, a.signup)
	describeBody(a, signupPath, exampleCredentials)

	registerForUser(a, huma.Operation{
		OperationID: "me", Method: http.MethodGet, Path: mePath, Tags: []string{"account"},
		Summary:     "Get the logged-in user",
		Description: "Returns the user that the session belongs to.",
		Responses:   map[string]*huma.Response{"200": {Description: "The logged-in user."}},
	}, a.me)
}

func sessionResponse(status, description string) map[string]*huma.Response {
	return map[string]*huma.Response{status: {
		Description: description,
		Headers:     map[string]*huma.Param{"Set-Cookie": {Description: "The session cookie.", Schema: &huma.Schema{Type: huma.TypeString}}},
	}}
}

type credentialsInput struct{ Request }

func (a *api) login(ctx context.Context, in *credentialsInput) (*sessionOutput, error) {
	var c Credentials
	if err := readObject(in.Request, &c); err != nil {
		return nil, err
	}
	if err := c.validate(); err != nil {
		return nil, err
	}
	principal, err := a.Auth.Login(ctx, httpkit.ClientIP(in.r), c.Email, c.Password)
	if err != nil {
		return nil, err
	}
	return sessionOf(principal), nil
}

// validate reports missing fields. A client that misspells a field name would
// otherwise be told that its password is wrong.
func (c Credentials) validate() error {
	var violations invalid.Fields
	if c.Email == "" {
		violations.Add("email", "required", "is missing")
	}
	if c.Password == "" {
		violations.Add("password", "required", "is missing")
	}
	return violations.Err()
}

func (a *api) signup(ctx context.Context, in *credentialsInput) (*sessionOutput, error) {
	var c Credentials
	if err := readObject(in.Request, &c); err != nil {
		return nil, err
	}
	principal, err := a.Auth.SignUp(ctx, httpkit.ClientIP(in.r), c.Email, c.Password)
	if err != nil {
		return nil, err
	}
	return sessionOf(principal), nil
}

type noBody struct{}

func (a *api) logout(ctx context.Context, _ *noBody) (*noBody, error) {
	return &noBody{}, a.Auth.Logout(ctx)
}

func (a *api) me(_ context.Context, principal identity.Principal, _ *noBody) (*sessionOutput, error) {
	return sessionOf(principal), nil
}
