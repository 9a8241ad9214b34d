package webui

import (
	"errors"
	"log/slog"
	"net/http"

	"github.com/postcard-mms/postcard/internal/auth"
	"github.com/postcard-mms/postcard/internal/httpkit"
	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/sso"
)

const (
	ssoPath = "/account/sso"

	// SSOCallbackPath is the path of the redirect URL that is registered at the provider of
	// single sign-on.
	SSOCallbackPath = "/login/sso/callback"
)

// ssoButton leads to the provider of single sign-on.
type ssoButton struct {
	Name      string // of the provider
	Next      string // the path to go to afterwards
	Reachable bool
}

// ssoButton returns nil if there is no single sign-on.
func (p *Pages) ssoButton(next string) *ssoButton {
	name := p.Auth.SSOName()
	if name == "" {
		return nil
	}
	return &ssoButton{Name: name, Next: next, Reachable: p.Auth.SSOReachable()}
}

// requireSSO answers 404 unless single sign-on is configured.
func (p *Pages) requireSSO(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if p.Auth.SSOName() == "" {
			p.NotFound(w, r)
			return
		}
		h(w, r)
	}
}

// beginSSO sends the browser to the provider to log in there.
func (p *Pages) beginSSO(w http.ResponseWriter, r *http.Request) {
	next := p.localPath(r.URL.Query().Get("next"))
	if _, ok := identity.PrincipalFrom(r.Context()); ok {
		http.Redirect(w, r, next, http.StatusSeeOther)
		return
	}
	target, err := p.Auth.BeginSSO(r.Context(), httpkit.ClientIP(r), next)
	if err != nil {
		p.ssoFailed(w, r, auth.SSOResult{Next: next}, err)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, target, http.StatusSeeOther)
}

// finishSSO answers the browser that comes back from the provider.
func (p *Pages) finishSSO(w http.ResponseWriter, r *http.Request) {
	result, err := p.Auth.FinishSSO(r.Context(), httpkit.ClientIP(r), r.URL.Query())
	_, loggedIn := identity.PrincipalFrom(r.Context())
	switch {
	case errors.Is(err, auth.ErrSSOExpired) && loggedIn: // the page was reloaded
		p.redirect(w, r, "/messages")
	case errors.Is(err, auth.ErrSecondFactorRequired):
		p.redirectToLoginFactor(w, r, p.localPath(result.Next))
	case err != nil:
		p.ssoFailed(w, r, result, err)
	case result.Link:
		p.Auth.Flash(r.Context(), "Your account at "+p.Auth.SSOName()+" is linked. Your other sessions have ended.")
		p.redirect(w, r, ssoPath)
	default:
		http.Redirect(w, r, result.Next, http.StatusSeeOther)
	}
}

// ssoFailed shows why nobody was logged in, or nothing was linked.
func (p *Pages) ssoFailed(w http.ResponseWriter, r *http.Request, result auth.SSOResult, err error) {
	form := credentials{Next: p.localPath(result.Next)}
	var tooMany auth.TooManyAttemptsError
	if errors.As(err, &tooMany) {
		p.finishLogin(w, r, "login", "Log in", form, err)
		return
	}
	status, text := p.explainSSO(err)
	if text == "" {
		p.fail(w, r, err)
		return
	}
	if errors.Is(err, sso.ErrUnreachable) || errors.Is(err, sso.ErrInvalidResponse) || errors.As(err, new(sso.RefusedError)) {
		p.Logger.WarnContext(r.Context(), "single sign-on failed", slog.String("request_id", httpkit.RequestID(r.Context())), slog.Any("error", err))
	}
	if principal, ok := identity.PrincipalFrom(r.Context()); ok && result.Link {
		p.renderSSO(w, r, status, principal, text)
		return
	}
	form.Error = text
	p.renderCredentials(w, r, status, "login", "Log in", form)
}

