package httpapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/identity"
)

const keysPath = "/api/keys"

// KeyRequest is the body of createKey.
type KeyRequest struct {
	Name          string   `json:"name" doc:"A name for the key." minLength:"1" maxLength:"100" example:"Web shop"`
	Scopes        []string `json:"scopes" doc:"The permissions of the key." minItems:"1" enum:"send,read" nullable:"false" example:"[\"send\",\"read\"]"`
	ExpiresInDays *int     `json:"expiresInDays,omitempty" doc:"The number of days until the key expires. Default: it never expires." minimum:"1" maximum:"3650"`
	DailyCap      *int     `json:"dailyCap,omitempty" doc:"The maximum number of messages the key can send per day (UTC). Default: only the workspace's cap applies." minimum:"1" maximum:"10000000"`
}

// TransformSchema implements huma.SchemaTransformer.
func (KeyRequest) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema { return exactly(s) }

// Key is an API key without its secret.
type Key struct {
	ID         uuid.UUID             `json:"id" format:"uuid" doc:"The ID of the key. Not secret."`
	Name       string                `json:"name" doc:"The name of the key." example:"Web shop"`
	Prefix     string                `json:"prefix" doc:"The first characters of the key, to identify it." example:"pc_7QXZA"`
	Scopes     []identity.Permission `json:"scopes" nullable:"false" doc:"The permissions of the key: send, read."`
	DailyCap   int                   `json:"dailyCap,omitempty" doc:"The maximum number of messages the key can send per day (UTC)."`
	Valid      bool                  `json:"valid" doc:"Whether the key is neither expired nor revoked."`
	CreatedAt  time.Time             `json:"createdAt" doc:"When the key was created."`
	LastUsedAt *time.Time            `json:"lastUsedAt,omitempty" doc:"When the key was last used, to the minute. Absent if it has not been used."`
	ExpiresAt  *time.Time            `json:"expiresAt,omitempty" doc:"When the key expires. Absent if it never does."`
	RevokedAt  *time.Time            `json:"revokedAt,omitempty" doc:"When the key was revoked."`
}

// NewKey is an API key with its secret, which only createKey returns.
type NewKey struct {
	Key
	Secret string `json:"secret" doc:"The API key itself. It is shown only once and cannot be retrieved later." example:"pc_7QXZA..."`
}

// KeyList is all of a workspace's keys.
type KeyList struct {
	Keys []Key `json:"keys" nullable:"false" doc:"Valid keys first, then newest first."`
}

func (a *api) registerKeys() {
	registerForManager(a, huma.Operation{
		OperationID: "createKey", Method: http.MethodPost, Path: keysPath, Tags: []string{"keys"},
		Summary:       "Create an API key",
		Description:   "Creates an API key. The response contains its secret, which is shown only once. If the response is lost, the key may exist: find it with listKeys, revoke it and create another one.",
		DefaultStatus: http.StatusCreated,
		Responses:     map[string]*huma.Response{"201": {Description: "The key with its secret. Store the secret safely."}},
		Errors:        bodyErrors(http.StatusConflict),
	}, a.createKey)
	days := 365
	describeBody(a, keysPath, KeyRequest{Name: "Web shop", Scopes: []string{"send", "read"}, ExpiresInDays: &days})
	registerForManager(a, huma.Operation{
		OperationID: "listKeys", Method: http.MethodGet, Path: keysPath, Tags: []string{"keys"},
		Summary:     "List API keys",
		Description: "Lists the API keys of the workspace, without their secrets.",
		Responses:   map[string]*huma.Response{"200": {Description: "All API keys of the workspace."}},
	}, a.listKeys)
	registerForManager(a, huma.Operation{
		OperationID: "revokeKey", Method: http.MethodDelete, Path: keysPath + "/{id}", Tags: []string{"keys"},
		Summary:     "Revoke an API key",
		Description: "Revokes an API key immediately and permanently. Messages it has created are still sent.",
		Responses:   map[string]*huma.Response{"204": {Description: "The key was revoked."}},
		Errors:      []int{http.StatusNotFound},
	}, a.revokeKey)
}

type bodyInput struct{ Request }

type newKeyOutput struct{ Body NewKey }

func (a *api) createKey(ctx context.Context, principal identity.Principal, in *bodyInput) (*newKeyOutput, error) {
	var body KeyRequest
	if err := readObject(in.Request, &body); err != nil {
		return nil, err
	}
	key, secret, err := a.Keys.Create(ctx, principal.WorkspaceID, principal.UserID, identity.KeyParams{
		Name: body.Name, Scopes: body.Scopes, ExpiresInDays: body.ExpiresInDays, DailyCap: body.DailyCap,
	})
	if err != nil {
		return nil, err
	}
	return &newKeyOutput{Body: NewKey{Key: keyOf(key), Secret: string(secret)}}, nil
}

type keysOutput struct{ Body KeyList }

func (a *api) listKeys(ctx context.Context, principal identity.Principal, _ *noBody) (*keysOutput, error) {
	keys, err := a.Keys.List(ctx, principal.WorkspaceID)
	if err != nil {
		return nil, err
	}
	out := &keysOutput{Body: KeyList{Keys: make([]Key, len(keys))}}
	for i, k := range keys {
		out.Body.Keys[i] = keyOf(k)
	}
	return out, nil
}

type keyInput struct {
	ID string `path:"id" format:"uuid" doc:"The ID of the key."`
}

func (a *api) revokeKey(ctx context.Context, principal identity.Principal, in *keyInput) (*noBody, error) {
	notFound := newProblem(http.StatusNotFound, "The API key does not exist.")
	id, err := parseID(in.ID, notFound)
	if err != nil {
		return nil, err
	}
	err = a.Keys.Revoke(ctx, principal.WorkspaceID, id)
	if errors.Is(err, identity.ErrNoKey) {
		return nil, notFound
	}
	return nil, err
}

func keyOf(k identity.Key) Key {
	return Key{
		ID: k.ID, Name: k.Name, Prefix: k.Prefix, Scopes: k.Scopes, DailyCap: k.DailyCap, Valid: k.Valid(),
		CreatedAt: k.CreatedAt.UTC(), LastUsedAt: utc(k.LastUsedAt), ExpiresAt: utc(k.ExpiresAt), RevokedAt: utc(k.RevokedAt),
	}
}
