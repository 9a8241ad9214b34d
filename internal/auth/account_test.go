package auth_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/auth"
	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/invalid"
)

// ada returns Ada as she is stored now.
func (h *harness) ada() identity.User {
	h.t.Helper()
	user, err := h.users.UserByEmail(h.t.Context(), adaEmail)
	if err != nil {
		h.t.Fatal(err)
	}
	return user
}

// loggedIn returns a new browser in which Ada is logged in.
func (h *harness) loggedIn() *browser {
	h.t.Helper()
	b := h.browser()
	if err := b.login(adaEmail, adaPassword); err != nil {
		h.t.Fatal(err)
	}
	return b
}

// copied returns a browser with a copy of this one's session cookie.
func (b *browser) copied() *browser {
	c := b.harness.browser()
	cookie := *b.cookie
	c.cookie = &cookie
	return c
}

func (b *browser) change(user uuid.UUID, p identity.ProfileParams) (err error) {
	b.request(func(ctx context.Context) { err = b.harness.service.ChangeProfile(ctx, user, p) })
	return err
}

func text(s string) *string { return &s }

func TestChangedCredentialsEndOtherSessions(t *testing.T) {
	t.Parallel()
	changes := map[string]identity.ProfileParams{
		"email":    {Email: text("countess@example.com"), CurrentPassword: adaPassword},
		"password": {NewPassword: text("another good one"), CurrentPassword: adaPassword},
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t, true)
			b, other := h.loggedIn(), h.loggedIn()
			copied := b.copied()
			if got := copied.loggedInAs(); got != adaEmail {
				t.Fatalf("copied cookie: got %q, want Ada", got)
			}
			if err := b.change(h.ada().ID, change); err != nil {
				t.Fatal(err)
			}
			if got := b.loggedInAs(); got == "" {
				t.Error("the browser that made the change is logged out")
			}
			for name, ended := range map[string]*browser{"another browser": other, "a copied cookie": copied} {
				if got := ended.loggedInAs(); got != "" {
					t.Errorf("%s: still logged in as %q", name, got)
				}
			}
		})
	}
}

// TestCopiedCookieDoesNotComeBack lets a request with a copied cookie end, and store its
// session again, after the password was changed.
func TestCopiedCookieDoesNotComeBack(t *testing.T) {
	t.Parallel()
	h := newHarness(t, true)
	b := h.loggedIn()
	copied := b.copied()
	copied.request(func(ctx context.Context) {
		h.service.Flash(ctx, "changes the session, so that it is stored")
		if err := b.change(h.ada().ID, identity.ProfileParams{Email: text("countess@example.com"), CurrentPassword: adaPassword}); err != nil {
			t.Error(err)
		}
	})
	if got := copied.loggedInAs(); got != "" {
		t.Errorf("copied cookie: still logged in as %q", got)
	}
}

func TestChangeOfANameEndsNothing(t *testing.T) {
	t.Parallel()
	h := newHarness(t, true)
	b, other := h.loggedIn(), h.loggedIn()
	cookie := b.cookie.Value
	if err := b.change(h.ada().ID, identity.ProfileParams{Name: text("Ada"), TimeZone: text("Asia/Tokyo")}); err != nil {
		t.Fatal(err)
	}
	if got := h.ada(); got.Name != "Ada" || got.TimeZone != "Asia/Tokyo" {
		t.Errorf("got %+v, want the new name and zone", got)
	}
	if b.loggedInAs() == "" || other.loggedInAs() == "" || b.cookie.Value != cookie {
		t.Error("a session has ended, or its cookie has changed")
	}
}

func TestConfirmPassword(t *testing.T) {
	t.Parallel()
	h := newHarness(t, true)
	thief, owner := h.loggedIn(), h.loggedIn()
	confirm := func(b *browser, password string) (err error) {
		b.request(func(ctx context.Context) { err = h.service.ConfirmPassword(ctx, h.ada().ID, password) })
		return err
	}
	wantRule := func(err error, rule string) {
		t.Helper()
		var violations invalid.Fields
		if !errors.As(err, &violations) || len(violations) != 1 || violations[0].Name != "currentPassword" || violations[0].Rule != rule {
			t.Errorf("got %v, want the violation %s of currentPassword", err, rule)
		}
	}
	wantRule(confirm(thief, ""), "required")
	for range 10 {
		wantRule(confirm(thief, "a guess at it"), "wrong_password")
	}
	if err := confirm(thief, adaPassword); !errors.Is(err, auth.TooManyAttemptsError{RetryAfter: throttledFor}) {
		t.Errorf("after ten guesses: got %v, want too many attempts", err)
	}
	if err := confirm(owner, adaPassword); err != nil {
		t.Errorf("in another session: got %v, want no error", err)
	}
}

