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

// KeyRequest asks for an API key.
type KeyRequest struct {
	Name          string   `json:"name" doc:"Something to know the key by." minLength:"1" maxLength:"100" example:"Web shop"`
	Scopes        []string `json:"scopes" doc:"What it may do." minItems:"1" enum:"send,read" nullable:"false" example:"[\"send\",\"read\"]"`
	ExpiresInDays *int     `json:"expiresInDays,omitempty" doc:"After how many days it ends; left out: never." minimum:"1" maximum:"3650"`
	DailyCap      *int     `json:"dailyCap,omitempty" doc:"How many messages it may send in a day, UTC; left out: as many as you." minimum:"1" maximum:"10000000"`
}

// TransformSchema adds what tags cannot say.
func (KeyRequest) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema { return exactly(s) }

// Key is an API key without its secret.
type Key struct {
	ID         uuid.UUID        `json:"id" format:"uuid" doc:"The key's id, which is no secret."`
	Name       string           `json:"name" example:"Web shop"`
	Hint       string           `json:"hint" doc:"How the key begins, to know it again by." example:"pc_7QXZA"`
	Scopes     []identity.Scope `json:"scopes" nullable:"false" doc:"What it may do: send, read."`
	DailyCap   int              `json:"dailyCap,omitempty" doc:"How many messages it may send in a day, UTC."`
	Valid      bool             `json:"valid" doc:"Whether it can be used."`
	CreatedAt  time.Time        `json:"createdAt"`
	LastUsedAt *time.Time       `json:"lastUsedAt,omitempty" doc:"To the minute; absent until it is used."`
	ExpiresAt  *time.Time       `json:"expiresAt,omitempty" doc:"Absent: never."`
	RevokedAt  *time.Time       `json:"revokedAt,omitempty"`
}

// NewKey is an API key with its secret, which is told this once.
type NewKey struct {
	Key
	Secret string `json:"secret" doc:"The key itself. It is not kept, and cannot be shown again." example:"pc_7QXZA..."`
}

// KeyList is all of a user's keys.
type KeyList struct {
	Keys []Key `json:"keys" nullable:"false" doc:"The valid ones first, newest first."`
}

func (a *api) registerKeys() {
	registerForPerson(a, huma.Operation{
		OperationID: "createKey", Method: http.MethodPost, Path: keysPath, Tags: []string{"keys"},
		Summary:       "Make an API key",
		Description:   "The answer holds the key itself, this once.",
		DefaultStatus: http.StatusCreated,
		Responses:     map[string]*huma.Response{"201": {Description: "The key. Keep its secret safe."}},
		Errors:        bodyErrors(http.StatusConflict),
	}, a.createKey)
	days := 365
	describeBody(a, keysPath, KeyRequest{Name: "Web shop", Scopes: []string{"send", "read"}, ExpiresInDays: &days})
	registerForPerson(a, huma.Operation{
		OperationID: "listKeys", Method: http.MethodGet, Path: keysPath, Tags: []string{"keys"},
		Summary:   "List your API keys",
		Responses: map[string]*huma.Response{"200": {Description: "Your keys."}},
	}, a.listKeys)
	registerForPerson(a, huma.Operation{
		OperationID: "revokeKey", Method: http.MethodDelete, Path: keysPath + "/{id}", Tags: []string{"keys"},
		Summary:     "Revoke an API key",
		Description: "It ends at once and for good. What it has sent goes on.",
		Responses:   map[string]*huma.Response{"204": {Description: "The key is not valid any more."}},
		Errors:      []int{http.StatusNotFound},
	}, a.revokeKey)
}

type bodyInput struct{ Request }

type newKeyOutput struct{ Body NewKey }

func (a *api) createKey(ctx context.Context, who identity.Principal, in *bodyInput) (*newKeyOutput, error) {
	var body KeyRequest
	if err := readObject(in.Request, &body); err != nil {
		return nil, err
	}
	key, secret, err := a.Keys.Create(ctx, who.UserID, identity.KeyParams{
		Name: body.Name, Scopes: body.Scopes, ExpiresInDays: body.ExpiresInDays, DailyCap: body.DailyCap,
	})
	if err != nil {
		return nil, err
	}
	return &newKeyOutput{Body: NewKey{Key: keyOf(key), Secret: string(secret)}}, nil
}

type keysOutput struct{ Body KeyList }

func (a *api) listKeys(ctx context.Context, who identity.Principal, _ *noBody) (*keysOutput, error) {
	keys, err := a.Keys.List(ctx, who.UserID)
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
	ID string `path:"id" format:"uuid" doc:"The key's id."`
}

func (a *api) revokeKey(ctx context.Context, who identity.Principal, in *keyInput) (*noBody, error) {
	id, err := parseID(in.ID)
	if err != nil {
		return nil, err
	}
	err = a.Keys.Revoke(ctx, who.UserID, id)
	if errors.Is(err, identity.ErrNoKey) {
		return nil, newProblem(http.StatusNotFound, "There is no such API key.")
	}
	return nil, err
}

func keyOf(k identity.Key) Key {
	return Key{
		ID: k.ID, Name: k.Name, Hint: k.Hint, Scopes: k.Scopes, DailyCap: k.DailyCap, Valid: k.Valid(),
		CreatedAt: k.CreatedAt.UTC(), LastUsedAt: utc(k.LastUsedAt), ExpiresAt: utc(k.ExpiresAt), RevokedAt: utc(k.RevokedAt),
	}
}
