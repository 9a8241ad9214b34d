package secret_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/postcard-mms/postcard/internal/secret"
)

func newKeyring(t *testing.T, current secret.Key, previous *secret.Key) *secret.Keyring {
	t.Helper()
	ring, err := secret.NewKeyring(current, previous)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func TestDecryptReturnsWhatWasEncrypted(t *testing.T) {
	t.Parallel()
	ring := newKeyring(t, secret.NewKey(), nil)
	sealed := ring.Encrypt([]byte("seed"), "totp:ada")
	if bytes.Contains(sealed, []byte("seed")) {
		t.Error("the encrypted value contains the value")
	}
	if again := ring.Encrypt([]byte("seed"), "totp:ada"); bytes.Equal(sealed, again) {
		t.Error("two encryptions of a value are equal, want a random nonce")
	}
	if value, err := ring.Decrypt(sealed, "totp:ada"); err != nil || string(value) != "seed" {
		t.Errorf("Decrypt() = %q, %v, want seed", value, err)
	}
}

func TestDecryptRefusesOtherValues(t *testing.T) {
	t.Parallel()
	ring := newKeyring(t, secret.NewKey(), nil)
	sealed := ring.Encrypt([]byte("seed"), "totp:ada")
	for name, tt := range map[string]struct {
		sealed  []byte
		context string
	}{
		"another context": {sealed, "totp:bob"},
		"another key":     {newKeyring(t, secret.NewKey(), nil).Encrypt([]byte("seed"), "totp:ada"), "totp:ada"},
		"empty":           {nil, "totp:ada"},
		"only the key id": {sealed[:4], "totp:ada"},
		"cut off":         {sealed[:len(sealed)-1], "totp:ada"},
	} {
		if value, err := ring.Decrypt(tt.sealed, tt.context); !errors.Is(err, secret.ErrUndecryptable) || value != nil {
			t.Errorf("%s: got %q, %v, want ErrUndecryptable", name, value, err)
		}
	}
	for i := range sealed {
		changed := slices.Clone(sealed)
		changed[i] ^= 1
		if _, err := ring.Decrypt(changed, "totp:ada"); !errors.Is(err, secret.ErrUndecryptable) {
			t.Errorf("byte %d changed: got error %v, want ErrUndecryptable", i, err)
		}
	}
}

func TestRotation(t *testing.T) {
	t.Parallel()
	old, current := secret.NewKey(), secret.NewKey()
	before, rotated, after := newKeyring(t, old, nil), newKeyring(t, current, &old), newKeyring(t, current, nil)
	sealed := before.Encrypt([]byte("seed"), "totp:ada")
	if !before.Current(sealed) || rotated.Current(sealed) {
		t.Errorf("Current() = %t before the rotation and %t during it, want true, false", before.Current(sealed), rotated.Current(sealed))
	}
	value, err := rotated.Decrypt(sealed, "totp:ada")
	if err != nil || string(value) != "seed" {
		t.Fatalf("with the previous key: got %q, %v, want seed", value, err)
	}
	if _, err := after.Decrypt(sealed, "totp:ada"); !errors.Is(err, secret.ErrUndecryptable) {
		t.Errorf("without the previous key: got error %v, want ErrUndecryptable", err)
	}
	sealed = rotated.Encrypt(value, "totp:ada")
	if value, err := after.Decrypt(sealed, "totp:ada"); err != nil || string(value) != "seed" || !rotated.Current(sealed) {
		t.Errorf("encrypted again: got %q, %v, want seed", value, err)
	}
	hash := before.Hash("recovery", "abc")
	if !slices.Contains(rotated.Hashes("recovery", "abc"), hash) || rotated.Hash("recovery", "abc") == hash {
		t.Error("the hash with the previous key is not the second one")
	}
}

func TestHashDependsOnKeyPurposeAndValue(t *testing.T) {
	t.Parallel()
	key := secret.NewKey()
	ring := newKeyring(t, key, nil)
	hash := ring.Hash("recovery", "abc")
	if newKeyring(t, key, nil).Hash("recovery", "abc") != hash {
		t.Error("the same key gives another hash")
	}
	for name, other := range map[string]secret.Hash{
		"value": ring.Hash("recovery", "abd"), "purpose": ring.Hash("invitation", "abc"), "key": newKeyring(t, secret.NewKey(), nil).Hash("recovery", "abc"),
	} {
		if other == hash {
			t.Errorf("another %s gives the same hash", name)
		}
	}
}

func TestParseKey(t *testing.T) {
	t.Parallel()
	key := secret.Key(bytes.Repeat([]byte{0xfb, 0xff}, 16))
	for _, text := range []string{
		key.Encode(), strings.TrimRight(key.Encode(), "="), base64.URLEncoding.EncodeToString(key[:]), base64.RawURLEncoding.EncodeToString(key[:]),
	} {
		if got, err := secret.ParseKey(text); err != nil || got != key {
			t.Errorf("ParseKey(%q): got error %v, want the key", text, err)
		}
	}
	for _, text := range []string{"", "hush", key.Encode() + "AA", "!" + key.Encode()[1:], base64.StdEncoding.EncodeToString(key[:31])} {
		if _, err := secret.ParseKey(text); err == nil || text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("ParseKey(%q): got error %v, want one that does not repeat the key", text, err)
		}
	}
}

func TestNothingShowsAKey(t *testing.T) {
	t.Parallel()
	key := secret.NewKey()
	ring := newKeyring(t, key, nil)
	var out strings.Builder
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "key", key, "ring", ring, "hash", ring.Hash("x", "y"))
	fmt.Fprintf(&out, "%v %s", key, key)
	if text := out.String(); strings.Contains(text, fmt.Sprint([secret.KeySize]byte(key))) || strings.Count(text, "[hidden]") != 5 {
		t.Errorf("got %s, want only placeholders", text)
	}
}
