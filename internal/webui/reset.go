package webui

import (
	"errors"
	"net/http"

	"github.com/postcard-mms/postcard/internal/auth"
	"github.com/postcard-mms/postcard/internal/httpkit"
	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/invalid"
)

const (
	resetPath       = "/reset"
	newPasswordPath = resetPath + "/new"
)

// resetPage is the form with which a visitor asks for a link that resets a password.
type resetPage struct {
	CanMail    bool // whether this installation can send mail
	Sent       bool // the form was submitted; whether the email is known stays unsaid
	Email      string
	Violations invalid.Fields
	Error      string
}

func (p *Pages) resetForm(w http.ResponseWriter, r *http.Request) {
	p.renderReset(w, r, http.StatusOK, resetPage{Sent: r.URL.Query().Has("sent")})
}

func (p *Pages) renderReset(w http.ResponseWriter, r *http.Request, status int, body resetPage) {
	body.CanMail = p.Auth.CanMail()
	render(p, w, r, status, "reset", layout{Title: "Forgot your password?"}, body)
}

func (p *Pages) requestReset(w http.ResponseWriter, r *http.Request) {
	if !p.readForm(w, r) {
		return
	}
	body := resetPage{Email: r.PostForm.Get("email")}
	err := p.Auth.RequestReset(r.Context(), httpkit.ClientIP(r), body.Email)
	var tooMany auth.TooManyAttemptsError
	switch {
	case err == nil:
		p.redirect(w, r, resetPath+"?sent=1")
	case errors.Is(err, auth.ErrNoMail):
		p.renderReset(w, r, http.StatusUnprocessableEntity, body)
	case errors.As(err, &body.Violations):
		p.renderReset(w, r, http.StatusUnprocessableEntity, body)
	case errors.As(err, &tooMany):
		body.Error = tooManyText(w, tooMany)
		p.renderReset(w, r, http.StatusTooManyRequests, body)
	default:
		p.fail(w, r, err)
	}
}

// newPasswordPage is the form behind a link that resets a password.
type newPasswordPage struct {
	Token      string
	Violations invalid.Fields
	Error      string
}

func (p *Pages) newPasswordForm(w http.ResponseWriter, r *http.Request) {
	token := r.URL.Query().Get("token")
	err := p.Auth.CheckReset(r.Context(), identity.ResetToken(token))
	switch {
	case errors.Is(err, identity.ErrNoReset):
		p.uselessReset(w, r)
	case err != nil:
		p.fail(w, r, err)
	default:
		p.renderNewPassword(w, r, http.StatusOK, newPasswordPage{Token: token})
	}
}

func (p *Pages) renderNewPassword(w http.ResponseWriter, r *http.Request, status int, body newPasswordPage) {
	render(p, w, r, status, "newpassword", layout{Title: "Set a new password"}, body)
}

func (p *Pages) uselessReset(w http.ResponseWriter, r *http.Request) {
	p.renderError(w, r, http.StatusNotFound, "This link does not work", "It was used, has expired after 30 minutes, or is incomplete. Ask for a new one from the page for logging in.")
}

func (p *Pages) setNewPassword(w http.ResponseWriter, r *http.Request) {
	if !p.readForm(w, r) {
		return
	}
	body := newPasswordPage{Token: r.PostForm.Get("token")}
	err := p.Auth.ResetPassword(r.Context(), httpkit.ClientIP(r), identity.ResetToken(body.Token), r.PostForm.Get("password"))
	var tooMany auth.TooManyAttemptsError
	switch {
	case err == nil:
		p.redirect(w, r, "/login?reset=1")
	case errors.Is(err, identity.ErrNoReset):
		p.uselessReset(w, r)
	case errors.As(err, &body.Violations):
		p.renderNewPassword(w, r, http.StatusUnprocessableEntity, body)
	case errors.As(err, &tooMany):
		body.Error = tooManyText(w, tooMany)
		p.renderNewPassword(w, r, http.StatusTooManyRequests, body)
	default:
		p.fail(w, r, err)
	}
}
