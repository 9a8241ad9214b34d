package postgres_test

import (
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/postgres"
	"github.com/postcard-mms/postcard/internal/testkit"
)

// startSession starts a session of the user and returns its id.
func startSession(t *testing.T, store *postgres.Store, user uuid.UUID) uuid.UUID {
	t.Helper()
	session := identity.Session{ID: uuid.New(), UserID: user, Browser: "Firefox on Linux", Address: "192.0.2.1"}
	for range 2 { // database/sql may repeat it
		if err := store.StartSession(t.Context(), session, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	return session.ID
}

// wantSessions expects that exactly these of the user's sessions can be used.
func wantSessions(t *testing.T, store *postgres.Store, user uuid.UUID, want ...uuid.UUID) {
	t.Helper()
	got := map[uuid.UUID]bool{}
	list, err := store.UserSessions(t.Context(), user)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		got[s.ID] = true
		if err := store.UseSession(t.Context(), user, s.ID, "192.0.2.2"); err != nil {
			t.Errorf("UseSession() = %v for a listed session", err)
		}
	}
	wanted := map[uuid.UUID]bool{}
	for _, id := range want {
		wanted[id] = true
	}
	if diff := cmp.Diff(wanted, got); diff != "" {
		t.Errorf("sessions (-want +got):\n%s", diff)
	}
}

// listenForRevoked returns the ids that are notified of from now on.
func listenForRevoked(t *testing.T, url string) <-chan string {
	t.Helper()
	revoked, err := postgres.Listen(t.Context(), url, postgres.AccessRevokedChannel, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return revoked
}

func wantRevoked(t *testing.T, revoked <-chan string, want uuid.UUID) {
	t.Helper()
	testkit.Eventually(t, "the user is notified of", func() bool {
		select {
		case id := <-revoked:
			return id == want.String()
		default:
			return false
		}
	})
}

func TestUserSessions(t *testing.T) {
	t.Parallel()
	url := testkit.Database(t)
	store, ada := newStoreOn(t, url, postgres.StatementTimeout)
	bob := addUser(t, store, "bob@example.com")
	revoked := listenForRevoked(t, url)
	first, second, third, bobs := startSession(t, store, ada), startSession(t, store, ada), startSession(t, store, ada), startSession(t, store, bob)
	wantSessions(t, store, ada, first, second, third)

	if err := store.UseSession(t.Context(), bob, first, ""); !errors.Is(err, identity.ErrNoSession) {
		t.Errorf("UseSession() of another user = %v, want ErrNoSession", err)
	}
	if err := store.EndSession(t.Context(), bob, first); !errors.Is(err, identity.ErrNoSession) {
		t.Errorf("EndSession() of another user = %v, want ErrNoSession", err)
	}
	wantRevoked(t, revoked, bob)
	if err := store.EndSession(t.Context(), ada, first); err != nil {
		t.Fatal(err)
	}
	wantRevoked(t, revoked, ada)
	if err := store.UseSession(t.Context(), ada, first, ""); !errors.Is(err, identity.ErrNoSession) {
		t.Errorf("UseSession() of an ended session = %v, want ErrNoSession", err)
	}
	if err := store.EndOtherSessions(t.Context(), ada, second); err != nil {
		t.Fatal(err)
	}
	wantRevoked(t, revoked, ada)
	wantSessions(t, store, ada, second)
	wantSessions(t, store, bob, bobs)

	execute(t, store, `UPDATE user_sessions SET expires_at = now() - interval '1 second' WHERE id = '`+second.String()+`'`)
	if err := store.UseSession(t.Context(), ada, second, ""); !errors.Is(err, identity.ErrNoSession) {
		t.Errorf("UseSession() of an expired session = %v, want ErrNoSession", err)
	}
	wantSessions(t, store, ada)
	if err := store.Sessions().DeleteExpired(t.Context()); err != nil {
		t.Fatal(err)
	}
	var left int
	if err := store.DB().QueryRow(`SELECT count(*) FROM user_sessions`).Scan(&left); err != nil || left != 1 {
		t.Errorf("after DeleteExpired(): got %d sessions, %v, want 1", left, err)
	}
}

func TestLastUseOfASession(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	id := startSession(t, store, ada)
	use := func() identity.Session {
		t.Helper()
		if err := store.UseSession(t.Context(), ada, id, "192.0.2.99"); err != nil {
			t.Fatal(err)
		}
		list, err := store.UserSessions(t.Context(), ada)
		if err != nil || len(list) != 1 {
			t.Fatalf("got %v, %v, want one session", list, err)
		}
		return list[0]
	}
	if got := use(); got.Address != "192.0.2.1" || !got.LastUsedAt.Equal(got.CreatedAt) || got.Browser != "Firefox on Linux" {
		t.Errorf("got %+v, want the session as it started, a minute ago at most", got)
	}
	execute(t, store, `UPDATE user_sessions SET created_at = now() - interval '1 hour', last_used_at = now() - interval '61 seconds'`)
	if got := use(); got.Address != "192.0.2.99" || got.LastUsedAt.Sub(got.CreatedAt) < time.Hour {
		t.Errorf("got %+v, want the new address and use", got)
	}
}

// TestReadOnlyDatabaseEndsNoSession expects an error that passes, not that of a session that
// has ended.
func TestReadOnlyDatabaseEndsNoSession(t *testing.T) {
	t.Parallel()
	url := testkit.Database(t)
	store, ada := newStoreOn(t, url, postgres.StatementTimeout)
	id := startSession(t, store, ada)
	execute(t, store, `UPDATE user_sessions SET last_used_at = now() - interval '61 seconds'`)
	readOnly := openStore(t, url+"&default_transaction_read_only=on", 2, postgres.StatementTimeout)
	if err := readOnly.UseSession(t.Context(), ada, id, ""); !errors.Is(err, mms.ErrUnavailable) {
		t.Errorf("UseSession() = %v, want ErrUnavailable", err)
	}
	wantSessions(t, store, ada, id)
}

func TestChangeOfCredentials(t *testing.T) {
	t.Parallel()
	url := testkit.Database(t)
	store, ada := newStoreOn(t, url, postgres.StatementTimeout)
	addUser(t, store, "bob@example.com")
	user, err := store.UserByID(t.Context(), ada)
	if err != nil {
		t.Fatal(err)
	}
	before := []uuid.UUID{startSession(t, store, ada), startSession(t, store, ada)}

	revoked := listenForRevoked(t, url)
	user.Name, user.TimeZone = "Ada", "Europe/Berlin"
	if err := store.ChangeProfile(t.Context(), user); err != nil {
		t.Fatal(err)
	}
	wantRevoked(t, revoked, ada)
	if got, err := store.UserByID(t.Context(), ada); err != nil || !cmp.Equal(got, user) {
		t.Errorf("got %+v, %v, want %+v", got, err, user)
	}
	wantSessions(t, store, ada, before...)

	hash := identity.PasswordHash(strings.Repeat("n", 60))
	session := identity.Session{ID: uuid.New(), UserID: ada, Browser: "Safari on iPhone", Address: "192.0.2.7"}
	taken, stale := user, user
	taken.Email, taken.Name = "bob@example.com", "Eve"
	stale.PasswordHash, stale.Name = identity.PasswordHash(strings.Repeat("s", 60)), "Eve"
	if err := store.ChangeCredentials(t.Context(), taken, hash, session, time.Hour); !errors.Is(err, identity.ErrEmailTaken) {
		t.Errorf("email of another user: got %v, want ErrEmailTaken", err)
	}
	if err := store.ChangeCredentials(t.Context(), stale, hash, session, time.Hour); !errors.Is(err, identity.ErrNoUser) {
		t.Errorf("another password: got %v, want ErrNoUser", err)
	}
	if got, err := store.UserByID(t.Context(), ada); err != nil || !cmp.Equal(got, user) {
		t.Errorf("got %+v, %v, want %+v as before", got, err, user)
	}
	wantSessions(t, store, ada, before...)

	changed := user
	changed.Email, changed.Name = "countess@example.com", "Countess"
	for range 2 { // database/sql may repeat it
		if err := store.ChangeCredentials(t.Context(), changed, hash, session, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	wantRevoked(t, revoked, ada)
	changed.PasswordHash = hash
	if got, err := store.UserByID(t.Context(), ada); err != nil || !cmp.Equal(got, changed) {
		t.Errorf("got %+v, %v, want %+v", got, err, changed)
	}
	wantSessions(t, store, ada, session.ID)
}

func TestDisabledUser(t *testing.T) {
	t.Parallel()
	url := testkit.Database(t)
	store, ada := newStoreOn(t, url, postgres.StatementTimeout)
	revoked := listenForRevoked(t, url)
	startSession(t, store, ada)
	secret := [32]byte{1}
	if _, err := store.CreateKey(t.Context(), identity.Key{ID: uuid.New(), WorkspaceID: ada, CreatedBy: ada, Name: "x", Scopes: identity.KeyPermissions()}, secret, nil); err != nil {
		t.Fatal(err)
	}
	if err := store.SetDisabled(t.Context(), ada, true); err != nil {
		t.Fatal(err)
	}
	wantRevoked(t, revoked, ada)
	wantSessions(t, store, ada)
	if user, err := store.UserByID(t.Context(), ada); err != nil || !user.Disabled {
		t.Errorf("got %+v, %v, want a disabled user", user, err)
	}
	if err := store.StartSession(t.Context(), identity.Session{ID: uuid.New(), UserID: ada}, time.Hour); !errors.Is(err, identity.ErrDisabled) {
		t.Errorf("StartSession() = %v, want ErrDisabled", err)
	}
	if err := store.CreateReset(t.Context(), "ada@example.com", [32]byte{2}); !errors.Is(err, identity.ErrNoUser) {
		t.Errorf("CreateReset() = %v, want ErrNoUser", err)
	}
	if _, err := store.PrincipalByKey(t.Context(), secret); !errors.Is(err, identity.ErrNoKey) {
		t.Errorf("PrincipalByKey() = %v, want ErrNoKey", err)
	}
	if err := store.SetDisabled(t.Context(), ada, false); err != nil {
		t.Fatal(err)
	}
	wantSessions(t, store, ada, startSession(t, store, ada))
	if _, err := store.PrincipalByKey(t.Context(), secret); err != nil {
		t.Errorf("PrincipalByKey() of an enabled user = %v", err)
	}
	if err := store.SetDisabled(t.Context(), uuid.New(), true); !errors.Is(err, identity.ErrNoUser) {
		t.Errorf("SetDisabled() of nobody = %v, want ErrNoUser", err)
	}
}

func TestPasswordResets(t *testing.T) {
	t.Parallel()
	newHash := identity.PasswordHash(strings.Repeat("n", 60))
	cases := map[string]struct {
		before string // a statement that runs between the creation and the use of the link
		want   error
	}{
		"at once":               {`SELECT 1`, nil},
		"after another profile": {`UPDATE users SET name = 'Ada', time_zone = 'Asia/Tokyo'`, nil},
		"expired":               {`UPDATE password_resets SET expires_at = now() - interval '1 second'`, identity.ErrNoReset},
		"another email":         {`UPDATE users SET email = 'countess@example.com'`, identity.ErrNoReset},
		"another password":      {`UPDATE users SET password_hash = repeat('o', 60)`, identity.ErrNoReset},
		"disabled":              {`UPDATE users SET disabled_at = now()`, identity.ErrNoReset},
		"deleted":               {`DELETE FROM users`, identity.ErrNoReset},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, ada := newStore(t)
			session := startSession(t, store, ada)
			token := [32]byte{1}
			if err := store.CreateReset(t.Context(), "ada@example.com", token); err != nil {
				t.Fatal(err)
			}
			execute(t, store, c.before)
			if _, err := store.CheckReset(t.Context(), token); !errors.Is(err, c.want) {
				t.Errorf("CheckReset() = %v, want %v", err, c.want)
			}
			id, email, err := store.UseReset(t.Context(), token, newHash)
			if !errors.Is(err, c.want) {
				t.Errorf("UseReset() = %v, want %v", err, c.want)
			}
			if c.want != nil {
				return
			}
			if user, err := store.UserByID(t.Context(), ada); err != nil || user.PasswordHash != newHash || id != ada || email != user.Email {
				t.Errorf("got %+v, %v, want the new password", user, err)
			}
			if err := store.UseSession(t.Context(), ada, session, ""); !errors.Is(err, identity.ErrNoSession) {
				t.Errorf("UseSession() = %v, want ErrNoSession", err)
			}
			if _, _, err := store.UseReset(t.Context(), token, newHash); !errors.Is(err, identity.ErrNoReset) {
				t.Errorf("second UseReset() = %v, want ErrNoReset", err)
			}
		})
	}
}

func TestPasswordResetOfNobody(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	if err := store.CreateReset(t.Context(), "eve@example.com", [32]byte{1}); !errors.Is(err, identity.ErrNoUser) {
		t.Errorf("CreateReset() = %v, want ErrNoUser", err)
	}
	if _, _, err := store.UseReset(t.Context(), [32]byte{1}, identity.PasswordHash(strings.Repeat("n", 60))); !errors.Is(err, identity.ErrNoReset) {
		t.Errorf("UseReset() = %v, want ErrNoReset", err)
	}
}

// TestPasswordResetWorksOnce uses a link several times at the same moment.
func TestPasswordResetWorksOnce(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	token := [32]byte{1}
	if err := store.CreateReset(t.Context(), "ada@example.com", token); err != nil {
		t.Fatal(err)
	}
	results := make([]error, 8)
	var uses sync.WaitGroup
	for i := range results {
		uses.Go(func() {
			_, _, results[i] = store.UseReset(t.Context(), token, identity.PasswordHash(strings.Repeat(string(rune('a'+i)), 60)))
		})
	}
	uses.Wait()
	worked := 0
	for _, err := range results {
		switch {
		case err == nil:
			worked++
		case !errors.Is(err, identity.ErrNoReset):
			t.Errorf("UseReset() = %v, want ErrNoReset", err)
		}
	}
	if worked != 1 {
		t.Errorf("the link worked %d times, want once", worked)
	}
}

// TestAccountChangesDoNotDeadlock runs the statements that lock a user and their sessions at
// the same time.
func TestAccountChangesDoNotDeadlock(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	hash := identity.PasswordHash(strings.Repeat("n", 60))
	if err := store.SetPassword(t.Context(), "ada@example.com", hash); err != nil {
		t.Fatal(err)
	}
	user, err := store.UserByID(t.Context(), ada)
	if err != nil {
		t.Fatal(err)
	}
	changes := map[string]func(i int) error{
		"credentials": func(int) error {
			return store.ChangeCredentials(t.Context(), user, hash, identity.Session{ID: uuid.New(), UserID: ada}, time.Hour)
		},
		"others":   func(int) error { return store.EndOtherSessions(t.Context(), ada, uuid.Nil) },
		"password": func(int) error { return store.SetPassword(t.Context(), user.Email, hash) },
		"start": func(int) error {
			return store.StartSession(t.Context(), identity.Session{ID: uuid.New(), UserID: ada}, time.Hour)
		},
		"reset": func(i int) error {
			if err := store.CreateReset(t.Context(), user.Email, [32]byte{byte(i)}); err != nil {
				return err
			}
			_, _, err := store.UseReset(t.Context(), [32]byte{byte(i)}, hash)
			return err
		},
		"expire": func(int) error { return store.Sessions().DeleteExpired(t.Context()) },
	}
	var group sync.WaitGroup
	for name, change := range changes {
		group.Go(func() {
			for i := range 20 {
				if err := change(i); err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
			}
		})
	}
	group.Wait()
}
