package postgres_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/postgres"
	"github.com/postcard-mms/postcard/internal/testkit"
)

// codeHashes returns hashes of ten recovery codes; another n gives others.
func codeHashes(n byte) [][32]byte {
	hashes := make([][32]byte, identity.RecoveryCodes)
	for i := range hashes {
		hashes[i] = [32]byte{n, byte(i)}
	}
	return hashes
}

// newFactorStores returns two stores on one database, as two api processes have, with a
// user who has a confirmed authenticator app.
func newFactorStores(t *testing.T) (stores [2]*postgres.Store, user uuid.UUID) {
	t.Helper()
	url := testkit.Database(t)
	stores[0], user = newStoreOn(t, url, postgres.StatementTimeout)
	stores[1] = openStore(t, url, 10, postgres.StatementTimeout)
	if err := stores[0].StartTOTP(t.Context(), user, []byte("sealed")); err != nil {
		t.Fatal(err)
	}
	if err := stores[0].ConfirmTOTP(t.Context(), user, []byte("sealed"), 100, codeHashes(1)); err != nil {
		t.Fatal(err)
	}
	return stores, user
}

// race calls use 20 times at once, alternating between the stores, and returns how often it
// returned true.
func race(t *testing.T, stores [2]*postgres.Store, use func(*postgres.Store) (bool, error)) int32 {
	t.Helper()
	var used atomic.Int32
	var group sync.WaitGroup
	for i := range 20 {
		group.Go(func() {
			ok, err := use(stores[i%2])
			if err != nil {
				t.Error(err)
			}
			if ok {
				used.Add(1)
			}
		})
	}
	group.Wait()
	return used.Load()
}

// startSessions logs the user in twice, and another user once.
func startSessions(t *testing.T, store *postgres.Store, user uuid.UUID) {
	t.Helper()
	other := addUser(t, store, uuid.NewString()+"@example.com")
	for _, owner := range []uuid.UUID{user, user, other} {
		if err := store.StartSession(t.Context(), identity.Session{ID: uuid.New(), UserID: owner}, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if left, err := store.UserSessions(context.WithoutCancel(t.Context()), other); err != nil || len(left) != 1 {
			t.Errorf("got %d sessions of another user, %v, want 1", len(left), err)
		}
	})
}

func wantNoSessions(t *testing.T, after string, store *postgres.Store, user uuid.UUID) {
	t.Helper()
	if left, err := store.UserSessions(t.Context(), user); err != nil || len(left) != 0 {
		t.Errorf("%s: got sessions %+v, %v, want none", after, left, err)
	}
}

