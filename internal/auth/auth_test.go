package auth_test

import (
	"errors"
	"fmt"
	"net/http"
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
		want            string // who is logged in afterwards
	}{
		"right":                     {adaEmail, adaPassword, adaEmail},
		"email in another spelling": {" ADA@example.com ", adaPassword, adaEmail},
		"wrong password":            {adaEmail, "wrong horse battery", ""},
		"unknown email":             {"eve@example.com", adaPassword, ""},
		"no password":               {adaEmail, "", ""},
		"nothing":                   {"", "", ""},
		"NUL":                       {"ada@example.com\x00", adaPassword, ""},
		"broken UTF-8":              {"ada\xff@example.com", adaPassword, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newDoor(t, true).browser()
			err := b.login(c.email, c.password)
			if c.want == "" && !errors.Is(err, auth.ErrInvalidCredentials) || c.want != "" && err != nil {
				t.Errorf("login: %v", err)
			}
			if got := b.whoAmI(); got != c.want {
				t.Errorf("%q is logged in, want %q", got, c.want)
			}
		})
	}
}

// An unknown email must cost a comparison too, or the time of the answer would
// tell which emails are known. bcrypt hides behind a function call, so the
// test looks at what only a comparison finds out: that the decoy is a hash.
func TestUnknownEmailComparesAHash(t *testing.T) {
	t.Parallel()
	d := newDoor(t, true)
	d.service.SetDecoy("no hash")
	err := d.browser().login("eve@example.com", adaPassword)
	if err == nil || errors.Is(err, auth.ErrInvalidCredentials) {
		t.Errorf("got %v, want the error of comparing with a broken decoy", err)
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
		tries   int // that are let through to the password
	}{
		"one account from many addresses":            {sameAccount, eachAddress, 10},
		"many accounts from one address":             {eachAccount, func(int) string { return "192.0.2.1" }, 60},
		"many accounts from one subscriber's IPv6":   {eachAccount, func(i int) string { return fmt.Sprintf("2001:db8:1:2::%x", i) }, 60},
		"an account that does not exist, everywhere": {func(int) string { return "eve@example.com" }, eachAddress, 10},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDoor(t, true)
			for i := range c.tries {
				if err := d.browser().loginFrom(c.address(i), c.email(i), "wrong password"); !errors.Is(err, auth.ErrInvalidCredentials) {
					t.Fatalf("try %d: %v, want %v", i+1, err, auth.ErrInvalidCredentials)
				}
			}
			err := d.browser().loginFrom(c.address(c.tries), c.email(c.tries), adaPassword)
			if want := (auth.TooManyAttemptsError{RetryAfter: aMinute}); !errors.Is(err, want) {
				t.Errorf("got %v, want %v, though the password is right", err, want)
			}
		})
	}
}

func TestIPv6NeighboursAreApart(t *testing.T) {
	t.Parallel()
	d := newDoor(t, true)
	for i := range 70 {
		address, email := fmt.Sprintf("2001:db8:1:%x::1", i), fmt.Sprintf("nobody%d@example.com", i)
		if err := d.browser().loginFrom(address, email, "x"); !errors.Is(err, auth.ErrInvalidCredentials) {
			t.Fatalf("%s: %v", address, err)
		}
	}
}

func TestRightPasswordForgetsTries(t *testing.T) {
	t.Parallel()
	d := newDoor(t, true)
	for round := range 3 {
		for range 9 {
			if err := d.browser().login(adaEmail, "wrong"); !errors.Is(err, auth.ErrInvalidCredentials) {
				t.Fatalf("round %d: %v", round, err)
			}
		}
		if err := d.browser().login(adaEmail, adaPassword); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
}

func TestLoginRenewsTheToken(t *testing.T) {
	t.Parallel()
	b := newDoor(t, true).browser()
	b.flash("hello") // opens a session
	planted := b.cookie
	if planted == nil {
		t.Fatal("no session before login")
	}
	if err := b.login(adaEmail, adaPassword); err != nil {
		t.Fatal(err)
	}
	if b.cookie.Value == planted.Value {
		t.Error("the session's token survived the login")
	}
	attacker := b.door.browser()
	attacker.cookie = planted
	if got := attacker.whoAmI(); got != "" {
		t.Errorf("the token known before the login now belongs to %q", got)
	}
}

func TestLogoutEndsTheSession(t *testing.T) {
	t.Parallel()
	b := newDoor(t, true).browser()
	if err := b.login(adaEmail, adaPassword); err != nil {
		t.Fatal(err)
	}
	kept := b.cookie
	if err := b.logout(); err != nil {
		t.Fatal(err)
	}
	for name, cookie := range map[string]*http.Cookie{"the browser's cookie": b.cookie, "a copy of the cookie": kept} {
		other := b.door.browser()
		other.cookie = cookie
		if got := other.whoAmI(); got != "" {
			t.Errorf("%s still belongs to %q", name, got)
		}
	}
}

func TestSessionsEnd(t *testing.T) {
	t.Parallel()
	cases := map[string]func(*fakeUsers){
		"user removed":     func(u *fakeUsers) { u.remove(adaEmail) },
		"password changed": func(u *fakeUsers) { u.setHash(adaEmail, "$2a$04$another") },
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newDoor(t, true).browser()
			if err := b.login(adaEmail, adaPassword); err != nil {
				t.Fatal(err)
			}
			change(b.door.users)
			if got := b.whoAmI(); got != "" {
				t.Errorf("the session still belongs to %q", got)
			}
		})
	}
}

