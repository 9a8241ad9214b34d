package webui

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/auth"
	"github.com/postcard-mms/postcard/internal/httpkit"
	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/invalid"
)

const (
	loginPasskeyPath = "/login/passkey"
	passkeysPath     = factorPath + "/passkeys"
)

// The script asks for what the browser needs to create or use a passkey, and then submits
// the form with the answer.

func (p *Pages) passkeyLoginOptions(w http.ResponseWriter, r *http.Request) {
	options, err := p.Auth.StartPasskeyLogin(r.Context())
	p.writePasskeyOptions(w, r, options, err)
}

func (p *Pages) passkeyOptions(w http.ResponseWriter, r *http.Request, principal identity.Principal) {
	if !p.readForm(w, r) {
		return
	}
	options, err := p.Auth.StartPasskey(r.Context(), principal, r.PostForm.Get("password"))
	p.writePasskeyOptions(w, r, options, err)
}

// writePasskeyOptions writes what the script gives to the browser, or an error to show.
func (p *Pages) writePasskeyOptions(w http.ResponseWriter, r *http.Request, options any, err error) {
	status, answer := http.StatusOK, options
	if err != nil {
		var text string
		if status, text = p.factorError(w, err); text == "" {
			status, text = p.logFailure(r, err), internalErrorText
		}
		answer = map[string]string{"error": text}
	}
	encoded, err := json.Marshal(answer)
	if err != nil {
		p.Logger.ErrorContext(r.Context(), "passkey options not encoded", slog.Any("error", err))
		p.InternalError(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(encoded) // fails only if the browser has disconnected
}

func (p *Pages) loginPasskey(w http.ResponseWriter, r *http.Request) {
	if !p.readForm(w, r) {
		return
	}
	next := p.localPath(r.PostForm.Get("next"))
	_, err := p.Auth.LoginWithPasskey(r.Context(), httpkit.ClientIP(r), r.PostForm.Get("credential"))
	if err == nil {
		http.Redirect(w, r, next, http.StatusSeeOther)
		return
	}
	if errors.Is(err, auth.ErrNoHalfSession) {
		p.redirectToLoginFor(w, r, next)
		return
	}
	status, text := p.factorError(w, err)
	if text == "" {
		p.fail(w, r, err)
		return
	}
	if _, err := p.Auth.HalfSessionFactors(r.Context()); err == nil {
		p.renderLoginFactor(w, r, status, loginFactorPage{Next: next, Error: text})
		return
	}
	p.renderCredentials(w, r, status, "login", "Log in", credentials{Next: next, Error: text})
}

func (p *Pages) addPasskey(w http.ResponseWriter, r *http.Request, principal identity.Principal) {
	if !p.readForm(w, r) {
		return
	}
	name := r.PostForm.Get("name")
	codes, err := p.Auth.AddPasskey(r.Context(), principal, name, r.PostForm.Get("credential"))
	var violations invalid.Fields
	switch {
	case errors.As(err, &violations):
		body := factorPage{PasskeyName: name, Error: fieldLabel(violations[0].Name) + " " + violations[0].Message + "."}
		p.renderFactor(w, r, http.StatusUnprocessableEntity, principal, body)
	case err != nil:
		p.factorFailed(w, r, principal, factorPage{PasskeyName: name}, err)
	case len(codes) > 0:
		p.renderFactor(w, r, http.StatusOK, principal, factorPage{Codes: grouped(codes)})
	default:
		p.Auth.Flash(r.Context(), "The passkey is added. Your other sessions have ended.")
		p.redirect(w, r, factorPath)
	}
}

func (p *Pages) removePasskey(w http.ResponseWriter, r *http.Request, principal identity.Principal) {
	id, err := uuid.Parse(chi.URLParam(r, "id"))
	if err != nil {
		p.NotFound(w, r)
		return
	}
	if !p.readForm(w, r) {
		return
	}
	if err := p.Auth.RemovePasskey(r.Context(), principal, id, r.PostForm.Get("password")); err != nil {
		p.factorFailed(w, r, principal, factorPage{}, err)
		return
	}
	p.Auth.Flash(r.Context(), "The passkey is removed. Your other sessions have ended.")
	p.redirect(w, r, factorPath)
}
