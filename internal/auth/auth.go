// Package auth signs people up, logs them in and out, by password or single sign-on and with
// second factors, keeps their sessions and profiles, resets forgotten passwords, manages API
// keys, and authenticates each request by its session or key. The UI and the JSON API share it.
//
// It must not know SQL, and does not decide what a principal may do.
package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/go-webauthn/webauthn/webauthn"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/httpkit"
	"github.com/postcard-mms/postcard/internal/identity"
)

var (
	// ErrInvalidCredentials does not tell which of the two was wrong.
	ErrInvalidCredentials = errors.New("the email or the password is wrong")

	// ErrSignupClosed says that people cannot sign up by themselves.
	ErrSignupClosed = errors.New("sign-up is closed; an operator can add users")
)

// Users stores users and what belongs to their accounts. UserByEmail and UserByID return
// identity.ErrNoUser, CreateUser returns identity.ErrEmailTaken.
type Users interface {
	UserByEmail(ctx context.Context, email string) (identity.User, error)
	UserByID(ctx context.Context, id uuid.UUID) (identity.User, error)
	CreateUser(ctx context.Context, u identity.User) error
	Sessions
	Profiles
	Resets
}

// Service authenticates people.
type Service struct {
	users      Users
	throttle   Throttle
	sessions   *scs.SessionManager
	signupOpen bool
	decoy      identity.PasswordHash // compared with the password if the email is unknown
	mail       *mailQueue            // nil if no mail can be sent

	sso          *SingleSignOn // nil: none
	passwordsOff bool
	now          func() time.Time

	factors  SecondFactorOptions
	passkeys PasskeyStore
	webauthn *webauthn.WebAuthn // nil: passkeys are off
}

// Keys of a session's values. The fingerprint ties the session to the password: a changed
// password ends every session that was started with the old one.
const (
	userKey        = "user_id"
	sessionKey     = "session_id" // of identity.Session
	fingerprintKey = "password_fingerprint"
	workspaceKey   = "workspace_id"
	flashKey       = "flash"
)

// New returns a service. The session manager decides on cookies and storage.
func New(users Users, throttle Throttle, sessions *scs.SessionManager, signupOpen bool) *Service {
	return &Service{users: users, throttle: throttle, sessions: sessions, signupOpen: signupOpen, decoy: identity.DecoyHash, now: time.Now}
}

// SignupOpen reports whether people may sign up by themselves, with a password.
func (s *Service) SignupOpen() bool { return s.signupOpen && !s.passwordsOff }

