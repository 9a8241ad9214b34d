package auth_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/alexedwards/scs/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/auth"
	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/invalid"
)

func TestLogin(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		email, password string
		want            string // email of the user who is logged in afterwards
	}{
		"correct":                {adaEmail, adaPassword, adaEmail},
		"email in upper case":    {" ADA@example.com ", adaPassword, adaEmail},
		"wrong password":         {adaEmail, "wrong horse battery", ""},
		"unknown email":          {"eve@example.com", adaPassword, ""},
		"no password":            {adaEmail, "", ""},
		"no input":               {"", "", ""},
		"NUL in email":           {"ada@example.com\x00", adaPassword, ""},
		"invalid UTF-8 in email": {"ada\xff@example.com", adaPassword, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newHarness(t, true).browser()
			err := b.login(c.email, c.password)
			if c.want == "" && !errors.Is(err, auth.ErrInvalidCredentials) || c.want != "" && err != nil {
				t.Errorf("login: got %v, want success: %t", err, c.want != "")
			}
			if got := b.loggedInAs(); got != c.want {
				t.Errorf("logged in: got %q, want %q", got, c.want)
			}
		})
	}
}

// TestUnknownEmailComparesAHash ensures that a login with an unknown email takes as
// long as with a known one. Only a comparison notices that the decoy is not a hash.
func TestUnknownEmailComparesAHash(t *testing.T) {
	t.Parallel()
	h := newHarness(t, true)
	h.service.SetDecoy("not a hash")
	err := h.browser().login("eve@example.com", adaPassword)
	if err == nil || errors.Is(err, auth.ErrInvalidCredentials) {
		t.Errorf("got %v, want the error of a comparison with an invalid decoy", err)
	}
}

func TestLoginLimits(t *testing.T) {
	t.Parallel()
	eachAccount := func(i int) string { return fmt.Sprintf("nobody%d@example.com", i) }
	sameAccount := func(int) string { return adaEmail }
	eachAddress := func(i int) string { return fmt.Sprintf("192.0.2.%d", i+1) }
	cases := map[string]struct {
		email   func(i int) string
		address func(i int) string
		allowed int // attempts before the limit
	}{
		"one account from one address":        {sameAccount, func(int) string { return "192.0.2.1" }, 10},
		"one account from many addresses":     {sameAccount, eachAddress, 100},
		"many accounts from one address":      {eachAccount, func(int) string { return "192.0.2.1" }, 60},
		"many accounts from one IPv6 network": {eachAccount, func(i int) string { return fmt.Sprintf("2001:db8:1:2::%x", i) }, 60},
		"unknown account from many addresses": {func(int) string { return "eve@example.com" }, eachAddress, 100},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t, true)
			for i := range c.allowed {
				if err := h.browser().loginFrom(c.address(i), c.email(i), "wrong password"); !errors.Is(err, auth.ErrInvalidCredentials) {
					t.Fatalf("attempt %d: got %v, want %v", i+1, err, auth.ErrInvalidCredentials)
				}
			}
			err := h.browser().loginFrom(c.address(c.allowed), c.email(c.allowed), adaPassword)
			if want := (auth.TooManyAttemptsError{RetryAfter: throttledFor}); !errors.Is(err, want) {
				t.Errorf("attempt beyond the limit: got %v, want %v even with the correct password", err, want)
			}
		})
	}
}

// guess attempts to log in to Ada's account until no other browser may.
func guess(t *testing.T, h *harness) {
	t.Helper()
	var err error
	for i := 0; err == nil || errors.Is(err, auth.ErrInvalidCredentials); i++ {
		if i > 200 {
			t.Fatal("200 guesses were allowed")
		}
		err = h.browser().loginFrom(fmt.Sprintf("192.0.2.%d", i), adaEmail, "a guess")
	}
}

