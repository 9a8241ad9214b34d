// Package identity defines users, roles, passwords, API keys and the principal of
// a request, with the rules for valid ones. It must not store anything or know
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
	"github.com/postcard-mms/postcard/internal/pasted"
)

var (
	// ErrNoUser says that a user does not exist.
	ErrNoUser = errors.New("no such user")

	// ErrEmailTaken says that another user has the email.
	ErrEmailTaken = errors.New("a user with this email already exists")
)

// Role determines what a user may do.
type Role string

// The roles. An admin may also see the queues and manage the installation.
const (
	RoleUser  Role = "user"
	RoleAdmin Role = "admin"
)

// User is a person who can log in.
type User struct {
	ID           uuid.UUID
	Email        string       // lower case
	PasswordHash PasswordHash // empty: none
	Role         Role
	CreatedAt    time.Time
	Memberships  []Membership // by the time of joining
	Name         string       // may be empty
	TimeZone     string       // of the IANA database
	Disabled     bool         // cannot log in
	SecondFactor bool         // has one that works
}

// Principal returns the principal of a request in the user's session that uses the
// workspace. If the user is no member of it, the principal uses the first one of the
// user; without any, it has no permissions.
func (u User) Principal(workspace uuid.UUID) Principal {
	p := Principal{UserID: u.ID, Email: u.Email, Role: u.Role, Memberships: u.Memberships}
	if len(u.Memberships) == 0 {
		return p
	}
	used := u.Memberships[max(0, slices.IndexFunc(u.Memberships, func(m Membership) bool { return m.ID == workspace }))]
	p.WorkspaceID, p.Workspace, p.Permissions, p.DailyCap = used.ID, used.Name, used.Permissions, used.DailyCap
	return p
}

// LogValue logs the user's ID only.
func (u User) LogValue() slog.Value { return slog.StringValue(u.ID.String()) }

// Principal is the user on whose behalf a request acts, in a workspace.
type Principal struct {
	UserID      uuid.UUID // for an API key, the user who created it
	Email       string
	Role        Role // for an API key, RoleUser
	WorkspaceID uuid.UUID
	Workspace   string // its name
	Permissions []Permission
	DailyCap    int          // messages a day, UTC, of the workspace; 0: the installation's default
	Memberships []Membership // all workspaces of the user; nil for an API key
	Key         *Key         // the request's API key; nil if a person made it in a session
}

// May reports whether the principal has the permission in the workspace.
func (p Principal) May(permission Permission) bool { return slices.Contains(p.Permissions, permission) }

// IsAdmin reports whether the principal may see and change the installation.
func (p Principal) IsAdmin() bool { return p.Role == RoleAdmin }

// LogValue logs the user's ID only.
func (p Principal) LogValue() slog.Value { return slog.StringValue(p.UserID.String()) }

type principalKey struct{}

// WithPrincipal returns a context that carries the principal.
func WithPrincipal(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// PrincipalFrom returns the context's principal, or false if nobody is logged in.
func PrincipalFrom(ctx context.Context) (Principal, bool) {
	p, ok := ctx.Value(principalKey{}).(Principal)
	return p, ok
}

// NewUser makes a user of the submitted email and password, or returns all
// violations of the fields email and password as invalid.Fields.
func NewUser(id uuid.UUID, email, password string, role Role) (User, error) {
	var violations invalid.Fields
	email = NormalizeEmail(email)
	validateEmail(email, &violations)
	validatePassword("password", password, &violations)
	if err := violations.Err(); err != nil {
		return User{}, err
	}
	hash, err := HashPassword(password)
	if err != nil {
		return User{}, err
	}
	return User{ID: id, Email: email, PasswordHash: hash, Role: role}, nil
}

// NormalizeEmail returns the form in which an address is stored and looked up, without
// the spaces and invisible characters that come with a pasted one.
// Invalid UTF-8 becomes U+FFFD, which no user's email contains.
func NormalizeEmail(email string) string { return strings.ToLower(pasted.Clean(email)) }

// ParseEmail returns the normalized address, or the violation of the field email as
// invalid.Fields.
func ParseEmail(email string) (string, error) {
	var violations invalid.Fields
	email = NormalizeEmail(email)
	validateEmail(email, &violations)
	return email, violations.Err()
}

// maxEmail is the longest valid address, in bytes (RFC 5321).
const maxEmail = 254

func validateEmail(email string, violations *invalid.Fields) {
	if email == "" {
		violations.Add("email", "required", "is missing")
		return
	}
	parsed, err := mail.ParseAddress(email)
	if err != nil || parsed.Address != email || len(email) > maxEmail || strings.ContainsAny(email, "\"\x00\uFFFD") {
		violations.Add("email", "email", "must be an email address like ada@example.com")
	}
}
