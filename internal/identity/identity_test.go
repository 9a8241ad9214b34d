package identity_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"golang.org/x/crypto/bcrypt"

	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/invalid"
)

const goodPassword = "correct horse battery"

func TestEmails(t *testing.T) {
	t.Parallel()
	longLocal := strings.Repeat("a", 64)
	cases := map[string]struct {
		typed string
		want  string // the stored email; empty: invalid
		rule  string
	}{
		"plain":                {"ada@example.com", "ada@example.com", ""},
		"upper case and space": {"  Ada@Example.COM\n", "ada@example.com", ""},
		"no-break space":       {"\u00a0ada@example.com\u00a0", "ada@example.com", ""},
		"invisible characters": {"\u202aada\u200b@exam\u00adple.com\ufeff", "ada@example.com", ""},
		"only invisible":       {"\u200b\ufeff", "", "required"},
		"inner no-break space": {"ada\u00a0lovelace@example.com", "", "email"},
		"plus sign":            {"ada+test@example.com", "ada+test@example.com", ""},
		"Cyrillic letter":      {"адa@example.com", "адa@example.com", ""},
		"longest":              {longLocal + "@" + strings.Repeat("b", 185) + ".com", longLocal + "@" + strings.Repeat("b", 185) + ".com", ""},
		"empty":                {"", "", "required"},
		"blank":                {" \t ", "", "required"},
		"too long":             {longLocal + "@" + strings.Repeat("b", 186) + ".com", "", "email"},
		"no at sign":           {"ada.example.com", "", "email"},
		"no local part":        {"@example.com", "", "email"},
		"no domain":            {"ada@", "", "email"},
		"two addresses":        {"ada@example.com,bob@example.com", "", "email"},
		"with a name":          {"Ada <ada@example.com>", "", "email"},
		"in angle brackets":    {"<ada@example.com>", "", "email"},
		"with a comment":       {"ada@example.com (Ada)", "", "email"},
		"inner space":          {"ada lovelace@example.com", "", "email"},
		"inner line break":     {"ada@example.com\r\nBcc: bob@example.com", "", "email"},
		"quoted local part":    {`"ada"@example.com`, "", "email"},
		"NUL":                  {"a\x00da@example.com", "", "email"},
		"invalid UTF-8":        {"ada\xff@example.com", "", "email"},
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
			wantViolations(t, err, []string{"email " + c.rule})
		})
	}
}

func TestPasswords(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		password string
		rule     string // violated rule; empty: valid
	}{
		"shortest":                   {"ten chars!", ""},
		"shortest, two-byte letters": {strings.Repeat("é", 10), ""},
		"longest":                    {strings.Repeat("x", 72), ""},
		"empty":                      {"", "required"},
		"too short":                  {strings.Repeat("x", 9), "min_length"},
		"too short, but ten bytes":   {strings.Repeat("é", 5), "min_length"},
		"one byte too long":          {strings.Repeat("x", 73), "max_length"},
		"too long, two-byte letters": {strings.Repeat("é", 37), "max_length"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := identity.ValidatePassword(c.password)
			if c.rule == "" {
				if err != nil {
					t.Errorf("got %v, want no error", err)
				}
				return
			}
			wantViolations(t, err, []string{"password " + c.rule})
		})
	}
}

func TestNewUserListsEveryViolation(t *testing.T) {
	t.Parallel()
	_, err := identity.NewUser(uuid.New(), "nobody", "short", identity.RoleUser)
	wantViolations(t, err, []string{"email email", "password min_length"})
}

func wantViolations(t *testing.T, err error, want []string) {
	t.Helper()
	var violations invalid.Fields
	if !errors.As(err, &violations) {
		t.Fatalf("got error %v, want invalid.Fields", err)
	}
	var got []string
	for _, v := range violations {
		got = append(got, v.Name+" "+v.Rule)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("violations (-want +got):\n%s", diff)
	}
}

// TestDecoyCostsTheSame compares the costs: a cheaper decoy would reveal which emails
// are known.
func TestDecoyCostsTheSame(t *testing.T) {
	t.Parallel()
	hash, err := identity.HashPassword("a password")
	if err != nil {
		t.Fatal(err)
	}
	want, err := bcrypt.Cost([]byte(hash))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := bcrypt.Cost([]byte(identity.DecoyHash)); err != nil || got != want {
		t.Errorf("got cost %d, %v, want %d", got, err, want)
	}
}

// TestMatches ensures that a longer password does not match, although bcrypt
// compares only 72 bytes.
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
		"same password":         {longest, true},
		"other password":        {strings.Repeat("x", 72), false},
		"one byte less":         {longest[:71], false},
		"one byte more":         {longest + "z", false},
		"NUL and one byte more": {longest + "\x00z", false},
		"1000 bytes more":       {longest + strings.Repeat("z", 1000), false},
		"empty":                 {"", false},
		"upper case":            {strings.ToUpper(longest), false},
		"the hash itself":       {string(hash), false},
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
		t.Error("hashing 73 bytes: got no error, want one")
	}
	if _, err := identity.PasswordHash("not a hash").Matches("x"); err == nil {
		t.Error("comparing with an invalid hash: got no error, want one")
	}
}

func TestFingerprint(t *testing.T) {
	t.Parallel()
	a, b := identity.PasswordHash("$2a$10$one"), identity.PasswordHash("$2a$10$two")
	if a.Fingerprint() == b.Fingerprint() || strings.Contains(a.Fingerprint(), "one") {
		t.Errorf("got fingerprints %q and %q, want different ones without the hash", a.Fingerprint(), b.Fingerprint())
	}
}

func TestPrincipal(t *testing.T) {
	t.Parallel()
	if _, ok := identity.PrincipalFrom(t.Context()); ok {
		t.Error("empty context: got a principal, want none")
	}
	want := identity.Principal{UserID: uuid.New(), Email: "ada@example.com", Role: identity.RoleAdmin}
	got, ok := identity.PrincipalFrom(identity.WithPrincipal(t.Context(), want))
	if !ok || !cmp.Equal(got, want) || !got.IsAdmin() {
		t.Errorf("got %v, want %v", got, want)
	}
	if (identity.Principal{Role: identity.RoleUser}).IsAdmin() {
		t.Error("role user: IsAdmin() = true, want false")
	}
}

func TestLogsContainIDsOnly(t *testing.T) {
	t.Parallel()
	user := identity.User{ID: uuid.New(), Email: "ada@example.com", PasswordHash: "$2a$10$hush"}
	var logs bytes.Buffer
	slog.New(slog.NewJSONHandler(&logs, nil)).Info("test", slog.Any("user", user), slog.Any("hash", user.PasswordHash),
		slog.Any("principal", identity.Principal{UserID: user.ID, Email: user.Email}))
	if got := logs.String(); strings.Contains(got, "ada@") || strings.Contains(got, "hush") || strings.Count(got, user.ID.String()) != 2 {
		t.Errorf("got log %s, want the ID twice and neither email nor hash", got)
	}
}