func TestGuessersDoNotLockOutKnownBrowsers(t *testing.T) {
	t.Parallel()
	const guesserAddress = "192.0.2.0"
	h := newHarness(t, true)
	known := h.browser()
	if err := known.login(adaEmail, adaPassword); err != nil {
		t.Fatal(err)
	}
	if err := known.logout(); err != nil {
		t.Fatal(err)
	}
	guess(t, h)
	if err := known.loginFrom(guesserAddress, adaEmail, adaPassword); err != nil {
		t.Errorf("a browser that logged in before: got %v, want no error", err)
	}
	if err := h.browser().loginFrom("198.51.100.1", adaEmail, adaPassword); !errors.Is(err, auth.TooManyAttemptsError{RetryAfter: throttledFor}) {
		t.Errorf("a new browser: got %v, want too many attempts", err)
	}
	for range 10 {
		if err := known.login(adaEmail, "a guess"); !errors.Is(err, auth.ErrInvalidCredentials) {
			t.Fatalf("guess in a known browser: got %v, want %v", err, auth.ErrInvalidCredentials)
		}
	}
	if err := known.login(adaEmail, adaPassword); !errors.Is(err, auth.TooManyAttemptsError{RetryAfter: throttledFor}) {
		t.Errorf("after ten guesses in a known browser: got %v, want too many attempts", err)
	}
}

// TestCookiesBelongToThePath keeps cookies from other applications of the same site.
func TestCookiesBelongToThePath(t *testing.T) {
	t.Parallel()
	h := newHarness(t, true)
	sessions := scs.New()
	sessions.Store, sessions.Cookie.Path = h.store, "/postcard/"
	h.service = auth.New(h.users, h.throttle, sessions, true)
	b := h.browser()
	if err := b.login(adaEmail, adaPassword); err != nil {
		t.Fatal(err)
	}
	cookies := b.last.Result().Cookies()
	if len(cookies) != 2 {
		t.Errorf("got %d cookies, want those of the session and of the known browser", len(cookies))
	}
	for _, cookie := range cookies {
		if cookie.Path != "/postcard/" {
			t.Errorf("cookie %s: got path %q, want /postcard/", cookie.Name, cookie.Path)
		}
	}
}

func TestOnlyAnOwnCookieMakesABrowserKnown(t *testing.T) {
	t.Parallel()
	tests := map[string]func(h *harness, cookie *http.Cookie){
		"the password has changed": func(h *harness, _ *http.Cookie) {
			h.users.setHash(adaEmail, "$2a$04$QNVTgJ5Z0TsJpOgwgnTvaO3mB2bRFvYkkmxFtzWKPgZeFv0sGkUhW")
		},
		"another id":                 func(_ *harness, cookie *http.Cookie) { cookie.Value = "A" + cookie.Value },
		"no signature":               func(_ *harness, cookie *http.Cookie) { cookie.Value, _, _ = strings.Cut(cookie.Value, ".") },
		"a signature of an empty id": func(_ *harness, cookie *http.Cookie) { cookie.Value = "." + adaHash.Sign("") },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t, true)
			b := h.browser()
			if err := b.login(adaEmail, adaPassword); err != nil {
				t.Fatal(err)
			}
			if len(b.others) != 1 {
				t.Fatalf("got %d cookies beside the session's, want 1", len(b.others))
			}
			for _, cookie := range b.others {
				change(h, cookie)
			}
			guess(t, h)
			if err := b.loginFrom("198.51.100.1", adaEmail, adaPassword); !errors.Is(err, auth.TooManyAttemptsError{RetryAfter: throttledFor}) {
				t.Errorf("got %v, want too many attempts", err)
			}
		})
	}
}

func TestIPv6NetworksAreLimitedSeparately(t *testing.T) {
	t.Parallel()
	h := newHarness(t, true)
	for i := range 70 {
		address, email := fmt.Sprintf("2001:db8:1:%x::1", i), fmt.Sprintf("nobody%d@example.com", i)
		if err := h.browser().loginFrom(address, email, "x"); !errors.Is(err, auth.ErrInvalidCredentials) {
			t.Fatalf("%s: got %v, want %v", address, err, auth.ErrInvalidCredentials)
		}
	}
}

func TestSuccessfulLoginResetsTheLimit(t *testing.T) {
	t.Parallel()
	h := newHarness(t, true)
	for round := range 3 {
		for range 9 {
			if err := h.browser().login(adaEmail, "wrong"); !errors.Is(err, auth.ErrInvalidCredentials) {
				t.Fatalf("round %d, wrong password: got %v, want %v", round, err, auth.ErrInvalidCredentials)
			}
		}
		if err := h.browser().login(adaEmail, adaPassword); err != nil {
			t.Fatalf("round %d, correct password: got %v, want no error", round, err)
		}
	}
}

