// Package signin lets people sign up, log in and log out, keeps their
// sessions, and says for each request who acts. Pages and JSON API share it.
package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/alexedwards/scs/v2"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/identity"
)

// What can go wrong at the door.
var (
	ErrInvalidCredentials = errors.New("the email or the password is wrong")
	ErrSignupClosed       = errors.New("sign-up is closed; an operator can add users")
)

// Users is where users are kept. UserByEmail and UserByID return
// identity.ErrNoUser, CreateUser identity.ErrEmailTaken. NoteLogout tells whoever
// serves a user for long that one of their sessions has ended.
type Users interface {
	UserByEmail(ctx context.Context, email string) (identity.User, error)
	UserByID(ctx context.Context, id uuid.UUID) (identity.User, error)
	CreateUser(ctx context.Context, u identity.User) error
	NotifyLogout(ctx context.Context, id uuid.UUID) error
}

// Service is the door.
type Service struct {
	users      Users
	throttle   Throttle
	sessions   *scs.SessionManager
	signupOpen bool
	decoy      identity.PasswordHash
}

// What a session holds. The fingerprint ties it to the password: a changed
// password ends every session opened with the old one.
const (
	userKey        = "user_id"
	fingerprintKey = "password_fingerprint"
)

// New makes the door. The session manager decides on cookies and storage.
func New(users Users, throttle Throttle, sessions *scs.SessionManager, signupOpen bool) (*Service, error) {
	decoy, err := identity.HashPassword(uuid.NewString())
	if err != nil {
		return nil, err
	}
	return &Service{users: users, throttle: throttle, sessions: sessions, signupOpen: signupOpen, decoy: decoy}, nil
}

// SignupOpen reports whether people may sign up by themselves.
func (s *Service) SignupOpen() bool { return s.signupOpen }

// SignUp makes a user and logs them in. It returns ErrClosed, TooManyError,
// identity.ErrEmailTaken, or invalid.Fields with the fields email and password.
func (s *Service) SignUp(ctx context.Context, clientIP, email, password string) (identity.Principal, error) {
	if !s.signupOpen {
		return identity.Principal{}, ErrSignupClosed
	}
	if err := s.limit(ctx, signupPerAddress, network(clientIP)); err != nil {
		return identity.Principal{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return identity.Principal{}, fmt.Errorf("making a user id: %w", err)
	}
	user, err := identity.NewUser(id, email, password, identity.RoleUser)
	if err != nil {
		return identity.Principal{}, err
	}
	if err := s.users.CreateUser(ctx, user); err != nil {
		return identity.Principal{}, err
	}
	return s.startSession(ctx, user)
}

// Login checks the password and opens a session. Whether the email or the
// password was wrong cannot be told from the answer (ErrWrong) or its timing;
// TooManyError comes for unknown emails just the same.
func (s *Service) Login(ctx context.Context, clientIP, email, password string) (identity.Principal, error) {
	email = identity.NormalizeEmail(email)
	if err := s.limit(ctx, loginPerAddress, network(clientIP)); err != nil {
		return identity.Principal{}, err
	}
	if err := s.limit(ctx, loginPerAccount, email); err != nil {
		return identity.Principal{}, err
	}
	user, err := s.userByEmail(ctx, email)
	known := err == nil
	if err != nil && !errors.Is(err, identity.ErrNoUser) {
		return identity.Principal{}, fmt.Errorf("looking up a user: %w", err)
	}
	hash := user.PasswordHash
	if !known {
		hash = s.decoy // costs the same time
	}
	matches, err := hash.Matches(password)
	if err != nil {
		return identity.Principal{}, err
	}
	if !known || !matches {
		return identity.Principal{}, ErrInvalidCredentials
	}
	if err := s.throttle.Unthrottle(ctx, loginPerAccount.key(email)); err != nil {
		return identity.Principal{}, err
	}
	return s.startSession(ctx, user)
}

// userByEmail spares the database a NUL, which it takes for an error of ours.
// No user can have such an email.
func (s *Service) userByEmail(ctx context.Context, email string) (identity.User, error) {
	if strings.ContainsRune(email, 0) {
		return identity.User{}, identity.ErrNoUser
	}
	return s.users.UserByEmail(ctx, email)
}

// startSession renews the session's token, so that one known before is worth nothing.
func (s *Service) startSession(ctx context.Context, user identity.User) (identity.Principal, error) {
	if err := s.sessions.RenewToken(ctx); err != nil {
		return identity.Principal{}, fmt.Errorf("renewing a session: %w", err)
	}
	s.sessions.Put(ctx, userKey, user.ID.String())
	s.sessions.Put(ctx, fingerprintKey, user.PasswordHash.Fingerprint())
	return user.Principal(), nil
}

// Logout ends the session.
func (s *Service) Logout(ctx context.Context) error {
	id, parseErr := uuid.Parse(s.sessions.GetString(ctx, userKey))
	if err := s.sessions.Destroy(ctx); err != nil {
		return fmt.Errorf("ending a session: %w", err)
	}
	if parseErr != nil { // nobody was logged in
		return nil
	}
	return s.users.NotifyLogout(ctx, id)
}

// Flash keeps a notice for the next page of this session.
func (s *Service) Flash(ctx context.Context, notice string) { s.sessions.Put(ctx, "flash", notice) }

// PopFlash returns the notice kept by Flash once, or "".
func (s *Service) PopFlash(ctx context.Context) string { return s.sessions.PopString(ctx, "flash") }

// Middleware loads the session and puts the principal of a logged-in user
// into the request's context. onError answers when the session or the user
// cannot be read; it must not reveal the error.
func (s *Service) Middleware(onError func(http.ResponseWriter, *http.Request, error)) func(http.Handler) http.Handler {
	sessions := *s.sessions
	sessions.ErrorFunc = onceOnly(onError)
	return func(next http.Handler) http.Handler {
		return oneAnswer(sessions.LoadAndSave(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			id, err := uuid.Parse(s.sessions.GetString(r.Context(), userKey))
			if err != nil {
				next.ServeHTTP(w, r)
				return
			}
			user, err := s.users.UserByID(r.Context(), id)
			switch {
			case err != nil && !errors.Is(err, identity.ErrNoUser):
				onError(w, r, fmt.Errorf("loading the user of a session: %w", err))
			case err != nil || user.PasswordHash.Fingerprint() != s.sessions.GetString(r.Context(), fingerprintKey):
				next.ServeHTTP(w, r)
			default:
				next.ServeHTTP(w, r.WithContext(identity.WithPrincipal(r.Context(), user.Principal())))
			}
		})))
	}
}