func TestSessions(t *testing.T) {
	t.Parallel()
	h := newHarness(t, true)
	first, second := h.loggedIn(), h.loggedIn()
	list := func(b *browser) (sessions []identity.Session, current uuid.UUID) {
		t.Helper()
		b.request(func(ctx context.Context) {
			var err error
			if sessions, current, err = h.service.Sessions(ctx, h.ada().ID); err != nil {
				t.Error(err)
			}
		})
		return sessions, current
	}
	sessions, current := list(second)
	if len(sessions) != 2 || sessions[1].ID != current || sessions[0].Address != "192.0.2.1" {
		t.Fatalf("got %+v, current %s, want two sessions, the second one current", sessions, current)
	}
	if err := second.login(adaEmail, adaPassword); err != nil { // again, in the same browser
		t.Fatal(err)
	}
	if again, now := list(second); len(again) != 2 || now == current {
		t.Errorf("after another log-in: got %+v, want one new session in place of the old one", again)
	}
	second.request(func(ctx context.Context) {
		if err := h.service.EndOtherSessions(ctx, h.ada().ID); err != nil {
			t.Error(err)
		}
	})
	if first.loggedInAs() != "" || second.loggedInAs() != adaEmail {
		t.Error("want that only the other session has ended")
	}
	if err := second.logout(); err != nil {
		t.Fatal(err)
	}
	if left, _ := list(first); len(left) != 0 {
		t.Errorf("after the log-out: got %+v, want no session", left)
	}
}

// TestSessionsOfAnEarlierVersion expects that a session without an id, which could not be
// ended, does not count.
func TestSessionsOfAnEarlierVersion(t *testing.T) {
	t.Parallel()
	h := newHarness(t, true)
	b := h.loggedIn()
	b.request(func(ctx context.Context) { h.service.ForgetSessionID(ctx) })
	if got := b.loggedInAs(); got != "" {
		t.Errorf("got %q, want nobody logged in", got)
	}
}

// TestFailureDoesNotLogOut expects an error, not the page of a visitor, if it is unknown
// whether the session has ended.
func TestFailureDoesNotLogOut(t *testing.T) {
	t.Parallel()
	h := newHarness(t, true)
	b := h.loggedIn()
	h.users.useErr = errors.New("the database is read-only")
	if got := b.get(); got.Code != http.StatusTeapot || got.Body.String() != errorBody || !errors.Is(h.failure(), h.users.useErr) {
		t.Errorf("got %d %s after %v, want the response of onError", got.Code, got.Body, h.failure())
	}
	h.users.useErr = nil
	if got := b.loggedInAs(); got != adaEmail {
		t.Errorf("afterwards: got %q, want Ada", got)
	}
}

func TestDisabledUser(t *testing.T) {
	t.Parallel()
	h := newHarness(t, true)
	b := h.loggedIn()
	user := h.ada()
	user.Disabled = true
	h.users.replace(user)
	if got := b.loggedInAs(); got != "" {
		t.Errorf("session: still logged in as %q", got)
	}
	if err := h.browser().login(adaEmail, adaPassword); !errors.Is(err, identity.ErrDisabled) {
		t.Errorf("login: got %v, want ErrDisabled", err)
	}
	if err := h.browser().login(adaEmail, "a guess at it"); !errors.Is(err, auth.ErrInvalidCredentials) {
		t.Errorf("login with a wrong password: got %v, want ErrInvalidCredentials", err)
	}
}

func TestBrowserNames(t *testing.T) {
	t.Parallel()
	for userAgent, want := range map[string]string{
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0":                                                       "Firefox on Windows",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0":          "Edge on Windows",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Safari/605.1.15":                  "Safari on macOS",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/140.0.0 Mobile/15E148 Safari/604": "Chrome on iPhone",
		"Mozilla/5.0 (Linux; Android 15; SM-S931B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/28.0 Chrome/130.0 Mobile Safari/537":    "Samsung Internet on Android",
		"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36":                         "Chrome on ChromeOS",
		"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 OPR/120.0":                        "Opera on Linux",
		"Mozilla/5.0 (compatible; something)": "Unknown browser",
		"curl/8.10.1":                         "curl",
		"Go-http-client/1.1":                  "Go-http-client",
		"<script>alert(1)</script>":           "Unknown browser",
		"":                                    "Unknown browser",
		strings.Repeat("a", 1000):             strings.Repeat("a", 40),
	} {
		if got := auth.BrowserName(userAgent); got != want {
			t.Errorf("%s: got %q, want %q", userAgent, got, want)
		}
	}
}

// mailbox is a mailer that hands over mails.
type mailbox struct {
	mails chan [2]string // address and text
	err   error
}

func (m *mailbox) SendMail(_ context.Context, to, _, text string) error {
	m.mails <- [2]string{to, text}
	return m.err
}

// withMail makes the service send mails to a mailbox, and returns its log.
func (h *harness) withMail(err error) (*mailbox, *bytes.Buffer) {
	m, logs := &mailbox{mails: make(chan [2]string, 10), err: err}, &bytes.Buffer{}
	h.service.UseMailer(m, "https://example.com", slog.New(slog.NewTextHandler(logs, nil)))
	return m, logs
}

// sendMails sends what waits to be sent.
func (h *harness) sendMails() { h.service.SendWaiting(h.t.Context()) }

