package identity

import (
	"errors"
	"log/slog"
	"time"

	"github.com/google/uuid"
)

var (
	// ErrNoIdentity says that a user has no account at the provider linked, or that it
	// cannot be unlinked because the user has no password.
	ErrNoIdentity = errors.New("no linked account at the provider")

	// ErrIdentityTaken says that an account at the provider is linked to another user.
	ErrIdentityTaken = errors.New("the account at the provider is linked to another user")

	// ErrOtherIdentity says that the user has another account at the same provider linked.
	ErrOtherIdentity = errors.New("another account at the provider is linked to the user")
)

// Identity is a person's account at an OpenID provider, linked to a user. Issuer and
// Subject identify it.
type Identity struct {
	Issuer      string
	Subject     string // the provider's id of the account
	UserID      uuid.UUID
	Email       string // when it was linked; shown, never matched
	CreatedAt   time.Time
	LastLoginAt *time.Time
}

// LogValue logs the user's ID only.
func (i Identity) LogValue() slog.Value { return slog.StringValue(i.UserID.String()) }

// HasPassword reports whether the user can log in with a password. Others log in through
// single sign-on only.
func (u User) HasPassword() bool { return u.PasswordHash != "" }

// NewUserWithoutPassword makes a user who logs in through single sign-on only, or returns
// the violation of the field email as invalid.Fields.
func NewUserWithoutPassword(id uuid.UUID, email string, role Role) (User, error) {
	email, err := ParseEmail(email)
	return User{ID: id, Email: email, Role: role}, err
}
