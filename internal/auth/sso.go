package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/sso"
)

var (
	// ErrPasswordsOff says that nobody may log in with a password.
	ErrPasswordsOff = errors.New("logging in with a password is switched off")

	// ErrSSOExpired says that the browser has not begun this single sign-on, or too long ago,
	// or has finished it already.
	ErrSSOExpired = errors.New("this single sign-on has expired, was finished, or began in another browser")

	// ErrEmailNotVerified says that a new user cannot be created, because the provider does
	// not say that the email belongs to the person.
	ErrEmailNotVerified = errors.New("the provider has not verified the email")

	// ErrEmailInUse says that the account at the provider is not linked, but a user has its
	// email. That user must log in and link it.
	ErrEmailInUse = errors.New("a user with this email exists, who has not linked the account at the provider")

	// ErrDomainNotAllowed says that people with an email of the domain may not create users.
	ErrDomainNotAllowed = errors.New("the domain of the email is not allowed")

	// ErrOnlyLogin says that an account at the provider cannot be unlinked, because its user
	// could not log in any more.
	ErrOnlyLogin = errors.New("the account at the provider is the only way to log in")
)

// Provider is the OpenID provider; see sso.Provider.
type Provider interface {
	Issuer() string
	Reachable() bool
	Begin() (sso.Attempt, string, error)
	Finish(ctx context.Context, a sso.Attempt, response url.Values) (sso.Claims, error)
}

// Identities stores the accounts at the provider that are linked to users; see
// postgres.Store.
type Identities interface {
	Identity(ctx context.Context, user uuid.UUID, issuer string) (identity.Identity, error)
	LoginByIdentity(ctx context.Context, issuer, subject string, role identity.Role) (identity.User, error)
	CreateUserWithIdentity(ctx context.Context, u identity.User, i identity.Identity) error
	LinkIdentity(ctx context.Context, i identity.Identity) (identity.User, error)
	UnlinkIdentity(ctx context.Context, user uuid.UUID, issuer string) (identity.User, error)
}

// SingleSignOn is how people log in through an OpenID provider.
type SingleSignOn struct {
	Provider   Provider
	Name       string // of the provider, for people
	Identities Identities
	Domains    []string        // whose people may create users, in lower case; empty: all, if sign-up is open
	AdminGroup string          // whose members are admins; empty: roles are not changed
	Drop       func(uuid.UUID) // drops a user who has changed from the caches of this process
}

// UseSingleSignOn lets people log in through a provider, and no longer with passwords if
// passwords is false. It must be called before the first request.
func (s *Service) UseSingleSignOn(o SingleSignOn, passwords bool) {
	s.sso, s.passwordsOff = &o, !passwords
}

// SSOName returns the name of the provider of single sign-on; "" if there is none.
func (s *Service) SSOName() string {
	if s.sso == nil {
		return ""
	}
	return s.sso.Name
}

// SSOReachable reports whether the provider of single sign-on can be used.
func (s *Service) SSOReachable() bool { return s.sso != nil && s.sso.Provider.Reachable() }

// PasswordLogin reports whether people may log in with passwords.
func (s *Service) PasswordLogin() bool { return !s.passwordsOff }

const (
	pendingKey = "single_sign_on" // in a session

	// maxPending is how many single sign-ons a browser may have begun, in several tabs.
	maxPending = 4

	// pendingLifetime is how long a person may take at the provider.
	pendingLifetime = 10 * time.Minute
)

// pending is a single sign-on that the browser of the session has begun.
type pending struct {
	Attempt sso.Attempt `json:"attempt"`
	Link    uuid.UUID   `json:"link"` // the user to link the account to; uuid.Nil: log in
	Next    string      `json:"next"`
	Began   time.Time   `json:"began"`
}

// BeginSSO begins a log-in through the provider and returns the URL to which the browser must
// go. next comes back from FinishSSO. It returns sso.ErrUnreachable or
// TooManyAttemptsError.
func (s *Service) BeginSSO(ctx context.Context, clientIP, next string) (string, error) {
	return s.beginSSO(ctx, clientIP, pending{Next: next})
}

