package config

import (
	"errors"
	"fmt"
	"strings"

	"github.com/postcard-mms/postcard/internal/secret"
)

// checkSecretKey demands SECRET_KEY where people log in to a real installation. A trial
// with the simulator or on this machine works without it.
func (c *API) checkSecretKey() []error {
	var errs []error
	c.SecretKey, c.PreviousSecretKey = cleanSecret(c.SecretKey), cleanSecret(c.PreviousSecretKey)
	for _, key := range []struct {
		name  string
		value Secret
	}{{"SECRET_KEY", c.SecretKey}, {"SECRET_KEY_PREVIOUS", c.PreviousSecretKey}} {
		if key.value == "" {
			continue
		}
		if _, err := secret.ParseKey(string(key.value)); err != nil {
			errs = append(errs, fmt.Errorf("%s %w", key.name, err))
		}
	}
	if c.Require2FA != "off" && c.Require2FA != "admins" && c.Require2FA != "all" {
		return append(errs, errors.New("REQUIRE_2FA must be off, admins or all"))
	}
	if reason := c.needsSecretKey(); reason != "" && c.SecretKey == "" {
		errs = append(errs, fmt.Errorf("SECRET_KEY is missing: %s. Make one with `openssl rand -base64 %d` and keep it", reason, secret.KeySize))
	}
	return errs
}

// needsSecretKey returns why the configuration needs a SECRET_KEY, or "".
func (c *API) needsSecretKey() string {
	switch {
	case c.Require2FA != "off":
		return "REQUIRE_2FA=" + c.Require2FA + " needs it to encrypt second factors"
	case c.PreviousSecretKey != "":
		return "SECRET_KEY_PREVIOUS is only for a key that has been replaced"
	case strings.HasPrefix(c.PublicURL, "https://") && !c.Plivo.Simulated():
		return "an installation with an https PUBLIC_URL and the real Plivo needs it to encrypt second factors"
	}
	return ""
}

// Keyring returns the keys of SECRET_KEY and SECRET_KEY_PREVIOUS; nil without SECRET_KEY.
func (c *API) Keyring() (*secret.Keyring, error) {
	if c.SecretKey == "" {
		return nil, nil //nolint:nilnil // no key is no error
	}
	current, err := secret.ParseKey(string(c.SecretKey))
	if err != nil {
		return nil, fmt.Errorf("SECRET_KEY %w", err)
	}
	if c.PreviousSecretKey == "" {
		return secret.NewKeyring(current, nil)
	}
	previous, err := secret.ParseKey(string(c.PreviousSecretKey))
	if err != nil {
		return nil, fmt.Errorf("SECRET_KEY_PREVIOUS %w", err)
	}
	return secret.NewKeyring(current, &previous)
}
