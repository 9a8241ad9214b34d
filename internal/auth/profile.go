package auth

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/invalid"
)

// Profiles stores changes of users.
type Profiles interface {
	// ChangeProfile stores the name and the time zone, and tells all processes to drop the
	// user from their caches.
	ChangeProfile(ctx context.Context, u identity.User) error

	// ChangeCredentials stores the whole profile with a new hash, ends all sessions of the
	// user at all processes and starts the given one. It returns identity.ErrEmailTaken, or
	// identity.ErrNoUser if u.PasswordHash, which was checked, is not the user's any more.
	ChangeCredentials(ctx context.Context, u identity.User, hash identity.PasswordHash, session identity.Session, lifetime time.Duration) error
}

// Profile returns the user of a principal.
func (s *Service) Profile(ctx context.Context, user uuid.UUID) (identity.User, error) {
	return s.users.UserByID(ctx, user)
}

// ChangeProfile changes a user's profile. A change of the email or the password needs the
// current password, ends all other sessions of the user, and gives this one a new token, so
// that a copy of its cookie is worthless. It returns TooManyAttemptsError,
// identity.ErrEmailTaken, or violations as invalid.Fields.
func (s *Service) ChangeProfile(ctx context.Context, user uuid.UUID, p identity.ProfileParams) error {
	current, err := s.users.UserByID(ctx, user)
	if err != nil {
		return err
	}
	changed, credentials, err := current.Change(p)
	if !credentials {
		if err != nil {
			return err
		}
		return s.users.ChangeProfile(ctx, changed)
	}
	if err != nil && p.CurrentPassword != "" {
		return err
	}
	if confirmErr := s.confirmPassword(ctx, current, p.CurrentPassword); confirmErr != nil {
		return joinViolations(err, confirmErr)
	}
	return s.changeCredentials(ctx, current, changed, p.NewPassword)
}

// joinViolations adds the violations of another check to those of the first, if there are
// any.
func joinViolations(first, other error) error {
	var violations, more invalid.Fields
	if errors.As(first, &violations) && errors.As(other, &more) {
		return append(violations, more...)
	}
	return other
}

// ConfirmPassword checks the current password of a user who is logged in, before a change
// that a thief of the session must not make. It returns TooManyAttemptsError, or a violation
// of the field currentPassword as invalid.Fields.
func (s *Service) ConfirmPassword(ctx context.Context, user uuid.UUID, password string) error {
	current, err := s.users.UserByID(ctx, user)
	if err != nil {
		return err
	}
	return s.confirmPassword(ctx, current, password)
}

func (s *Service) confirmPassword(ctx context.Context, user identity.User, password string) error {
	if password == "" {
		return invalid.Fields{{Name: "currentPassword", Rule: "required", Message: "is missing"}}
	}
	_, session, _ := s.currentSession(ctx)
	subject := user.ID.String() + "\x00" + session.String()
	if err := s.limit(ctx, confirmPerSession, subject); err != nil {
		return err
	}
	if !user.HasPassword() {
		return errWrongPassword()
	}
	matches, err := user.PasswordHash.Matches(password)
	if err != nil {
		return err
	}
	if !matches {
		return errWrongPassword()
	}
	return s.throttle.Unthrottle(ctx, confirmPerSession.key(subject))
}

func errWrongPassword() error {
	return invalid.Fields{{Name: "currentPassword", Rule: "wrong_password", Message: "is wrong"}}
}

// changeCredentials renews the token first: a process that dies in between must not leave
// the old one valid.
func (s *Service) changeCredentials(ctx context.Context, current, changed identity.User, newPassword *string) error {
	hash := current.PasswordHash
	if newPassword != nil {
		var err error
		if hash, err = identity.HashPassword(*newPassword); err != nil {
			return err
		}
	}
	if err := s.sessions.RenewToken(ctx); err != nil {
		return fmt.Errorf("renewing a session: %w", err)
	}
	session, err := newSession(ctx, current.ID)
	if err != nil {
		return err
	}
	err = s.users.ChangeCredentials(ctx, changed, hash, session, s.sessions.Lifetime)
	if errors.Is(err, identity.ErrNoUser) { // it has been changed meanwhile
		return errWrongPassword()
	}
	if err != nil {
		return err
	}
	changed.PasswordHash = hash
	s.keepSession(ctx, session, changed)
	s.mailChange(current, changed)
	return nil
}

// mailChange tells the mailbox that a user had before what has changed.
func (s *Service) mailChange(before, after identity.User) {
	if before.Email != after.Email {
		s.mailNotice(before.Email, "Your Postcard email was changed",
			"The email address of your Postcard account was changed. This mailbox receives no more mails about the account.")
	}
	if before.PasswordHash != after.PasswordHash {
		s.mailNotice(before.Email, passwordChangedSubject, passwordChangedText)
	}
}

const (
	passwordChangedSubject = "Your Postcard password was changed"
	passwordChangedText    = "The password of your Postcard account was changed, and all other sessions were ended."
)
