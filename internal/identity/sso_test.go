package identity_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/identity"
)

func TestNewUserWithoutPassword(t *testing.T) {
	t.Parallel()
	id := uuid.New()
	got, err := identity.NewUserWithoutPassword(id, " Eve@Example.COM", identity.RoleAdmin)
	if want := (identity.User{ID: id, Email: "eve@example.com", Role: identity.RoleAdmin}); err != nil || !cmp.Equal(got, want) || got.HasPassword() {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	_, err = identity.NewUserWithoutPassword(id, "Eve <eve@example.com>", identity.RoleUser)
	wantViolations(t, err, []string{"email email"})
}