func TestRequestReset(t *testing.T) {
	t.Parallel()
	h := newHarness(t, true)
	if err := h.service.RequestReset(t.Context(), "192.0.2.1", adaEmail); !errors.Is(err, auth.ErrNoMail) {
		t.Errorf("without a mail server: got %v, want ErrNoMail", err)
	}
	m, _ := h.withMail(nil)
	for _, email := range []string{"nobody@example.com", " ADA@example.com", "x"} {
		if err := h.service.RequestReset(t.Context(), "192.0.2.1", email); err != nil {
			t.Errorf("%q: got %v, want no error", email, err)
		}
	}
	for _, email := range []string{"", " ", "a\x00@example.com"} {
		if violations := (invalid.Fields{}); !errors.As(h.service.RequestReset(t.Context(), "192.0.2.1", email), &violations) {
			t.Errorf("%q: got no violation", email)
		}
	}
	h.sendMails()
	if len(m.mails) != 1 {
		t.Fatalf("got %d mails, want one to Ada", len(m.mails))
	}
	if mail := <-m.mails; mail[0] != adaEmail || !strings.Contains(mail[1], "https://example.com/reset/new?token=") {
		t.Errorf("got mail %v, want a link for Ada", mail)
	}
}

func TestResetLimits(t *testing.T) {
	t.Parallel()
	tooMany := auth.TooManyAttemptsError{RetryAfter: throttledFor}
	h := newHarness(t, true)
	h.withMail(nil)
	for i := range 6 {
		err := h.service.RequestReset(t.Context(), "192.0.2."+string(rune('1'+i)), "nobody@example.com")
		if want := i == 5; errors.Is(err, tooMany) != want {
			t.Errorf("request %d for an unknown email: got %v, want too many: %t", i+1, err, want)
		}
	}
	for i := range 21 {
		err := h.service.RequestReset(t.Context(), "198.51.100.1", string(rune('a'+i))+"@example.com")
		if want := i == 20; errors.Is(err, tooMany) != want {
			t.Errorf("request %d from an address: got %v, want too many: %t", i+1, err, want)
		}
	}
}

// TestWaitingMailsAreBounded asks for more mails than may wait, and sends none.
func TestWaitingMailsAreBounded(t *testing.T) {
	t.Parallel()
	h := newHarness(t, true)
	h.withMail(nil)
	var err error
	for i := range 101 {
		h.throttle.reset()
		if err = h.service.RequestReset(t.Context(), "192.0.2.1", adaEmail); i < 100 && err != nil {
			t.Fatalf("request %d: %v", i+1, err)
		}
	}
	if tooMany := (auth.TooManyAttemptsError{}); !errors.As(err, &tooMany) {
		t.Errorf("got %v, want too many attempts", err)
	}
}

func TestResetPassword(t *testing.T) {
	t.Parallel()
	h := newHarness(t, true)
	m, _ := h.withMail(nil)
	b := h.loggedIn()
	token := identity.NewResetToken()
	if err := h.users.CreateReset(t.Context(), adaEmail, token.Hash()); err != nil {
		t.Fatal(err)
	}
	reset := func(token identity.ResetToken, password string) error {
		return h.service.ResetPassword(t.Context(), "192.0.2.1", token, password)
	}
	if err := reset("made up", "short"); !errors.Is(err, identity.ErrNoReset) {
		t.Errorf("unknown token: got %v, want ErrNoReset", err)
	}
	var violations invalid.Fields
	if err := reset(token, "password123"); !errors.As(err, &violations) || violations[0].Rule != "common" {
		t.Errorf("common password: got %v, want a violation", err)
	}
	if err := reset(token, "another good one"); err != nil {
		t.Fatal(err)
	}
	if err := reset(token, "yet another one"); !errors.Is(err, identity.ErrNoReset) {
		t.Errorf("second use: got %v, want ErrNoReset", err)
	}
	if got := b.loggedInAs(); got != "" {
		t.Errorf("session before the reset: still logged in as %q", got)
	}
	if err := h.browser().login(adaEmail, "another good one"); err != nil {
		t.Errorf("login with the new password: %v", err)
	}
	h.sendMails()
	if diff := cmp.Diff(1, len(m.mails)); diff != "" {
		t.Errorf("notices: %s", diff)
	}
}

func TestNoticesGoToTheOldMailbox(t *testing.T) {
	t.Parallel()
	h := newHarness(t, true)
	m, logs := h.withMail(errors.New("the mailbox is full"))
	params := identity.ProfileParams{Email: text("countess@example.com"), NewPassword: text("another good one"), CurrentPassword: adaPassword}
	if err := h.loggedIn().change(h.ada().ID, params); err != nil {
		t.Fatal(err)
	}
	h.sendMails()
	if len(m.mails) != 2 {
		t.Fatalf("got %d mails, want one about the email and one about the password", len(m.mails))
	}
	for range 2 {
		if mail := <-m.mails; mail[0] != adaEmail || strings.Contains(mail[1], "countess") {
			t.Errorf("got mail %v, want one to the old mailbox without the new address", mail)
		}
	}
	if log := logs.String(); strings.Count(log, "the mailbox is full") != 2 || strings.Contains(log, "ada@") {
		t.Errorf("got log %s, want two errors without the address", log)
	}
}
