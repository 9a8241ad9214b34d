package identity_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/invalid"
)

const goodPassword = "correct horse battery"

func TestEmails(t *testing.T) {
	t.Parallel()
	longLocal := strings.Repeat("a", 64)
	cases := map[string]struct {
		typed string
		want  string // the email kept; empty: refused
		rule  string
	}{
		"plain":             {"ada@example.com", "ada@example.com", ""},
		"upper case, space": {"  Ada@Example.COM\n", "ada@example.com", ""},
		"plus":              {"ada+test@example.com", "ada+test@example.com", ""},
		"other script":      {"адa@example.com", "адa@example.com", ""},
		"longest":           {longLocal + "@" + strings.Repeat("b", 185) + ".com", longLocal + "@" + strings.Repeat("b", 185) + ".com", ""},
		"empty":             {"", "", "required"},
		"blank":             {" \t ", "", "required"},
		"too long":          {longLocal + "@" + strings.Repeat("b", 186) + ".com", "", "email"},
		"no at":             {"ada.example.com", "", "email"},
		"no local part":     {"@example.com", "", "email"},
		"no domain":         {"ada@", "", "email"},
		"two":               {"ada@example.com,bob@example.com", "", "email"},
		"with a name":       {"Ada <ada@example.com>", "", "email"},
		"in brackets":       {"<ada@example.com>", "", "email"},
		"comment":           {"ada@example.com (Ada)", "", "email"},
		"space within":      {"ada lovelace@example.com", "", "email"},
		"line break within": {"ada@example.com\r\nBcc: bob@example.com", "", "email"},
		"quoted":            {`"ada"@example.com`, "", "email"},
		"NUL":               {"a\x00da@example.com", "", "email"},
		"broken UTF-8":      {"ada\xff@example.com", "", "email"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			id := uuid.New()
			user, err := identity.NewUser(id, c.typed, goodPassword, identity.RoleUser)
			if c.want != "" {
				if err != nil || user.Email != c.want || user.ID != id || user.Role != identity.RoleUser {
					t.Errorf("got %q (%v), want %q", user.Email, err, c.want)
				}
				return
			}
			checkFaults(t, err, []string{"email " + c.rule})
		})
	}
}

func TestPasswords(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		password string
		rule     string // empty: good
	}{
		"shortest":                   {strings.Repeat("x", 10), ""},
		"shortest, of two bytes":     {strings.Repeat("é", 10), ""},
		"longest":                    {strings.Repeat("x", 72), ""},
		"empty":                      {"", "required"},
		"too short":                  {strings.Repeat("x", 9), "min_length"},
		"too short though ten bytes": {strings.Repeat("é", 5), "min_length"},
		"a byte too long":            {strings.Repeat("x", 73), "max_length"},
		"bytes count, not letters":   {strings.Repeat("é", 37), "max_length"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := identity.CheckPassword(c.password)
			if c.rule == "" {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			checkFaults(t, err, []string{"password " + c.rule})
		})
	}
}

func TestNewUserListsAllFaults(t *testing.T) {
	t.Parallel()
	_, err := identity.NewUser(uuid.New(), "nobody", "short", identity.RoleUser)
	checkFaults(t, err, []string{"email email", "password min_length"})
}

func checkFaults(t *testing.T, err error, want []string) {
	t.Helper()
	var faults invalid.Fields
	if !errors.As(err, &faults) {
		t.Fatalf("got error %v, want invalid.Fields", err)
	}
	var got []string
	for _, f := range faults {
		got = append(got, f.Name+" "+f.Rule)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// bcrypt reads 72 bytes: a password that merely begins like the right one must
// not open the door.
func TestMatches(t *testing.T) {
	t.Parallel()
	longest := strings.Repeat("x", 71) + "y"
	hash, err := identity.HashPassword(longest)
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		password string
		want     bool
	}{
		"the same":           {longest, true},
		"another":            {strings.Repeat("x", 72), false},
		"a byte less":        {longest[:71], false},
		"a byte more":        {longest + "z", false},
		"NUL and a byte":     {longest + "\x00z", false},
		"much more":          {longest + strings.Repeat("z", 1000), false},
		"empty":              {"", false},
		"in another case":    {strings.ToUpper(longest), false},
		"the hash by itself": {string(hash), false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := hash.Matches(c.password)
			if err != nil || got != c.want {
				t.Errorf("got %t (%v), want %t", got, err, c.want)
			}
		})
	}
	if _, err := identity.HashPassword(longest + "z"); err == nil {
		t.Error("a password of 73 bytes was hashed")
	}
	if _, err := identity.PasswordHash("no hash").Matches("x"); err == nil {
		t.Error("comparing with something that is no hash gave no error")
	}
}

func TestFingerprint(t *testing.T) {
	t.Parallel()
	a, b := identity.PasswordHash("$2a$10$one"), identity.PasswordHash("$2a$10$two")
	if a.Fingerprint() == b.Fingerprint() || strings.Contains(a.Fingerprint(), "one") {
		t.Errorf("fingerprints %q and %q", a.Fingerprint(), b.Fingerprint())
	}
}

func TestPrincipal(t *testing.T) {
	t.Parallel()
	if _, ok := identity.PrincipalFrom(t.Context()); ok {
		t.Error("somebody acts in an empty context")
	}
	want := identity.Principal{UserID: uuid.New(), Email: "ada@example.com", Role: identity.RoleAdmin}
	got, ok := identity.PrincipalFrom(identity.WithPrincipal(t.Context(), want))
	if !ok || got != want || !got.IsAdmin() {
		t.Errorf("got %v, want %v", got, want)
	}
	if (identity.Principal{Role: identity.RoleUser}).IsAdmin() {
		t.Error("a sender counts as admin")
	}
}

func TestLogsNameNobody(t *testing.T) {
	t.Parallel()
	user := identity.User{ID: uuid.New(), Email: "ada@example.com", PasswordHash: "$2a$10$hush"}
	var logs bytes.Buffer
	slog.New(slog.NewJSONHandler(&logs, nil)).Info("test", slog.Any("user", user), slog.Any("hash", user.PasswordHash),
		slog.Any("principal", identity.Principal{UserID: user.ID, Email: user.Email}))
	if got := logs.String(); strings.Contains(got, "ada@") || strings.Contains(got, "hush") || strings.Count(got, user.ID.String()) != 2 {
		t.Errorf("logged: %s", got)
	}
}
