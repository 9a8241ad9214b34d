package main

import (
	"regexp"
	"strings"
	"testing"

	"github.com/postcard-mms/postcard/internal/identity"
)

func TestResetLink(t *testing.T) {
	store := newDatabase(t)
	if _, err := call(t, "", "migrate"); err != nil {
		t.Fatal(err)
	}
	if _, err := call(t, secret, "user add ada@example.com"); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PUBLIC_URL", "")
	if out, err := call(t, "", "user reset ada@example.com"); err == nil || !strings.Contains(err.Error(), "PUBLIC_URL is missing") || out != "" {
		t.Errorf("without PUBLIC_URL: got %q, %v, want an error about it", out, err)
	}
	t.Setenv("PUBLIC_URL", "https://example.com/postcard/")
	if out, err := call(t, "", "user reset eve@example.com"); err == nil || !strings.Contains(err.Error(), "no such user") || out != "" {
		t.Errorf("unknown email: got %q, %v, want an error", out, err)
	}
	out, err := call(t, "", "user reset ADA@example.com")
	if err != nil {
		t.Fatal(err)
	}
	link := regexp.MustCompile(`^https://example\.com/postcard/reset/new\?token=([A-Z2-7]{26})\n`).FindStringSubmatch(out)
	if link == nil || !strings.Contains(out, "30 minutes") {
		t.Fatalf("got %q, want a link of 30 minutes", out)
	}
	if email, err := store.CheckReset(t.Context(), identity.ResetToken(link[1]).Hash()); err != nil || email != "ada@example.com" {
		t.Errorf("the link is for %q (%v), want Ada", email, err)
	}
}