func TestLoginRenewsTheToken(t *testing.T) {
	t.Parallel()
	b := newHarness(t, true).browser()
	b.flash("hello") // starts a session
	cookieBefore := b.cookie
	if cookieBefore == nil {
		t.Fatal("no session before login")
	}
	if err := b.login(adaEmail, adaPassword); err != nil {
		t.Fatal(err)
	}
	if b.cookie.Value == cookieBefore.Value {
		t.Error("the session's token is unchanged after the login")
	}
	attacker := b.harness.browser()
	attacker.cookie = cookieBefore
	if got := attacker.loggedInAs(); got != "" {
		t.Errorf("token from before the login: logged in as %q, want nobody", got)
	}
}

func TestLogoutEndsTheSession(t *testing.T) {
	t.Parallel()
	b := newHarness(t, true).browser()
	if err := b.login(adaEmail, adaPassword); err != nil {
		t.Fatal(err)
	}
	cookieBefore := b.cookie
	if err := b.logout(); err != nil {
		t.Fatal(err)
	}
	if got := len(b.harness.users.loggedOut); got != 1 {
		t.Errorf("got %d logout notifications, want 1", got)
	}
	for name, cookie := range map[string]*http.Cookie{"current cookie": b.cookie, "copy from before the logout": cookieBefore} {
		other := b.harness.browser()
		other.cookie = cookie
		if got := other.loggedInAs(); got != "" {
			t.Errorf("%s: logged in as %q, want nobody", name, got)
		}
	}
}

func TestSessionEndsWithItsUserOrPassword(t *testing.T) {
	t.Parallel()
	cases := map[string]func(*fakeUsers){
		"user removed":     func(u *fakeUsers) { u.remove(adaEmail) },
		"password changed": func(u *fakeUsers) { u.setHash(adaEmail, "$2a$04$another") },
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newHarness(t, true).browser()
			if err := b.login(adaEmail, adaPassword); err != nil {
				t.Fatal(err)
			}
			change(b.harness.users)
			if got := b.loggedInAs(); got != "" {
				t.Errorf("logged in as %q, want nobody", got)
			}
		})
	}
}

func TestSignUp(t *testing.T) {
	t.Parallel()
	isTaken := func(err error) bool { return errors.Is(err, identity.ErrEmailTaken) }
	cases := map[string]struct {
		email, password string
		wantErr         func(error) bool // nil: no error
	}{
		"new email":                  {" Eve@Example.com", "a long enough password", nil},
		"taken email":                {"ADA@example.com", "a long enough password", isTaken},
		"short password":             {"eve@example.com", "short", violates("password")},
		"invalid email and password": {"eve", "", violates("email", "password")},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newHarness(t, true).browser()
			err := b.signUp(c.email, c.password)
			switch {
			case c.wantErr != nil && !c.wantErr(err):
				t.Errorf("got unexpected error %v", err)
			case c.wantErr == nil && err != nil:
				t.Error(err)
			case c.wantErr == nil && b.loggedInAs() != "eve@example.com":
				t.Errorf("logged in: got %q, want %q", b.loggedInAs(), "eve@example.com")
			}
		})
	}
}

// Somebody whose first answer was lost signs up again.
func TestSignUpAgain(t *testing.T) {
	t.Parallel()
	h := newHarness(t, true)
	if err := h.browser().signUp("eve@example.com", "a long enough password"); err != nil {
		t.Fatal(err)
	}
	b := h.browser()
	if err := b.signUp("eve@example.com", "another long password"); !errors.Is(err, identity.ErrEmailTaken) || b.loggedInAs() != "" {
		t.Errorf("another password: got %v, logged in as %q", err, b.loggedInAs())
	}
	if err := b.signUp(" EVE@example.com", "a long enough password"); err != nil || b.loggedInAs() != "eve@example.com" {
		t.Errorf("the same password: got %v, logged in as %q", err, b.loggedInAs())
	}
}

// violates returns a check for violations of exactly the given fields.
func violates(want ...string) func(error) bool {
	return func(err error) bool {
		var violations invalid.Fields
		if !errors.As(err, &violations) {
			return false
		}
		var got []string
		for _, v := range violations {
			got = append(got, v.Name)
		}
		return cmp.Equal(want, got)
	}
}

