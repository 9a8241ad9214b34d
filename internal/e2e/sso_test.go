package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/postcard-mms/postcard/internal/devstack"
	"github.com/postcard-mms/postcard/internal/plivosim"
	"github.com/postcard-mms/postcard/internal/testkit"
	"github.com/postcard-mms/postcard/internal/testkit/oidcprovider"
)

// freeAddress returns an address on which nothing listens yet.
func freeAddress(t *testing.T) string {
	t.Helper()
	port, err := devstack.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", port)
}

// ssoVars configures single sign-on through the issuer for an api at the URL.
func ssoVars(url, issuer string, vars ...string) []string {
	return append([]string{
		"PUBLIC_URL=" + url, "OIDC_ISSUER=" + issuer, "OIDC_CLIENT_ID=" + oidcprovider.ClientID, "OIDC_CLIENT_SECRET=" + oidcprovider.ClientSecret, "OIDC_NAME=Example ID",
	}, vars...)
}

// logInAt clicks on what leads to the provider, logs the person in on the provider's page and
// waits for then.
func logInAt(t *testing.T, ctx context.Context, name, click string, person oidcprovider.Person, then string) {
	t.Helper()
	do(t, ctx, name, chromedp.Click(click), chromedp.WaitVisible(`#username`), chromedp.SendKeys(`#username`, person.Subject),
		chromedp.SendKeys(`#provider-password`, oidcprovider.Password), chromedp.Submit(`#username`), chromedp.WaitVisible(then))
}

// TestSingleSignOn starts an api whose provider is down, and starts the provider. A new person
// logs in, a user with a password is refused until they link their account, then logs in with
// it, and unlinks it.
func TestSingleSignOn(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	address, providerAddress := freeAddress(t), freeAddress(t)
	url := "http://" + address
	r.apiAt(address, ssoVars(url, "http://"+providerAddress, "OIDC_ALLOWED_DOMAINS=example.com", "OIDC_ADMIN_GROUP=admins", "SIGNUP=closed")...)
	ctx := browser(t)

	const button = `a[href^="/login/sso"]`
	do(t, ctx, "opening the log-in form without the provider", chromedp.Navigate(url+"/login"), chromedp.WaitVisible(`//p[contains(., "Example ID cannot be reached")]`), chromedp.WaitVisible(`#password`))
	screenshot(t, ctx, "login-sso-down")

	provider := oidcprovider.StartAt(t, providerAddress, url+"/login/sso/callback")
	eve := oidcprovider.Person{Subject: "eve", Email: "eve@example.com", EmailVerified: true, Groups: []string{"admins"}}
	admin := oidcprovider.Person{Subject: "root", Email: "admin@example.com", EmailVerified: true, Groups: []string{"admins"}}
	stranger := oidcprovider.Person{Subject: "mallory", Email: "mallory@evil.example", EmailVerified: true}
	for _, person := range []oidcprovider.Person{eve, admin, stranger} {
		provider.Set(person)
	}
	testkit.Eventually(t, "the api has discovered the provider", func() bool {
		_, page, err := get(t.Context(), url+"/login")
		return err == nil && strings.Contains(page, "/login/sso?")
	})
	do(t, ctx, "denying at the provider", chromedp.Navigate(url+"/login?next=/overview"), chromedp.Click(button), chromedp.WaitVisible(`#deny`), chromedp.Click(`#deny`), chromedp.WaitVisible(`//p[contains(., "denied it")]`))
	logInAt(t, ctx, "logging in as a stranger", button, stranger, `//p[contains(., "your domain")]`)
	do(t, ctx, "opening the log-in form", chromedp.Navigate(url+"/login?next=/overview"))
	logInAt(t, ctx, "logging in as a new user", button, eve, `//h1[.="Overview"]`)
	if email := read(t, ctx, chromedp.Text(`.account .email`)); email != eve.Email {
		t.Errorf("logged in as %q, want %q", email, eve.Email)
	}
	do(t, ctx, "opening an admin's page", chromedp.Navigate(url+"/admin/suppressions"), chromedp.WaitVisible(`//h1[.="Opt-outs"]`))
	do(t, ctx, "opening the own account", chromedp.Navigate(url+"/account/sso"), chromedp.WaitVisible(`//p[contains(., "You cannot unlink it")]`))
	screenshot(t, ctx, "sso-linked-only")
	do(t, ctx, "logging out", chromedp.Click(`.account button`), chromedp.WaitVisible(button))
	screenshot(t, ctx, "login-sso")

	logInAt(t, ctx, "logging in with the email of a user", button, admin, `//p[contains(., "Log in with your password")]`)
	screenshot(t, ctx, "login-sso-refused")
	do(t, ctx, "logging in with the password", chromedp.Navigate(url+"/login?next=/account/sso"), chromedp.SendKeys(`#email`, admin.Email), chromedp.SendKeys(`#password`, "correct horse"), chromedp.Submit(`#password`),
		chromedp.WaitVisible(`form[action="/account/sso/link"]`))
	screenshot(t, ctx, "sso-not-linked")
	other := r.logIn(url, admin.Email, "correct horse")
	logInAt(t, ctx, "linking", `form[action="/account/sso/link"] button`, admin, `form[action="/account/sso/unlink"]`)
	screenshot(t, ctx, "sso-linked")
	if status := other(); status != http.StatusUnauthorized {
		t.Errorf("the user's other session: got status %d after linking, want it ended", status)
	}
	do(t, ctx, "logging out again", chromedp.Click(`.account button`), chromedp.WaitVisible(button))
	logInAt(t, ctx, "logging in with the linked account", button, admin, `.account .email`)
	if email := read(t, ctx, chromedp.Text(`.account .email`)); email != admin.Email {
		t.Errorf("logged in as %q, want %q", email, admin.Email)
	}
	do(t, ctx, "unlinking", chromedp.Navigate(url+"/account/sso"), chromedp.Click(`form[action="/account/sso/unlink"] button`), chromedp.WaitVisible(`form[action="/account/sso/link"]`))
	if users, identities := r.count(`SELECT count(*) FROM users`), r.count(`SELECT count(*) FROM identities`); users != 3 || identities != 1 {
		t.Errorf("got %d users and %d identities, want Ada, the admin and Eve, and only Eve's", users, identities)
	}
}

