package auth_test

import (
	"bytes"
	"context"
	"errors"
	"image/png"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/pquerna/otp/totp"

	"github.com/postcard-mms/postcard/internal/auth"
	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/secret"
)

// fakeFactors keeps the second factors of fakeUsers in memory.
type fakeFactors struct {
	users   *fakeUsers
	mu      sync.Mutex
	now     time.Time
	factors map[uuid.UUID]*identity.TOTP
	codes   map[uuid.UUID][][32]byte
	err     error
}

func (f *fakeFactors) SecondFactors(_ context.Context, user uuid.UUID) (identity.SecondFactors, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	factors := identity.SecondFactors{RecoveryCodes: len(f.codes[user]), Now: f.now}
	if t := f.factors[user]; t != nil {
		factors.TOTP = new(*t)
	}
	return factors, f.err
}

func (f *fakeFactors) StartTOTP(_ context.Context, user uuid.UUID, sealed []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if t := f.factors[user]; t != nil && t.ConfirmedAt != nil {
		return identity.ErrFactorExists
	}
	f.factors[user] = &identity.TOTP{Sealed: sealed}
	return f.err
}

func (f *fakeFactors) ConfirmTOTP(_ context.Context, user uuid.UUID, _ []byte, step int64, codes [][32]byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.factors[user].ConfirmedAt, f.factors[user].LastStep, f.codes[user] = &f.now, step, codes
	f.users.changeFactors(user, true)
	return f.err
}

func (f *fakeFactors) UseTOTP(_ context.Context, user uuid.UUID, step int64, sealed []byte) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if step <= f.factors[user].LastStep {
		return false, f.err
	}
	f.factors[user].LastStep, f.factors[user].Sealed = step, sealed
	return true, f.err
}

func (f *fakeFactors) RemoveTOTP(_ context.Context, user uuid.UUID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.factors, user)
	delete(f.codes, user)
	f.users.changeFactors(user, false)
	return f.err
}

func (f *fakeFactors) UseRecoveryCode(_ context.Context, user uuid.UUID, hashes [][32]byte) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := len(f.codes[user])
	f.codes[user] = slices.DeleteFunc(f.codes[user], func(hash [32]byte) bool { return slices.Contains(hashes, hash) })
	return len(f.codes[user]) < before, f.err
}

func (f *fakeFactors) ReplaceRecoveryCodes(_ context.Context, user uuid.UUID, hashes [][32]byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.codes[user] = hashes
	return f.err
}

// isWrongPassword reports whether the error says that the current password is wrong.
func isWrongPassword(err error) bool {
	var violations invalid.Fields
	return errors.As(err, &violations) && len(violations) == 1 && violations[0].Name == "currentPassword" && violations[0].Rule == "wrong_password"
}

// changeFactors ends the user's sessions, as the store does.
func (f *fakeUsers) changeFactors(user uuid.UUID, has bool) {
	_ = f.EndOtherSessions(context.Background(), user, uuid.Nil) // never fails
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.users {
		if f.users[i].ID == user {
			f.users[i].SecondFactor = has
		}
	}
}

// factorHarness is a harness with second factors, and a clock that only tests move.
type factorHarness struct {
	*harness
	store *fakeFactors
	key   secret.Key
}

func newFactorHarness(t *testing.T, required identity.Requirement) *factorHarness {
	t.Helper()
	return withFactors(newHarness(t, true), required)
}

// withFactors turns second factors on.
func withFactors(inner *harness, required identity.Requirement) *factorHarness {
	inner.t.Helper()
	h := &factorHarness{harness: inner, key: secret.NewKey()}
	h.store = &fakeFactors{
		users: h.users, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
		factors: map[uuid.UUID]*identity.TOTP{}, codes: map[uuid.UUID][][32]byte{},
	}
	h.service.SetNow(h.store.clock)
	h.useKeys(required, h.key, nil)
	return h
}

func (f *fakeFactors) clock() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

