package webui

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/postcard-mms/postcard/internal/auth"
	"github.com/postcard-mms/postcard/internal/httpkit"
	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/invalid"
)

// credentials is the form for logging in and signing up. It never contains the
// password.
type credentials struct {
	Email         string
	Next          string // the path to go to afterwards
	Violations    invalid.Fields
	Error         string // about the form as a whole
	SessionEnded  bool   // another form was submitted after the session had ended
	PasswordReset bool   // a link has just reset the password
	PasswordsOff  bool
	Passkeys      bool       // people may log in with a passkey
	SSO           *ssoButton // nil: none
}

const disabledText = "This account is disabled. Ask an admin of this installation."

// RedirectToLogin sends a visitor to the login page, which leads back to the
// requested page. After a POST it leads back to the page with the form, and the
// login page says that nothing was changed. A user who must set up a second factor is
// led to that page instead.
func (p *Pages) RedirectToLogin(w http.ResponseWriter, r *http.Request) {
	if _, ok := auth.MustSetUpFactor(r.Context()); ok {
		p.redirect(w, r, factorPath)
		return
	}
	query := url.Values{}
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		query.Set("next", p.base+r.URL.RequestURI())
	} else {
		query.Set("next", p.refererPath(r))
		query.Set("ended", "1")
	}
	p.redirect(w, r, "/login?"+query.Encode())
}

// redirectToLoginFor sends a visitor to the login page, which leads to the path next.
func (p *Pages) redirectToLoginFor(w http.ResponseWriter, r *http.Request, next string) {
	p.redirect(w, r, "/login?"+url.Values{"next": {next}}.Encode())
}

// refererPath returns the path of the page that submitted the form, or /messages
// if that page is not ours. A proxy may have replaced the request's host.
func (p *Pages) refererPath(r *http.Request) string {
	u, err := url.Parse(r.Referer())
	if err != nil || u.Host == "" || u.Host != r.Host && u.Host != p.host {
		return p.base + "/messages"
	}
	return p.localPath(u.RequestURI())
}

// localPath returns next if it is a path of ours, and /messages otherwise. Browsers take
// what follows // or /\ for a host.
func (p *Pages) localPath(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.Scheme != "" || u.Host != "" || !strings.HasPrefix(next, "/") ||
		strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\\r\n\t") || !p.isBelowBase(u.Path) {
		return p.base + "/messages"
	}
	return next
}

// isBelowBase reports whether a path, with its dots resolved, is ours.
func (p *Pages) isBelowBase(name string) bool {
	name = path.Clean(name)
	return name == p.base || strings.HasPrefix(name, p.base+"/")
}

func (p *Pages) loginForm(w http.ResponseWriter, r *http.Request) {
	p.credentialsForm(w, r, "login", "Log in")
}

func (p *Pages) signupForm(w http.ResponseWriter, r *http.Request) {
	if !p.Auth.PasswordLogin() {
		p.redirect(w, r, "/login")
		return
	}
	if !p.Auth.SignupOpen() {
		p.signupClosed(w, r)
		return
	}
	p.credentialsForm(w, r, "signup", "Sign up")
}

func (p *Pages) credentialsForm(w http.ResponseWriter, r *http.Request, name, title string) {
	next := p.localPath(r.URL.Query().Get("next"))
	if _, ok := identity.PrincipalFrom(r.Context()); ok {
		http.Redirect(w, r, next, http.StatusSeeOther)
		return
	}
	if _, ok := auth.MustSetUpFactor(r.Context()); ok {
		p.redirect(w, r, factorPath)
		return
	}
	form := credentials{Next: next, SessionEnded: r.URL.Query().Has("ended"), PasswordReset: r.URL.Query().Has("reset")}
	p.renderCredentials(w, r, http.StatusOK, name, title, form)
}

// renderCredentials adds to the form how people may log in.
func (p *Pages) renderCredentials(w http.ResponseWriter, r *http.Request, status int, name, title string, form credentials) {
	form.SSO, form.PasswordsOff, form.Passkeys = p.ssoButton(form.Next), !p.Auth.PasswordLogin(), p.Auth.PasskeysOn()
	render(p, w, r, status, name, layout{Title: title}, form)
}

func (p *Pages) login(w http.ResponseWriter, r *http.Request) {
	if !p.readForm(w, r) {
		return
	}
	form := credentials{Email: r.PostForm.Get("email"), Next: p.localPath(r.PostForm.Get("next"))}
	_, err := p.Auth.Login(r.Context(), httpkit.ClientIP(r), form.Email, r.PostForm.Get("password"))
	if errors.Is(err, auth.ErrInvalidCredentials) {
		form.Error = "The email or the password is wrong."
		p.renderCredentials(w, r, http.StatusUnprocessableEntity, "login", "Log in", form)
		return
	}
	p.finishLogin(w, r, "login", "Log in", form, err)
}

