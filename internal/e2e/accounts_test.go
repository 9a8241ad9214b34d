package e2e

import (
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/postcard-mms/postcard/internal/plivosim"
	"github.com/postcard-mms/postcard/internal/smtptest"
	"github.com/postcard-mms/postcard/internal/testkit"
)

// copyAt returns a user of another api who has stolen this user's cookies.
func (u *user) copyAt(c *contract, api string) *user {
	u.t.Helper()
	stolen := c.user("")
	stolen.url = api
	for _, at := range []string{u.url, api} { // cookies do not depend on the port
		parsed, err := url.Parse(at)
		if err != nil {
			u.t.Fatal(err)
		}
		stolen.http.Jar.SetCookies(parsed, u.http.Jar.Cookies(parsed))
	}
	return stolen
}

// wantLoggedOut expects that the user's session has ended at each api.
func (u *user) wantLoggedOut(name string, apis ...string) {
	u.t.Helper()
	for _, api := range apis {
		u.url = api
		if status, _, _ := u.do("GET", "/api/me", ""); status != http.StatusUnauthorized {
			u.t.Errorf("%s: got %d at %s, want 401", name, status, api)
		}
	}
}

// TestStolenSessionEnds copies the cookie of a session to another api process and opens a
// stream there. The session ends from another one, and with a change of the password.
func TestStolenSessionEnds(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	_, here := r.api()
	_, there := r.api()
	c := readContract(t, here)
	first := c.person("ada.lovelace@example.com")
	second := c.user("")
	second.want(http.StatusOK, "POST", "/api/login", `{"email":"ada.lovelace@example.com","password":"correct horse"}`)
	if list, _ := second.want(http.StatusOK, "GET", "/api/account/sessions", "")["sessions"].([]any); len(list) != 2 {
		t.Errorf("got sessions %v, want two", list)
	}

	stolen := first.copyAt(c, there)
	stolen.want(http.StatusOK, "GET", "/api/me", "")
	stream := stolen.openStream(there)
	second.want(http.StatusNoContent, "DELETE", "/api/account/sessions", "")
	stolen.wantLoggedOut("a stolen session that was ended", there, here)
	stream.wantClosed("of a session that was ended")
	first.wantLoggedOut("the session that was stolen", here, there)

	stolen = second.copyAt(c, there)
	stolen.want(http.StatusOK, "GET", "/api/me", "")
	stream = stolen.openStream(there)
	second.want(http.StatusOK, "PATCH", "/api/account", `{"newPassword":"another good one","currentPassword":"correct horse"}`)
	stolen.wantLoggedOut("a copy of the session that changed the password", there, here)
	stream.wantClosed("of the copy")
	second.want(http.StatusOK, "GET", "/api/me", "")
}

// TestForgottenPassword resets a password by mail at another api process than the one that
// was asked.
func TestForgottenPassword(t *testing.T) {
	t.Parallel()
	server, err := smtptest.Start(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	r := newRig(t, plivosim.Config{})
	settings := []string{"SMTP_URL=smtp://" + server.Addr() + "?tls=none", "SMTP_FROM=postcard@example.com"}
	_, here := r.api(settings...)
	_, there := r.api(settings...)
	c := readContract(t, here)
	ada := c.person("ada.lovelace@example.com")
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	visitor := &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	post := func(address string, pairs ...string) string {
		t.Helper()
		form := url.Values{}
		for i := 0; i < len(pairs); i += 2 {
			form.Set(pairs[i], pairs[i+1])
		}
		response, err := visitor.PostForm(address, form)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		return response.Status + " " + response.Header.Get("Location")
	}
	for _, email := range []string{"nobody@example.com", "ada.lovelace@example.com"} {
		if got := post(here+"/reset", "email", email); got != "303 See Other /reset?sent=1" {
			t.Fatalf("asking for %s: got %s", email, got)
		}
	}
	testkit.Eventually(t, "the mail arrives", func() bool { return len(server.Mails()) > 0 })
	mail := server.Mails()[0]
	link := regexp.MustCompile(regexp.QuoteMeta(r.callback.URL) + `/reset/new\?token=([A-Z2-7]{26})\s`).FindStringSubmatch(mail.Text)
	if mail.To != "ada.lovelace@example.com" || !strings.Contains(mail.From, "postcard@example.com") || link == nil {
		t.Fatalf("got mail %+v, want a link to reset/new", mail)
	}
	if got := post(there+"/reset/new", "token", link[1], "password", "another good one"); got != "303 See Other /login?reset=1" {
		t.Fatalf("setting the password: got %s", got)
	}
	if got := post(here+"/reset/new", "token", link[1], "password", "yet another one"); !strings.HasPrefix(got, "404") {
		t.Errorf("second use of the link: got %s, want 404", got)
	}
	ada.wantLoggedOut("a session from before the reset", here, there)
	ada.want(http.StatusOK, "POST", "/api/login", `{"email":"ada.lovelace@example.com","password":"another good one"}`)
	testkit.Eventually(t, "a notice arrives", func() bool { return len(server.Mails()) == 2 })
	if notice := server.Mails()[1]; notice.To != "ada.lovelace@example.com" || !strings.Contains(notice.Text, "password of your Postcard account was changed") {
		t.Errorf("got mail %+v, want a notice of the change", notice)
	}
}