func (f *fakeFactors) advance(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(d)
}

func (h *factorHarness) useKeys(required identity.Requirement, current secret.Key, previous *secret.Key) {
	h.t.Helper()
	ring, err := secret.NewKeyring(current, previous)
	if err != nil {
		h.t.Fatal(err)
	}
	h.service.UseSecondFactors(auth.SecondFactorOptions{Store: h.store, Keys: ring, Required: required})
}

// app is an authenticator app with its recovery codes.
type app struct {
	h      *factorHarness
	secret string
	codes  []identity.RecoveryCode
}

func (a app) code() string {
	a.h.t.Helper()
	code, err := totp.GenerateCode(a.secret, a.h.store.clock())
	if err != nil {
		a.h.t.Fatal(err)
	}
	return code
}

// principal is Ada's.
func (h *factorHarness) principal() identity.Principal { return h.ada().Principal(uuid.Nil) }

// setUp sets up Ada's authenticator app in the browser's session. Its code is then used.
func (h *factorHarness) setUp(b *browser) app {
	h.t.Helper()
	return h.setUpFor(b, h.principal(), adaPassword)
}

func (h *factorHarness) setUpFor(b *browser, principal identity.Principal, password string) app {
	h.t.Helper()
	a := app{h: h}
	b.request(func(ctx context.Context) {
		setup, err := h.service.StartTOTP(ctx, principal, password)
		if err != nil {
			h.t.Fatal(err)
		}
		a.secret = strings.ReplaceAll(setup.Secret, " ", "")
		if image, err := png.Decode(bytes.NewReader(setup.QR)); err != nil || image.Bounds().Dx() < 100 {
			h.t.Errorf("got no QR code: %v", err)
		}
		if a.codes, _, err = h.service.ConfirmTOTP(ctx, principal, a.code()); err != nil {
			h.t.Fatal(err)
		}
	})
	return a
}

func (b *browser) loginWithCode(code string) (err error) {
	b.request(func(ctx context.Context) { _, err = b.harness.service.LoginWithCode(ctx, code) })
	return err
}

// mustSetUp returns the email of the user who can only set up a second factor.
func (b *browser) mustSetUp() (email string) {
	b.request(func(ctx context.Context) {
		if principal, ok := auth.MustSetUpFactor(ctx); ok {
			email = principal.Email
		}
	})
	return email
}

func TestSettingUpAnAppEndsOtherSessions(t *testing.T) {
	t.Parallel()
	h := newFactorHarness(t, identity.RequireOff)
	mine, other := h.browser(), h.browser()
	for _, b := range []*browser{mine, other} {
		if err := b.login(adaEmail, adaPassword); err != nil {
			t.Fatal(err)
		}
	}
	token := mine.cookie.Value
	a := h.setUp(mine)
	if len(a.codes) != identity.RecoveryCodes {
		t.Errorf("got %d recovery codes, want %d", len(a.codes), identity.RecoveryCodes)
	}
	if mine.loggedInAs() != adaEmail || mine.cookie.Value == token {
		t.Error("the session that set up the app has ended, or kept its token")
	}
	if got := other.loggedInAs(); got != "" {
		t.Errorf("another session is still logged in as %q", got)
	}
}