func TestSignUp(t *testing.T) {
	t.Parallel()
	taken := func(err error) bool { return errors.Is(err, identity.ErrEmailTaken) }
	cases := map[string]struct {
		email, password string
		wrong           func(error) bool // nil: it works
	}{
		"new":            {" Eve@Example.com", "a long enough password", nil},
		"taken":          {"ADA@example.com", "a long enough password", taken},
		"short password": {"eve@example.com", "short", isFields("password")},
		"both wrong":     {"eve", "", isFields("email", "password")},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newDoor(t, true).browser()
			err := b.signUp(c.email, c.password)
			switch {
			case c.wrong != nil && !c.wrong(err):
				t.Errorf("got error %v", err)
			case c.wrong == nil && err != nil:
				t.Error(err)
			case c.wrong == nil && b.whoAmI() != "eve@example.com":
				t.Errorf("%q is logged in after signing up", b.whoAmI())
			}
		})
	}
}

func isFields(want ...string) func(error) bool {
	return func(err error) bool {
		var faults invalid.Fields
		if !errors.As(err, &faults) {
			return false
		}
		var got []string
		for _, f := range faults {
			got = append(got, f.Name)
		}
		return cmp.Equal(want, got)
	}
}

func TestSignUpClosed(t *testing.T) {
	t.Parallel()
	d := newDoor(t, false)
	if err := d.browser().signUp("eve@example.com", "a long enough password"); !errors.Is(err, auth.ErrSignupClosed) {
		t.Errorf("got %v, want %v", err, auth.ErrSignupClosed)
	}
	if d.service.SignupOpen() {
		t.Error("sign-up counts as open")
	}
}

func TestSignUpLimit(t *testing.T) {
	t.Parallel()
	b := newDoor(t, true).browser()
	for range 20 {
		if err := b.signUp("eve", ""); !isFields("email", "password")(err) {
			t.Fatal(err)
		}
	}
	if err := b.signUp("eve@example.com", "a long enough password"); !errors.Is(err, auth.TooManyAttemptsError{RetryAfter: aMinute}) {
		t.Errorf("got %v, want %v", err, auth.TooManyAttemptsError{RetryAfter: aMinute})
	}
}

func TestFlash(t *testing.T) {
	t.Parallel()
	b := newDoor(t, true).browser()
	b.flash("Saved.")
	if first, second := b.popFlash(), b.popFlash(); first != "Saved." || second != "" {
		t.Errorf("got %q, then %q; want it once", first, second)
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	broken := errors.New("the database is on fire")
	cases := map[string]func(*door){
		"users":    func(d *door) { d.users.setErr(broken) },
		"throttle": func(d *door) { d.throttle.setErr(broken) },
	}
	for name, breakIt := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDoor(t, true)
			breakIt(d)
			if err := d.browser().login(adaEmail, adaPassword); !errors.Is(err, broken) {
				t.Errorf("login: got %v, want %v", err, broken)
			}
			if err := d.browser().signUp("eve@example.com", "a long enough password"); !errors.Is(err, broken) {
				t.Errorf("sign-up: got %v, want %v", err, broken)
			}
		})
	}
}

func TestMiddlewareFailures(t *testing.T) {
	t.Parallel()
	broken := errors.New("the database is on fire")
	cases := map[string]func(*door){
		"reading the session": func(d *door) { d.store.find = broken },
		"reading the user":    func(d *door) { d.users.setErr(broken) },
	}
	for name, breakIt := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newDoor(t, true).browser()
			if err := b.login(adaEmail, adaPassword); err != nil {
				t.Fatal(err)
			}
			breakIt(b.door)
			got := b.get()
			if got.Code != http.StatusTeapot || got.Body.String() != "sorry" || !errors.Is(b.door.failure(), broken) {
				t.Errorf("got %d %q for %v, want the answer of onError", got.Code, got.Body, b.door.failure())
			}
		})
	}
}

// The session is saved when the handler begins to answer. When that fails, the
// handler's answer must not follow the error's.
func TestSessionCannotBeSaved(t *testing.T) {
	t.Parallel()
	d := newDoor(t, true)
	d.store.commit = errors.New("the disk is full")
	b := d.browser()
	if err := b.login(adaEmail, adaPassword); err != nil {
		t.Fatal(err)
	}
	got := b.last
	if got.Code != http.StatusTeapot || got.Body.String() != "sorry" {
		t.Errorf("got %d %q, want the answer of onError and nothing behind it", got.Code, got.Body)
	}
	if b.cookie != nil {
		t.Error("a cookie was set for a session that is not there")
	}
}

func TestNobody(t *testing.T) {
	t.Parallel()
	b := newDoor(t, true).browser()
	b.cookie = &http.Cookie{Name: "session", Value: uuid.NewString()}
	if got := b.whoAmI(); got != "" {
		t.Errorf("a made-up token belongs to %q", got)
	}
	if err := b.logout(); err != nil {
		t.Errorf("logging out without a session: %v", err)
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	d := newDoor(t, true)
	service, err := auth.New(d.users, d.throttle, scs.New(), true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := service.Login(t.Context(), "192.0.2.1", "eve@example.com", ""); !errors.Is(err, auth.ErrInvalidCredentials) {
		t.Errorf("got %v, want %v: the decoy must be a hash", err, auth.ErrInvalidCredentials)
	}
}
