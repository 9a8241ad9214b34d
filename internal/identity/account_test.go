package identity_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/identity"
)

func TestChangeOfAProfile(t *testing.T) {
	t.Parallel()
	ada := identity.User{ID: uuid.New(), Email: "ada@example.com", Name: "Ada", TimeZone: "UTC", Role: identity.RoleUser}
	with := func(change func(*identity.User)) identity.User {
		u := ada
		change(&u)
		return u
	}
	text := func(s string) *string { return &s }
	cases := map[string]struct {
		params      identity.ProfileParams
		want        identity.User
		credentials bool
		violations  []string
	}{
		"nothing":             {identity.ProfileParams{}, ada, false, nil},
		"name":                {identity.ProfileParams{Name: text(" Ada\u200b L. ")}, with(func(u *identity.User) { u.Name = "Ada L." }), false, nil},
		"no name":             {identity.ProfileParams{Name: text("")}, with(func(u *identity.User) { u.Name = "" }), false, nil},
		"long name":           {identity.ProfileParams{Name: text(strings.Repeat("é", 101))}, ada, false, []string{"name max_length"}},
		"NUL in the name":     {identity.ProfileParams{Name: text("a\x00b")}, ada, false, []string{"name control"}},
		"zone":                {identity.ProfileParams{TimeZone: text("America/New_York")}, with(func(u *identity.User) { u.TimeZone = "America/New_York" }), false, nil},
		"no zone":             {identity.ProfileParams{TimeZone: text("")}, ada, false, []string{"timeZone required"}},
		"unknown zone":        {identity.ProfileParams{TimeZone: text("Mars/Olympus")}, ada, false, []string{"timeZone time_zone"}},
		"zone of the machine": {identity.ProfileParams{TimeZone: text("Local")}, ada, false, []string{"timeZone time_zone"}},
		"zone of a path":      {identity.ProfileParams{TimeZone: text("../../etc/passwd")}, ada, false, []string{"timeZone time_zone"}},
		"same email":          {identity.ProfileParams{Email: text(" ADA@example.com")}, ada, false, nil},
		"email":               {identity.ProfileParams{Email: text("Eve@Example.com")}, with(func(u *identity.User) { u.Email = "eve@example.com" }), true, nil},
		"no email":            {identity.ProfileParams{Email: text("")}, ada, true, []string{"email required"}},
		"password":            {identity.ProfileParams{NewPassword: text("another good one")}, ada, true, nil},
		"short password":      {identity.ProfileParams{NewPassword: text("x")}, ada, true, []string{"newPassword min_length"}},
		"everything wrong":    {identity.ProfileParams{Name: text("\x01"), Email: text("x"), TimeZone: text("x"), NewPassword: text("")}, ada, true, []string{"name control", "email email", "timeZone time_zone", "newPassword required"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, credentials, err := ada.Change(c.params)
			if c.violations != nil {
				wantViolations(t, err, c.violations)
				return
			}
			if err != nil || credentials != c.credentials {
				t.Errorf("got credentials %t, %v, want %t", credentials, err, c.credentials)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("changed user (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCommonPasswordsAreRefused(t *testing.T) {
	t.Parallel()
	for password, common := range map[string]bool{
		"1234567890":              true,
		"Password123":             true,
		"qwertyuiop":              true,
		"correct horse":           false,
		"password123 is too easy": false,
	} {
		err := identity.ValidatePassword(password)
		if common {
			wantViolations(t, err, []string{"password common"})
		} else if err != nil {
			t.Errorf("%q: got %v, want no error", password, err)
		}
	}
	if got := identity.CommonPasswords(); got < 2800 {
		t.Errorf("got %d common passwords, want the whole list", got)
	}
}

func TestResetTokens(t *testing.T) {
	t.Parallel()
	a, b := identity.NewResetToken(), identity.NewResetToken()
	if a == b || len(a) < 26 || a.Hash() == b.Hash() {
		t.Errorf("got tokens %q and %q, want two different ones of 130 bits", a, b)
	}
	if got, want := a.Link("https://example.com/postcard"), "https://example.com/postcard/reset/new?token="+string(a); got != want {
		t.Errorf("got link %q, want %q", got, want)
	}
	var logs bytes.Buffer
	slog.New(slog.NewTextHandler(&logs, nil)).Info("x", slog.Any("token", a))
	if strings.Contains(logs.String(), string(a)) {
		t.Error("the log contains the token")
	}
}