func TestLoginNeedsTheCode(t *testing.T) {
	t.Parallel()
	h := newFactorHarness(t, identity.RequireOff)
	b := h.browser()
	if err := b.login(adaEmail, adaPassword); err != nil {
		t.Fatal(err)
	}
	a := h.setUp(b)
	if err := b.loginWithCode(a.code()); !errors.Is(err, auth.ErrNoHalfSession) {
		t.Errorf("a code without a password: got %v, want ErrNoHalfSession", err)
	}
	if err := b.login(adaEmail, adaPassword); !errors.Is(err, auth.ErrSecondFactorRequired) {
		t.Fatalf("login: got %v, want ErrSecondFactorRequired", err)
	}
	half := b.cookie.Value
	if got := b.loggedInAs(); got != "" {
		t.Errorf("half session: logged in as %q, want nobody, not even in the previous session", got)
	}
	if err := b.loginWithCode("123"); !errors.Is(err, auth.ErrInvalidCode) {
		t.Errorf("wrong code: got %v, want ErrInvalidCode", err)
	}
	if err := b.loginWithCode(a.code()); !errors.Is(err, auth.ErrInvalidCode) {
		t.Errorf("the code that was used to set up: got %v, want ErrInvalidCode", err)
	}
	h.store.advance(time.Minute)
	code := a.code()
	if err := b.loginWithCode(code[:3] + " " + code[3:]); err != nil {
		t.Errorf("right code: got %v", err)
	}
	if b.loggedInAs() != adaEmail || b.cookie.Value == half {
		t.Error("not logged in with a new token after the right code")
	}
	if err := b.loginWithCode(code); !errors.Is(err, auth.ErrNoHalfSession) {
		t.Errorf("after the log-in: got %v, want ErrNoHalfSession", err)
	}
	other := h.browser()
	if err := other.login(adaEmail, adaPassword); !errors.Is(err, auth.ErrSecondFactorRequired) {
		t.Fatal(err)
	}
	if err := other.loginWithCode(code); !errors.Is(err, auth.ErrInvalidCode) {
		t.Errorf("replayed code: got %v, want ErrInvalidCode", err)
	}
	if err := other.signUp(adaEmail, adaPassword); !errors.Is(err, auth.ErrSecondFactorRequired) {
		t.Errorf("signing up again: got %v, want ErrSecondFactorRequired", err)
	}
}

func TestClocksMayDifferByAStep(t *testing.T) {
	t.Parallel()
	for offset, want := range map[time.Duration]error{-60 * time.Second: auth.ErrInvalidCode, -30 * time.Second: nil, 30 * time.Second: nil, 60 * time.Second: auth.ErrInvalidCode} {
		h := newFactorHarness(t, identity.RequireOff)
		b := h.browser()
		if err := b.login(adaEmail, adaPassword); err != nil {
			t.Fatal(err)
		}
		a := h.setUp(b)
		h.store.advance(time.Hour)
		code, err := totp.GenerateCode(a.secret, h.store.clock().Add(offset))
		if err != nil {
			t.Fatal(err)
		}
		if err := b.login(adaEmail, adaPassword); !errors.Is(err, auth.ErrSecondFactorRequired) {
			t.Fatal(err)
		}
		if err := b.loginWithCode(code); !errors.Is(err, want) {
			t.Errorf("a clock off by %v: got %v, want %v", offset, err, want)
		}
	}
}

func TestHalfSessionsEnd(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*factorHarness, *browser){
		"after ten minutes":       func(h *factorHarness, _ *browser) { h.store.advance(10 * time.Minute) },
		"with the password":       func(h *factorHarness, _ *browser) { h.users.setHash(adaEmail, adaHash+"x") },
		"with the second factors": func(h *factorHarness, _ *browser) { h.users.changeFactors(h.principal().UserID, false) },
		"with the user":           func(h *factorHarness, _ *browser) { h.users.remove(adaEmail) },
		"by logging out":          func(_ *factorHarness, b *browser) { _ = b.logout() },
	} {
		h := newFactorHarness(t, identity.RequireOff)
		b := h.browser()
		if err := b.login(adaEmail, adaPassword); err != nil {
			t.Fatal(err)
		}
		a := h.setUp(b)
		if err := b.login(adaEmail, adaPassword); !errors.Is(err, auth.ErrSecondFactorRequired) {
			t.Fatal(err)
		}
		b.request(func(ctx context.Context) {
			if factors, err := h.service.HalfSessionFactors(ctx); !factors.HasTOTP() || err != nil {
				t.Errorf("%s: got %+v, %v before, want a half session", name, factors, err)
			}
		})
		code := string(a.codes[0])
		end(h, b)
		b.request(func(ctx context.Context) {
			if _, err := h.service.HalfSessionFactors(ctx); !errors.Is(err, auth.ErrNoHalfSession) {
				t.Errorf("%s: got %v, want ErrNoHalfSession", name, err)
			}
		})
		if err := b.loginWithCode(code); !errors.Is(err, auth.ErrNoHalfSession) {
			t.Errorf("%s: got %v, want ErrNoHalfSession", name, err)
		}
	}
}

