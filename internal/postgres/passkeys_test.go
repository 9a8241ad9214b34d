package postgres_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/identity"
)

// newPasskey returns a passkey with the credential id.
func newPasskey(credential string) identity.Passkey {
	return identity.Passkey{ID: uuid.Must(uuid.NewV7()), CredentialID: []byte(credential), Credential: []byte(`{"counter": 0}`), Name: "Laptop"}
}

func TestPasskeys(t *testing.T) {
	t.Parallel()
	store, user := newStore(t)
	bob := addUser(t, store, "bob@example.com")
	first, second := newPasskey("first"), newPasskey("second")
	startSessions(t, store, user)
	if err := store.AddPasskey(t.Context(), user, first, codeHashes(1)); err != nil {
		t.Fatal(err)
	}
	wantNoSessions(t, "adding a passkey", store, user)
	if err := store.AddPasskey(t.Context(), user, second, nil); err != nil {
		t.Fatal(err)
	}
	if err := store.AddPasskey(t.Context(), bob, newPasskey("first"), nil); !errors.Is(err, identity.ErrFactorExists) {
		t.Errorf("another user adds the passkey: got %v, want ErrFactorExists", err)
	}
	first.Credential = []byte(`{"counter": 1}`)
	if err := store.UsePasskey(t.Context(), user, first); err != nil {
		t.Error(err)
	}
	if err := store.UsePasskey(t.Context(), bob, first); !errors.Is(err, identity.ErrNoFactor) {
		t.Errorf("another user uses the passkey: got %v, want ErrNoFactor", err)
	}
	factors, err := store.SecondFactors(t.Context(), user)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]identity.Passkey{first, second}, factors.Passkeys, cmpopts.IgnoreFields(identity.Passkey{}, "CreatedAt", "LastUsedAt")); diff != "" {
		t.Errorf("passkeys: %s", diff)
	}
	if factors.Passkeys[0].LastUsedAt == nil || factors.Passkeys[1].LastUsedAt != nil || factors.RecoveryCodes != 10 {
		t.Errorf("got %+v, want the first one used, and ten codes", factors)
	}
	if u, err := store.UserByID(t.Context(), user); err != nil || !u.SecondFactor {
		t.Errorf("got %+v, %v, want a second factor", u, err)
	}
	if err := store.RemovePasskey(t.Context(), bob, first.ID); !errors.Is(err, identity.ErrNoFactor) {
		t.Errorf("another user removes the passkey: got %v, want ErrNoFactor", err)
	}
	for i, want := range []struct {
		passkey identity.Passkey
		codes   int
		factor  bool
	}{{first, 10, true}, {second, 0, false}} {
		startSessions(t, store, user)
		if err := store.RemovePasskey(t.Context(), user, want.passkey.ID); err != nil {
			t.Fatal(err)
		}
		wantNoSessions(t, "removing a passkey", store, user)
		factors, err := store.SecondFactors(t.Context(), user)
		if err != nil || factors.RecoveryCodes != want.codes || factors.Any() != want.factor {
			t.Errorf("after %d removals: got %+v, %v, want %d codes", i+1, factors, err, want.codes)
		}
	}
}

func TestPasskeysAreLimited(t *testing.T) {
	t.Parallel()
	store, user := newStore(t)
	for i := range identity.MaxPasskeys + 1 {
		err := store.AddPasskey(t.Context(), user, newPasskey(string(rune('a'+i))), nil)
		if full := i == identity.MaxPasskeys; full && !errors.Is(err, identity.ErrTooManyPasskeys) || !full && err != nil {
			t.Errorf("passkey %d: got %v", i+1, err)
		}
	}
}

// TestCodesOutliveOneOfTwoFactors removes the app of a user who also has a passkey.
func TestCodesOutliveOneOfTwoFactors(t *testing.T) {
	t.Parallel()
	stores, user := newFactorStores(t)
	if err := stores[0].AddPasskey(t.Context(), user, newPasskey("first"), nil); err != nil {
		t.Fatal(err)
	}
	if err := stores[0].RemoveTOTP(t.Context(), user); err != nil {
		t.Fatal(err)
	}
	if factors, err := stores[0].SecondFactors(t.Context(), user); err != nil || factors.RecoveryCodes != 10 || !factors.Any() {
		t.Errorf("got %+v, %v, want ten codes and the passkey", factors, err)
	}
	if err := stores[0].ResetFactors(t.Context(), "ada@example.com"); err != nil {
		t.Fatal(err)
	}
	if factors, err := stores[0].SecondFactors(t.Context(), user); err != nil || factors.RecoveryCodes != 0 || factors.Any() {
		t.Errorf("after a reset: got %+v, %v, want nothing", factors, err)
	}
}
