package postgres_test

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/postgres"
)

func TestUsers(t *testing.T) {
	t.Parallel()
	store, id := newStore(t)
	byEmail, err := store.UserByEmail(t.Context(), "ada@example.com")
	if err != nil || byEmail.ID != id || byEmail.Role != identity.RoleUser {
		t.Errorf("UserByEmail() = %+v, %v", byEmail, err)
	}
	if byID, err := store.UserByID(t.Context(), id); err != nil || byID != byEmail {
		t.Errorf("UserByID() = %+v, %v, want %+v", byID, err, byEmail)
	}
	if _, err := store.UserByEmail(t.Context(), "eve@example.com"); !errors.Is(err, identity.ErrNoUser) {
		t.Errorf("unknown email: %v, want ErrNoUser", err)
	}
	if _, err := store.UserByID(t.Context(), uuid.New()); !errors.Is(err, identity.ErrNoUser) {
		t.Errorf("unknown id: %v, want ErrNoUser", err)
	}
	again := identity.User{ID: uuid.New(), Email: "ada@example.com", Role: identity.RoleUser, PasswordHash: byEmail.PasswordHash}
	if err := store.CreateUser(t.Context(), again); !errors.Is(err, identity.ErrEmailTaken) {
		t.Errorf("the same email again: %v, want ErrEmailTaken", err)
	}
}

func TestPasswordChange(t *testing.T) {
	t.Parallel()
	store, id := newStore(t)
	hash := identity.PasswordHash(strings.Repeat("y", 60))
	if err := store.SetPassword(t.Context(), "ada@example.com", hash); err != nil {
		t.Fatal(err)
	}
	if user, err := store.UserByID(t.Context(), id); err != nil || user.PasswordHash != hash {
		t.Errorf("user = %+v, %v", user, err)
	}
	if err := store.SetPassword(t.Context(), "eve@example.com", hash); !errors.Is(err, identity.ErrNoUser) {
		t.Errorf("unknown email: %v, want ErrNoUser", err)
	}
}

func TestOnlyOneFirstAdmin(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	for i, want := range []bool{true, false} {
		admin := identity.User{ID: uuid.New(), Email: strings.Repeat("a", i+1) + "@example.com", PasswordHash: identity.PasswordHash(strings.Repeat("x", 60))}
		created, err := store.CreateFirstAdmin(t.Context(), admin)
		if err != nil || created != want {
			t.Errorf("admin %d: %v, %v, want %v", i, created, err, want)
		}
	}
}

func TestThrottleCountsTriesMadeAtOnce(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	key := [32]byte{1}
	var allowed atomic.Int32
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			wait, err := store.Throttle(t.Context(), key, 5, time.Hour)
			if err != nil {
				t.Error(err)
			}
			if wait == 0 {
				allowed.Add(1)
			} else if wait > time.Hour {
				t.Errorf("wait = %v", wait)
			}
		})
	}
	group.Wait()
	if allowed.Load() != 5 {
		t.Errorf("%d tries were allowed, want 5", allowed.Load())
	}
	if wait, err := store.Throttle(t.Context(), [32]byte{2}, 5, time.Hour); err != nil || wait != 0 {
		t.Errorf("another key: %v, %v, want no wait", wait, err)
	}
	if err := store.Unthrottle(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if wait, err := store.Throttle(t.Context(), key, 5, time.Hour); err != nil || wait != 0 {
		t.Errorf("after Unthrottle(): %v, %v, want no wait", wait, err)
	}
}

func TestThrottleForgetsAfterTheWindow(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	for range 3 { // each window is over at once
		if wait, err := store.Throttle(t.Context(), [32]byte{1}, 1, 0); err != nil || wait != 0 {
			t.Errorf("Throttle() = %v, %v, want no wait", wait, err)
		}
	}
}

func TestADatabaseThatIsAway(t *testing.T) {
	t.Parallel()
	store, err := postgres.Open("postgres://nobody@127.0.0.1:1/none?sslmode=disable", 1, postgres.StatementTimeout)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	if err := store.Ping(t.Context()); !errors.Is(err, mms.ErrUnavailable) {
		t.Errorf("Ping() = %v, want ErrUnavailable", err)
	}
	if _, err := store.Message(t.Context(), uuid.New(), uuid.New()); !errors.Is(err, mms.ErrUnavailable) {
		t.Errorf("Message() = %v, want ErrUnavailable", err)
	}
	if _, err := store.CreateMessage(t.Context(), mms.CreateRequest{Message: mms.Message{ID: uuid.New(), Owner: uuid.New()}}); !errors.Is(err, mms.ErrUnavailable) {
		t.Errorf("Accept() = %v, want ErrUnavailable", err)
	}
}
