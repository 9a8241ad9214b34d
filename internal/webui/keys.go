package webui

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/pasted"
)

const keysPath = "/settings/keys"

// keysPage lists the workspace's API keys, with a form that creates one. Form fields
// hold what the user typed.
type keysPage struct {
	Keys       []identity.Key
	Secret     string // of the key that was just created
	Name       string
	Send       bool
	Read       bool
	Days       string
	Cap        string
	Violations invalid.Fields
	Error      string
}

func (p *Pages) keys(w http.ResponseWriter, r *http.Request, principal identity.Principal) {
	p.renderKeys(w, r, http.StatusOK, principal, keysPage{Send: true, Read: true, Days: "365"})
}

func (p *Pages) renderKeys(w http.ResponseWriter, r *http.Request, status int, principal identity.Principal, body keysPage) {
	var err error
	if body.Keys, err = p.Keys.List(r.Context(), principal.WorkspaceID); err != nil {
		p.fail(w, r, err)
		return
	}
	render(p, w, r, status, "keys", layout{Title: "API keys"}, body)
}

// createKey shows the secret in its response only, because it is not stored.
func (p *Pages) createKey(w http.ResponseWriter, r *http.Request, principal identity.Principal) {
	if !p.readForm(w, r) {
		return
	}
	body := keysPage{
		Name: r.PostForm.Get("name"), Days: pasted.Clean(r.PostForm.Get("days")), Cap: pasted.Clean(r.PostForm.Get("cap")),
	}
	params := identity.KeyParams{Name: body.Name, Scopes: r.PostForm["scope"]}
	for _, scope := range params.Scopes {
		body.Send = body.Send || scope == string(identity.Send)
		body.Read = body.Read || scope == string(identity.Read)
	}
	params.ExpiresInDays = parseOptionalInt("expiresInDays", body.Days, &body.Violations)
	params.DailyCap = parseOptionalInt("dailyCap", body.Cap, &body.Violations)
	secret, err := p.newKey(r.Context(), principal, params, body.Violations)
	var violations invalid.Fields
	switch {
	case errors.As(err, &violations):
		body.Violations = violations
		p.renderKeys(w, r, http.StatusUnprocessableEntity, principal, body)
	case errors.Is(err, identity.ErrTooManyKeys):
		body.Error = "The API key was not created: you have reached the maximum number of keys. Revoke keys that you no longer use."
		p.renderKeys(w, r, http.StatusConflict, principal, body)
	case err != nil:
		p.fail(w, r, err)
	default:
		p.renderKeys(w, r, http.StatusOK, principal, keysPage{Secret: string(secret), Send: true, Read: true, Days: "365"})
	}
}

// newKey creates a key unless parsing the form found violations already. It
// returns those together with the violations of the key itself.
func (p *Pages) newKey(ctx context.Context, principal identity.Principal, params identity.KeyParams, violations invalid.Fields) (identity.KeySecret, error) {
	if len(violations) > 0 {
		_, _, err := identity.NewKey(uuid.Nil, principal.WorkspaceID, principal.UserID, params)
		var more invalid.Fields
		errors.As(err, &more)
		return "", append(violations, more...)
	}
	_, secret, err := p.Keys.Create(ctx, principal.WorkspaceID, principal.UserID, params)
	return secret, err
}

// parseOptionalInt returns nil if typed is empty or invalid.
func parseOptionalInt(field, typed string, violations *invalid.Fields) *int {
	if typed == "" {
		return nil
	}
	n, err := strconv.Atoi(typed)
	if err != nil {
		violations.Add(field, "type", "must be a whole number or empty")
		return nil
	}
	return &n
}

func (p *Pages) revokeKey(w http.ResponseWriter, r *http.Request, principal identity.Principal) {
	id, err := uuid.Parse(chi.URLParam(r, "id"))
	if err != nil {
		p.NotFound(w, r)
		return
	}
	err = p.Keys.Revoke(r.Context(), principal.WorkspaceID, id)
	switch {
	case errors.Is(err, identity.ErrNoKey):
		p.NotFound(w, r)
		return
	case err != nil:
		p.fail(w, r, err)
		return
	}
	p.Auth.Flash(r.Context(), "The API key is revoked and no longer works.")
	p.redirect(w, r, keysPath)
}