func TestRecoveryCodes(t *testing.T) {
	t.Parallel()
	h := newFactorHarness(t, identity.RequireOff)
	b := h.browser()
	if err := b.login(adaEmail, adaPassword); err != nil {
		t.Fatal(err)
	}
	a := h.setUp(b)
	use := func(code string) error {
		if err := b.login(adaEmail, adaPassword); !errors.Is(err, auth.ErrSecondFactorRequired) {
			t.Fatal(err)
		}
		return b.loginWithCode(code)
	}
	if err := use(strings.ToUpper(a.codes[0].Grouped())); err != nil {
		t.Errorf("a code: got %v", err)
	}
	if err := use(a.codes[0].Grouped()); !errors.Is(err, auth.ErrInvalidCode) {
		t.Errorf("a used code: got %v, want ErrInvalidCode", err)
	}
	var fresh []identity.RecoveryCode
	b.request(func(ctx context.Context) {
		if _, err := h.service.NewRecoveryCodes(ctx, h.principal(), "wrong"); !isWrongPassword(err) {
			t.Errorf("new codes with a wrong password: got %v, want a violation", err)
		}
		var err error
		if fresh, err = h.service.NewRecoveryCodes(ctx, h.principal(), adaPassword); err != nil {
			t.Error(err)
		}
	})
	if err := use(a.codes[1].Grouped()); !errors.Is(err, auth.ErrInvalidCode) {
		t.Errorf("a replaced code: got %v, want ErrInvalidCode", err)
	}
	if err := use(fresh[0].Grouped()); err != nil {
		t.Errorf("a new code: got %v", err)
	}
}

func TestRemovingTheApp(t *testing.T) {
	t.Parallel()
	h := newFactorHarness(t, identity.RequireOff)
	b := h.browser()
	if err := b.login(adaEmail, adaPassword); err != nil {
		t.Fatal(err)
	}
	a := h.setUp(b)
	b.request(func(ctx context.Context) {
		if err := h.service.RemoveTOTP(ctx, h.principal(), "wrong", string(a.codes[0])); !isWrongPassword(err) {
			t.Errorf("wrong password: got %v, want a violation", err)
		}
		for _, tt := range []struct {
			code string
			want error
		}{{"wrong", auth.ErrInvalidCode}, {string(a.codes[0]), nil}, {"123456", auth.ErrInvalidCode}} {
			if err := h.service.RemoveTOTP(ctx, h.principal(), adaPassword, tt.code); !errors.Is(err, tt.want) {
				t.Errorf("code %q: got %v, want %v", tt.code, err, tt.want)
			}
		}
		if _, err := h.service.NewRecoveryCodes(ctx, h.principal(), adaPassword); !errors.Is(err, identity.ErrNoFactor) {
			t.Errorf("recovery codes without a factor: got %v, want ErrNoFactor", err)
		}
		if _, _, err := h.service.ConfirmTOTP(ctx, h.principal(), "123456"); !errors.Is(err, identity.ErrNoFactor) {
			t.Errorf("confirming nothing: got %v, want ErrNoFactor", err)
		}
	})
	if got := b.loggedInAs(); got != adaEmail {
		t.Errorf("after the removal: logged in as %q, want %q", got, adaEmail)
	}
	if err := h.browser().login(adaEmail, adaPassword); err != nil {
		t.Errorf("login without a second factor: %v", err)
	}
}

