package auth

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/secret"
)

var (
	// ErrInvalidCode says that a code of a second factor is wrong or was used before,
	// without telling which.
	ErrInvalidCode = errors.New("the code is wrong or was used before")

	// ErrFactorsOff says that the installation has no key to encrypt second factors with.
	ErrFactorsOff = errors.New("second factors are off, because SECRET_KEY is not set")
)

// SecondFactorStore stores second factors. UseTOTP and UseRecoveryCode return false for
// what was used before, at whatever process. Adding and removing a factor ends the user's
// sessions.
type SecondFactorStore interface {
	SecondFactors(ctx context.Context, user uuid.UUID) (identity.SecondFactors, error)
	StartTOTP(ctx context.Context, user uuid.UUID, sealed []byte) error
	ConfirmTOTP(ctx context.Context, user uuid.UUID, sealed []byte, step int64, codes [][32]byte) error
	UseTOTP(ctx context.Context, user uuid.UUID, step int64, sealed []byte) (bool, error)
	RemoveTOTP(ctx context.Context, user uuid.UUID) error
	UseRecoveryCode(ctx context.Context, user uuid.UUID, hashes [][32]byte) (bool, error)
	ReplaceRecoveryCodes(ctx context.Context, user uuid.UUID, hashes [][32]byte) error
}

// SecondFactorOptions are the dependencies and settings of second factors.
type SecondFactorOptions struct {
	Store    SecondFactorStore
	Keys     *secret.Keyring // nil: second factors are off
	Required identity.Requirement
}

// UseSecondFactors turns second factors on. It must be called before the first request.
func (s *Service) UseSecondFactors(o SecondFactorOptions) { s.factors = o }

// SecondFactorsOn reports whether users can have second factors.
func (s *Service) SecondFactorsOn() bool { return s.factors.Keys != nil }

type setupKey struct{}

// withUser returns a context with the principal of a session's user. A user who must have
// a second factor and has none gets none: such a session reaches nothing but what asks
// MustSetUpFactor.
func (s *Service) withUser(ctx context.Context, user identity.User) context.Context {
	principal := user.Principal(s.workspace(ctx))
	if s.factors.Required.Of(user) && !user.SecondFactor {
		return context.WithValue(ctx, setupKey{}, principal)
	}
	return identity.WithPrincipal(ctx, principal)
}

// MustSetUpFactor returns the user of the session if it can be used for nothing but setting
// up a second factor.
func MustSetUpFactor(ctx context.Context) (identity.Principal, bool) {
	p, ok := ctx.Value(setupKey{}).(identity.Principal)
	return p, ok
}

// SecondFactors returns the user's second factors.
func (s *Service) SecondFactors(ctx context.Context, user uuid.UUID) (identity.SecondFactors, error) {
	if !s.SecondFactorsOn() {
		return identity.SecondFactors{}, nil
	}
	return s.factors.Store.SecondFactors(ctx, user)
}

// The limits of guesses. Somebody who guesses codes has given another factor already, so the
// limits hold for the user, from whatever address. Of a million codes, three are valid at
// a time.
var (
	codePerUser       = limit{name: "code-user", max: 10, window: 15 * time.Minute}
	codePerUserAndDay = limit{name: "code-user-day", max: 50, window: 24 * time.Hour}
)

// checkCode checks and uses up a code of the user's authenticator app, or a recovery code.
func (s *Service) checkCode(ctx context.Context, user uuid.UUID, typed string) error {
	if !s.SecondFactorsOn() {
		return ErrFactorsOff
	}
	for _, l := range []limit{codePerUser, codePerUserAndDay} {
		if err := s.limit(ctx, l, user.String()); err != nil {
			return err
		}
	}
	use := s.useRecoveryCode
	if code, ok := parseTOTPCode(typed); ok {
		typed, use = code, s.useTOTPCode
	}
	used, err := use(ctx, user, typed)
	if err != nil {
		return err
	}
	if !used {
		return ErrInvalidCode
	}
	for _, l := range []limit{codePerUser, codePerUserAndDay} {
		if err := s.throttle.Unthrottle(ctx, l.key(user.String())); err != nil {
			return err
		}
	}
	return nil
}

// recoveryPurpose is the purpose of the hashes of recovery codes.
const recoveryPurpose = "recovery code"

func (s *Service) useRecoveryCode(ctx context.Context, user uuid.UUID, typed string) (bool, error) {
	return s.factors.Store.UseRecoveryCode(ctx, user, s.hashes(user, identity.ParseRecoveryCode(typed)))
}

// hashes returns the hashes that the code may be stored under, that of the current key
// first. Equal codes of two users have different ones.
func (s *Service) hashes(user uuid.UUID, code identity.RecoveryCode) [][32]byte {
	var list [][32]byte
	for _, hash := range s.factors.Keys.Hashes(recoveryPurpose, user.String()+":"+string(code)) {
		list = append(list, hash)
	}
	return list
}

// newRecoveryCodes returns new codes of the user and what is stored of them.
func (s *Service) newRecoveryCodes(user uuid.UUID) (codes []identity.RecoveryCode, hashes [][32]byte) {
	codes = identity.NewRecoveryCodes()
	for _, code := range codes {
		hashes = append(hashes, s.hashes(user, code)[0])
	}
	return codes, hashes
}

// NewRecoveryCodes replaces the user's recovery codes and returns the new ones, which are
// shown once. It returns identity.ErrNoFactor if the user has no second factor,
// TooManyAttemptsError, or a violation of currentPassword as invalid.Fields.
func (s *Service) NewRecoveryCodes(ctx context.Context, p identity.Principal, password string) ([]identity.RecoveryCode, error) {
	factors, err := s.SecondFactors(ctx, p.UserID)
	if err != nil {
		return nil, err
	}
	if !factors.Any() {
		return nil, identity.ErrNoFactor
	}
	if err := s.confirmChange(ctx, p, password); err != nil {
		return nil, err
	}
	codes, hashes := s.newRecoveryCodes(p.UserID)
	return codes, s.factors.Store.ReplaceRecoveryCodes(ctx, p.UserID, hashes)
}

// confirmChange checks the current password of a user before a change of the second factors.
// Users without a password, who log in through the provider, need none. It returns
// TooManyAttemptsError, or a violation of currentPassword as invalid.Fields.
func (s *Service) confirmChange(ctx context.Context, p identity.Principal, password string) error {
	user, err := s.users.UserByID(ctx, p.UserID)
	if err != nil {
		return fmt.Errorf("loading a user: %w", err)
	}
	if !user.HasPassword() {
		return nil
	}
	return s.confirmPassword(ctx, user, password)
}

// continueSession renews the request's session after a change of the user's factors, which has
// ended it and all others. It reads the user by the email, so that the change is seen at once.
func (s *Service) continueSession(ctx context.Context, p identity.Principal) error {
	user, err := s.users.UserByEmail(ctx, p.Email)
	if err != nil {
		return fmt.Errorf("looking up a user: %w", err)
	}
	return s.renewSession(ctx, user)
}
