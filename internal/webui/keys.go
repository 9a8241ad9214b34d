package webui

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"postcard/internal/identity"
	"postcard/internal/invalid"
)

const keysPath = "/settings/keys"

// keysPage lists the user's API keys, with a form for another.
type keysPage struct {
	Keys   []identity.Key
	Secret string // of the key that was just made; shown this once
	Name   string // as it was typed
	Send   bool
	Read   bool
	Days   string
	Cap    string
	Faults invalid.Fields
	Error  string
}

func (p *Pages) keys(w http.ResponseWriter, r *http.Request, who identity.Principal) {
	p.showKeys(w, r, http.StatusOK, who, keysPage{Send: true, Read: true, Days: "365"})
}

func (p *Pages) showKeys(w http.ResponseWriter, r *http.Request, status int, who identity.Principal, body keysPage) {
	var err error
	if body.Keys, err = p.Keys.Keys(r.Context(), who.UserID); err != nil {
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
	draft := identity.KeyDraft{Name: body.Name, Scopes: r.PostForm["scope"]}
	for _, scope := range draft.Scopes {
		body.Send = body.Send || scope == string(identity.SendScope)
		body.Read = body.Read || scope == string(identity.ReadScope)
	}
	draft.ExpiresInDays = numberOf("expiresInDays", body.Days, &body.Faults)
	draft.DailyCap = numberOf("dailyCap", body.Cap, &body.Faults)
	id, err := uuid.NewV7()
	if err != nil {
		p.failed(w, r, fmt.Errorf("making a key's id: %w", err))
		return
	}
	key, secret, err := identity.NewKey(id, who.UserID, draft)
	var faults invalid.Fields
	if errors.As(err, &faults) || len(body.Faults) > 0 {
		body.Faults = append(body.Faults, faults...)
		p.showKeys(w, r, http.StatusUnprocessableEntity, who, body)
		return
	}
	if err == nil {
		_, err = p.Keys.CreateKey(r.Context(), key, secret.Hash(), draft.ExpiresInDays)
	}
	switch {
	case errors.Is(err, identity.ErrTooManyKeys):
		body.Error = "You have too many API keys. Revoke those that are not used any more."
		p.showKeys(w, r, http.StatusConflict, who, body)
	case err != nil:
		p.failed(w, r, err)
	default:
		p.showKeys(w, r, http.StatusOK, who, keysPage{Secret: string(secret), Send: true, Read: true, Days: "365"})
	}
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
	err = p.Keys.RevokeKey(r.Context(), who.UserID, id)
	switch {
	case errors.Is(err, identity.ErrNoKey):
		p.NotFound(w, r)
		return
	case err != nil:
		p.failed(w, r, err)
		return
	}
	p.Door.Flash(r.Context(), "The key is revoked: it does not work any more.")
	http.Redirect(w, r, keysPath, http.StatusSeeOther)
}
