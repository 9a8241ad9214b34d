package webui

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/auth"
	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/mms"
)

const (
	accountPath  = "/account"
	sessionsPath = accountPath + "/sessions"
)

// profilePage is the form with the user's profile. It never contains a password.
type profilePage struct {
	Name, Email, TimeZone string
	Violations            invalid.Fields
	Error                 string // about the form as a whole
}

func (p *Pages) profile(w http.ResponseWriter, r *http.Request, principal identity.Principal) {
	user, err := p.Auth.Profile(r.Context(), principal.UserID)
	if err != nil {
		p.fail(w, r, err)
		return
	}
	p.renderProfile(w, r, http.StatusOK, profilePage{Name: user.Name, Email: user.Email, TimeZone: user.TimeZone})
}

func (p *Pages) renderProfile(w http.ResponseWriter, r *http.Request, status int, body profilePage) {
	render(p, w, r, status, "profile", layout{Title: "Account"}, body)
}

func (p *Pages) changeProfile(w http.ResponseWriter, r *http.Request, principal identity.Principal) {
	if !p.readForm(w, r) {
		return
	}
	body := profilePage{Name: r.PostForm.Get("name"), Email: r.PostForm.Get("email"), TimeZone: r.PostForm.Get("timeZone")}
	params := identity.ProfileParams{
		Name: &body.Name, Email: &body.Email, TimeZone: &body.TimeZone, CurrentPassword: r.PostForm.Get("currentPassword"),
	}
	if password := r.PostForm.Get("newPassword"); password != "" {
		params.NewPassword = &password
	}
	err := p.Auth.ChangeProfile(r.Context(), principal.UserID, params)
	var tooMany auth.TooManyAttemptsError
	switch {
	case err == nil:
		p.Auth.Flash(r.Context(), "Your account is saved.")
		p.redirect(w, r, accountPath)
	case errors.Is(err, identity.ErrEmailTaken):
		body.Violations.Add("email", "taken", "is already in use by another account")
		p.renderProfile(w, r, http.StatusUnprocessableEntity, body)
	case errors.As(err, &body.Violations):
		p.renderProfile(w, r, http.StatusUnprocessableEntity, body)
	case errors.As(err, &tooMany):
		body.Error = tooManyText(w, tooMany)
		p.renderProfile(w, r, http.StatusTooManyRequests, body)
	default:
		p.fail(w, r, err)
	}
}

// tooManyText sets Retry-After and says the same in words.
func tooManyText(w http.ResponseWriter, tooMany auth.TooManyAttemptsError) string {
	seconds := int(math.Ceil(tooMany.RetryAfter.Seconds()))
	w.Header().Set("Retry-After", strconv.Itoa(seconds))
	minutes := int(math.Ceil(float64(seconds) / 60))
	return fmt.Sprintf("Too many attempts. Try again in %s.", mms.Counted(minutes, "minute"))
}

// sessionsPage lists the browsers in which the user is logged in.
type sessionsPage struct {
	Sessions []identity.Session
	Current  uuid.UUID // of the browser that shows the page
}

func (p *Pages) sessions(w http.ResponseWriter, r *http.Request, principal identity.Principal) {
	var body sessionsPage
	var err error
	body.Sessions, body.Current, err = p.Auth.Sessions(r.Context(), principal.UserID)
	if err != nil {
		p.fail(w, r, err)
		return
	}
	render(p, w, r, http.StatusOK, "sessions", layout{Title: "Sessions"}, body)
}

func (p *Pages) endSession(w http.ResponseWriter, r *http.Request, principal identity.Principal) {
	id, err := uuid.Parse(chi.URLParam(r, "id"))
	if err != nil {
		p.NotFound(w, r)
		return
	}
	err = p.Auth.EndSession(r.Context(), principal.UserID, id)
	p.finishSessions(w, r, err, "The session has ended.")
}

func (p *Pages) endOtherSessions(w http.ResponseWriter, r *http.Request, principal identity.Principal) {
	err := p.Auth.EndOtherSessions(r.Context(), principal.UserID)
	p.finishSessions(w, r, err, "All other sessions have ended.")
}

func (p *Pages) finishSessions(w http.ResponseWriter, r *http.Request, err error, notice string) {
	switch {
	case errors.Is(err, identity.ErrNoSession):
		p.NotFound(w, r)
	case err != nil:
		p.fail(w, r, err)
	default:
		p.Auth.Flash(r.Context(), notice)
		p.redirect(w, r, sessionsPath)
	}
}