// SignUp creates a user and logs them in. If the user exists and has this password, it only
// logs them in. It returns ErrPasswordsOff, ErrSignupClosed, TooManyAttemptsError,
// identity.ErrEmailTaken, or the violations of the fields email and password as
// invalid.Fields.
func (s *Service) SignUp(ctx context.Context, clientIP, email, password string) (identity.Principal, error) {
	if s.passwordsOff {
		return identity.Principal{}, ErrPasswordsOff
	}
	if !s.signupOpen {
		return identity.Principal{}, ErrSignupClosed
	}
	if err := s.limit(ctx, signupPerAddress, network(clientIP)); err != nil {
		return identity.Principal{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return identity.Principal{}, fmt.Errorf("generating a user id: %w", err)
	}
	user, err := identity.NewUser(id, email, password, identity.RoleUser)
	if err != nil {
		return identity.Principal{}, err
	}
	err = s.users.CreateUser(ctx, user)
	if errors.Is(err, identity.ErrEmailTaken) {
		return s.logInInstead(ctx, clientIP, email, password)
	}
	if err != nil {
		return identity.Principal{}, err
	}
	if user, err = s.users.UserByID(ctx, id); err != nil { // with the new workspace
		return identity.Principal{}, fmt.Errorf("reading a new user: %w", err)
	}
	return s.startSession(ctx, user)
}

// logInInstead logs in a person who signs up again with the same password, for example
// because the first response was lost. It returns identity.ErrEmailTaken if the password
// differs.
func (s *Service) logInInstead(ctx context.Context, clientIP, email, password string) (identity.Principal, error) {
	principal, err := s.Login(ctx, clientIP, email, password)
	if errors.Is(err, ErrInvalidCredentials) {
		return identity.Principal{}, identity.ErrEmailTaken
	}
	return principal, err
}

// Login checks the password and starts a session. It returns ErrPasswordsOff,
// ErrInvalidCredentials, identity.ErrDisabled (after the right password alone) or
// TooManyAttemptsError. Neither the error nor its timing reveals whether the email is
// known, or whether its user has a password. If the user has a second factor, it returns
// ErrSecondFactorRequired: LoginWithCode or LoginWithPasskey starts the session.
func (s *Service) Login(ctx context.Context, clientIP, email, password string) (identity.Principal, error) {
	if s.passwordsOff {
		return identity.Principal{}, ErrPasswordsOff
	}
	email = identity.NormalizeEmail(email)
	user, err := s.userByEmail(ctx, email)
	known := err == nil
	if err != nil && !errors.Is(err, identity.ErrNoUser) {
		return identity.Principal{}, fmt.Errorf("looking up a user: %w", err)
	}
	attempts, err := s.limitLogin(ctx, clientIP, email, s.knownBrowser(ctx, user))
	if err != nil {
		return identity.Principal{}, err
	}
	hash := user.PasswordHash
	if !known || !user.HasPassword() {
		hash = s.decoy // takes the same time
	}
	matches, err := hash.Matches(password)
	if err != nil {
		return identity.Principal{}, err
	}
	if !known || !user.HasPassword() || !matches {
		return identity.Principal{}, ErrInvalidCredentials
	}
	if user.Disabled {
		return identity.Principal{}, identity.ErrDisabled
	}
	if err := s.throttle.Unthrottle(ctx, attempts); err != nil {
		return identity.Principal{}, err
	}
	return s.logIn(ctx, user)
}

// logIn logs in a user who has given one factor, a password or an account at the provider. It
// returns ErrSecondFactorRequired if the user has a second one, and identity.ErrDisabled.
func (s *Service) logIn(ctx context.Context, user identity.User) (identity.Principal, error) {
	if user.SecondFactor {
		return identity.Principal{}, s.startHalfSession(ctx, user)
	}
	return s.startSession(ctx, user)
}

// userByEmail returns identity.ErrNoUser for an email with a NUL, which Postgres
// rejects. No user has such an email.
func (s *Service) userByEmail(ctx context.Context, email string) (identity.User, error) {
	if strings.ContainsRune(email, 0) {
		return identity.User{}, identity.ErrNoUser
	}
	return s.users.UserByEmail(ctx, email)
}

// startSession logs in a user who has given all factors. Every way to log in ends here. It
// returns identity.ErrDisabled.
func (s *Service) startSession(ctx context.Context, user identity.User) (identity.Principal, error) {
	if err := s.renewSession(ctx, user); err != nil {
		return identity.Principal{}, err
	}
	return user.Principal(s.workspace(ctx)), nil
}

// workspace returns the workspace that the session uses; uuid.Nil if none was chosen.
func (s *Service) workspace(ctx context.Context) uuid.UUID {
	id, _ := uuid.Parse(s.sessions.GetString(ctx, workspaceKey)) // uuid.Nil if there is none
	return id
}

// renewSession makes the session the user's, who is already authenticated. It ends the session
// that the browser had before, and renews the token, so that one known before is worthless
// (session fixation).
func (s *Service) renewSession(ctx context.Context, user identity.User) error {
	if err := s.endCurrentSession(ctx); err != nil {
		return err
	}
	if err := s.sessions.RenewToken(ctx); err != nil {
		return fmt.Errorf("renewing a session: %w", err)
	}
	session, err := newSession(ctx, user.ID)
	if err != nil {
		return err
	}
	if err := s.users.StartSession(ctx, session, s.sessions.Lifetime); err != nil {
		return err
	}
	s.endHalfSession(ctx)
	s.sessions.Put(ctx, userKey, user.ID.String())
	s.keepSession(ctx, session, user)
	return nil
}

// Logout ends the session.
func (s *Service) Logout(ctx context.Context) error {
	if err := s.endCurrentSession(ctx); err != nil {
		return err
	}
	if err := s.sessions.Destroy(ctx); err != nil {
		return fmt.Errorf("ending a session: %w", err)
	}
	return nil
}

// Flash stores a notice for the next page of the session.
func (s *Service) Flash(ctx context.Context, notice string) { s.sessions.Put(ctx, flashKey, notice) }

// PopFlash returns and removes the notice stored by Flash; "" if there is none.
func (s *Service) PopFlash(ctx context.Context) string { return s.sessions.PopString(ctx, flashKey) }

// Middleware loads the session and puts the principal of a logged-in user into the
// request's context. onError responds if the session or the user cannot be read,
// or the session cannot be saved; it must not reveal the error.
func (s *Service) Middleware(onError func(http.ResponseWriter, *http.Request, error)) func(http.Handler) http.Handler {
	sessions := *s.sessions
	sessions.ErrorFunc = endWith(onError)
	return func(next http.Handler) http.Handler {
		return guardResponse(sessions.LoadAndSave(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r = withExchange(w, r)
			user, err := s.sessionUser(r)
			switch {
			case errors.Is(err, identity.ErrNoSession):
				next.ServeHTTP(w, r)
			case err != nil:
				onError(w, r, err)
			default:
				next.ServeHTTP(w, r.WithContext(s.withUser(r.Context(), user)))
			}
		})))
	}
}

// sessionUser returns the user of the request's session, and notes that the session is used.
// It returns identity.ErrNoSession if nobody is logged in.
func (s *Service) sessionUser(r *http.Request) (identity.User, error) {
	ctx := r.Context()
	id, session, ok := s.currentSession(ctx)
	if !ok {
		return identity.User{}, identity.ErrNoSession
	}
	user, err := s.users.UserByID(ctx, id)
	switch {
	case err != nil && !errors.Is(err, identity.ErrNoUser):
		return identity.User{}, fmt.Errorf("loading the user of a session: %w", err)
	case err != nil || user.Disabled || user.PasswordHash.Fingerprint() != s.sessions.GetString(ctx, fingerprintKey):
		return identity.User{}, identity.ErrNoSession
	}
	if err := s.users.UseSession(ctx, id, session, httpkit.ClientIP(r)); err != nil {
		return identity.User{}, fmt.Errorf("using a session: %w", err)
	}
	return user, nil
}
