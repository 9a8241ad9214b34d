package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/postcard-mms/postcard/internal/secret"
)

func TestSecretKeyIsMadeOnce(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	var keys []string
	for range 2 {
		vars := map[string]string{}
		if err := setSecretKey(vars, dir); err != nil {
			t.Fatal(err)
		}
		keys = append(keys, vars["SECRET_KEY"])
	}
	if _, err := secret.ParseKey(keys[0]); err != nil || keys[0] != keys[1] {
		t.Errorf("got two keys or an invalid one (%v), want one", err)
	}
	if info, err := os.Stat(filepath.Join(dir, "secret-key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got the file %v, %v, want one that only its owner may read", info, err)
	}
	own := map[string]string{"SECRET_KEY": "own"}
	if err := setSecretKey(own, dir); err != nil || own["SECRET_KEY"] != "own" {
		t.Errorf("with a key in the environment: got %v, %v, want it kept", own, err)
	}
	if err := setSecretKey(map[string]string{}, filepath.Join(dir, "secret-key")); err == nil {
		t.Error("with a file in place of the directory: got no error")
	}
}
