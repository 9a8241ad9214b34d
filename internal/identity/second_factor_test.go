package identity_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/postcard-mms/postcard/internal/identity"
)

func TestRecoveryCodes(t *testing.T) {
	t.Parallel()
	seen := map[identity.RecoveryCode]bool{}
	for _, code := range identity.NewRecoveryCodes() {
		for _, typed := range []string{code.Grouped(), strings.ToUpper(code.Grouped()), string(code), " " + code.Grouped() + "\u200b\n"} {
			if got := identity.ParseRecoveryCode(typed); got != code {
				t.Errorf("ParseRecoveryCode(%q) = %q, want %q", typed, string(got), string(code))
			}
		}
		seen[code] = true
	}
	if len(seen) != identity.RecoveryCodes {
		t.Errorf("got %d different codes, want %d", len(seen), identity.RecoveryCodes)
	}
}

func TestRequirement(t *testing.T) {
	t.Parallel()
	for requirement, want := range map[identity.Requirement][2]bool{
		identity.RequireOff: {false, false}, identity.RequireAdmins: {false, true}, identity.RequireAll: {true, true}, "": {false, false},
	} {
		got := [2]bool{requirement.Of(identity.User{Role: identity.RoleUser}), requirement.Of(identity.User{Role: identity.RoleAdmin})}
		if got != want {
			t.Errorf("%q: got %v for a user and an admin, want %v", requirement, got, want)
		}
	}
}

func TestFactorsAreNotLogged(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "code", identity.RecoveryCode("hush"), "totp", identity.TOTP{Sealed: []byte("hush")},
		"passkey", identity.Passkey{Name: "hush"})
	if strings.Contains(out.String(), "hush") {
		t.Errorf("got %s, want no secret", out.String())
	}
}