func TestSignUpClosed(t *testing.T) {
	t.Parallel()
	h := newHarness(t, false)
	if err := h.browser().signUp("eve@example.com", "a long enough password"); !errors.Is(err, auth.ErrSignupClosed) {
		t.Errorf("got %v, want %v", err, auth.ErrSignupClosed)
	}
	if h.service.SignupOpen() {
		t.Error("SignupOpen() = true, want false")
	}
}

func TestSignUpLimit(t *testing.T) {
	t.Parallel()
	b := newHarness(t, true).browser()
	for range 20 {
		if err := b.signUp("eve", ""); !violates("email", "password")(err) {
			t.Fatal(err)
		}
	}
	if err := b.signUp("eve@example.com", "a long enough password"); !errors.Is(err, auth.TooManyAttemptsError{RetryAfter: throttledFor}) {
		t.Errorf("got %v, want %v", err, auth.TooManyAttemptsError{RetryAfter: throttledFor})
	}
}

func TestFlash(t *testing.T) {
	t.Parallel()
	b := newHarness(t, true).browser()
	b.flash("Saved.")
	if first, second := b.popFlash(), b.popFlash(); first != "Saved." || second != "" {
		t.Errorf("got %q, then %q; want %q, then none", first, second, "Saved.")
	}
}

func TestStoreErrorsAreReturned(t *testing.T) {
	t.Parallel()
	storeErr := errors.New("database down")
	cases := map[string]func(*harness){
		"users":    func(h *harness) { h.users.setErr(storeErr) },
		"throttle": func(h *harness) { h.throttle.setErr(storeErr) },
	}
	for name, breakIt := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t, true)
			breakIt(h)
			if err := h.browser().login(adaEmail, adaPassword); !errors.Is(err, storeErr) {
				t.Errorf("login: got %v, want %v", err, storeErr)
			}
			if err := h.browser().signUp("eve@example.com", "a long enough password"); !errors.Is(err, storeErr) {
				t.Errorf("sign-up: got %v, want %v", err, storeErr)
			}
		})
	}
}

func TestMiddlewareCallsOnError(t *testing.T) {
	t.Parallel()
	storeErr := errors.New("database down")
	cases := map[string]func(*harness){
		"reading the session": func(h *harness) { h.store.findErr = storeErr },
		"reading the user":    func(h *harness) { h.users.setErr(storeErr) },
	}
	for name, breakIt := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newHarness(t, true).browser()
			if err := b.login(adaEmail, adaPassword); err != nil {
				t.Fatal(err)
			}
			breakIt(b.harness)
			got := b.get()
			if got.Code != http.StatusTeapot || got.Body.String() != errorBody || !errors.Is(b.harness.failure(), storeErr) {
				t.Errorf("got %d %q after error %v, want the response of onError", got.Code, got.Body, b.harness.failure())
			}
		})
	}
}

// TestNothingFollowsAFailedSave ensures that the client gets the error response
// only. The session is saved when the handler starts to write.
func TestNothingFollowsAFailedSave(t *testing.T) {
	t.Parallel()
	h := newHarness(t, true)
	h.store.commitErr = errors.New("disk full")
	b := h.browser()
	if err := b.login(adaEmail, adaPassword); err != nil {
		t.Fatal(err)
	}
	got := b.last
	if got.Code != http.StatusTeapot || got.Body.String() != errorBody {
		t.Errorf("got %d %q, want the response of onError only", got.Code, got.Body)
	}
	if b.cookie != nil {
		t.Error("got a cookie for a session that was not saved, want none")
	}
}

func TestInventedSessionToken(t *testing.T) {
	t.Parallel()
	b := newHarness(t, true).browser()
	b.cookie = &http.Cookie{Name: "session", Value: uuid.NewString()}
	if got := b.loggedInAs(); got != "" {
		t.Errorf("logged in as %q, want nobody", got)
	}
	if err := b.logout(); err != nil {
		t.Errorf("logout without a session: got %v, want no error", err)
	}
}

func TestNewHashesADecoy(t *testing.T) {
	t.Parallel()
	h := newHarness(t, true)
	service := auth.New(h.users, h.throttle, scs.New(), true)
	if _, err := service.Login(t.Context(), "192.0.2.1", "eve@example.com", ""); !errors.Is(err, auth.ErrInvalidCredentials) {
		t.Errorf("got %v, want %v", err, auth.ErrInvalidCredentials)
	}
}