// BeginLink is BeginSSO to link the person's account at the provider to the logged-in user.
func (s *Service) BeginLink(ctx context.Context, clientIP string, p identity.Principal) (string, error) {
	return s.beginSSO(ctx, clientIP, pending{Link: p.UserID})
}

func (s *Service) beginSSO(ctx context.Context, clientIP string, begun pending) (string, error) {
	if err := s.limit(ctx, ssoPerAddress, network(clientIP)); err != nil {
		return "", err
	}
	attempt, target, err := s.sso.Provider.Begin()
	if err != nil {
		return "", err
	}
	begun.Attempt, begun.Began = attempt, s.now()
	list := append(s.pending(ctx), begun)
	if err := s.putPending(ctx, list[max(0, len(list)-maxPending):]); err != nil {
		return "", err
	}
	if _, loggedIn := identity.PrincipalFrom(ctx); !loggedIn {
		s.sessions.SetDeadline(ctx, s.now().Add(pendingLifetime)) // a log-in renews it
	}
	return target, nil
}

// pending returns the session's single sign-ons that have not expired, the oldest first.
func (s *Service) pending(ctx context.Context) []pending {
	var list []pending
	if json.Unmarshal(s.sessions.GetBytes(ctx, pendingKey), &list) != nil {
		return nil
	}
	expired := s.now().Add(-pendingLifetime)
	return slices.DeleteFunc(list, func(p pending) bool { return p.Began.Before(expired) })
}

func (s *Service) putPending(ctx context.Context, list []pending) error {
	encoded, err := json.Marshal(list)
	if err != nil {
		return fmt.Errorf("encoding a single sign-on: %w", err)
	}
	s.sessions.Put(ctx, pendingKey, encoded)
	return nil
}

// takePending removes the single sign-on with the state from the session and returns it, once
// over all processes, or ErrSSOExpired.
func (s *Service) takePending(ctx context.Context, state string) (pending, error) {
	list := s.pending(ctx)
	i := slices.IndexFunc(list, func(p pending) bool { return p.Attempt.State == state })
	if state == "" || i < 0 {
		return pending{}, ErrSSOExpired
	}
	found := list[i]
	if err := s.putPending(ctx, slices.Delete(list, i, i+1)); err != nil {
		return pending{}, err
	}
	// Two requests at a time can both find it in their session.
	err := s.limit(ctx, ssoPerState, state)
	var tooMany TooManyAttemptsError
	if errors.As(err, &tooMany) {
		return pending{}, ErrSSOExpired
	}
	return found, err
}

// SSOResult is what a single sign-on was for.
type SSOResult struct {
	Next string // as given to BeginSSO
	Link bool   // it was to link an account
}

// FinishSSO finishes a single sign-on with the provider's response, and starts or renews the
// session. The errors are those of sso.Provider and of this file, ErrSecondFactorRequired,
// identity.ErrDisabled, identity.ErrIdentityTaken and identity.ErrOtherIdentity. The result is
// also valid with an error.
func (s *Service) FinishSSO(ctx context.Context, clientIP string, response url.Values) (SSOResult, error) {
	begun, err := s.takePending(ctx, response.Get("state"))
	if err != nil {
		return SSOResult{}, err
	}
	result := SSOResult{Next: begun.Next, Link: begun.Link != uuid.Nil}
	claims, err := s.sso.Provider.Finish(ctx, begun.Attempt, response)
	if err != nil {
		return result, err
	}
	if result.Link {
		return result, s.link(ctx, begun.Link, claims)
	}
	user, err := s.userOf(ctx, claims)
	if err != nil {
		return result, err
	}
	if err := s.throttle.Unthrottle(ctx, ssoPerAddress.key(network(clientIP))); err != nil {
		return result, err
	}
	s.sso.Drop(user.ID)
	_, err = s.logIn(ctx, user)
	return result, err
}

