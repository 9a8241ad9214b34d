package webui

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/invalid"
)

const keysPath = "/settings/keys"

// keysPage lists the user's API keys, with a form for another.
type keysPage struct {
	Keys       []identity.Key
	Secret     string // of the key that was just made; shown this once
	Name       string // as it was typed
	Send       bool
	Read       bool
	Days       string
	Cap        string
	Violations invalid.Fields
	Error      string
}

func (p *Pages) keys(w http.ResponseWriter, r *http.Request, who identity.Principal) {
	p.showKeys(w, r, http.StatusOK, who, keysPage{Send: true, Read: true, Days: "365"})
}

func (p *Pages) showKeys(w http.ResponseWriter, r *http.Request, status int, who identity.Principal, body keysPage) {
	var err error
	if body.Keys, err = p.Keys.List(r.Context(), who.UserID); err != nil {
		p.failed(w, r, err)
		return
	}
	show(p, w, r, status, "keys", frame{Title: "API keys"}, body)
}

// createKey shows the new key in its answer, and nowhere else: it is not kept.
func (p *Pages) createKey(w http.ResponseWriter, r *http.Request, who identity.Principal) {
	if !p.readForm(w, r) {
		return
	}
	body := keysPage{
		Name: r.PostForm.Get("name"), Days: strings.TrimSpace(r.PostForm.Get("days")), Cap: strings.TrimSpace(r.PostForm.Get("cap")),
	}
	params := identity.KeyParams{Name: body.Name, Scopes: r.PostForm["scope"]}
	for _, scope := range params.Scopes {
		body.Send = body.Send || scope == string(identity.SendScope)
		body.Read = body.Read || scope == string(identity.ReadScope)
	}
	params.ExpiresInDays = numberOf("expiresInDays", body.Days, &body.Violations)
	params.DailyCap = numberOf("dailyCap", body.Cap, &body.Violations)
	secret, err := p.newKey(r.Context(), who.UserID, params, body.Violations)
	var violations invalid.Fields
	switch {
	case errors.As(err, &violations):
		body.Violations = violations
		p.showKeys(w, r, http.StatusUnprocessableEntity, who, body)
	case errors.Is(err, identity.ErrTooManyKeys):
		body.Error = "You have too many API keys. Revoke those that are not used any more."
		p.showKeys(w, r, http.StatusConflict, who, body)
	case err != nil:
		p.failed(w, r, err)
	default:
		p.showKeys(w, r, http.StatusOK, who, keysPage{Secret: string(secret), Send: true, Read: true, Days: "365"})
	}
}

// newKey creates a key unless the form could not be parsed: violations are those
// of its numbers. The key's own violations are returned together with them.
func (p *Pages) newKey(ctx context.Context, user uuid.UUID, params identity.KeyParams, violations invalid.Fields) (identity.KeySecret, error) {
	if len(violations) > 0 {
		_, _, err := identity.NewKey(uuid.Nil, user, params)
		var more invalid.Fields
		errors.As(err, &more)
		return "", append(violations, more...)
	}
	_, secret, err := p.Keys.Create(ctx, user, params)
	return secret, err
}

func numberOf(field, typed string, faults *invalid.Fields) *int {
	if typed == "" {
		return nil
	}
	n, err := strconv.Atoi(typed)
	if err != nil {
		faults.Add(field, "type", "must be a whole number, or left empty")
		return nil
	}
	return &n
}

func (p *Pages) revokeKey(w http.ResponseWriter, r *http.Request, who identity.Principal) {
	id, err := uuid.Parse(chi.URLParam(r, "id"))
	if err != nil {
		p.NotFound(w, r)
		return
	}
	err = p.Keys.Revoke(r.Context(), who.UserID, id)
	switch {
	case errors.Is(err, identity.ErrNoKey):
		p.NotFound(w, r)
		return
	case err != nil:
		p.failed(w, r, err)
		return
	}
	p.Auth.Flash(r.Context(), "The key is revoked: it does not work any more.")
	http.Redirect(w, r, keysPath, http.StatusSeeOther)
}
