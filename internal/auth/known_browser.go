package auth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"net/http"
	"strings"
	"time"

	"github.com/alexedwards/scs/v2"

	"github.com/postcard-mms/postcard/internal/identity"
)

// knownBrowserLifetime is how long a browser that has logged in to an account keeps a
// cookie that says so, even after its session has ended. Its attempts to log in are counted
// separately, so that people who guess an account's password cannot lock its owner out.
//
// The cookie's value is "id.signature". The signature's key is the hash of the
// account's password, so a change of the password invalidates the cookie.
const knownBrowserLifetime = 365 * 24 * time.Hour

// exchange is what Login needs of a request and its response.
type exchange struct {
	request *http.Request
	header  http.Header // of the response
}

type exchangeKey struct{}

func withExchange(w http.ResponseWriter, r *http.Request) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), exchangeKey{}, exchange{request: r, header: w.Header()}))
}

// knownBrowser returns the id of the request's browser if it has logged in to the user's
// account before, or "".
func (s *Service) knownBrowser(ctx context.Context, user identity.User) string {
	exchange, ok := ctx.Value(exchangeKey{}).(exchange)
	if !ok || !user.HasPassword() { // nobody has the email, or only single sign-on
		return ""
	}
	cookie, err := exchange.request.Cookie(knownBrowserCookie(s.sessions, user))
	if err != nil {
		return ""
	}
	id, signature, _ := strings.Cut(cookie.Value, ".")
	if subtle.ConstantTimeCompare([]byte(signature), []byte(user.PasswordHash.Sign(id))) != 1 {
		return ""
	}
	return id
}

// rememberBrowser makes the request's browser a known one of the user's account.
func (s *Service) rememberBrowser(ctx context.Context, user identity.User) {
	exchange, ok := ctx.Value(exchangeKey{}).(exchange)
	if !ok || !user.HasPassword() { // a cookie could not be signed, and would serve for nothing
		return
	}
	if s.knownBrowser(ctx, user) != "" {
		return
	}
	id := rand.Text()
	cookie := http.Cookie{
		Name: knownBrowserCookie(s.sessions, user), Value: id + "." + user.PasswordHash.Sign(id), Path: s.sessions.Cookie.Path,
		MaxAge: int(knownBrowserLifetime.Seconds()), HttpOnly: true, Secure: s.sessions.Cookie.Secure, SameSite: http.SameSiteLaxMode,
	}
	exchange.header.Add("Set-Cookie", cookie.String())
}

// knownBrowserCookie returns the name of the cookie, which differs for each account, so
// that a browser can be known to several.
func knownBrowserCookie(sessions *scs.SessionManager, user identity.User) string {
	return sessions.Cookie.Name + "_known_" + user.ID.String()
}
