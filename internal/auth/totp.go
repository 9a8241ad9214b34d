package auth

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"image/png"
	"log/slog"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
	"github.com/pquerna/otp/totp"

	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/pasted"
)

// The parameters of codes. Authenticator apps ignore others.
const (
	totpIssuer      = "Postcard"
	totpPeriod      = 30 * time.Second
	totpSecretBytes = 20
	totpSkew        = 1   // steps that the clock of the app may be off
	qrSize          = 240 // pixels
)

// TOTPSetup is what an authenticator app needs. It must not be logged or stored.
type TOTPSetup struct {
	Secret string // in base32, in groups of four
	QR     []byte // a PNG file with the same
}

// LogValue keeps the secret out of logs.
func (TOTPSetup) LogValue() slog.Value { return slog.StringValue("[hidden]") }

// StartTOTP begins to set up an authenticator app. It returns ErrFactorsOff,
// TooManyAttemptsError, a violation of currentPassword as invalid.Fields, or
// identity.ErrFactorExists if the user has one.
func (s *Service) StartTOTP(ctx context.Context, p identity.Principal, password string) (TOTPSetup, error) {
	if !s.SecondFactorsOn() {
		return TOTPSetup{}, ErrFactorsOff
	}
	if err := s.confirmChange(ctx, p, password); err != nil {
		return TOTPSetup{}, err
	}
	raw := make([]byte, totpSecretBytes)
	_, _ = rand.Read(raw) // never fails
	if err := s.factors.Store.StartTOTP(ctx, p.UserID, s.factors.Keys.Encrypt(raw, totpContext(p.UserID))); err != nil {
		return TOTPSetup{}, err
	}
	return newTOTPSetup(p.Email, raw)
}

// ConfirmTOTP makes the authenticator app a second factor if the code is one of its codes.
// It ends the user's other sessions and returns recovery codes, which are shown once. With
// ErrInvalidCode it returns the setup again. It returns identity.ErrNoFactor if no app is
// being set up, or TooManyAttemptsError.
func (s *Service) ConfirmTOTP(ctx context.Context, p identity.Principal, typed string) ([]identity.RecoveryCode, TOTPSetup, error) {
	factors, err := s.SecondFactors(ctx, p.UserID)
	if err != nil {
		return nil, TOTPSetup{}, err
	}
	if factors.TOTP == nil || factors.HasTOTP() {
		return nil, TOTPSetup{}, identity.ErrNoFactor
	}
	if err := s.limit(ctx, codePerUser, p.UserID.String()); err != nil {
		return nil, TOTPSetup{}, err
	}
	raw, err := s.factors.Keys.Decrypt(factors.TOTP.Sealed, totpContext(p.UserID))
	if err != nil {
		return nil, TOTPSetup{}, fmt.Errorf("reading the secret of an authenticator app: %w", err)
	}
	code, _ := parseTOTPCode(typed)
	step, ok, err := matchTOTP(raw, code, factors.Now, 0)
	if err != nil {
		return nil, TOTPSetup{}, err
	}
	if !ok {
		setup, err := newTOTPSetup(p.Email, raw)
		if err != nil {
			return nil, TOTPSetup{}, err
		}
		return nil, setup, ErrInvalidCode
	}
	codes, hashes := s.newRecoveryCodes(p.UserID)
	if err := s.factors.Store.ConfirmTOTP(ctx, p.UserID, factors.TOTP.Sealed, step, hashes); err != nil {
		return nil, TOTPSetup{}, err
	}
	if err := s.throttle.Unthrottle(ctx, codePerUser.key(p.UserID.String())); err != nil {
		return nil, TOTPSetup{}, err
	}
	return codes, TOTPSetup{}, s.continueSession(ctx, p)
}

