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

// Credentials are what people type to log in or sign up.
type Credentials struct {
	Email    string `json:"email" doc:"The user's email; upper and lower case do not matter." format:"email" maxLength:"254" example:"ada@example.com"`
	Password string `json:"password" doc:"For signing up: 10 characters to 72 bytes." format:"password" example:"correct horse battery"`
}

// TransformSchema adds what tags cannot say.
func (Credentials) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema { return exactly(s) }

var exampleCredentials = Credentials{Email: "ada@example.com", Password: "correct horse battery"}

// User is a person who can log in.
type User struct {
	ID    uuid.UUID     `json:"id" format:"uuid" doc:"The user's id."`
	Email string        `json:"email" format:"email" doc:"The user's email, in lower case." example:"ada@example.com"`
	Role  identity.Role `json:"role" enum:"user,admin" doc:"What the user may do." example:"user"`
}

// Session says who is logged in.
type Session struct {
	User User `json:"user"`
}

type sessionOutput struct {
	Body Session
}

func sessionOf(p identity.Principal) *sessionOutput {
	return &sessionOutput{Body: Session{User: User{ID: p.UserID, Email: p.Email, Role: p.Role}}}
}

const (
	loginPath  = "/api/login"
	logoutPath = "/api/logout"
	signupPath = "/api/signup"
	mePath     = "/api/me"
)

func (a *api) registerAccount() {
	register(a, huma.Operation{
		OperationID: "login", Method: http.MethodPost, Path: loginPath, Tags: []string{"account"},
		Summary:     "Log in",
		Description: "Opens a session and sets its cookie. A session that was open before ends.",
		Responses:   sessionResponse("200", "Logged in."),
		Errors:      bodyErrors(http.StatusUnauthorized, http.StatusTooManyRequests),
	}, a.login)
	describeBody(a, loginPath, exampleCredentials)

	register(a, huma.Operation{
		OperationID: "logout", Method: http.MethodPost, Path: logoutPath, Tags: []string{"account"},
		Summary:     "Log out",
		Description: "Ends the session and removes its cookie. Without a session it does nothing.",
		Responses:   map[string]*huma.Response{"204": {Description: "Nobody is logged in any more."}},
	}, a.logout)

	register(a, huma.Operation{
		OperationID: "signup", Method: http.MethodPost, Path: signupPath, Tags: []string{"account"},
		Summary:       "Sign up",
		Description:   "Makes a user and logs them in, where the operator has opened sign-up.",
		DefaultStatus: http.StatusCreated,
		Responses:     sessionResponse("201", "Signed up and logged in."),
		Errors:        bodyErrors(http.StatusForbidden, http.StatusConflict, http.StatusTooManyRequests),
	}, a.signup)
	describeBody(a, signupPath, exampleCredentials)

	registerForPerson(a, huma.Operation{
		OperationID: "me", Method: http.MethodGet, Path: mePath, Tags: []string{"account"},
		Summary:   "Who am I?",
		Responses: map[string]*huma.Response{"200": {Description: "Who is logged in."}},
	}, a.me)
}

func sessionResponse(status, words string) map[string]*huma.Response {
	return map[string]*huma.Response{status: {
		Description: words,
		Headers:     map[string]*huma.Param{"Set-Cookie": {Description: "The session's cookie.", Schema: &huma.Schema{Type: huma.TypeString}}},
	}}
}

type credentialsInput struct{ Request }

func (a *api) login(ctx context.Context, in *credentialsInput) (*sessionOutput, error) {
	var c Credentials
	if err := readObject(in.Request, &c); err != nil {
		return nil, err
	}
	if err := c.checkGiven(); err != nil {
		return nil, err
	}
	who, err := a.Auth.Login(ctx, httpkit.ClientIP(in.r), c.Email, c.Password)
	if err != nil {
		return nil, err
	}
	return sessionOf(who), nil
}

// checkGiven spares somebody who misspelt a name the search for a typing error.
func (c Credentials) checkGiven() error {
	var faults invalid.Fields
	if c.Email == "" {
		faults.Add("email", "required", "is missing")
	}
	if c.Password == "" {
		faults.Add("password", "required", "is missing")
	}
	return faults.Err()
}

func (a *api) signup(ctx context.Context, in *credentialsInput) (*sessionOutput, error) {
	var c Credentials
	if err := readObject(in.Request, &c); err != nil {
		return nil, err
	}
	who, err := a.Auth.SignUp(ctx, httpkit.ClientIP(in.r), c.Email, c.Password)
	if err != nil {
		return nil, err
	}
	return sessionOf(who), nil
}

type noBody struct{}

func (a *api) logout(ctx context.Context, _ *noBody) (*noBody, error) {
	return &noBody{}, a.Auth.Logout(ctx)
}

func (a *api) me(_ context.Context, who identity.Principal, _ *noBody) (*sessionOutput, error) {
	return sessionOf(who), nil
}