// explainSSO returns the status and the text for an error of single sign-on; "" for a failure
// of the store.
func (p *Pages) explainSSO(err error) (status int, text string) {
	name := p.Auth.SSOName()
	var refused sso.RefusedError
	switch {
	case errors.Is(err, auth.ErrSSOExpired):
		return http.StatusForbidden, "This log-in took too long, was finished already, or began in another browser or at another address. Log in again."
	case errors.Is(err, sso.ErrUnreachable):
		return http.StatusServiceUnavailable, unreachableText(name)
	case errors.Is(err, sso.ErrInvalidResponse):
		return http.StatusForbidden, "The answer of " + name + " was not valid. Log in again. If that does not help, tell the operator."
	case errors.As(err, &refused) && refused.Code == "access_denied":
		return http.StatusForbidden, name + " did not log you in: you or your organization denied it."
	case errors.As(err, &refused):
		return http.StatusForbidden, name + " did not log you in. It answered with the error “" + refused.Code + "”. Tell the operator."
	case errors.Is(err, identity.ErrDisabled):
		return http.StatusForbidden, disabledText
	case errors.Is(err, auth.ErrEmailNotVerified):
		return http.StatusForbidden, "You have no account here yet. To create one, " + name + " must tell your email address and that it is verified. Verify it there and log in again."
	case errors.Is(err, auth.ErrEmailInUse) && p.Auth.PasswordLogin():
		return http.StatusForbidden, "An account with your email address exists here, and is not linked to your account at " + name + ". Log in with your password, open “Account”, “Single sign-on” and link it there. Then log in with " + name + "."
	case errors.Is(err, auth.ErrEmailInUse):
		return http.StatusForbidden, "An account with your email address exists here, and is not linked to your account at " + name + ". It can be linked only after a log-in with its password, which is switched off. Ask the operator."
	case errors.Is(err, auth.ErrDomainNotAllowed):
		return http.StatusForbidden, "You have no account here yet, and people with an email address of your domain cannot create one. Ask the operator."
	case errors.Is(err, auth.ErrSignupClosed):
		return http.StatusForbidden, "You have no account here yet, and sign-up is closed. Ask the operator to create an account for you."
	case errors.Is(err, identity.ErrIdentityTaken):
		return http.StatusConflict, "Nothing was linked: your account at " + name + " is linked to another account here. Log in to that one and unlink it first."
	case errors.Is(err, identity.ErrOtherIdentity):
		return http.StatusConflict, "Nothing was linked: another account at " + name + " is linked already. Unlink it first."
	}
	return 0, ""
}

func unreachableText(name string) string {
	return name + " cannot be reached at the moment. Try again in a minute."
}

// ssoPage shows the user's account at the provider, or a button that links one.
type ssoPage struct {
	Name       string // of the provider
	Linked     *identity.Identity
	Unlinkable bool // the user could still log in
	Reachable  bool
	Error      string
}

func (p *Pages) ssoPage(w http.ResponseWriter, r *http.Request, principal identity.Principal) {
	p.renderSSO(w, r, http.StatusOK, principal, "")
}

func (p *Pages) renderSSO(w http.ResponseWriter, r *http.Request, status int, principal identity.Principal, problem string) {
	body := ssoPage{Name: p.Auth.SSOName(), Reachable: p.Auth.SSOReachable(), Error: problem}
	linked, unlinkable, err := p.Auth.LinkedIdentity(r.Context(), principal)
	switch {
	case err == nil:
		body.Linked, body.Unlinkable = &linked, unlinkable
	case !errors.Is(err, identity.ErrNoIdentity):
		p.fail(w, r, err)
		return
	}
	render(p, w, r, status, "sso", layout{Title: "Single sign-on"}, body)
}

// continuePage leads to the provider.
type continuePage struct{ Name, URL string }

// linkSSO sends the browser to the provider by a page, not by a redirect: the
// Content-Security-Policy lets forms lead to us only, also through redirects.
func (p *Pages) linkSSO(w http.ResponseWriter, r *http.Request, principal identity.Principal) {
	target, err := p.Auth.BeginLink(r.Context(), httpkit.ClientIP(r), principal)
	if err != nil {
		p.ssoFailed(w, r, auth.SSOResult{Link: true}, err)
		return
	}
	w.Header().Set("Refresh", "0; url="+target)
	render(p, w, r, http.StatusOK, "continue", layout{Title: "Single sign-on"}, continuePage{Name: p.Auth.SSOName(), URL: target})
}

func (p *Pages) unlinkSSO(w http.ResponseWriter, r *http.Request, principal identity.Principal) {
	err := p.Auth.Unlink(r.Context(), principal)
	switch {
	case errors.Is(err, auth.ErrOnlyLogin):
		p.renderSSO(w, r, http.StatusConflict, principal, "Nothing was unlinked: you could not log in any more.")
	case errors.Is(err, identity.ErrNoIdentity): // unlinked in another tab
		p.redirect(w, r, ssoPath)
	case err != nil:
		p.fail(w, r, err)
	default:
		p.Auth.Flash(r.Context(), "Your account at "+p.Auth.SSOName()+" is unlinked. Your other sessions have ended.")
		p.redirect(w, r, ssoPath)
	}
}
