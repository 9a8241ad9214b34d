package webui

import (
	"encoding/base64"
	"errors"
	"html/template"
	"net/http"
	"net/url"

	"github.com/postcard-mms/postcard/internal/auth"
	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/invalid"
)

const (
	loginFactorPath = "/login/factor"
	factorPath      = "/account/second-factor"
)

// loginFactorPage asks for the second factor of a log-in.
type loginFactorPage struct {
	Next     string // the path to go to afterwards
	Passkeys bool   // the user has passkeys that can be used here
	Error    string
}

// factorPage shows and changes the user's second factors.
type factorPage struct {
	On          bool // the installation has a SECRET_KEY
	Required    bool // the user can do nothing else before there is a second factor
	HasPassword bool // which changes need
	Factors     identity.SecondFactors
	Setup       *totpSetup // an authenticator app that is being set up
	Codes       []string   // new recovery codes
	Error       string

	PasskeysOn  bool   // the installation can have passkeys
	PasskeyName string // as it was typed
}

// totpSetup is what an authenticator app needs.
type totpSetup struct {
	Secret string
	QR     template.URL
}

func (p *Pages) loginFactorForm(w http.ResponseWriter, r *http.Request) {
	next := p.localPath(r.URL.Query().Get("next"))
	p.renderLoginFactor(w, r, http.StatusOK, loginFactorPage{Next: next})
}

// redirectToLoginFactor asks for the second factor of a log-in.
func (p *Pages) redirectToLoginFactor(w http.ResponseWriter, r *http.Request, next string) {
	p.redirect(w, r, loginFactorPath+"?"+url.Values{"next": {next}}.Encode())
}

// renderLoginFactor redirects to the login page if no log-in waits for a second factor.
func (p *Pages) renderLoginFactor(w http.ResponseWriter, r *http.Request, status int, body loginFactorPage) {
	factors, err := p.Auth.HalfSessionFactors(r.Context())
	switch {
	case errors.Is(err, auth.ErrNoHalfSession):
		p.redirectToLoginFor(w, r, body.Next)
	case err != nil:
		p.fail(w, r, err)
	default:
		body.Passkeys = p.Auth.PasskeysOn() && len(factors.Passkeys) > 0
		render(p, w, r, status, "loginfactor", layout{Title: "Confirm your log-in", Unfinished: true}, body)
	}
}

func (p *Pages) loginFactor(w http.ResponseWriter, r *http.Request) {
	if !p.readForm(w, r) {
		return
	}
	body := loginFactorPage{Next: p.localPath(r.PostForm.Get("next"))}
	_, err := p.Auth.LoginWithCode(r.Context(), r.PostForm.Get("code"))
	switch {
	case err == nil:
		http.Redirect(w, r, body.Next, http.StatusSeeOther)
	case errors.Is(err, auth.ErrNoHalfSession):
		p.redirectToLoginFor(w, r, body.Next)
	default:
		status, text := p.factorError(w, err)
		if text == "" {
			p.fail(w, r, err)
			return
		}
		body.Error = text
		p.renderLoginFactor(w, r, status, body)
	}
}

// factorError returns the status and the text for an error of the user's, or "" for
// another one.
func (p *Pages) factorError(w http.ResponseWriter, err error) (status int, text string) {
	var tooMany auth.TooManyAttemptsError
	var violations invalid.Fields
	switch {
	case errors.As(err, &tooMany):
		return http.StatusTooManyRequests, tooManyText(w, tooMany)
	case errors.Is(err, auth.ErrInvalidCode):
		return http.StatusUnprocessableEntity, "The code is wrong, or was used before. Wait for the next one."
	case errors.As(err, &violations): // of currentPassword
		return http.StatusUnprocessableEntity, "The password " + violations[0].Message + ". Nothing was changed."
	case errors.Is(err, identity.ErrDisabled):
		return http.StatusForbidden, disabledText
	case errors.Is(err, auth.ErrFactorsOff):
		return http.StatusForbidden, "Second factors cannot be checked, because this installation has no SECRET_KEY. Ask its operator."
	case errors.Is(err, auth.ErrInvalidPasskey):
		return http.StatusUnprocessableEntity, "The passkey was not accepted. Try again."
	case errors.Is(err, auth.ErrPasskeysOff):
		return http.StatusForbidden, "This installation can have no passkeys. They need SECRET_KEY, and a PUBLIC_URL with https."
	case errors.Is(err, identity.ErrTooManyPasskeys):
		return http.StatusConflict, "You have the maximum number of passkeys. Remove those that you no longer use."
	case errors.Is(err, identity.ErrFactorExists):
		return http.StatusConflict, "You have set up this second factor already. Remove it to set it up again."
	case errors.Is(err, identity.ErrNoFactor):
		return http.StatusConflict, "Your second factor was changed in the meantime. Nothing was changed."
	}
	return 0, ""
}

