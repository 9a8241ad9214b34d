package identity

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/pasted"
)

var (
	// ErrNoKey says that a key is unknown, expired or revoked, without telling
	// which.
	ErrNoKey = errors.New("no such API key")

	// ErrTooManyKeys says that a workspace already has MaxKeys valid keys.
	ErrTooManyKeys = errors.New("too many API keys")
)

// Limits of API keys.
const (
	MaxKeyName      = 100 // characters
	MaxKeyDays      = 3650
	MaxKeys         = 100 // valid keys per workspace
	MaxDailyCap     = 10_000_000
	keyPrefix       = "pc_" // lets secret scanners recognize a leaked key
	keyPrefixLength = len(keyPrefix) + 5
)

// Key is an API key without its secret, which is shown once and not stored.
type Key struct {
	ID          uuid.UUID
	WorkspaceID uuid.UUID
	CreatedBy   uuid.UUID
	Name        string
	Prefix      string // the beginning of the secret
	Scopes      []Permission
	DailyCap    int // messages a day, UTC; 0: only its workspace's cap applies
	CreatedAt   time.Time
	LastUsedAt  *time.Time // accurate to a minute
	ExpiresAt   *time.Time
	RevokedAt   *time.Time
	Expired     bool
}

// Valid reports whether the key can be used.
func (k Key) Valid() bool { return k.RevokedAt == nil && !k.Expired }

// LogValue logs the key's ID only.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.ID.String()) }

// KeyParams describe a key as a user submitted it.
type KeyParams struct {
	Name          string
	Scopes        []string
	ExpiresInDays *int // nil: never
	DailyCap      *int // nil: none of its own
}

// KeySecret is the bearer token that a client presents. It must never be logged or
// stored.
type KeySecret string

// LogValue keeps the secret out of logs.
func (KeySecret) LogValue() slog.Value { return slog.StringValue("[hidden]") }

// Hash returns the hash under which the key is stored. The secret has 130 random
// bits, so a fast hash is enough.
func (s KeySecret) Hash() [32]byte { return sha256.Sum256([]byte(s)) }

// NewKey makes a key with a new secret, or returns all violations as
// invalid.Fields.
func NewKey(id, workspace, by uuid.UUID, p KeyParams) (Key, KeySecret, error) {
	var violations invalid.Fields
	name := pasted.Clean(p.Name)
	validateName(name, "enter a name that identifies the key", MaxKeyName, &violations)
	scopes := parseScopes(p.Scopes, &violations)
	validateRange("expiresInDays", p.ExpiresInDays, MaxKeyDays, &violations)
	validateRange("dailyCap", p.DailyCap, MaxDailyCap, &violations)
	if err := violations.Err(); err != nil {
		return Key{}, "", err
	}
	secret := keyPrefix + rand.Text()
	key := Key{ID: id, WorkspaceID: workspace, CreatedBy: by, Name: name, Prefix: secret[:keyPrefixLength], Scopes: scopes}
	if p.DailyCap != nil {
		key.DailyCap = *p.DailyCap
	}
	return key, KeySecret(secret), nil
}

func parseScopes(names []string, violations *invalid.Fields) []Permission {
	if len(names) == 0 {
		violations.Add("scopes", "required", "is missing: choose send, read or both")
	}
	return parsePermissions("scopes", names, KeyPermissions(), violations)
}

func validateRange(field string, n *int, limit int, violations *invalid.Fields) {
	if n != nil && (*n < 1 || *n > limit) {
		violations.Add(field, "range", fmt.Sprintf("must be from 1 to %d", limit))
	}
}
