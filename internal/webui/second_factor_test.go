package webui_test

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"
	"github.com/pquerna/otp/totp"

	"github.com/postcard-mms/postcard/internal/auth"
	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/secret"
	"github.com/postcard-mms/postcard/internal/webui"
)

// fakeFactors keeps the second factors of the backend's user in memory.
type fakeFactors struct {
	backend *fakeBackend
	now     time.Time
	totp    *identity.TOTP
	codes   [][32]byte
	err     error
}

func (f *fakeFactors) SecondFactors(context.Context, uuid.UUID) (identity.SecondFactors, error) {
	return identity.SecondFactors{TOTP: f.totp, RecoveryCodes: len(f.codes), Now: f.now}, f.err
}

func (f *fakeFactors) StartTOTP(_ context.Context, _ uuid.UUID, sealed []byte) error {
	if f.totp != nil && f.totp.ConfirmedAt != nil {
		return identity.ErrFactorExists
	}
	f.totp = &identity.TOTP{Sealed: sealed}
	return f.err
}

func (f *fakeFactors) ConfirmTOTP(_ context.Context, _ uuid.UUID, _ []byte, step int64, codes [][32]byte) error {
	f.totp.ConfirmedAt, f.totp.LastStep, f.codes = &f.now, step, codes
	f.change(true)
	return f.err
}

// change ends the sessions, as the store does.
func (f *fakeFactors) change(has bool) {
	for i := range f.backend.users {
		_ = f.backend.EndOtherSessions(context.Background(), f.backend.users[i].ID, uuid.Nil) // never fails
		f.backend.users[i].SecondFactor = has
	}
}

func (f *fakeFactors) UseTOTP(_ context.Context, _ uuid.UUID, step int64, _ []byte) (bool, error) {
	f.totp.LastStep = step
	return true, f.err
}

func (f *fakeFactors) RemoveTOTP(context.Context, uuid.UUID) error {
	f.totp, f.codes = nil, nil
	f.change(false)
	return f.err
}

func (f *fakeFactors) UseRecoveryCode(_ context.Context, _ uuid.UUID, hashes [][32]byte) (bool, error) {
	before := len(f.codes)
	f.codes = slices.DeleteFunc(f.codes, func(hash [32]byte) bool { return slices.Contains(hashes, hash) })
	return len(f.codes) < before, f.err
}

func (f *fakeFactors) ReplaceRecoveryCodes(_ context.Context, _ uuid.UUID, hashes [][32]byte) error {
	f.codes = hashes
	return f.err
}

