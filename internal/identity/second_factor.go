package identity

import (
	"crypto/rand"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/pasted"
)

var (
	// ErrFactorExists says that the user already has a second factor of the kind.
	ErrFactorExists = errors.New("the second factor exists already")

	// ErrNoFactor says that the user does not have the second factor.
	ErrNoFactor = errors.New("no such second factor")

	// ErrTooManyPasskeys says that a user already has MaxPasskeys passkeys.
	ErrTooManyPasskeys = errors.New("too many passkeys")
)

// Limits of passkeys.
const (
	MaxPasskeys    = 20  // per user
	MaxPasskeyName = 100 // characters
)

// SecondFactors are what a user can log in with beside the password.
type SecondFactors struct {
	TOTP          *TOTP // nil: none
	RecoveryCodes int   // that have not been used
	Passkeys      []Passkey
	Now           time.Time // by the database's clock
}

// Any reports whether the user has a second factor that works.
func (f SecondFactors) Any() bool { return f.HasTOTP() || len(f.Passkeys) > 0 }

// HasTOTP reports whether the user has an authenticator app that works.
func (f SecondFactors) HasTOTP() bool { return f.TOTP != nil && f.TOTP.ConfirmedAt != nil }

// TOTP is the authenticator app of a user, with time-based codes (RFC 6238).
type TOTP struct {
	Sealed      []byte     // the encrypted secret
	ConfirmedAt *time.Time // nil: the user has not entered a code yet
	LastStep    int64      // the time step of the last code
}

// LogValue keeps the secret out of logs.
func (TOTP) LogValue() slog.Value { return slog.StringValue("[hidden]") }

// Passkey is a key that a user's device or password manager keeps.
type Passkey struct {
	ID           uuid.UUID
	CredentialID []byte // chosen by the device
	Credential   []byte // the public key and its state, as package auth encodes them
	Name         string
	CreatedAt    time.Time
	LastUsedAt   *time.Time
}

// LogValue logs the ID only.
func (p Passkey) LogValue() slog.Value { return slog.StringValue(p.ID.String()) }

// Requirement says who must have a second factor.
type Requirement string

// The requirements.
const (
	RequireOff    Requirement = "off"
	RequireAdmins Requirement = "admins"
	RequireAll    Requirement = "all"
)

// Of reports whether the user must have a second factor.
func (r Requirement) Of(u User) bool {
	return r == RequireAll || r == RequireAdmins && u.Role == RoleAdmin
}

// RecoveryCode stands in for a second factor, once. It must never be logged or stored.
type RecoveryCode string

// LogValue keeps the code out of logs.
func (RecoveryCode) LogValue() slog.Value { return slog.StringValue("[hidden]") }

// RecoveryCodes is how many recovery codes a user gets.
const RecoveryCodes = 10

// recoveryLetters is the length of a recovery code, in letters of five bits each.
const recoveryLetters = 10

// NewRecoveryCodes returns new codes.
func NewRecoveryCodes() []RecoveryCode {
	codes := make([]RecoveryCode, RecoveryCodes)
	for i := range codes {
		codes[i] = RecoveryCode(strings.ToLower(rand.Text()[:recoveryLetters]))
	}
	return codes
}

// ParseRecoveryCode reads a code as a person types it, in any case and grouping.
func ParseRecoveryCode(typed string) RecoveryCode {
	code := strings.NewReplacer("-", "", " ", "").Replace(pasted.Clean(typed))
	return RecoveryCode(strings.ToLower(code))
}

// Grouped returns the code as it is shown to its user.
func (c RecoveryCode) Grouped() string { return string(c[:len(c)/2] + "-" + c[len(c)/2:]) }
