package auth_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/postcard-mms/postcard/internal/auth"
	"github.com/postcard-mms/postcard/internal/identity"
)

// TestSingleSignOnNeedsTheSecondFactor sets up an app as a user without a password, and
// logs in again through the provider.
func TestSingleSignOnNeedsTheSecondFactor(t *testing.T) {
	t.Parallel()
	h := newSSOHarness(t, true)
	factors := withFactors(h.harness, identity.RequireOff)
	factors.store.advance(time.Since(factors.store.clock())) // to the provider's clock
	b := h.browser()
	if err := h.sso(b, eve); err != nil {
		t.Fatal(err)
	}
	var principal identity.Principal
	b.request(func(ctx context.Context) { principal, _ = identity.PrincipalFrom(ctx) })
	a := factors.setUpFor(b, principal, "")
	if got := b.loggedInAs(); got != eveEmail {
		t.Errorf("after setting up: logged in as %q, want Eve", got)
	}
	result, err := b.finishSSO(h.server.LogIn(b.beginSSO(), eve))
	if !errors.Is(err, auth.ErrSecondFactorRequired) || result.Next != "/next" {
		t.Errorf("through the provider: got %+v, %v, want ErrSecondFactorRequired with the path to go to", result, err)
	}
	if got := b.loggedInAs(); got != "" {
		t.Errorf("through the provider: logged in as %q, want nobody", got)
	}
	if err := b.loginWithCode(string(a.codes[0])); err != nil || b.loggedInAs() != eveEmail {
		t.Errorf("with a code: got %v, logged in as %q, want Eve", err, b.loggedInAs())
	}
	h.users.edit(eveEmail, func(u *identity.User) { u.Disabled = true })
	if err := h.sso(b, eve); !errors.Is(err, identity.ErrDisabled) {
		t.Errorf("disabled: got %v, want ErrDisabled", err)
	}
}