// userOf returns the user to whom the account at the provider is linked, or a new one. The
// email never decides who somebody is (docs/decisions/0015).
func (s *Service) userOf(ctx context.Context, c sso.Claims) (identity.User, error) {
	role := s.roleOf(c)
	user, err := s.sso.Identities.LoginByIdentity(ctx, c.Issuer, c.Subject, role)
	if !errors.Is(err, identity.ErrNoUser) {
		return user, err
	}
	if user, err = s.newUser(ctx, c); err != nil {
		return user, err
	}
	err = s.sso.Identities.CreateUserWithIdentity(ctx, user, identity.Identity{Issuer: c.Issuer, Subject: c.Subject})
	switch {
	case errors.Is(err, identity.ErrIdentityTaken): // the person has logged in twice at the same time
		return s.sso.Identities.LoginByIdentity(ctx, c.Issuer, c.Subject, role)
	case errors.Is(err, identity.ErrEmailTaken):
		return user, ErrEmailInUse
	}
	return user, err
}

// roleOf returns the role that the provider's groups give; "" if they give none.
func (s *Service) roleOf(c sso.Claims) identity.Role {
	switch {
	case s.sso.AdminGroup == "":
		return ""
	case c.InGroup(s.sso.AdminGroup):
		return identity.RoleAdmin
	default:
		return identity.RoleUser
	}
}

// newUser makes the user of a person who may create one.
func (s *Service) newUser(ctx context.Context, c sso.Claims) (identity.User, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return identity.User{}, fmt.Errorf("generating a user id: %w", err)
	}
	role := s.roleOf(c)
	if role == "" {
		role = identity.RoleUser
	}
	user, err := identity.NewUserWithoutPassword(id, c.Email, role)
	if err != nil || !c.EmailVerified {
		return user, ErrEmailNotVerified
	}
	_, err = s.userByEmail(ctx, user.Email)
	switch {
	case err == nil:
		return user, ErrEmailInUse
	case !errors.Is(err, identity.ErrNoUser):
		return user, fmt.Errorf("looking up a user: %w", err)
	}
	domain := user.Email[strings.LastIndex(user.Email, "@")+1:]
	switch {
	case slices.Contains(s.sso.Domains, domain):
		return user, nil
	case len(s.sso.Domains) > 0:
		return user, ErrDomainNotAllowed
	case !s.signupOpen:
		return user, ErrSignupClosed
	}
	return user, nil
}

// link links the account at the provider to the user who began it and is still logged in.
func (s *Service) link(ctx context.Context, user uuid.UUID, c sso.Claims) error {
	principal, ok := identity.PrincipalFrom(ctx)
	if !ok || principal.UserID != user {
		return ErrSSOExpired
	}
	email, err := identity.ParseEmail(c.Email)
	if err != nil {
		email = "" // it is only shown
	}
	linked, err := s.sso.Identities.LinkIdentity(ctx, identity.Identity{Issuer: c.Issuer, Subject: c.Subject, UserID: user, Email: email})
	if err != nil {
		return err
	}
	s.sso.Drop(user)
	return s.renewSession(ctx, linked)
}

// LinkedIdentity returns the account at the provider that is linked to the user, or
// identity.ErrNoIdentity, and whether it could be unlinked.
func (s *Service) LinkedIdentity(ctx context.Context, p identity.Principal) (linked identity.Identity, unlinkable bool, err error) {
	user, err := s.users.UserByID(ctx, p.UserID)
	if err != nil {
		return linked, false, fmt.Errorf("loading a user: %w", err)
	}
	linked, err = s.sso.Identities.Identity(ctx, p.UserID, s.sso.Provider.Issuer())
	return linked, user.HasPassword() && !s.passwordsOff, err
}

// Unlink unlinks the account at the provider, ends the user's other sessions and renews this
// one. It returns ErrOnlyLogin if the user could not log in any more, or
// identity.ErrNoIdentity.
func (s *Service) Unlink(ctx context.Context, p identity.Principal) error {
	_, unlinkable, err := s.LinkedIdentity(ctx, p)
	if err != nil {
		return err
	}
	if !unlinkable {
		return ErrOnlyLogin
	}
	user, err := s.sso.Identities.UnlinkIdentity(ctx, p.UserID, s.sso.Provider.Issuer())
	if err != nil {
		return err
	}
	s.sso.Drop(p.UserID)
	return s.renewSession(ctx, user)
}
