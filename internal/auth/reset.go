package auth

import (
	"context"
	"errors"
	"strings"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/invalid"
)

// ErrNoMail says that no mail server is configured.
var ErrNoMail = errors.New("no mail server is configured")

// Resets stores links that reset a password. A link works once, for identity.ResetLifetime,
// and only while the user has the email and the password for which it was made.
type Resets interface {
	// CreateReset returns identity.ErrNoUser, also for a disabled user.
	CreateReset(ctx context.Context, email string, tokenHash [32]byte) error

	// CheckReset returns the email of the user, or identity.ErrNoReset.
	CheckReset(ctx context.Context, tokenHash [32]byte) (email string, err error)

	// UseReset sets the password and ends all sessions of the user at all processes. It
	// returns identity.ErrNoReset.
	UseReset(ctx context.Context, tokenHash [32]byte, hash identity.PasswordHash) (user uuid.UUID, email string, err error)
}

// RequestReset mails a link that resets the password to the user with the email, if there is
// one. The mail is made in the background, so neither the result nor its timing reveals
// whether the email is known. It returns ErrPasswordsOff, ErrNoMail, TooManyAttemptsError, or a violation of
// the field email as invalid.Fields.
func (s *Service) RequestReset(ctx context.Context, clientIP, email string) error {
	if s.passwordsOff {
		return ErrPasswordsOff
	}
	if s.mail == nil {
		return ErrNoMail
	}
	email = identity.NormalizeEmail(email)
	if email == "" || strings.ContainsRune(email, 0) {
		return invalid.Fields{{Name: "email", Rule: "required", Message: "is missing"}}
	}
	if err := s.limit(ctx, resetPerAddress, network(clientIP)); err != nil {
		return err
	}
	if err := s.limit(ctx, resetPerEmail, email); err != nil {
		return err
	}
	if !s.mail.add(func(ctx context.Context) error { return s.mailReset(ctx, email) }) {
		return TooManyAttemptsError{RetryAfter: mailTimeout}
	}
	return nil
}

func (s *Service) mailReset(ctx context.Context, email string) error {
	token := identity.NewResetToken()
	err := s.users.CreateReset(ctx, email, token.Hash())
	if errors.Is(err, identity.ErrNoUser) {
		return nil
	}
	if err != nil {
		return err
	}
	return s.mail.mailer.SendMail(ctx, email, "Set a new Postcard password",
		"Somebody, probably you, asked for a new password for this email address.\n\n"+
			"Open this link within 30 minutes to set one. It works once:\n\n"+
			token.Link(s.mail.publicURL)+"\n\n"+
			"If it was not you, ignore this mail: your password stays as it is.\n")
}

// CheckReset returns identity.ErrNoReset unless the token can reset a password.
func (s *Service) CheckReset(ctx context.Context, token identity.ResetToken) error {
	_, err := s.users.CheckReset(ctx, token.Hash())
	return err
}

// ResetPassword sets a new password with the token of a link, and ends all sessions of the
// user. It logs nobody in. It returns ErrPasswordsOff, TooManyAttemptsError, identity.ErrNoReset, or
// violations of the field password as invalid.Fields, after which the token still works.
func (s *Service) ResetPassword(ctx context.Context, clientIP string, token identity.ResetToken, password string) error {
	if s.passwordsOff {
		return ErrPasswordsOff
	}
	if err := s.limit(ctx, resetUsePerAddress, network(clientIP)); err != nil {
		return err
	}
	if err := s.CheckReset(ctx, token); err != nil { // before the costly hash
		return err
	}
	if err := identity.ValidatePassword(password); err != nil {
		return err
	}
	hash, err := identity.HashPassword(password)
	if err != nil {
		return err
	}
	_, email, err := s.users.UseReset(ctx, token.Hash(), hash)
	if err != nil {
		return err
	}
	s.mailNotice(email, passwordChangedSubject, passwordChangedText)
	return nil
}
