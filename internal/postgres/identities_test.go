package postgres_test

import (
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/postgres"
	"github.com/postcard-mms/postcard/internal/testkit"
)

const issuer = "https://id.example.com/"

func newSSOUser(email string) identity.User {
	return identity.User{ID: uuid.Must(uuid.NewV7()), Email: email, Role: identity.RoleUser}
}

func TestUserWithIdentity(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	ctx := t.Context()
	eve := newSSOUser("eve@example.com")
	for range 2 { // database/sql repeats a statement whose connection broke
		if err := store.CreateUserWithIdentity(ctx, eve, identity.Identity{Issuer: issuer, Subject: "1"}); err != nil {
			t.Fatal(err)
		}
	}
	got, err := store.LoginByIdentity(ctx, issuer, "1", "")
	if diff := cmp.Diff(eve, got, cmpopts.IgnoreFields(identity.User{}, "CreatedAt", "Memberships", "TimeZone")); diff != "" || err != nil {
		t.Errorf("user (-want +got):\n%s%v", diff, err)
	}
	linked, err := store.Identity(ctx, eve.ID, issuer)
	want := identity.Identity{Issuer: issuer, Subject: "1", UserID: eve.ID, Email: eve.Email}
	if diff := cmp.Diff(want, linked, cmpopts.IgnoreFields(identity.Identity{}, "CreatedAt", "LastLoginAt")); diff != "" || err != nil || linked.LastLoginAt == nil {
		t.Errorf("identity (-want +got):\n%s%v, last log-in %v", diff, err, linked.LastLoginAt)
	}
}

// A refused creation must leave nothing behind: a user without password and identity could
// never log in.
func TestRefusedUserWithIdentityLeavesNothing(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	if err := store.CreateUserWithIdentity(t.Context(), newSSOUser("eve@example.com"), identity.Identity{Issuer: issuer, Subject: "1"}); err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		email, subject string
		want           error
	}{
		"email of a user with a password":    {"ada@example.com", "2", identity.ErrEmailTaken},
		"email of a user with an identity":   {"eve@example.com", "2", identity.ErrEmailTaken},
		"subject of another user":            {"bob@example.com", "1", identity.ErrIdentityTaken},
		"subject and email of the same user": {"eve@example.com", "1", identity.ErrIdentityTaken}, // somebody who logs in twice at a time
	}
	for name, c := range cases {
		err := store.CreateUserWithIdentity(t.Context(), newSSOUser(c.email), identity.Identity{Issuer: issuer, Subject: c.subject})
		if !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
	if users, identities := count(t, store, `SELECT count(*) FROM users`), count(t, store, `SELECT count(*) FROM identities`); users != 2 || identities != 1 {
		t.Errorf("got %d users and %d identities, want 2 and 1", users, identities)
	}
}

func TestUnknownIdentity(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	ctx := t.Context()
	if _, err := store.LinkIdentity(ctx, identity.Identity{Issuer: issuer, Subject: "1", UserID: ada, Email: "a@example.com"}); err != nil {
		t.Fatal(err)
	}
	for name, login := range map[string][2]string{
		"another subject":          {issuer, "2"},
		"another issuer":           {"https://other.example.com", "1"},
		"the issuer without slash": {strings.TrimSuffix(issuer, "/"), "1"},
		"the email":                {issuer, "a@example.com"},
	} {
		if _, err := store.LoginByIdentity(ctx, login[0], login[1], identity.RoleAdmin); !errors.Is(err, identity.ErrNoUser) {
			t.Errorf("%s: got %v, want ErrNoUser", name, err)
		}
	}
	if _, err := store.Identity(ctx, ada, "https://other.example.com"); !errors.Is(err, identity.ErrNoIdentity) {
		t.Errorf("identity at another issuer: got %v, want ErrNoIdentity", err)
	}
}

