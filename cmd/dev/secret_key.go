package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/postcard-mms/postcard/internal/secret"
)

// setSecretKey sets SECRET_KEY, unless the environment does, to a key that is made once
// and kept beside the development data, which it encrypts.
func setSecretKey(vars map[string]string, stateDir string) error {
	if vars["SECRET_KEY"] != "" {
		return nil
	}
	file := filepath.Join(stateDir, "secret-key")
	key, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		key = []byte(secret.NewKey().Encode() + "\n")
		if err := os.MkdirAll(stateDir, 0o700); err != nil {
			return fmt.Errorf("creating the directory of the secret key: %w", err)
		}
		err = os.WriteFile(file, key, 0o600)
	}
	if err != nil {
		return fmt.Errorf("keeping the secret key: %w", err)
	}
	vars["SECRET_KEY"] = strings.TrimSpace(string(key))
	return nil
}
