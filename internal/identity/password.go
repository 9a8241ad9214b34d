package identity

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"unicode/utf8"

	"golang.org/x/crypto/bcrypt"

	"github.com/postcard-mms/postcard/internal/invalid"
)

// Limits of a password. bcrypt ignores everything after 72 bytes, so a longer
// password is rejected.
const (
	MinPassword      = 10 // characters
	MaxPasswordBytes = 72
)

// PasswordHash is a bcrypt hash.
type PasswordHash string

// LogValue keeps the hash out of logs.
func (PasswordHash) LogValue() slog.Value { return slog.StringValue("[hidden]") }

// DecoyHash is the hash of a random password that nobody knows. Comparing a password
// with it takes as long as with a user's hash.
const DecoyHash PasswordHash = "$2a$10$ZMJSnGA2enRNL5X/e29RgewvtMay56buxYCj0.H8LspW745ZatUJy"

// HashPassword hashes a password of at most MaxPasswordBytes.
func HashPassword(password string) (PasswordHash, error) {
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.DefaultCost)
	if err != nil {
		return "", fmt.Errorf("hashing a password: %w", err)
	}
	return PasswordHash(hash), nil
}

// Fingerprint identifies the hash without revealing it.
func (h PasswordHash) Fingerprint() string {
	sum := sha256.Sum256([]byte(h))
	return hex.EncodeToString(sum[:8])
}

// Sign returns a signature (HMAC-SHA256, in hex) of the text with the hash as its key.
func (h PasswordHash) Sign(text string) string {
	mac := hmac.New(sha256.New, []byte(h))
	_, _ = mac.Write([]byte(text)) // never fails
	return hex.EncodeToString(mac.Sum(nil))
}

// Matches reports whether the password is the hashed one. A password longer than
// MaxPasswordBytes never matches, although bcrypt would compare its beginning.
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

// ValidatePassword returns the violations of a new password as invalid.Fields.
func ValidatePassword(password string) error {
	var violations invalid.Fields
	validatePassword("password", password, &violations)
	return violations.Err()
}

func validatePassword(field, password string, violations *invalid.Fields) {
	switch {
	case password == "":
		violations.Add(field, "required", "is missing")
	case utf8.RuneCountInString(password) < MinPassword:
		violations.Add(field, "min_length", fmt.Sprintf("must be at least %d characters long", MinPassword))
	case len(password) > MaxPasswordBytes:
		violations.Add(field, "max_length", fmt.Sprintf("must be at most %d bytes long", MaxPasswordBytes))
	case isCommonPassword(password):
		violations.Add(field, "common", "is one of the most common passwords, which are guessed first: choose another one")
	}
}
