package webui_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/auth"
	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/webui"
)

// another returns a second browser for the same pages.
func (b *browser) another() *browser { return &browser{t: b.t, pages: b.pages, handler: b.handler} }

func TestProfilePage(t *testing.T) {
	t.Parallel()
	f, b := newBackend(t, false)
	b.login(userEmail)
	other := b.another().login(userEmail)
	b.want("page", b.get("/account"), http.StatusOK, `value="ada@example.com"`, `value="UTC"`, `href="/account/sessions"`)

	form := func(pairs ...string) url.Values {
		v := url.Values{"name": {"Ada <3"}, "email": {userEmail}, "timeZone": {"Europe/Berlin"}, "newPassword": {""}, "currentPassword": {""}}
		for i := 0; i < len(pairs); i += 2 {
			v.Set(pairs[i], pairs[i+1])
		}
		return v
	}
	refused := map[string]struct {
		form url.Values
		want []string
	}{
		"zone":              {form("timeZone", "Mars"), []string{"Time zone must be a time zone", `value="Mars"`, "Ada &lt;3"}},
		"no password":       {form("email", "eve@example.com", "name", "\x01"), []string{"Current password is missing", "Name must be", `value="eve@example.com"`}},
		"wrong password":    {form("email", "eve@example.com", "currentPassword", "a guess at it"), []string{"Current password is wrong"}},
		"common password":   {form("newPassword", "password123", "currentPassword", password), []string{"New password is one of the most common"}},
		"email of an admin": {form("email", adminEmail, "currentPassword", password), []string{"Email is already in use"}},
	}
	before := f.users[0]
	for name, c := range refused {
		got := b.do("POST", "/account", c.form)
		b.want(name, got, http.StatusUnprocessableEntity, c.want...)
		if strings.Contains(got.body, "a guess at it") || strings.Contains(got.body, "password123") {
			t.Errorf("%s: the page contains a password", name)
		}
		if !cmp.Equal(f.users[0], before) {
			t.Fatalf("%s: the user was changed", name)
		}
	}

	if got := b.do("POST", "/account", form()); got.location != "/account" {
		t.Fatalf("got %d to %q, want /account", got.status, got.location)
	}
	b.want("changed profile", b.get("/account"), http.StatusOK, "Your account is saved", "Ada &lt;3", `value="Europe/Berlin"`, `data-zone="Europe/Berlin"`)
	other.want("other session", other.get("/account"), http.StatusOK)

	copied := b.another()
	copied.cookie = b.cookie
	b.do("POST", "/account", form("email", "Countess@example.com", "newPassword", "another good one", "currentPassword", password))
	b.want("changed credentials", b.get("/account"), http.StatusOK, `value="countess@example.com"`)
	for name, ended := range map[string]*browser{"other session": other, "copied cookie": copied} {
		if got := ended.get("/account"); got.status != http.StatusSeeOther {
			t.Errorf("%s after a change of credentials: got %d, want the login page", name, got.status)
		}
	}
	if got := other.post("/login", "email", "countess@example.com", "password", "another good one"); got.location != "/messages" {
		t.Errorf("login with the new credentials: got %d to %q", got.status, got.location)
	}
}

func TestProfileLimit(t *testing.T) {
	t.Parallel()
	f, b := newBackend(t, false)
	b.login(userEmail)
	f.throttle = 90 * time.Second
	got := b.post("/account", "name", "", "email", "eve@example.com", "timeZone", "UTC", "currentPassword", password)
	b.want("too many guesses", got, http.StatusTooManyRequests, "Try again in 2 minutes")
	if got.header.Get("Retry-After") != "90" {
		t.Errorf("got Retry-After %q, want 90", got.header.Get("Retry-After"))
	}
}

func TestSessionsPage(t *testing.T) {
	t.Parallel()
	_, b := newBackend(t, false)
	b.login(userEmail)
	second, third := b.another().login(userEmail), b.another().login(userEmail)
	admin := b.another().login(adminEmail)
	page := b.get("/account/sessions")
	b.want("page", page, http.StatusOK, "this session", "Unknown browser", "192.0.2.1", "End all others")
	ends := regexp.MustCompile(`/account/sessions/[0-9a-f-]{36}/end`).FindAllString(page.body, -1)
	if len(ends) != 2 {
		t.Fatalf("got %d sessions that can be ended, want 2", len(ends))
	}
	admin.want("another user's session", admin.post(ends[0]), http.StatusNotFound)
	if got := b.post(ends[0]); got.location != "/account/sessions" {
		t.Errorf("ending a session: got %d to %q", got.status, got.location)
	}
	b.want("again", b.post(ends[0]), http.StatusNotFound)
	b.want("unknown session", b.post("/account/sessions/"+uuid.NewString()+"/end"), http.StatusNotFound)
	b.want("no id", b.post("/account/sessions/x/end"), http.StatusNotFound)
	open := 0
	for _, other := range []*browser{second, third} {
		if other.get("/account").status == http.StatusOK {
			open++
		}
	}
	if open != 1 {
		t.Errorf("got %d other sessions, want 1 after one of two was ended", open)
	}
	b.post("/account/sessions/end-others")
	b.want("only session", b.get("/account/sessions"), http.StatusOK, "All other sessions have ended")
	for _, other := range []*browser{second, third} {
		if got := other.get("/account"); got.status != http.StatusSeeOther {
			t.Errorf("other session: got %d, want the login page", got.status)
		}
	}
	admin.want("another user", admin.get("/account"), http.StatusOK)
}