func (p *Pages) signup(w http.ResponseWriter, r *http.Request) {
	if !p.readForm(w, r) {
		return
	}
	form := credentials{Email: r.PostForm.Get("email"), Next: p.localPath(r.PostForm.Get("next"))}
	_, err := p.Auth.SignUp(r.Context(), httpkit.ClientIP(r), form.Email, r.PostForm.Get("password"))
	if errors.Is(err, identity.ErrEmailTaken) {
		form.Violations.Add("email", "taken", "is already registered: log in instead")
		err = form.Violations
	}
	if errors.As(err, &form.Violations) {
		p.renderCredentials(w, r, http.StatusUnprocessableEntity, "signup", "Sign up", form)
		return
	}
	if errors.Is(err, auth.ErrSignupClosed) {
		p.signupClosed(w, r)
		return
	}
	p.finishLogin(w, r, "signup", "Sign up", form, err)
}

func (p *Pages) signupClosed(w http.ResponseWriter, r *http.Request) {
	p.renderError(w, r, http.StatusForbidden, "Sign-up is closed", "Ask the operator of this installation to create an account for you.")
}

// finishLogin redirects a user who has logged in or signed up, or shows the form
// with the error.
func (p *Pages) finishLogin(w http.ResponseWriter, r *http.Request, name, title string, form credentials, err error) {
	var tooMany auth.TooManyAttemptsError
	switch {
	case err == nil:
		http.Redirect(w, r, form.Next, http.StatusSeeOther)
	case errors.Is(err, auth.ErrSecondFactorRequired):
		p.redirectToLoginFactor(w, r, form.Next)
	case errors.As(err, &tooMany):
		form.Error = tooManyText(w, tooMany)
		p.renderCredentials(w, r, http.StatusTooManyRequests, name, title, form)
	case errors.Is(err, identity.ErrDisabled):
		form.Error = disabledText
		p.renderCredentials(w, r, http.StatusForbidden, name, title, form)
	case errors.Is(err, auth.ErrPasswordsOff):
		form.Error = "Logging in with a password is switched off."
		p.renderCredentials(w, r, http.StatusForbidden, "login", "Log in", form)
	default:
		p.fail(w, r, err)
	}
}

func (p *Pages) logout(w http.ResponseWriter, r *http.Request) {
	if err := p.Auth.Logout(r.Context()); err != nil {
		p.fail(w, r, err)
		return
	}
	p.redirect(w, r, "/login")
}

// maxForm is the maximum size of a form's body, in bytes.
const maxForm = 64 << 10

// readForm parses the form. If that fails, it answers the request and returns
// false.
func (p *Pages) readForm(w http.ResponseWriter, r *http.Request) bool {
	body, err := httpkit.Body(w, r, maxForm)
	if err == nil {
		r.Body = io.NopCloser(body)
		err = r.ParseForm()
	}
	var tooLarge *http.MaxBytesError
	var encoding httpkit.UnsupportedEncodingError
	switch {
	case errors.As(err, &encoding):
		p.renderError(w, r, http.StatusUnsupportedMediaType, "Unsupported encoding", "The form could not be read: "+encoding.Error()+". Nothing was changed.")
	case errors.As(err, &tooLarge):
		p.renderError(w, r, http.StatusRequestEntityTooLarge, "Form too large", "The form is larger than 64 KiB. Nothing was changed. Go back and shorten your input.")
	case err != nil:
		p.renderError(w, r, http.StatusBadRequest, "Invalid form", "The form could not be read. Nothing was changed. Go back and submit it again.")
	default:
		return p.checkWorkspace(w, r)
	}
	return false
}

// checkWorkspace answers a form that was opened in another workspace than the session uses
// now, because the user has switched in another window. It then returns false.
func (p *Pages) checkWorkspace(w http.ResponseWriter, r *http.Request) bool {
	principal, loggedIn := identity.PrincipalFrom(r.Context())
	opened := r.PostForm.Get("workspace")
	if !loggedIn || opened == "" || opened == principal.WorkspaceID.String() {
		return true
	}
	p.renderError(w, r, http.StatusConflict, "Another workspace",
		"You have switched to the workspace "+principal.Workspace+" since you opened the form. Nothing was changed. Switch back, or open the form again.")
	return false
}