// RemoveTOTP removes the user's authenticator app and ends the user's other sessions. It
// needs the password and a code, of the app or for recovery. It returns ErrInvalidCode,
// ErrFactorsOff, TooManyAttemptsError, a violation of currentPassword as invalid.Fields, or
// identity.ErrNoFactor.
func (s *Service) RemoveTOTP(ctx context.Context, p identity.Principal, password, code string) error {
	if err := s.confirmChange(ctx, p, password); err != nil {
		return err
	}
	if err := s.checkCode(ctx, p.UserID, code); err != nil {
		return err
	}
	if err := s.factors.Store.RemoveTOTP(ctx, p.UserID); err != nil {
		return err
	}
	return s.continueSession(ctx, p)
}

// useTOTPCode uses up a code of the user's authenticator app. A secret that was encrypted
// with the previous key is encrypted with the current one.
func (s *Service) useTOTPCode(ctx context.Context, user uuid.UUID, code string) (bool, error) {
	factors, err := s.factors.Store.SecondFactors(ctx, user)
	if err != nil || !factors.HasTOTP() {
		return false, err
	}
	sealed := factors.TOTP.Sealed
	raw, err := s.factors.Keys.Decrypt(sealed, totpContext(user))
	if err != nil {
		return false, fmt.Errorf("reading the secret of an authenticator app: %w", err)
	}
	step, ok, err := matchTOTP(raw, code, factors.Now, factors.TOTP.LastStep)
	if err != nil || !ok {
		return false, err
	}
	if !s.factors.Keys.Current(sealed) {
		sealed = s.factors.Keys.Encrypt(raw, totpContext(user))
	}
	return s.factors.Store.UseTOTP(ctx, user, step, sealed)
}

// totpContext binds an encrypted secret to its user.
func totpContext(user uuid.UUID) string { return "totp:" + user.String() }

var base32Secret = base32.StdEncoding.WithPadding(base32.NoPadding)

// matchTOTP returns the time step after last whose code this is.
func matchTOTP(raw []byte, code string, now time.Time, last int64) (step int64, ok bool, err error) {
	if code == "" {
		return 0, false, nil
	}
	current := now.Unix() / int64(totpPeriod.Seconds())
	for step := current - totpSkew; step <= current+totpSkew; step++ {
		if step <= last {
			continue
		}
		//nolint:gosec // a step of this time is positive
		ok, err := hotp.ValidateCustom(code, uint64(step), base32Secret.EncodeToString(raw), hotp.ValidateOpts{Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
		if err != nil {
			return 0, false, fmt.Errorf("computing a code: %w", err)
		}
		if ok {
			return step, true, nil
		}
	}
	return 0, false, nil
}

// totpCode matches a code of an authenticator app, which shows it in two groups.
var totpCode = regexp.MustCompile(`^[0-9]{6}$`)

// parseTOTPCode returns the digits of a code as a person types it.
func parseTOTPCode(typed string) (string, bool) {
	code := strings.ReplaceAll(pasted.Clean(typed), " ", "")
	if !totpCode.MatchString(code) {
		return "", false
	}
	return code, true
}

func newTOTPSetup(email string, raw []byte) (TOTPSetup, error) {
	key, err := totp.Generate(totp.GenerateOpts{Issuer: totpIssuer, AccountName: email, Secret: raw, SecretSize: totpSecretBytes})
	if err != nil {
		return TOTPSetup{}, fmt.Errorf("describing an authenticator app: %w", err)
	}
	image, err := key.Image(qrSize, qrSize)
	if err != nil {
		return TOTPSetup{}, fmt.Errorf("drawing a QR code: %w", err)
	}
	var file bytes.Buffer
	if err := png.Encode(&file, image); err != nil {
		return TOTPSetup{}, fmt.Errorf("drawing a QR code: %w", err)
	}
	return TOTPSetup{Secret: groupsOfFour(key.Secret()), QR: file.Bytes()}, nil
}

func groupsOfFour(text string) string {
	var groups []string
	for ; len(text) > 4; text = text[4:] {
		groups = append(groups, text[:4])
	}
	return strings.Join(append(groups, text), " ")
}
