// Package identity says who somebody is: users, their roles, their passwords,
// and the principal that a request acts for. It stores nothing and speaks no
// HTTP.
package identity

import (
	"context"
	"errors"
	"log/slog"
	"net/mail"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/invalid"
)

// What can go wrong with people.
var (
	ErrNoUser     = errors.New("no such user")
	ErrEmailTaken = errors.New("a user with this email exists already")
)

// Role is what a user may do.
type Role string

// The roles. An admin may also see the queues and manage the installation.
const (
	RoleUser  Role = "user"
	RoleAdmin Role = "admin"
)

// User is a person who can log in.
type User struct {
	ID           uuid.UUID
	Email        string // lower case
	PasswordHash PasswordHash
	Role         Role
	DailyCap     int // messages a day, UTC; 0: the installation's
	CreatedAt    time.Time
}

// Principal is the user as the one who acts.
func (u User) Principal() Principal {
	return Principal{UserID: u.ID, Email: u.Email, Role: u.Role, DailyCap: u.DailyCap}
}

// LogValue names the user by id alone.
func (u User) LogValue() slog.Value { return slog.StringValue(u.ID.String()) }

// Principal is the user a request acts for.
type Principal struct {
	UserID   uuid.UUID
	Email    string
	Role     Role
	DailyCap int  // messages a day, UTC; 0: the installation's
	Key      *Key // the API key that the request came with; nil for a person with a session
}

// May reports whether the principal may do what is in the scope: people may do
// all, keys what they were made for.
func (p Principal) May(scope Scope) bool { return p.Key == nil || slices.Contains(p.Key.Scopes, scope) }

// IsAdmin reports whether the principal may see and change the installation.
func (p Principal) IsAdmin() bool { return p.Role == RoleAdmin }

// LogValue names the principal by id alone.
func (p Principal) LogValue() slog.Value { return slog.StringValue(p.UserID.String()) }

type principalKey struct{}

// WithPrincipal returns a context that carries who acts.
func WithPrincipal(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// PrincipalFrom returns who acts, and false where nobody is logged in.
func PrincipalFrom(ctx context.Context) (Principal, bool) {
	p, ok := ctx.Value(principalKey{}).(Principal)
	return p, ok
}

// NewUser makes a user of what somebody typed, or returns every fault as
// invalid.Fields with the fields email and password.
func NewUser(id uuid.UUID, email, password string, role Role) (User, error) {
	var faults invalid.Fields
	email = NormalizeEmail(email)
	checkEmail(email, &faults)
	checkPassword(password, &faults)
	if err := faults.Err(); err != nil {
		return User{}, err
	}
	hash, err := HashPassword(password)
	if err != nil {
		return User{}, err
	}
	return User{ID: id, Email: email, PasswordHash: hash, Role: role}, nil
}

// NormalizeEmail brings an address to the one form it is stored and looked up
// in. Bytes that are not UTF-8 become U+FFFD, which no user's email contains.
func NormalizeEmail(email string) string { return strings.ToLower(strings.TrimSpace(email)) }

// maxEmail is the longest address that can be mailed to (RFC 5321).
const maxEmail = 254

func checkEmail(email string, faults *invalid.Fields) {
	if email == "" {
		faults.Add("email", "required", "is missing")
		return
	}
	parsed, err := mail.ParseAddress(email)
	if err != nil || parsed.Address != email || len(email) > maxEmail || strings.ContainsAny(email, "\"\x00\uFFFD") {
		faults.Add("email", "email", "must be an email address like ada@example.com")
	}
}