func TestGuessesOfCodesAreLimited(t *testing.T) {
	t.Parallel()
	h := newFactorHarness(t, identity.RequireOff)
	b := h.browser()
	if err := b.login(adaEmail, adaPassword); err != nil {
		t.Fatal(err)
	}
	a := h.setUp(b)
	for i := range 10 {
		guesser := h.browser()
		if err := guesser.loginFrom("192.0.2."+string(rune('0'+i)), adaEmail, adaPassword); !errors.Is(err, auth.ErrSecondFactorRequired) {
			t.Fatal(err)
		}
		if err := guesser.loginWithCode("wrong"); !errors.Is(err, auth.ErrInvalidCode) {
			t.Errorf("guess %d: got %v, want ErrInvalidCode", i, err)
		}
	}
	if err := b.login(adaEmail, adaPassword); !errors.Is(err, auth.ErrSecondFactorRequired) {
		t.Fatal(err)
	}
	if err := b.loginWithCode(string(a.codes[0])); !errors.As(err, &auth.TooManyAttemptsError{}) {
		t.Errorf("after ten guesses: got %v, want TooManyAttemptsError", err)
	}
	clear(h.throttle.attempts)
	if err := b.loginWithCode(string(a.codes[0])); err != nil {
		t.Errorf("after the window: got %v", err)
	}
	if n := len(h.throttle.attempts); n != 0 {
		t.Errorf("%d counts are left after a right code, want 0", n)
	}
	b.request(func(ctx context.Context) {
		for range 10 {
			if err := h.service.RemoveTOTP(ctx, h.principal(), "wrong", "x"); !isWrongPassword(err) {
				t.Errorf("wrong password: got %v, want a violation", err)
			}
		}
		if _, err := h.service.StartTOTP(ctx, h.principal(), adaPassword); !errors.As(err, &auth.TooManyAttemptsError{}) {
			t.Errorf("after ten wrong passwords: got %v, want TooManyAttemptsError", err)
		}
	})
}

// TestKeyRotation logs in with the previous key, which encrypts the secret anew, and then
// without it.
func TestKeyRotation(t *testing.T) {
	t.Parallel()
	h := newFactorHarness(t, identity.RequireOff)
	b := h.browser()
	if err := b.login(adaEmail, adaPassword); err != nil {
		t.Fatal(err)
	}
	a := h.setUp(b)
	next := secret.NewKey()
	for i, step := range []struct {
		previous *secret.Key
		code     func() string
		want     error
	}{
		{&h.key, func() string { return string(a.codes[0]) }, nil},
		{&h.key, a.code, nil},
		{nil, a.code, nil},
		{nil, func() string { return string(a.codes[1]) }, auth.ErrInvalidCode},
	} {
		h.store.advance(time.Minute)
		h.useKeys(identity.RequireOff, next, step.previous)
		if err := b.login(adaEmail, adaPassword); !errors.Is(err, auth.ErrSecondFactorRequired) {
			t.Fatal(err)
		}
		if err := b.loginWithCode(step.code()); !errors.Is(err, step.want) {
			t.Errorf("step %d: got %v, want %v", i, err, step.want)
		}
	}
}

// TestWithoutKeysNobodyGetsPastASecondFactor takes SECRET_KEY away.
func TestWithoutKeysNobodyGetsPastASecondFactor(t *testing.T) {
	t.Parallel()
	h := newFactorHarness(t, identity.RequireOff)
	b := h.browser()
	if err := b.login(adaEmail, adaPassword); err != nil {
		t.Fatal(err)
	}
	a := h.setUp(b)
	h.service.UseSecondFactors(auth.SecondFactorOptions{Store: h.store})
	b.request(func(ctx context.Context) {
		if _, err := h.service.StartTOTP(ctx, h.principal(), adaPassword); !errors.Is(err, auth.ErrFactorsOff) {
			t.Errorf("setting up: got %v, want ErrFactorsOff", err)
		}
	})
	if err := b.login(adaEmail, adaPassword); !errors.Is(err, auth.ErrSecondFactorRequired) {
		t.Errorf("login: got %v, want ErrSecondFactorRequired", err)
	}
	if err := b.loginWithCode(string(a.codes[0])); !errors.Is(err, auth.ErrFactorsOff) {
		t.Errorf("code: got %v, want ErrFactorsOff", err)
	}
}