// newFactorBackend returns a backend with second factors.
func newFactorBackend(t *testing.T, required identity.Requirement, options ...func(*webui.Options)) (*fakeFactors, *fakeBackend, *browser) {
	t.Helper()
	ring, err := secret.NewKeyring(secret.NewKey(), nil)
	if err != nil {
		t.Fatal(err)
	}
	factors := &fakeFactors{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	f, b := newBackend(t, true, append(options, func(o *webui.Options) {
		o.Auth.UseSecondFactors(auth.SecondFactorOptions{Store: factors, Keys: ring, Required: required})
		if on, err := o.Auth.UsePasskeys(nil, "https://postcard.example.com"); !on || err != nil {
			t.Errorf("passkeys: got on %t, %v, want them on", on, err)
		}
	})...)
	factors.backend = f
	return factors, f, b
}

var (
	shownSecret = regexp.MustCompile(`id="totp-secret">([A-Z2-7 ]+)<`)
	shownCode   = regexp.MustCompile(`<li><code class="secret">([a-z2-7]{5}-[a-z2-7]{5})<`)
)

// setUp sets up an authenticator app and returns its secret and the recovery codes.
func setUp(t *testing.T, f *fakeFactors, b *browser) (appSecret string, codes []string) {
	t.Helper()
	started := b.post("/account/second-factor/totp", "password", password)
	b.want("setting up", started, http.StatusOK, "data:image/png;base64,", "Enter the 6 digits")
	found := shownSecret.FindStringSubmatch(started.body)
	if found == nil {
		t.Fatal("the page shows no secret")
	}
	appSecret = strings.ReplaceAll(found[1], " ", "")
	again := b.post("/account/second-factor/totp/confirm", "code", "12345")
	b.want("a wrong code", again, http.StatusUnprocessableEntity, "The code is wrong", found[1])
	confirmed := b.post("/account/second-factor/totp/confirm", "code", f.code(t, appSecret))
	b.want("a right code", confirmed, http.StatusOK, "Your recovery codes")
	for _, match := range shownCode.FindAllStringSubmatch(confirmed.body, -1) {
		codes = append(codes, match[1])
	}
	if len(codes) != identity.RecoveryCodes {
		t.Fatalf("got %d recovery codes, want %d", len(codes), identity.RecoveryCodes)
	}
	return appSecret, codes
}

func (f *fakeFactors) code(t *testing.T, appSecret string) string {
	t.Helper()
	code, err := totp.GenerateCode(appSecret, f.now)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

func TestSecondFactorPages(t *testing.T) {
	t.Parallel()
	f, _, b := newFactorBackend(t, identity.RequireOff)
	b.login(userEmail)
	b.want("before", b.get("/account/second-factor"), http.StatusOK, "Set up an authenticator app")
	b.want("a wrong password", b.post("/account/second-factor/totp", "password", "wrong"), http.StatusUnprocessableEntity, "The password is wrong")
	b.want("confirming nothing", b.post("/account/second-factor/totp/confirm", "code", "123456"), http.StatusConflict, "changed in the meantime")
	appSecret, codes := setUp(t, f, b)
	page := b.get("/account/second-factor")
	b.want("afterwards", page, http.StatusOK, "10 of your recovery codes are unused")
	if strings.Contains(page.body, codes[0]) || shownSecret.MatchString(page.body) {
		t.Error("the page shows a secret or a recovery code again")
	}
	b.want("a second app", b.post("/account/second-factor/totp", "password", password), http.StatusConflict, "have set up this second factor already")
	b.want("new codes, wrong password", b.post("/account/second-factor/recovery-codes", "password", "wrong"), http.StatusUnprocessableEntity, "The password is wrong")
	fresh := b.post("/account/second-factor/recovery-codes", "password", password)
	b.want("new codes", fresh, http.StatusOK, "Your recovery codes")
	if strings.Contains(fresh.body, codes[0]) {
		t.Error("the new codes contain an old one")
	}
	f.now = f.now.Add(time.Minute)
	b.want("removing with a wrong code", b.post("/account/second-factor/totp/remove", "password", password, "code", "x"), http.StatusUnprocessableEntity, "The code is wrong")
	if got := b.post("/account/second-factor/totp/remove", "password", password, "code", f.code(t, appSecret)); got.location != "/account/second-factor" {
		t.Errorf("removing: got %d to %q, want a redirect to the page", got.status, got.location)
	}
	b.want("removed", b.get("/account/second-factor"), http.StatusOK, "The authenticator app is removed", "Set up an authenticator app")
	f.err = errors.New("no database")
	b.want("broken", b.get("/account/second-factor"), http.StatusInternalServerError)
	b.want("setting up, broken", b.post("/account/second-factor/totp", "password", password), http.StatusInternalServerError)
}

func TestLoginFactorPage(t *testing.T) {
	t.Parallel()
	f, backend, b := newFactorBackend(t, identity.RequireOff)
	if got := b.get("/login/factor?next=/batches"); got.location != "/login?next=%2Fbatches" {
		t.Errorf("without a password: got redirect to %q, want the login page", got.location)
	}
	if got := b.post("/login/factor", "code", "123456", "next", "/batches"); got.location != "/login?next=%2Fbatches" {
		t.Errorf("a code without a password: got redirect to %q, want the login page", got.location)
	}
	appSecret, codes := setUp(t, f, b.login(userEmail))
	for _, path := range []string{"/login", "/signup"} {
		got := b.post(path, "email", userEmail, "password", password, "next", "/batches?x=1")
		if got.location != "/login/factor?next=%2Fbatches%3Fx%3D1" {
			t.Fatalf("%s: got %d to %q, want the page for the code", path, got.status, got.location)
		}
	}
	b.want("form", b.get("/login/factor?next=/batches"), http.StatusOK, `value="/batches"`, "Log out")
	if got := b.get("/messages"); got.status != http.StatusSeeOther || !strings.HasPrefix(got.location, "/login?") {
		t.Errorf("half session: got %d to %q, want a redirect to the login page", got.status, got.location)
	}
	b.want("a wrong code", b.post("/login/factor", "code", "nonsense", "next", "/batches"), http.StatusUnprocessableEntity, "The code is wrong", `value="/batches"`)
	f.now = f.now.Add(time.Minute)
	if got := b.post("/login/factor", "code", f.code(t, appSecret), "next", "/batches"); got.location != "/batches" {
		t.Errorf("a right code: got %d to %q, want /batches", got.status, got.location)
	}
	b.want("logged in", b.get("/batches"), http.StatusOK, userEmail)
	b.post("/login", "email", userEmail, "password", password)
	if got := b.post("/login/factor", "code", codes[0], "next", "//evil.example"); got.location != "/messages" {
		t.Errorf("a recovery code: got %d to %q, want /messages", got.status, got.location)
	}
	b.post("/login", "email", userEmail, "password", password)
	backend.throttle = 90 * time.Second
	b.want("too many", b.post("/login/factor", "code", codes[1]), http.StatusTooManyRequests, "in 2 minutes")
	backend.throttle, f.err = 0, errors.New("no database")
	b.want("broken", b.post("/login/factor", "code", codes[1]), http.StatusInternalServerError)
}

func TestWithoutSecretKey(t *testing.T) {
	t.Parallel()
	backend, b := newBackend(t, false)
	b.login(userEmail)
	b.want("page", b.get("/account/second-factor"), http.StatusOK, "has not set <code>SECRET_KEY</code>")
	b.want("setting up", b.post("/account/second-factor/totp", "password", password), http.StatusForbidden, "has no SECRET_KEY")
	backend.users[0].SecondFactor = true // from before the key was taken away
	b.post("/login", "email", userEmail, "password", password)
	b.want("login", b.post("/login/factor", "code", "123456"), http.StatusForbidden, "has no SECRET_KEY")
}

// TestRequiredSecondFactor opens every page before and after setting it up.
func TestRequiredSecondFactor(t *testing.T) {
	t.Parallel()
	f, _, b := newFactorBackend(t, identity.RequireAll)
	b.login(userEmail)
	const own = "/account/second-factor"
	public := regexp.MustCompile(`^(/|/static/\*|/favicon.ico|/login/(factor|passkey|passkey/options)|/login/sso(/callback)?|/account/sso(/link|/unlink)?|/logout|/signup|/reset(/new)?|/invitations/{token}|/settings)$`) // single sign-on is off
	pages, err := webui.New(webui.Options{})
	if err != nil {
		t.Fatal(err)
	}
	called := 0
	err = chi.Walk(pages.Routes(), func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		if public.MatchString(route) || method != http.MethodGet && method != http.MethodPost || route == "/login" && method == http.MethodPost {
			return nil
		}
		called++
		target := pathOf(route)
		got := b.do(method, target, nil)
		isOwn := target == own || strings.HasPrefix(target, own+"/") && !strings.HasSuffix(target, "/remove") && !strings.HasSuffix(target, "/recovery-codes")
		switch {
		case isOwn && got.status == http.StatusSeeOther:
			t.Errorf("%s %s: got a redirect to %q, want the page", method, route, got.location)
		case method == http.MethodPost && route == "/messages/new":
			b.want("a message", got, http.StatusForbidden, "session")
		case !isOwn && (got.status != http.StatusSeeOther || got.location != own):
			t.Errorf("%s %s: got %d to %q, want a redirect to %s", method, route, got.status, got.location, own)
		}
		return nil
	})
	if err != nil || called < 25 {
		t.Errorf("called %d routes (error %v), want all", called, err)
	}
	b.want("the page", b.get(own), http.StatusOK, "requires a second factor", "Log out")
	setUp(t, f, b)
	b.want("afterwards", b.get("/messages"), http.StatusOK, "No messages yet")
}