// requireAccount is requireUser for the pages that users need to set up a second factor,
// who can open no others before they have one.
func (p *Pages) requireAccount(h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if principal, ok := auth.MustSetUpFactor(r.Context()); ok {
			h(w, r, principal)
			return
		}
		p.requireUser(h)(w, r)
	}
}

func (p *Pages) factor(w http.ResponseWriter, r *http.Request, principal identity.Principal) {
	p.renderFactor(w, r, http.StatusOK, principal, factorPage{})
}

func (p *Pages) renderFactor(w http.ResponseWriter, r *http.Request, status int, principal identity.Principal, body factorPage) {
	user, err := p.Auth.Profile(r.Context(), principal.UserID)
	if err != nil {
		p.fail(w, r, err)
		return
	}
	if body.Factors, err = p.Auth.SecondFactors(r.Context(), principal.UserID); err != nil {
		p.fail(w, r, err)
		return
	}
	body.HasPassword = user.HasPassword()
	body.On, body.PasskeysOn = p.Auth.SecondFactorsOn(), p.Auth.PasskeysOn()
	_, body.Required = auth.MustSetUpFactor(r.Context())
	body.Required = body.Required && !body.Factors.Any()
	render(p, w, r, status, "secondfactor", layout{Title: "Second factor"}, body)
}

// factorFailed shows the page with the error.
func (p *Pages) factorFailed(w http.ResponseWriter, r *http.Request, principal identity.Principal, body factorPage, err error) {
	status, text := p.factorError(w, err)
	if text == "" {
		p.fail(w, r, err)
		return
	}
	body.Error = text
	p.renderFactor(w, r, status, principal, body)
}

// startTOTP shows the secret in its response only, so that a page that stays open does
// not reveal it later.
func (p *Pages) startTOTP(w http.ResponseWriter, r *http.Request, principal identity.Principal) {
	if !p.readForm(w, r) {
		return
	}
	setup, err := p.Auth.StartTOTP(r.Context(), principal, r.PostForm.Get("password"))
	if err != nil {
		p.factorFailed(w, r, principal, factorPage{}, err)
		return
	}
	p.renderFactor(w, r, http.StatusOK, principal, factorPage{Setup: setupOf(setup)})
}

func setupOf(setup auth.TOTPSetup) *totpSetup {
	png := base64.StdEncoding.EncodeToString(setup.QR)
	return &totpSetup{Secret: setup.Secret, QR: template.URL("data:image/png;base64," + png)} //nolint:gosec // base64
}

func (p *Pages) confirmTOTP(w http.ResponseWriter, r *http.Request, principal identity.Principal) {
	if !p.readForm(w, r) {
		return
	}
	codes, setup, err := p.Auth.ConfirmTOTP(r.Context(), principal, r.PostForm.Get("code"))
	if err != nil {
		body := factorPage{}
		if errors.Is(err, auth.ErrInvalidCode) {
			body.Setup = setupOf(setup)
		}
		p.factorFailed(w, r, principal, body, err)
		return
	}
	p.renderFactor(w, r, http.StatusOK, principal, factorPage{Codes: grouped(codes)})
}

func (p *Pages) removeTOTP(w http.ResponseWriter, r *http.Request, principal identity.Principal) {
	if !p.readForm(w, r) {
		return
	}
	if err := p.Auth.RemoveTOTP(r.Context(), principal, r.PostForm.Get("password"), r.PostForm.Get("code")); err != nil {
		p.factorFailed(w, r, principal, factorPage{}, err)
		return
	}
	p.Auth.Flash(r.Context(), "The authenticator app is removed. Your other sessions have ended.")
	p.redirect(w, r, factorPath)
}

func (p *Pages) newRecoveryCodes(w http.ResponseWriter, r *http.Request, principal identity.Principal) {
	if !p.readForm(w, r) {
		return
	}
	codes, err := p.Auth.NewRecoveryCodes(r.Context(), principal, r.PostForm.Get("password"))
	if err != nil {
		p.factorFailed(w, r, principal, factorPage{}, err)
		return
	}
	p.renderFactor(w, r, http.StatusOK, principal, factorPage{Codes: grouped(codes)})
}

func grouped(codes []identity.RecoveryCode) []string {
	list := make([]string, len(codes))
	for i, code := range codes {
		list[i] = code.Grouped()
	}
	return list
}
