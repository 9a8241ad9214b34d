package webhook

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"log/slog"
	"time"
)

// Secret signs deliveries (Standard Webhooks). Only the endpoint's workspace may see
// it; it must never be logged.
type Secret string

// SecretOverlap is how long a rotated secret signs beside the new one.
const SecretOverlap = 24 * time.Hour

// secretPrefix marks secrets of Standard Webhooks; base64 of 32 random bytes
// follows.
const secretPrefix = "whsec_"

// NewSecret generates a secret.
func NewSecret() Secret {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails (crypto/rand)
	return Secret(secretPrefix + base64.StdEncoding.EncodeToString(key))
}

// LogValue keeps the secret out of logs.
func (Secret) LogValue() slog.Value { return slog.StringValue("[hidden]") }

// Key returns the bytes that sign.
func (s Secret) Key() ([]byte, error) {
	if len(s) < len(secretPrefix) {
		return nil, errors.New("decoding a webhook secret: it is too short")
	}
	key, err := base64.StdEncoding.DecodeString(string(s[len(secretPrefix):]))
	if err != nil {
		return nil, errors.New("decoding a webhook secret: it is not base64") // the cause would repeat a part of it
	}
	return key, nil
}
