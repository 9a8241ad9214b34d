package identity

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"unicode/utf8"

	"golang.org/x/crypto/bcrypt"

	"github.com/postcard-mms/postcard/internal/invalid"
)

// Limits of a password. bcrypt reads 72 bytes and no more, so a longer one is
// refused rather than cut.
const (
	MinPassword      = 10 // characters
	MaxPasswordBytes = 72
)

// PasswordHash is a bcrypt hash.
type PasswordHash string

// LogValue keeps the hash out of logs.
func (PasswordHash) LogValue() slog.Value { return slog.StringValue("[hidden]") }

// HashPassword hashes a password that may be at most MaxPasswordBytes long.
func HashPassword(password string) (PasswordHash, error) {
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.DefaultCost)
	if err != nil {
		return "", fmt.Errorf("hashing a password: %w", err)
	}
	return PasswordHash(hash), nil
}

// Fingerprint tells one hash from another without giving it away.
func (h PasswordHash) Fingerprint() string {
	sum := sha256.Sum256([]byte(h))
	return hex.EncodeToString(sum[:8])
}

// Matches reports whether the password is the one that was hashed. One that is
// too long never is: bcrypt would compare its first 72 bytes and ignore the rest.
func (h PasswordHash) Matches(password string) (bool, error) {
	err := bcrypt.CompareHashAndPassword([]byte(h), []byte(password))
	if errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("comparing a password: %w", err)
	}
	return len(password) <= MaxPasswordBytes, nil
}

// CheckPassword returns the faults of a new password as invalid.Fields.
func CheckPassword(password string) error {
	var faults invalid.Fields
	checkPassword(password, &faults)
	return faults.Err()
}

func checkPassword(password string, faults *invalid.Fields) {
	switch {
	case password == "":
		faults.Add("password", "required", "is missing")
	case utf8.RuneCountInString(password) < MinPassword:
		faults.Add("password", "min_length", fmt.Sprintf("must be at least %d characters long", MinPassword))
	case len(password) > MaxPasswordBytes:
		faults.Add("password", "max_length", fmt.Sprintf("must be at most %d bytes long", MaxPasswordBytes))
	}
}