func TestSettingUpTOTP(t *testing.T) {
	t.Parallel()
	store, user := newStore(t)
	before, err := store.UserByID(t.Context(), user)
	if err != nil || before.SecondFactor {
		t.Fatalf("got %+v, %v, want a user without a second factor", before, err)
	}
	for _, sealed := range []string{"first", "second"} {
		if err := store.StartTOTP(t.Context(), user, []byte(sealed)); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.ConfirmTOTP(t.Context(), user, []byte("first"), 100, codeHashes(1)); !errors.Is(err, identity.ErrNoFactor) {
		t.Errorf("confirming a replaced secret: got %v, want ErrNoFactor", err)
	}
	factors, err := store.SecondFactors(t.Context(), user)
	if err != nil || factors.Any() || factors.TOTP == nil || string(factors.TOTP.Sealed) != "second" || factors.RecoveryCodes != 0 {
		t.Errorf("unconfirmed: got %+v, %v", factors, err)
	}
	if u, err := store.UserByID(t.Context(), user); err != nil || u.SecondFactor {
		t.Errorf("unconfirmed: got %+v, %v, want no second factor", u, err)
	}
	if ok, err := store.UseTOTP(t.Context(), user, 100, []byte("second")); ok || err != nil {
		t.Errorf("using an unconfirmed app: got %t, %v, want false", ok, err)
	}
	startSessions(t, store, user)
	if err := store.ConfirmTOTP(t.Context(), user, []byte("second"), 100, codeHashes(1)); err != nil {
		t.Fatal(err)
	}
	wantNoSessions(t, "confirming", store, user)
	factors, err = store.SecondFactors(t.Context(), user)
	if err != nil || !factors.HasTOTP() || factors.TOTP.LastStep != 100 || factors.RecoveryCodes != 10 || time.Since(factors.Now).Abs() > time.Hour {
		t.Errorf("confirmed: got %+v, %v", factors, err)
	}
	if u, err := store.UserByEmail(t.Context(), "ada@example.com"); err != nil || !u.SecondFactor {
		t.Errorf("confirmed: got %+v, %v, want a second factor", u, err)
	}
	if err := store.StartTOTP(t.Context(), user, []byte("third")); !errors.Is(err, identity.ErrFactorExists) {
		t.Errorf("starting again: got %v, want ErrFactorExists", err)
	}
	if err := store.ConfirmTOTP(t.Context(), user, []byte("second"), 101, codeHashes(2)); !errors.Is(err, identity.ErrNoFactor) {
		t.Errorf("confirming again: got %v, want ErrNoFactor", err)
	}
}

// TestTOTPStepsWorkOnce uses the same step at two processes at once, and earlier ones
// afterwards.
func TestTOTPStepsWorkOnce(t *testing.T) {
	t.Parallel()
	stores, user := newFactorStores(t)
	use := func(step int64) func(*postgres.Store) (bool, error) {
		return func(s *postgres.Store) (bool, error) { return s.UseTOTP(t.Context(), user, step, []byte("resealed")) }
	}
	for _, tt := range []struct {
		name string
		step int64
		want int32
	}{{"the step of the confirmation", 100, 0}, {"a new step", 102, 1}, {"the same step", 102, 0}, {"an earlier step", 101, 0}, {"the next step", 103, 1}} {
		if got := race(t, stores, use(tt.step)); got != tt.want {
			t.Errorf("%s was accepted %d times, want %d", tt.name, got, tt.want)
		}
	}
	factors, err := stores[1].SecondFactors(t.Context(), user)
	if err != nil || factors.TOTP.LastStep != 103 || string(factors.TOTP.Sealed) != "resealed" {
		t.Errorf("got %+v, %v, want the last step and the new secret", factors.TOTP, err)
	}
}

func TestRecoveryCodesWorkOnce(t *testing.T) {
	t.Parallel()
	stores, user := newFactorStores(t)
	bob := addUser(t, stores[0], "bob@example.com")
	use := func(user uuid.UUID, hashes ...[32]byte) func(*postgres.Store) (bool, error) {
		return func(s *postgres.Store) (bool, error) { return s.UseRecoveryCode(t.Context(), user, hashes) }
	}
	first, unknown := codeHashes(1)[0], codeHashes(9)[0]
	for _, tt := range []struct {
		name string
		use  func(*postgres.Store) (bool, error)
		want int32
	}{{"of another user", use(bob, first), 0}, {"unknown", use(user, unknown), 0}, {"hashed with the previous key", use(user, unknown, first), 1}, {"used", use(user, first), 0}} {
		if got := race(t, stores, tt.use); got != tt.want {
			t.Errorf("a code %s was accepted %d times, want %d", tt.name, got, tt.want)
		}
	}
	if factors, err := stores[0].SecondFactors(t.Context(), user); err != nil || factors.RecoveryCodes != 9 {
		t.Errorf("got %d codes left, %v, want 9", factors.RecoveryCodes, err)
	}
	if err := stores[0].ReplaceRecoveryCodes(t.Context(), user, codeHashes(2)); err != nil {
		t.Fatal(err)
	}
	if got := race(t, stores, use(user, codeHashes(1)...)); got != 0 {
		t.Errorf("replaced codes were accepted %d times, want 0", got)
	}
	if factors, err := stores[0].SecondFactors(t.Context(), user); err != nil || factors.RecoveryCodes != 10 {
		t.Errorf("got %d new codes, %v, want 10", factors.RecoveryCodes, err)
	}
}

func TestRemovingSecondFactors(t *testing.T) {
	t.Parallel()
	for name, remove := range map[string]func(s *postgres.Store, user uuid.UUID) error{
		"by the user":     func(s *postgres.Store, user uuid.UUID) error { return s.RemoveTOTP(t.Context(), user) },
		"by the operator": func(s *postgres.Store, _ uuid.UUID) error { return s.ResetFactors(t.Context(), "ada@example.com") },
	} {
		stores, user := newFactorStores(t)
		startSessions(t, stores[0], user)
		if err := remove(stores[0], user); err != nil {
			t.Fatal(err)
		}
		wantNoSessions(t, name, stores[1], user)
		after, err := stores[1].UserByID(t.Context(), user)
		if err != nil || after.SecondFactor {
			t.Errorf("%s: got %+v, %v, want no second factor", name, after, err)
		}
		if factors, err := stores[0].SecondFactors(t.Context(), user); err != nil || factors.TOTP != nil || factors.RecoveryCodes != 0 {
			t.Errorf("%s: got %+v, %v, want nothing left", name, factors, err)
		}
		if err := stores[0].RemoveTOTP(t.Context(), user); !errors.Is(err, identity.ErrNoFactor) {
			t.Errorf("%s: removing it again: got %v, want ErrNoFactor", name, err)
		}
	}
	store, _ := newStore(t)
	if err := store.ResetFactors(t.Context(), "eve@example.com"); !errors.Is(err, identity.ErrNoUser) {
		t.Errorf("unknown email: got %v, want ErrNoUser", err)
	}
}

// TestChangesOfFactorsRevokeAccess expects a notification to every process.
func TestChangesOfFactorsRevokeAccess(t *testing.T) {
	t.Parallel()
	url := testkit.Database(t)
	store, user := newStoreOn(t, url, postgres.StatementTimeout)
	revoked, err := postgres.Listen(t.Context(), url, postgres.AccessRevokedChannel, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	received := func(want uuid.UUID) func() bool {
		return func() bool {
			select {
			case payload := <-revoked:
				return payload == want.String()
			default:
				return false
			}
		}
	}
	marker := uuid.New()
	testkit.Eventually(t, "a first notification is received", func() bool {
		if err := store.EndOtherSessions(t.Context(), marker, uuid.Nil); err != nil {
			t.Error(err)
		}
		return received(marker)()
	})
	steps := []struct {
		name string
		do   func() error
	}{
		{"confirming", func() error { return store.ConfirmTOTP(t.Context(), user, []byte("sealed"), 1, codeHashes(1)) }},
		{"removing", func() error { return store.RemoveTOTP(t.Context(), user) }},
		{"resetting", func() error { return store.ResetFactors(t.Context(), "ada@example.com") }},
	}
	if err := store.StartTOTP(t.Context(), user, []byte("sealed")); err != nil {
		t.Fatal(err)
	}
	for _, step := range steps {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		testkit.Eventually(t, step.name+" is notified", received(user))
	}
}
