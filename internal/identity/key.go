package identity

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/invalid"
)

// What can go wrong with API keys.
var (
	// ErrNoKey says that a key is not known, has expired or was revoked: the
	// three are not told apart.
	ErrNoKey = errors.New("no such API key")

	// ErrTooManyKeys says that a user has MaxKeys that are valid.
	ErrTooManyKeys = errors.New("too many API keys")
)

// Scope is a part of what its user may do that an API key may do.
type Scope string

// The scopes.
const (
	SendScope Scope = "send" // send messages, and act on them
	ReadScope Scope = "read" // read messages
)

// Scopes returns every scope.
func Scopes() []Scope { return []Scope{SendScope, ReadScope} }

// Limits of API keys; all of them ours.
const (
	MaxKeyName    = 100 // characters
	MaxKeyDays    = 3650
	MaxKeys       = 100 // valid ones of a user
	MaxDailyCap   = 10_000_000
	keyPrefix     = "pc_" // so that scanners for leaked secrets can know one
	keyHintLength = len(keyPrefix) + 5
)

// Key is an API key, without the secret: that is shown once and not kept.
type Key struct {
	ID         uuid.UUID
	UserID     uuid.UUID
	Name       string
	Hint       string // how the secret begins
	Scopes     []Scope
	DailyCap   int // messages a day, UTC; 0: its user's cap alone
	CreatedAt  time.Time
	LastUsedAt *time.Time // to the minute
	ExpiresAt  *time.Time
	RevokedAt  *time.Time
	Expired    bool
}

// Valid reports whether the key can be used.
func (k Key) Valid() bool { return k.RevokedAt == nil && !k.Expired }

// LogValue names the key by id alone.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.ID.String()) }

// KeyParams is a key as somebody asked for it.
type KeyParams struct {
	Name          string
	Scopes        []string
	ExpiresInDays *int // nil: never
	DailyCap      *int // nil: none of its own
}

// KeySecret is what a client shows. It must never be logged or stored.
type KeySecret string

// LogValue keeps the secret out of logs.
func (KeySecret) LogValue() slog.Value { return slog.StringValue("[hidden]") }

// Hash is what is kept of the secret. It holds 130 random bits, so no slow
// hash is needed.
func (s KeySecret) Hash() [32]byte { return sha256.Sum256([]byte(s)) }

// NewKey makes a key and its secret, or returns every fault as invalid.Fields.
func NewKey(id, user uuid.UUID, d KeyParams) (Key, KeySecret, error) {
	var faults invalid.Fields
	name := strings.TrimSpace(d.Name)
	switch {
	case name == "":
		faults.Add("name", "required", "is missing: something to know the key by")
	case utf8.RuneCountInString(name) > MaxKeyName || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		faults.Add("name", "max_length", fmt.Sprintf("must be at most %d characters, without line breaks", MaxKeyName))
	}
	scopes := readScopes(d.Scopes, &faults)
	checkRange("expiresInDays", d.ExpiresInDays, MaxKeyDays, &faults)
	checkRange("dailyCap", d.DailyCap, MaxDailyCap, &faults)
	if err := faults.Err(); err != nil {
		return Key{}, "", err
	}
	secret := keyPrefix + rand.Text()
	key := Key{ID: id, UserID: user, Name: name, Hint: secret[:keyHintLength], Scopes: scopes}
	if d.DailyCap != nil {
		key.DailyCap = *d.DailyCap
	}
	return key, KeySecret(secret), nil
}

func readScopes(words []string, faults *invalid.Fields) []Scope {
	if len(words) == 0 {
		faults.Add("scopes", "required", "is missing: send, read or both")
	}
	var scopes []Scope
	for i, word := range words {
		scope := Scope(word)
		if !slices.Contains(Scopes(), scope) {
			faults.Add(fmt.Sprintf("scopes[%d]", i), "one_of", "must be send or read")
		} else if !slices.Contains(scopes, scope) {
			scopes = append(scopes, scope)
		}
		if i > len(Scopes()) {
			break
		}
	}
	return scopes
}

func checkRange(field string, n *int, most int, faults *invalid.Fields) {
	if n != nil && (*n < 1 || *n > most) {
		faults.Add(field, "range", fmt.Sprintf("must be from 1 to %d", most))
	}
}
