package webui

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/postcard-mms/postcard/internal/auth"
	"github.com/postcard-mms/postcard/internal/httpkit"
	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/mms"
)

// credentials is the form for logging in and signing up. The password never
// comes back.
type credentials struct {
	Email      string
	Next       string // the path to go to afterwards
	Violations invalid.Fields
	Error      string // about the form as a whole
	Undone     bool   // a form was sent by somebody who had been logged out
}

// toLogin sends a stranger to the login, to come back to the page asked for. Who has
// been logged out before they sent a form is told that nothing came of it, and comes back
// to the form.
func toLogin(w http.ResponseWriter, r *http.Request) {
	query := url.Values{}
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		query.Set("next", r.URL.RequestURI())
	} else {
		query.Set("next", cameFrom(r))
		query.Set("undone", "1")
	}
	http.Redirect(w, r, "/login?"+query.Encode(), http.StatusSeeOther)
}

// cameFrom is the page of ours that a form was on, or the list.
func cameFrom(r *http.Request) string {
	u, err := url.Parse(r.Referer())
	if err != nil || u.Host != r.Host {
		return "/messages"
	}
	return localPath(u.RequestURI())
}

// localPath is next where that is a path on this site, else the list. Browsers
// read // and /\ as the beginning of another host.
func localPath(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.Scheme != "" || u.Host != "" || !strings.HasPrefix(next, "/") ||
		strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\\r\n\t") {
		return "/messages"
	}
	return next
}

func (p *Pages) loginForm(w http.ResponseWriter, r *http.Request) {
	p.credentialsForm(w, r, "login", "Log in")
}

func (p *Pages) signupForm(w http.ResponseWriter, r *http.Request) {
	if !p.Auth.SignupOpen() {
		p.signupClosed(w, r)
		return
	}
	p.credentialsForm(w, r, "signup", "Sign up")
}

func (p *Pages) credentialsForm(w http.ResponseWriter, r *http.Request, name, title string) {
	next := localPath(r.URL.Query().Get("next"))
	if _, ok := identity.PrincipalFrom(r.Context()); ok {
		http.Redirect(w, r, next, http.StatusSeeOther)
		return
	}
	show(p, w, r, http.StatusOK, name, frame{Title: title}, credentials{Next: next, Undone: r.URL.Query().Has("undone")})
}

func (p *Pages) login(w http.ResponseWriter, r *http.Request) {
	if !p.readForm(w, r) {
		return
	}
	form := credentials{Email: r.PostForm.Get("email"), Next: localPath(r.PostForm.Get("next"))}
	_, err := p.Auth.Login(r.Context(), httpkit.ClientIP(r), form.Email, r.PostForm.Get("password"))
	if errors.Is(err, auth.ErrInvalidCredentials) {
		form.Error = "The email or the password is wrong."
		show(p, w, r, http.StatusUnprocessableEntity, "login", frame{Title: "Log in"}, form)
		return
	}
	p.loggedIn(w, r, "login", "Log in", form, err)
}

func (p *Pages) signup(w http.ResponseWriter, r *http.Request) {
	if !p.readForm(w, r) {
		return
	}
	form := credentials{Email: r.PostForm.Get("email"), Next: localPath(r.PostForm.Get("next"))}
	_, err := p.Auth.SignUp(r.Context(), httpkit.ClientIP(r), form.Email, r.PostForm.Get("password"))
	if errors.Is(err, identity.ErrEmailTaken) {
		form.Violations.Add("email", "taken", "belongs to a user already: log in instead")
		err = form.Violations
	}
	if errors.As(err, &form.Violations) {
		show(p, w, r, http.StatusUnprocessableEntity, "signup", frame{Title: "Sign up"}, form)
		return
	}
	if errors.Is(err, auth.ErrSignupClosed) {
		p.signupClosed(w, r)
		return
	}
	p.loggedIn(w, r, "signup", "Sign up", form, err)
}

func (p *Pages) signupClosed(w http.ResponseWriter, r *http.Request) {
	p.showError(w, r, http.StatusForbidden, "Sign-up is closed", "Please ask the operator of this installation to add you as a user.")
}

// loggedIn goes on to where the user wanted to go, or says why not.
func (p *Pages) loggedIn(w http.ResponseWriter, r *http.Request, name, title string, form credentials, err error) {
	var tooMany auth.TooManyAttemptsError
	switch {
	case err == nil:
		http.Redirect(w, r, form.Next, http.StatusSeeOther)
	case errors.As(err, &tooMany):
		seconds := int(math.Ceil(tooMany.RetryAfter.Seconds()))
		w.Header().Set("Retry-After", strconv.Itoa(seconds))
		minutes := int(math.Ceil(float64(seconds) / 60))
		form.Error = fmt.Sprintf("Too many attempts. Please try again in %s.", mms.Counted(minutes, "minute"))
		show(p, w, r, http.StatusTooManyRequests, name, frame{Title: title}, form)
	default:
		p.failed(w, r, err)
	}
}

func (p *Pages) logout(w http.ResponseWriter, r *http.Request) {
	if err := p.Auth.Logout(r.Context()); err != nil {
		p.failed(w, r, err)
		return
	}
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}

// maxForm bounds the body of a form, in bytes.
const maxForm = 64 << 10

// readForm reads a form, or answers why not.
func (p *Pages) readForm(w http.ResponseWriter, r *http.Request) bool {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	err := r.ParseForm()
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		p.showError(w, r, http.StatusRequestEntityTooLarge, "Too long", "The form may hold 64 KiB at most. Nothing was sent.")
	case err != nil:
		p.showError(w, r, http.StatusBadRequest, "Not understood", "The form could not be read. Nothing was sent.")
	}
	return err == nil
}