func TestRoleFollowsTheLogin(t *testing.T) {
	t.Parallel()
	database := testkit.Database(t)
	store, ada := newStoreOn(t, database, postgres.StatementTimeout)
	ctx := t.Context()
	revoked, err := postgres.Listen(ctx, database, postgres.AccessRevokedChannel, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.LinkIdentity(ctx, identity.Identity{Issuer: issuer, Subject: "1", UserID: ada, Email: "ada@example.com"}); err != nil {
		t.Fatal(err)
	}
	awaitRevoked(t, revoked, ada) // of the link
	for _, step := range []struct {
		role, want identity.Role
		notified   bool
	}{{identity.RoleAdmin, identity.RoleAdmin, true}, {"", identity.RoleAdmin, false}, {identity.RoleAdmin, identity.RoleAdmin, false}, {identity.RoleUser, identity.RoleUser, true}} {
		user, err := store.LoginByIdentity(ctx, issuer, "1", step.role)
		if err != nil || user.Role != step.want || user.ID != ada {
			t.Errorf("log-in with role %q: got %q, %v, want %q", step.role, user.Role, err, step.want)
		}
		if stored, err := store.UserByID(ctx, ada); err != nil || !cmp.Equal(stored, user) {
			t.Errorf("log-in with role %q: stored %+v, %v, want %+v", step.role, stored, err, user)
		}
		if step.notified {
			awaitRevoked(t, revoked, ada)
		}
	}
	other := addUser(t, store, "bob@example.com")
	if err := store.EndOtherSessions(ctx, other, uuid.Nil); err != nil {
		t.Fatal(err)
	}
	awaitRevoked(t, revoked, other) // with no other in between
}

// awaitRevoked expects the next notification to be about the user.
func awaitRevoked(t *testing.T, revoked <-chan string, want uuid.UUID) {
	t.Helper()
	var got string // empty: the listener has connected
	testkit.Eventually(t, "a notification that access has changed", func() bool {
		select {
		case got = <-revoked:
			return got != ""
		default:
			return false
		}
	})
	if got != want.String() {
		t.Fatalf("got a notification about %s, want one about %s", got, want)
	}
}

func TestLinkAndUnlink(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	ctx := t.Context()
	startSession(t, store, ada)
	link := identity.Identity{Issuer: issuer, Subject: "1", UserID: ada, Email: "ada@id.example.com"}
	linked, err := store.LinkIdentity(ctx, link)
	if err != nil || linked.ID != ada {
		t.Errorf("got %+v, %v, want Ada", linked, err)
	}
	wantSessions(t, store, ada)
	if stored, err := store.UserByID(ctx, ada); err != nil || !cmp.Equal(stored, linked) {
		t.Errorf("stored %+v, %v, want %+v", stored, err, linked)
	}
	again, err := store.LinkIdentity(ctx, link)
	if err != nil || again.ID != ada || count(t, store, `SELECT count(*) FROM identities`) != 1 {
		t.Errorf("linking again: got %+v, %v, want one identity", again, err)
	}
	startSession(t, store, ada)
	unlinked, err := store.UnlinkIdentity(ctx, ada, issuer)
	if err != nil || unlinked.ID != ada {
		t.Errorf("unlinking: got %+v, %v, want Ada", unlinked, err)
	}
	wantSessions(t, store, ada)
	if _, err := store.UnlinkIdentity(ctx, ada, issuer); !errors.Is(err, identity.ErrNoIdentity) {
		t.Errorf("unlinking again: got %v, want ErrNoIdentity", err)
	}
}

func TestLinkIsRefused(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	ctx := t.Context()
	eve := newSSOUser("eve@example.com")
	if err := store.CreateUserWithIdentity(ctx, eve, identity.Identity{Issuer: issuer, Subject: "eve"}); err != nil {
		t.Fatal(err)
	}
	sessions := map[uuid.UUID]uuid.UUID{ada: startSession(t, store, ada), eve.ID: startSession(t, store, eve.ID)}
	if _, err := store.LinkIdentity(ctx, identity.Identity{Issuer: issuer, Subject: "eve", UserID: ada, Email: "eve@example.com"}); !errors.Is(err, identity.ErrIdentityTaken) {
		t.Errorf("another user's account: got %v, want ErrIdentityTaken", err)
	}
	if _, err := store.LinkIdentity(ctx, identity.Identity{Issuer: issuer, Subject: "second", UserID: eve.ID, Email: "eve@example.com"}); !errors.Is(err, identity.ErrOtherIdentity) {
		t.Errorf("a second account: got %v, want ErrOtherIdentity", err)
	}
	if _, err := store.UnlinkIdentity(ctx, eve.ID, issuer); !errors.Is(err, identity.ErrNoIdentity) {
		t.Errorf("unlinking a user without a password: got %v, want ErrNoIdentity", err)
	}
	for user, session := range sessions {
		wantSessions(t, store, user, session)
	}
}

// TestIdentitiesDoNotDeadlock runs the statements that lock identities and users at the same
// time. The order of locks is written down in lock_order.go.
func TestIdentitiesDoNotDeadlock(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	ctx := t.Context()
	startSession(t, store, ada)
	statements := map[string]func(round int) error{
		"log in": func(round int) error {
			_, err := store.LoginByIdentity(ctx, issuer, "1", []identity.Role{identity.RoleUser, identity.RoleAdmin}[round%2])
			return err
		},
		"link": func(int) error {
			_, err := store.LinkIdentity(ctx, identity.Identity{Issuer: issuer, Subject: "1", UserID: ada, Email: "ada@example.com"})
			return err
		},
		"unlink": func(int) error {
			_, err := store.UnlinkIdentity(ctx, ada, issuer)
			return err
		},
		"change the password": func(int) error {
			return store.SetPassword(ctx, "ada@example.com", identity.PasswordHash(strings.Repeat("y", 60)))
		},
	}
	var group sync.WaitGroup
	for name, run := range statements {
		group.Go(func() {
			for round := range 50 {
				if err := run(round); err != nil && !errors.Is(err, identity.ErrNoUser) && !errors.Is(err, identity.ErrNoIdentity) {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
	group.Wait()
	wantSessions(t, store, ada)
}