// logIn logs in over the API and returns a function that asks who is logged in.
func (r *rig) logIn(url, email, password string) func() (status int) {
	r.t.Helper()
	status, cookies := r.request(http.MethodPost, url+"/api/login", fmt.Sprintf(`{"email":%q,"password":%q}`, email, password), nil)
	if status != http.StatusOK {
		r.t.Fatalf("log-in over the API: got status %d, want 200", status)
	}
	return func() int {
		status, _ := r.request(http.MethodGet, url+"/api/me", "", cookies)
		return status
	}
}

// request makes a request and returns the status and the cookies that were set.
func (r *rig) request(method, url, body string, cookies []*http.Cookie) (int, []*http.Cookie) {
	r.t.Helper()
	request, err := http.NewRequestWithContext(context.WithoutCancel(r.t.Context()), method, url, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	for _, cookie := range cookies {
		request.AddCookie(cookie)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		r.t.Fatal(err)
	}
	defer response.Body.Close()
	return response.StatusCode, response.Cookies()
}

// TestOnlySingleSignOn expects an api without passwords, below a path.
func TestOnlySingleSignOn(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	address := freeAddress(t)
	url := "http://" + address + "/postcard"
	provider := oidcprovider.Start(t, url+"/login/sso/callback")
	eve := oidcprovider.Person{Subject: "eve", Email: "eve@example.com", EmailVerified: true}
	provider.Set(eve)
	r.apiAt(address, ssoVars(url, provider.Issuer, "PASSWORD_LOGIN=false")...)
	if status, _ := r.request(http.MethodPost, url+"/api/login", `{"email":"admin@example.com","password":"correct horse"}`, nil); status != http.StatusForbidden {
		t.Errorf("log-in over the API: got status %d, want 403", status)
	}
	ctx := browser(t)
	const button = `a[href^="/postcard/login/sso"]`
	testkit.Eventually(t, "the api has discovered the provider", func() bool {
		_, page, err := get(t.Context(), url+"/login")
		return err == nil && strings.Contains(page, "/login/sso?")
	})
	do(t, ctx, "opening the log-in form", chromedp.Navigate(url+"/login"), chromedp.WaitVisible(button))
	screenshot(t, ctx, "login-sso-only")
	if read(t, ctx, chromedp.Evaluate[bool](`document.querySelector("input[type=password]") !== null`)) {
		t.Error("the form asks for a password")
	}
	logInAt(t, ctx, "logging in", button, eve, `.account .email`)
}
