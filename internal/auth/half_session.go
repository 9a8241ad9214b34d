package auth

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/identity"
)

var (
	// ErrSecondFactorRequired says that the password was right, or the user has come from the
	// provider of single sign-on, and must now confirm the log-in with a second factor.
	ErrSecondFactorRequired = errors.New("the log-in must be confirmed with a second factor")

	// ErrNoHalfSession says that no log-in waits for a second factor any more.
	ErrNoHalfSession = errors.New("the log-in has expired; log in again")
)

// A half session is that of a user who has entered the password, or has come from the provider
// of single sign-on, but has not yet given the second factor. It has keys of its own, so
// nothing takes it for a session, and no principal. Its fingerprint ends it when the password
// changes.
const (
	halfUserKey        = "half_user_id"
	halfFingerprintKey = "half_fingerprint"
	halfUntilKey       = "half_until"
)

// halfLifetime is how long a user may take to enter the second factor.
const halfLifetime = 10 * time.Minute

// startHalfSession ends the session and starts a half one. It returns
// ErrSecondFactorRequired if it succeeds, or identity.ErrDisabled.
func (s *Service) startHalfSession(ctx context.Context, user identity.User) error {
	if user.Disabled {
		return identity.ErrDisabled
	}
	if err := s.endCurrentSession(ctx); err != nil {
		return err
	}
	if err := s.sessions.RenewToken(ctx); err != nil {
		return fmt.Errorf("renewing a session: %w", err)
	}
	for _, key := range []string{userKey, sessionKey, fingerprintKey} {
		s.sessions.Remove(ctx, key)
	}
	s.sessions.Put(ctx, halfUserKey, user.ID.String())
	s.sessions.Put(ctx, halfFingerprintKey, user.PasswordHash.Fingerprint())
	s.sessions.Put(ctx, halfUntilKey, s.now().Add(halfLifetime).Unix())
	return ErrSecondFactorRequired
}

func (s *Service) endHalfSession(ctx context.Context) {
	for _, key := range []string{halfUserKey, halfFingerprintKey, halfUntilKey} {
		if s.sessions.Exists(ctx, key) {
			s.sessions.Remove(ctx, key)
		}
	}
}

// HalfSessionFactors returns the second factors of the half session's user, or
// ErrNoHalfSession.
func (s *Service) HalfSessionFactors(ctx context.Context) (identity.SecondFactors, error) {
	user, err := s.halfUser(ctx)
	if err != nil {
		return identity.SecondFactors{}, err
	}
	return s.SecondFactors(ctx, user.ID)
}

// halfUser returns the user of the half session, or ErrNoHalfSession.
func (s *Service) halfUser(ctx context.Context) (identity.User, error) {
	id, err := uuid.Parse(s.sessions.GetString(ctx, halfUserKey))
	if err != nil || s.sessions.GetInt64(ctx, halfUntilKey) <= s.now().Unix() {
		return identity.User{}, ErrNoHalfSession
	}
	user, err := s.users.UserByID(ctx, id)
	switch {
	case err != nil && !errors.Is(err, identity.ErrNoUser):
		return identity.User{}, fmt.Errorf("loading the user of a half session: %w", err)
	case err != nil || !user.SecondFactor || user.PasswordHash.Fingerprint() != s.sessions.GetString(ctx, halfFingerprintKey):
		return identity.User{}, ErrNoHalfSession
	}
	return user, nil
}

// LoginWithCode confirms the log-in of the half session with a code of the authenticator
// app or a recovery code, and starts the session. It returns ErrNoHalfSession,
// ErrInvalidCode, ErrFactorsOff, identity.ErrDisabled or TooManyAttemptsError.
func (s *Service) LoginWithCode(ctx context.Context, code string) (identity.Principal, error) {
	user, err := s.halfUser(ctx)
	if err != nil {
		return identity.Principal{}, err
	}
	if err := s.checkCode(ctx, user.ID, code); err != nil {
		return identity.Principal{}, err
	}
	return s.startSession(ctx, user)
}
