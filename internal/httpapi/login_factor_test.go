package httpapi_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/auth"
	"github.com/postcard-mms/postcard/internal/httpapi"
	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/secret"
)

// fakeFactors accepts every recovery code while valid is set.
type fakeFactors struct {
	auth.SecondFactorStore
	valid bool
}

func (f *fakeFactors) UseRecoveryCode(context.Context, uuid.UUID, [][32]byte) (bool, error) {
	return f.valid, nil
}

// newFactorSystem is a system whose users have a second factor, except Bob.
func newFactorSystem(t *testing.T, required identity.Requirement) (*system, *fakeFactors) {
	t.Helper()
	factors := &fakeFactors{valid: true}
	ring, err := secret.NewKeyring(secret.NewKey(), nil)
	if err != nil {
		t.Fatal(err)
	}
	s := newSystem(t, func(o *httpapi.Options) {
		o.Auth.UseSecondFactors(auth.SecondFactorOptions{Store: factors, Keys: ring, Required: required})
	})
	s.users.users[0].SecondFactor = true
	return s, factors
}

const credentials = `{"email":"` + adaEmail + `","password":"` + password + `"}`

func TestLoginWithASecondFactor(t *testing.T) {
	t.Parallel()
	s, factors := newFactorSystem(t, identity.RequireOff)
	c := s.anonymous()
	if got := c.do("POST", "/api/login/factor", `{"code":"abcde-fghij"}`); got.status != http.StatusUnauthorized {
		t.Errorf("a code without a log-in: got %d %s, want 401", got.status, got.body)
	}
	for _, path := range []string{"/api/login", "/api/signup"} {
		got := c.do("POST", path, credentials)
		if p := decode[httpapi.Problem](t, got); got.status != http.StatusUnauthorized || p.Code != "second_factor_required" || c.cookie == nil {
			t.Errorf("%s: got %d %s, want 401 with a code and a cookie", path, got.status, got.body)
		}
	}
	factors.valid = false
	if got := c.do("POST", "/api/login/factor", `{"code":"abcde-fghij"}`); got.status != http.StatusUnauthorized || !strings.Contains(got.body, "code is incorrect") {
		t.Errorf("a wrong code: got %d %s, want 401", got.status, got.body)
	}
	for body, want := range map[string]string{`{}`: "required", `{"totp":"1"}`: "unknown"} {
		if got := c.do("POST", "/api/login/factor", body); got.status != http.StatusBadRequest || !strings.Contains(got.body, want) {
			t.Errorf("%s: got %d %s, want 400 with the rule %s", body, got.status, got.body, want)
		}
	}
	factors.valid = true
	got := c.do("POST", "/api/login/factor", `{"code":"abcde-fghij"}`)
	if diff := cmp.Diff(session(s.users.users[0].ID.String(), adaEmail), decode[map[string]any](t, got)); got.status != http.StatusOK || diff != "" {
		t.Errorf("a right code: got %d %s", got.status, diff)
	}
	if got := c.do("GET", "/api/me", ""); got.status != http.StatusOK {
		t.Errorf("me: got %d, want 200", got.status)
	}
}

// TestUnfinishedLogInsReachNothing calls every route with a half session and with the
// session of a user who must set up a second factor.
func TestUnfinishedLogInsReachNothing(t *testing.T) {
	t.Parallel()
	s, _ := newFactorSystem(t, identity.RequireAll)
	half := s.anonymous()
	if got := half.do("POST", "/api/login", credentials); got.status != http.StatusUnauthorized {
		t.Fatalf("login: got %d %s, want 401", got.status, got.body)
	}
	withoutFactor := s.login(bobEmail)
	routes, ok := httpapi.New(httpapi.Options{}).(chi.Routes)
	if !ok {
		t.Fatal("the handler is not a chi router")
	}
	public := map[string]bool{"/openapi.json": true, "/api/login": true, "/api/login/factor": true, "/api/logout": true, "/api/signup": true}
	called := 0
	err := chi.Walk(routes, func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		if public[route] {
			return nil
		}
		called++
		path := strings.NewReplacer("{id}", uuid.NewString(), "{event}", uuid.NewString()).Replace(route)
		if got := half.do(method, path, ""); got.status != http.StatusUnauthorized {
			t.Errorf("%s %s with a half session: got %d %s, want 401", method, route, got.status, got.body)
		}
		got := withoutFactor.do(method, path, "")
		if p := decode[httpapi.Problem](t, got); got.status != http.StatusForbidden || p.Code != "second_factor_setup_required" {
			t.Errorf("%s %s without a second factor: got %d %s, want 403 with a code", method, route, got.status, got.body)
		}
		return nil
	})
	if err != nil || called < 20 {
		t.Errorf("called %d routes (error %v), want all", called, err)
	}
}

func TestLoginFactorWithoutSecretKey(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.users.users[0].SecondFactor = true
	c := s.anonymous()
	c.do("POST", "/api/login", credentials)
	if got := c.do("POST", "/api/login/factor", `{"code":"abcde-fghij"}`); got.status != http.StatusForbidden || !strings.Contains(got.body, "SECRET_KEY") {
		t.Errorf("got %d %s, want 403 that names SECRET_KEY", got.status, got.body)
	}
}