func TestDisabledUser(t *testing.T) {
	t.Parallel()
	f, b := newBackend(t, false)
	b.login(userEmail)
	user := f.users[0]
	user.Disabled = true
	f.replaceUser(user)
	if got := b.get("/account"); got.status != http.StatusSeeOther {
		t.Errorf("session: got %d, want the login page", got.status)
	}
	b.want("login", b.post("/login", "email", userEmail, "password", password), http.StatusForbidden, "disabled")
	b.want("wrong password", b.post("/login", "email", userEmail, "password", "nonsense"), http.StatusUnprocessableEntity, "email or the password is wrong")
}

// mailbox is a mailer that hands over mails.
type mailbox chan [3]string

func (m mailbox) SendMail(_ context.Context, to, subject, text string) error {
	m <- [3]string{to, subject, text}
	return nil
}

func TestResetWithoutMail(t *testing.T) {
	t.Parallel()
	_, b := newBackend(t, false)
	b.want("login", b.get("/login"), http.StatusOK, `href="/reset"`)
	b.want("page", b.get("/reset"), http.StatusOK, "Ask an admin")
	b.want("form", b.post("/reset", "email", userEmail), http.StatusUnprocessableEntity, "Ask an admin")
}

func TestResetPages(t *testing.T) {
	t.Parallel()
	mails := make(mailbox, 10)
	f, b := newBackend(t, false, func(o *webui.Options) {
		o.Auth.UseMailer(mails, "https://example.com/postcard", slog.New(slog.DiscardHandler))
		go o.Auth.RunMail(t.Context())
	})
	stolen := b.another().login(userEmail)
	b.want("page", b.get("/reset"), http.StatusOK, "Send link")
	b.want("no email", b.post("/reset", "email", " "), http.StatusUnprocessableEntity, "Email is missing")
	unknown, known := b.post("/reset", "email", "nobody@example.com"), b.post("/reset", "email", " ADA@example.com")
	if unknown.status != known.status || unknown.location != known.location || unknown.body != known.body {
		t.Errorf("got %+v for an unknown and %+v for a known email, want the same", unknown, known)
	}
	b.want("sent", b.get(known.location), http.StatusOK, "If an account has this email")
	mail := <-mails
	link := regexp.MustCompile(`https://example\.com/postcard(/reset/new\?token=[A-Z2-7]{26})\s`).FindStringSubmatch(mail[2])
	if mail[0] != userEmail || link == nil {
		t.Fatalf("got mail %v, want a link for %s", mail, userEmail)
	}
	b.want("wrong token", b.get("/reset/new?token=x"), http.StatusNotFound, "This link does not work")
	b.want("link", b.get(link[1]), http.StatusOK, "Set password")
	token := strings.TrimPrefix(link[1], "/reset/new?token=")
	b.want("short password", b.post("/reset/new", "token", token, "password", "short"), http.StatusUnprocessableEntity, "Password must be at least 10", token)
	if got := b.post("/reset/new", "token", token, "password", "another good one"); got.location != "/login?reset=1" {
		t.Fatalf("got %d to %q, want the login page", got.status, got.location)
	}
	b.want("login page", b.get("/login?reset=1"), http.StatusOK, "new password is set")
	b.want("second use", b.post("/reset/new", "token", token, "password", "yet another one"), http.StatusNotFound, "This link does not work")
	if got := stolen.get("/account"); got.status != http.StatusSeeOther {
		t.Errorf("session before the reset: got %d, want the login page", got.status)
	}
	if notice := <-mails; notice[0] != userEmail || !strings.Contains(notice[2], "password of your Postcard account was changed") {
		t.Errorf("got mail %v, want a notice of the change", notice)
	}
	if got := b.post("/login", "email", userEmail, "password", "another good one"); got.location != "/messages" {
		t.Errorf("login with the new password: got %d to %q", got.status, got.location)
	}
	f.throttle = time.Minute
	visitor := b.another()
	visitor.want("too many requests", visitor.post("/reset", "email", userEmail), http.StatusTooManyRequests, "Try again in 1 minute")
	visitor.want("too many uses", visitor.post("/reset/new", "token", token, "password", "x"), http.StatusTooManyRequests, "Try again in 1 minute")
}

func TestAccountFailures(t *testing.T) {
	t.Parallel()
	f, b := newBackend(t, false)
	b.login(userEmail)
	f.Find = func(func(identity.User) bool) (identity.User, error) { return identity.User{}, auth.ErrNoMail }
	got := b.post("/account", "name", "x", "email", userEmail, "timeZone", "UTC")
	b.want("failing store", got, http.StatusInternalServerError, "internal error")
}
