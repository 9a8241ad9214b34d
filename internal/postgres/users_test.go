package postgres_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
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
	if byID, err := store.UserByID(t.Context(), id); err != nil || !cmp.Equal(byID, byEmail) {
		t.Errorf("UserByID() = %+v, %v, want %+v", byID, err, byEmail)
	}
	if _, err := store.UserByEmail(t.Context(), "eve@example.com"); !errors.Is(err, identity.ErrNoUser) {
		t.Errorf("unknown email: got %v, want ErrNoUser", err)
	}
	if _, err := store.UserByID(t.Context(), uuid.New()); !errors.Is(err, identity.ErrNoUser) {
		t.Errorf("unknown id: got %v, want ErrNoUser", err)
	}
	duplicate := identity.User{ID: uuid.New(), Email: "ada@example.com", Role: identity.RoleUser, PasswordHash: byEmail.PasswordHash}
	if err := store.CreateUser(t.Context(), duplicate); !errors.Is(err, identity.ErrEmailTaken) {
		t.Errorf("same email: got %v, want ErrEmailTaken", err)
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
		t.Errorf("UserByID() = %+v, %v, want the new password", user, err)
	}
	if err := store.SetPassword(t.Context(), "eve@example.com", hash); !errors.Is(err, identity.ErrNoUser) {
		t.Errorf("unknown email: got %v, want ErrNoUser", err)
	}
}

func TestOnlyOneFirstAdmin(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	for i, want := range []bool{true, false} {
		admin := identity.User{ID: uuid.New(), Email: strings.Repeat("a", i+1) + "@example.com", PasswordHash: identity.PasswordHash(strings.Repeat("x", 60))}
		created, err := store.CreateFirstAdmin(t.Context(), admin)
		if err != nil || created != want {
			t.Errorf("admin %d: got created %v, %v, want %v", i, created, err, want)
		}
	}
}

func TestUnreachableDatabase(t *testing.T) {
	t.Parallel()
	store := openStore(t, "postgres://nobody@127.0.0.1:1/none?sslmode=disable", 1, postgres.StatementTimeout)
	if err := store.Ping(t.Context()); !errors.Is(err, mms.ErrUnavailable) {
		t.Errorf("Ping() = %v, want ErrUnavailable", err)
	}
	if _, err := store.Message(t.Context(), uuid.New(), uuid.New()); !errors.Is(err, mms.ErrUnavailable) {
		t.Errorf("Message() = %v, want ErrUnavailable", err)
	}
	if _, err := store.CreateMessage(t.Context(), mms.CreateRequest{Message: mms.Message{ID: uuid.New(), Workspace: uuid.New()}}); !errors.Is(err, mms.ErrUnavailable) {
		t.Errorf("CreateMessage() = %v, want ErrUnavailable", err)
	}
}
