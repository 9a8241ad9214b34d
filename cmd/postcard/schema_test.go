package main

import (
	"strings"
	"testing"
)

// TestCommandsRefuseAnotherSchema checks that a command names an object that is missing,
// instead of failing at a statement that needs it.
func TestCommandsRefuseAnotherSchema(t *testing.T) {
	store := newDatabase(t)
	if _, err := store.DB().Exec(`ALTER TABLE messages DROP COLUMN metadata`); err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{"migrate", "verify"} {
		const want = "column messages.metadata is missing"
		if _, err := call(t, "", args); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", args, err, want)
		}
	}
}
