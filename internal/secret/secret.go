// Package secret encrypts what the database must not show, and hashes what is too short
// to be hashed without a key. Its keys come from SECRET_KEY. It stores nothing and
// decides nothing about users.
package secret

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"
)

// KeySize is the size of a key, in bytes.
const KeySize = 32

// ErrUndecryptable says that no key decrypts a value: it was encrypted with another key
// or for another context, or it was changed.
var ErrUndecryptable = errors.New("the value cannot be decrypted with SECRET_KEY or SECRET_KEY_PREVIOUS")

// errKey does not repeat the key.
var errKey = fmt.Errorf("must be %d random bytes in base64, as `openssl rand -base64 %d` prints them", KeySize, KeySize)

// Key is a master key. Every other key is derived from one.
type Key [KeySize]byte

// ParseKey parses a key in base64, standard or URL-safe, with or without padding.
func ParseKey(text string) (Key, error) {
	text = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(text, "="))
	raw, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil || len(raw) != KeySize {
		return Key{}, errKey
	}
	return Key(raw), nil
}

// NewKey returns a random key.
func NewKey() Key {
	var k Key
	_, _ = rand.Read(k[:]) // never fails
	return k
}

// Encode returns the form that ParseKey reads. Its result must not be logged.
func (k Key) Encode() string { return base64.StdEncoding.EncodeToString(k[:]) }

// LogValue keeps the key out of logs.
func (Key) LogValue() slog.Value { return slog.StringValue("[hidden]") }

// String keeps the key out of printed structs.
func (Key) String() string { return "[hidden]" }

// Keyring encrypts and hashes with the current key. With the previous one, it still
// decrypts and finds hashes, so that the key can be changed.
type Keyring struct{ keys []derived } // the current key first

// derived are the keys that are derived from a master key.
type derived struct {
	master Key
	id     string // begins the values that the key encrypts
	sealer cipher.AEAD
}

// idSize is the size of a key's id, in bytes.
const idSize = 4

// NewKeyring returns a keyring. previous may be nil.
func NewKeyring(current Key, previous *Key) (*Keyring, error) {
	masters := []Key{current}
	if previous != nil {
		masters = append(masters, *previous)
	}
	ring := &Keyring{}
	for _, master := range masters {
		keys, err := derive(master)
		if err != nil {
			return nil, err
		}
		ring.keys = append(ring.keys, keys)
	}
	return ring, nil
}

func derive(master Key) (derived, error) {
	id, err := hkdf.Key(sha256.New, master[:], nil, "postcard key id", idSize)
	if err != nil {
		return derived{}, fmt.Errorf("deriving the id of a key: %w", err)
	}
	key, err := hkdf.Key(sha256.New, master[:], nil, "postcard encryption", KeySize)
	if err != nil {
		return derived{}, fmt.Errorf("deriving a key for encryption: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return derived{}, fmt.Errorf("creating a cipher: %w", err)
	}
	sealer, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return derived{}, fmt.Errorf("creating a cipher: %w", err)
	}
	return derived{master: master, id: string(id), sealer: sealer}, nil
}

// LogValue keeps the keys out of logs.
func (*Keyring) LogValue() slog.Value { return slog.StringValue("[hidden]") }

// Encrypt encrypts and authenticates a value (AES-256-GCM) with the current key. Only
// Decrypt with the same context, such as "totp:" and a user's id, returns it, so a value
// that is copied to another row is worthless.
func (r *Keyring) Encrypt(value []byte, context string) []byte {
	current := r.keys[0]
	return current.sealer.Seal([]byte(current.id), nil, value, []byte(context))
}

// Decrypt returns the value that Encrypt encrypted with the current or the previous
// key, or ErrUndecryptable.
func (r *Keyring) Decrypt(sealed []byte, context string) ([]byte, error) {
	for _, key := range r.keys {
		rest, ok := strings.CutPrefix(string(sealed), key.id)
		if !ok {
			continue
		}
		if value, err := key.sealer.Open(nil, nil, []byte(rest), []byte(context)); err == nil {
			return value, nil
		}
	}
	return nil, ErrUndecryptable
}

// Current reports whether the current key encrypted the value. If not, encrypt it again.
func (r *Keyring) Current(sealed []byte) bool { return strings.HasPrefix(string(sealed), r.keys[0].id) }

// Hash is a keyed hash.
type Hash [sha256.Size]byte

// LogValue keeps the hash out of logs.
func (Hash) LogValue() slog.Value { return slog.StringValue("[hidden]") }

// Hash returns the hash (HMAC-SHA-256) of a value with the current key. Each purpose has
// a key of its own.
func (r *Keyring) Hash(purpose, value string) Hash { return r.Hashes(purpose, value)[0] }

// Hashes returns the hashes of a value with each key, the current one first, to find a
// value that was hashed before the key was changed.
func (r *Keyring) Hashes(purpose, value string) []Hash {
	hashes := make([]Hash, len(r.keys))
	for i, key := range r.keys {
		derived, err := hkdf.Key(sha256.New, key.master[:], nil, "postcard hash: "+purpose, KeySize)
		if err != nil {
			panic(fmt.Sprintf("deriving a key for a hash: %v", err)) // only for a key that is too long
		}
		mac := hmac.New(sha256.New, derived)
		_, _ = mac.Write([]byte(value)) // never fails
		hashes[i] = Hash(mac.Sum(nil))
	}
	return hashes
}
