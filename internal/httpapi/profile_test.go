package httpapi_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/httpapi"
	"github.com/postcard-mms/postcard/internal/mms"
)

func TestChangeAccount(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	c, other := s.ada(), s.ada()
	refused := map[string]struct {
		body   string
		status int
		want   []httpapi.FieldError
	}{
		"no zone":         {`{"timeZone":"Mars"}`, 400, violations("timeZone", "time_zone", "must be a time zone like America/New_York or UTC")},
		"no password":     {`{"email":"x@example.com","name":"\u0001"}`, 400, violations("name", "control", "must be valid UTF-8 without control characters", "currentPassword", "required", "is missing")},
		"wrong password":  {`{"email":"x@example.com","currentPassword":"a guess"}`, 400, violations("currentPassword", "wrong_password", "is wrong")},
		"common password": {`{"newPassword":"Password123","currentPassword":"x"}`, 400, violations("newPassword", "common", "is one of the most common passwords, which are guessed first: choose another one")},
		"taken email":     {`{"email":"bob@example.com","currentPassword":"` + password + `"}`, 409, violations("email", "taken", "is already in use by another user")},
		"wrong type":      {`{"name":1}`, 400, violations("name", "type", "must be a string, not a number")},
		"unknown field":   {`{"role":"admin"}`, 400, violations("role", "unknown", "is not a known field; the known fields are name, email, timeZone, newPassword, currentPassword")},
	}
	for name, r := range refused {
		got := c.do("PATCH", "/api/account", r.body)
		if diff := cmp.Diff(r.want, decode[httpapi.Problem](t, got).Errors); got.status != r.status || diff != "" {
			t.Errorf("%s: got %d, want %d (-want +got):\n%s", name, got.status, r.status, diff)
		}
	}
	before := decode[httpapi.Account](t, c.do("GET", "/api/account", ""))
	want := before
	want.Name, want.TimeZone = "Ada L.", "Asia/Tokyo"
	got := c.do("PATCH", "/api/account", `{"name":" Ada L.","timeZone":"Asia/Tokyo","email":null}`)
	if diff := cmp.Diff(want, decode[httpapi.Account](t, got)); got.status != 200 || diff != "" || before.Email != adaEmail {
		t.Errorf("profile: got %d (-want +got):\n%s", got.status, diff)
	}
	if got := other.do("GET", "/api/account", ""); got.status != 200 {
		t.Errorf("another session after a change of the profile: got %d, want 200", got.status)
	}

	copied := &client{system: s, cookie: c.cookie}
	want.Email = "countess@example.com"
	got = c.do("PATCH", "/api/account", `{"email":"Countess@example.com","newPassword":"another good one","currentPassword":"`+password+`"}`)
	if diff := cmp.Diff(want, decode[httpapi.Account](t, got)); got.status != 200 || diff != "" {
		t.Errorf("credentials: got %d (-want +got):\n%s", got.status, diff)
	}
	if got := c.do("GET", "/api/account", ""); got.status != 200 {
		t.Errorf("this session after a change of credentials: got %d, want 200", got.status)
	}
	for name, ended := range map[string]*client{"another session": other, "a copied cookie": copied} {
		if got := ended.do("GET", "/api/account", ""); got.status != 401 {
			t.Errorf("%s after a change of credentials: got %d, want 401", name, got.status)
		}
	}
}

func TestChangesNeedFewGuesses(t *testing.T) {
	t.Parallel()
	c := newSystem(t).ada()
	for range 10 {
		if got := c.do("PATCH", "/api/account", `{"newPassword":"another good one","currentPassword":"a guess"}`); got.status != 400 {
			t.Fatalf("got %d, want 400", got.status)
		}
	}
	got := c.do("PATCH", "/api/account", `{"newPassword":"another good one","currentPassword":"`+password+`"}`)
	if got.status != http.StatusTooManyRequests || got.header.Get("Retry-After") != "91" {
		t.Errorf("got %d with Retry-After %q, want 429 even with the right password", got.status, got.header.Get("Retry-After"))
	}
}

func TestAccountSessions(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	c, second, third, bob := s.ada(), s.ada(), s.ada(), s.login(bobEmail)
	list := func() []httpapi.AccountSession {
		t.Helper()
		got := c.do("GET", "/api/account/sessions", "")
		if got.status != 200 {
			t.Fatalf("got %d %s", got.status, got.body)
		}
		return decode[httpapi.AccountSessions](t, got).Sessions
	}
	sessions := list()
	if len(sessions) != 3 || !sessions[0].Current || sessions[1].Current || sessions[2].Current {
		t.Fatalf("got %+v, want three, the first one current", sessions)
	}
	end := func(by *client, id any, status int) {
		t.Helper()
		if got := by.do("DELETE", fmt.Sprintf("/api/account/sessions/%v", id), ""); got.status != status {
			t.Errorf("ending %v: got %d, want %d", id, got.status, status)
		}
	}
	end(bob, sessions[1].ID, 404)
	end(c, uuid.New(), 404)
	end(c, "x", 404)
	end(c, sessions[1].ID, 204)
	end(c, sessions[1].ID, 404)
	if a, b := second.do("GET", "/api/me", "").status, third.do("GET", "/api/me", "").status; a != 401 || b != 200 {
		t.Errorf("got %d and %d, want that only the second session has ended", a, b)
	}
	if got := c.do("DELETE", "/api/account/sessions", ""); got.status != 204 {
		t.Errorf("ending all others: got %d, want 204", got.status)
	}
	if left := list(); len(left) != 1 || !left[0].Current {
		t.Errorf("got %+v, want the current session alone", left)
	}
	if a, b := third.do("GET", "/api/me", "").status, bob.do("GET", "/api/me", "").status; a != 401 || b != 200 {
		t.Errorf("got %d and %d, want that Bob's session alone goes on", a, b)
	}
}

func TestProfileFailures(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	for _, r := range [][3]string{
		{"GET", "/api/account", ""}, {"PATCH", "/api/account", `{"name":"x"}`},
		{"GET", "/api/account/sessions", ""}, {"DELETE", "/api/account/sessions", ""}, {"DELETE", "/api/account/sessions/" + uuid.NewString(), ""},
	} {
		c := s.ada()
		s.breakAll(mms.ErrUnavailable)
		checkOpaqueError(t, s, c.do(r[0], r[1], r[2]), 503)
		s.breakAll(nil)
	}
}
