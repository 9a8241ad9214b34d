package httpapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/invalid"
)

const (
	accountPath  = "/api/account"
	sessionsPath = accountPath + "/sessions"
)

// Account is the profile of the logged-in user.
type Account struct {
	User
	Name      string    `json:"name" doc:"The user's name. May be empty." example:"Ada Lovelace"`
	TimeZone  string    `json:"timeZone" doc:"The time zone in which pages show times, from the IANA database." example:"America/New_York"`
	CreatedAt time.Time `json:"createdAt" doc:"When the user was created."`
}

// AccountRequest is the body of changeAccount.
type AccountRequest struct {
	Name            *string `json:"name,omitempty" doc:"The user's name." maxLength:"100" example:"Ada Lovelace"`
	Email           *string `json:"email,omitempty" doc:"The new email address. Needs currentPassword." format:"email" maxLength:"254" example:"ada@example.com"`
	TimeZone        *string `json:"timeZone,omitempty" doc:"A time zone from the IANA database." maxLength:"64" example:"America/New_York"`
	NewPassword     *string `json:"newPassword,omitempty" doc:"The new password: at least 10 characters, at most 72 bytes, not a common one. Needs currentPassword." format:"password" example:"correct horse battery"`
	CurrentPassword string  `json:"currentPassword,omitempty" doc:"The current password. Needed to change the email or the password." format:"password"`
}

// TransformSchema implements huma.SchemaTransformer.
func (AccountRequest) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	return exactly(s)
}

// AccountSession is a browser or program in which the user is logged in.
type AccountSession struct {
	ID         uuid.UUID `json:"id" format:"uuid" doc:"The ID of the session. Not secret."`
	Browser    string    `json:"browser" doc:"The browser and its system, as the browser says." example:"Firefox on Windows"`
	Address    string    `json:"address" doc:"The IP address of the last use." example:"192.0.2.1"`
	CreatedAt  time.Time `json:"createdAt" doc:"When the session started."`
	LastUsedAt time.Time `json:"lastUsedAt" doc:"When the session was last used, to the minute."`
	Current    bool      `json:"current" doc:"Whether this request belongs to the session."`
}

// AccountSessions is the list of a user's sessions.
type AccountSessions struct {
	Sessions []AccountSession `json:"sessions" nullable:"false" doc:"The most recently used first."`
}

func (a *api) registerProfile() {
	registerForUser(a, huma.Operation{
		OperationID: "getAccount", Method: http.MethodGet, Path: accountPath, Tags: []string{"account"},
		Summary:     "Get your profile",
		Description: "Returns the profile of the logged-in user.",
		Responses:   map[string]*huma.Response{"200": {Description: "Your profile."}},
	}, a.getAccount)
	registerForUser(a, huma.Operation{
		OperationID: "changeAccount", Method: http.MethodPatch, Path: accountPath, Tags: []string{"account"},
		Summary: "Change your profile",
		Description: "Changes the fields that are given, all or none. A change of the email or the password needs the current password, " +
			"ends all your other sessions and replaces the session cookie of this one.",
		Responses: map[string]*huma.Response{"200": {Description: "Your new profile."}},
		Errors:    []int{http.StatusConflict, http.StatusTooManyRequests},
	}, a.changeAccount)
	name, zone := "Ada Lovelace", "America/New_York"
	describeBody(a, accountPath, AccountRequest{Name: &name, TimeZone: &zone})
	registerForUser(a, huma.Operation{
		OperationID: "listSessions", Method: http.MethodGet, Path: sessionsPath, Tags: []string{"account"},
		Summary:     "List your sessions",
		Description: "Lists the browsers and programs in which you are logged in, up to 200.",
		Responses:   map[string]*huma.Response{"200": {Description: "Your sessions."}},
	}, a.listSessions)
	registerForUser(a, huma.Operation{
		OperationID: "endOtherSessions", Method: http.MethodDelete, Path: sessionsPath, Tags: []string{"account"},
		Summary:     "End all other sessions",
		Description: "Ends all of your sessions except this one.",
		Responses:   map[string]*huma.Response{"204": {Description: "All other sessions have ended."}},
	}, a.endOtherSessions)
	registerForUser(a, huma.Operation{
		OperationID: "endSession", Method: http.MethodDelete, Path: sessionsPath + "/{id}", Tags: []string{"account"},
		Summary:     "End a session",
		Description: "Ends one of your sessions. Its cookie no longer works, and its streams are closed.",
		Responses:   map[string]*huma.Response{"204": {Description: "The session has ended."}},
		Errors:      []int{http.StatusNotFound},
	}, a.endSession)
}

type accountOutput struct{ Body Account }

func (a *api) getAccount(ctx context.Context, principal identity.Principal, _ *noBody) (*accountOutput, error) {
	user, err := a.Auth.Profile(ctx, principal.UserID)
	if err != nil {
		return nil, err
	}
	return &accountOutput{Body: Account{
		User: User{ID: user.ID, Email: user.Email, Role: user.Role}, Name: user.Name, TimeZone: user.TimeZone, CreatedAt: user.CreatedAt.UTC(),
	}}, nil
}

func (a *api) changeAccount(ctx context.Context, principal identity.Principal, in *bodyInput) (*accountOutput, error) {
	var body AccountRequest
	if err := readObject(in.Request, &body); err != nil {
		return nil, err
	}
	err := a.Auth.ChangeProfile(ctx, principal.UserID, identity.ProfileParams(body))
	if errors.Is(err, identity.ErrEmailTaken) {
		return nil, fieldsProblem(http.StatusConflict, invalid.Fields{{Name: "email", Rule: "taken", Message: "is already in use by another user"}})
	}
	if err != nil {
		return nil, err
	}
	return a.getAccount(ctx, principal, nil)
}

type accountSessionsOutput struct{ Body AccountSessions }

func (a *api) listSessions(ctx context.Context, principal identity.Principal, _ *noBody) (*accountSessionsOutput, error) {
	sessions, current, err := a.Auth.Sessions(ctx, principal.UserID)
	if err != nil {
		return nil, err
	}
	out := &accountSessionsOutput{Body: AccountSessions{Sessions: make([]AccountSession, len(sessions))}}
	for i, s := range sessions {
		out.Body.Sessions[i] = AccountSession{
			ID: s.ID, Browser: s.Browser, Address: s.Address, CreatedAt: s.CreatedAt.UTC(), LastUsedAt: s.LastUsedAt.UTC(), Current: s.ID == current,
		}
	}
	return out, nil
}

func (a *api) endOtherSessions(ctx context.Context, principal identity.Principal, _ *noBody) (*noBody, error) {
	return nil, a.Auth.EndOtherSessions(ctx, principal.UserID)
}

type sessionInput struct {
	ID string `path:"id" format:"uuid" doc:"The ID of the session."`
}

func (a *api) endSession(ctx context.Context, principal identity.Principal, in *sessionInput) (*noBody, error) {
	id, err := parseID(in.ID, identity.ErrNoSession)
	if err != nil {
		return nil, err
	}
	return nil, a.Auth.EndSession(ctx, principal.UserID, id)
}