func TestRequirementMatrix(t *testing.T) {
	t.Parallel()
	type access struct{ LoggedIn, MustSetUp bool }
	for _, tt := range []struct {
		required identity.Requirement
		role     identity.Role
		has      bool
		want     access
	}{
		{identity.RequireOff, identity.RoleUser, false, access{LoggedIn: true}},
		{identity.RequireOff, identity.RoleAdmin, false, access{LoggedIn: true}},
		{identity.RequireAdmins, identity.RoleUser, false, access{LoggedIn: true}},
		{identity.RequireAdmins, identity.RoleAdmin, false, access{MustSetUp: true}},
		{identity.RequireAdmins, identity.RoleAdmin, true, access{LoggedIn: true}},
		{identity.RequireAll, identity.RoleUser, false, access{MustSetUp: true}},
		{identity.RequireAll, identity.RoleUser, true, access{LoggedIn: true}},
		{identity.RequireAll, identity.RoleAdmin, false, access{MustSetUp: true}},
	} {
		h := newFactorHarness(t, tt.required)
		h.users.users[0].Role = tt.role
		b := h.browser()
		if err := b.login(adaEmail, adaPassword); err != nil {
			t.Fatal(err)
		}
		if tt.has {
			h.setUp(b)
		}
		got := access{b.loggedInAs() == adaEmail, b.mustSetUp() == adaEmail}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s, %s, second factor %t: %s", tt.required, tt.role, tt.has, diff)
		}
	}
}

// TestAPIKeysNeedNoSecondFactor sends a key of a user who must set one up.
func TestAPIKeysNeedNoSecondFactor(t *testing.T) {
	t.Parallel()
	h := newFactorHarness(t, identity.RequireAll)
	keys := keyOf{h.principal()}
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	r.Header.Set("Authorization", "Bearer pc_1")
	var got string
	h.service.MiddlewareWithKeys(keys, func(http.ResponseWriter, *http.Request, error) {})(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		principal, _ := identity.PrincipalFrom(r.Context())
		got = principal.Email
	})).ServeHTTP(nil, r)
	if got != adaEmail {
		t.Errorf("got a request of %q, want %q", got, adaEmail)
	}
}

// keyOf finds its principal by every key.
type keyOf struct{ principal identity.Principal }

func (k keyOf) PrincipalByKey(context.Context, [32]byte) (identity.Principal, error) {
	return k.principal, nil
}

// TestStoreErrorsOfSecondFactors expects that no error lets anybody in.
func TestStoreErrorsOfSecondFactors(t *testing.T) {
	t.Parallel()
	h := newFactorHarness(t, identity.RequireOff)
	b := h.browser()
	if err := b.login(adaEmail, adaPassword); err != nil {
		t.Fatal(err)
	}
	a := h.setUp(b)
	if err := b.login(adaEmail, adaPassword); !errors.Is(err, auth.ErrSecondFactorRequired) {
		t.Fatal(err)
	}
	h.store.advance(time.Minute)
	h.store.err = errors.New("no database")
	for _, code := range []string{a.code(), string(a.codes[0])} {
		if err := b.loginWithCode(code); !errors.Is(err, h.store.err) {
			t.Errorf("got %v, want the error of the store", err)
		}
	}
	h.store.err = nil
	h.users.setErr(errors.New("no users"))
	b.request(func(ctx context.Context) {
		if _, err := h.service.HalfSessionFactors(ctx); !errors.Is(err, h.users.err) {
			t.Errorf("got %v, want the error of the store", err)
		}
	})
	h.users.setErr(nil)
	if got := b.loggedInAs(); got != "" {
		t.Errorf("logged in as %q after errors", got)
	}
}
