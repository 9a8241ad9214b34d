// Package authtest keeps accounts in memory, for tests of what is built on package auth. It
// must not be linked into a program.
package authtest

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/identity"
)

// Accounts implements auth.Sessions, auth.Profiles and auth.Resets. The zero value has no
// sessions; profiles and resets need Find and Replace.
type Accounts struct {
	Find    func(matches func(identity.User) bool) (identity.User, error) // returns identity.ErrNoUser
	Replace func(identity.User)                                           // replaces the user of the same id

	mu       sync.Mutex
	sessions []identity.Session
	resets   map[[32]byte]identity.User // as the user was
}

// StartSession implements auth.Sessions.
func (a *Accounts) StartSession(_ context.Context, session identity.Session, _ time.Duration) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sessions = append(a.sessions, session)
	return nil
}

// UseSession implements auth.Sessions.
func (a *Accounts) UseSession(_ context.Context, user, id uuid.UUID, _ string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !slices.ContainsFunc(a.sessions, func(s identity.Session) bool { return s.ID == id && s.UserID == user }) {
		return identity.ErrNoSession
	}
	return nil
}

// UserSessions implements auth.Sessions.
func (a *Accounts) UserSessions(_ context.Context, user uuid.UUID) ([]identity.Session, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var list []identity.Session
	for _, s := range a.sessions {
		if s.UserID == user {
			list = append(list, s)
		}
	}
	return list, nil
}

// EndSession implements auth.Sessions.
func (a *Accounts) EndSession(_ context.Context, user, id uuid.UUID) error {
	ended := a.end(func(s identity.Session) bool { return s.ID == id && s.UserID == user })
	if !ended {
		return identity.ErrNoSession
	}
	return nil
}

// EndOtherSessions implements auth.Sessions.
func (a *Accounts) EndOtherSessions(_ context.Context, user, except uuid.UUID) error {
	a.end(func(s identity.Session) bool { return s.UserID == user && s.ID != except })
	return nil
}

func (a *Accounts) end(matches func(identity.Session) bool) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	before := len(a.sessions)
	a.sessions = slices.DeleteFunc(a.sessions, matches)
	return len(a.sessions) < before
}

// ChangeProfile implements auth.Profiles.
func (a *Accounts) ChangeProfile(_ context.Context, u identity.User) error {
	current, err := a.user(u.ID)
	if err != nil {
		return err
	}
	current.Name, current.TimeZone = u.Name, u.TimeZone
	a.Replace(current)
	return nil
}

// ChangeCredentials implements auth.Profiles.
func (a *Accounts) ChangeCredentials(ctx context.Context, u identity.User, hash identity.PasswordHash, session identity.Session, lifetime time.Duration) error {
	current, err := a.user(u.ID)
	if err != nil || current.PasswordHash != u.PasswordHash {
		return identity.ErrNoUser
	}
	if other, err := a.Find(func(o identity.User) bool { return o.Email == u.Email }); err == nil && other.ID != u.ID {
		return identity.ErrEmailTaken
	}
	u.PasswordHash = hash
	a.Replace(u)
	a.end(func(s identity.Session) bool { return s.UserID == u.ID })
	return a.StartSession(ctx, session, lifetime)
}

// CreateReset implements auth.Resets.
func (a *Accounts) CreateReset(_ context.Context, email string, tokenHash [32]byte) error {
	user, err := a.Find(func(u identity.User) bool { return u.Email == email && !u.Disabled })
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.resets == nil {
		a.resets = map[[32]byte]identity.User{}
	}
	a.resets[tokenHash] = user
	return nil
}

// CheckReset implements auth.Resets.
func (a *Accounts) CheckReset(_ context.Context, tokenHash [32]byte) (string, error) {
	user, err := a.reset(tokenHash)
	return user.Email, err
}

// UseReset implements auth.Resets.
func (a *Accounts) UseReset(_ context.Context, tokenHash [32]byte, hash identity.PasswordHash) (uuid.UUID, string, error) {
	user, err := a.reset(tokenHash)
	if err != nil {
		return uuid.Nil, "", err
	}
	user.PasswordHash = hash
	a.Replace(user)
	a.end(func(s identity.Session) bool { return s.UserID == user.ID })
	return user.ID, user.Email, nil
}

func (a *Accounts) reset(tokenHash [32]byte) (identity.User, error) {
	a.mu.Lock()
	was, ok := a.resets[tokenHash]
	a.mu.Unlock()
	if !ok {
		return identity.User{}, identity.ErrNoReset
	}
	user, err := a.user(was.ID)
	if err != nil || user.Disabled || user.Email != was.Email || user.PasswordHash != was.PasswordHash {
		return identity.User{}, identity.ErrNoReset
	}
	return user, nil
}

func (a *Accounts) user(id uuid.UUID) (identity.User, error) {
	return a.Find(func(u identity.User) bool { return u.ID == id })
}

// InOwnWorkspace returns the user as the database does after they have signed up: with a
// workspace of the same id. A user with other memberships, or with none but not nil, stays
// as they are.
func InOwnWorkspace(u identity.User) identity.User {
	if u.Memberships == nil {
		u.Memberships = []identity.Membership{{
			Workspace:   identity.Workspace{ID: u.ID, Name: identity.WorkspaceNameOf(u.Email)},
			Permissions: identity.MemberPermissions(),
		}}
	}
	return u
}
