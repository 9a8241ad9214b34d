package auth_test

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/auth"
	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/sso"
	"github.com/postcard-mms/postcard/internal/testkit"
	"github.com/postcard-mms/postcard/internal/testkit/oidcprovider"
)

const (
	redirectURL = "http://postcard.example.com/login/sso/callback"
	eveEmail    = "eve@example.com"
	ssoAddress  = "192.0.2.1"
)

var eve = oidcprovider.Person{Subject: "eve", Email: eveEmail, EmailVerified: true}

// fakeIdentities stores accounts at the provider beside fakeUsers.
type fakeIdentities struct {
	*fakeUsers
	links []identity.Identity
}

// edit changes a user by email.
func (f *fakeUsers) edit(email string, change func(*identity.User)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.users {
		if f.users[i].Email == email {
			change(&f.users[i])
		}
	}
}

// change changes a user whose lock is held.
func (f *fakeIdentities) change(id uuid.UUID, change func(*identity.User)) identity.User {
	for i := range f.users {
		if f.users[i].ID == id {
			change(&f.users[i])
			return f.users[i]
		}
	}
	return identity.User{}
}

// endSessions ends all sessions of the user with the email.
func (f *fakeUsers) endSessions(email string) error {
	user, err := f.UserByEmail(context.Background(), email)
	return errors.Join(err, f.EndOtherSessions(context.Background(), user.ID, uuid.Nil))
}

func (f *fakeIdentities) Identity(_ context.Context, user uuid.UUID, issuer string) (identity.Identity, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, link := range f.links {
		if link.UserID == user && link.Issuer == issuer {
			return link, f.err
		}
	}
	if f.err != nil {
		return identity.Identity{}, f.err
	}
	return identity.Identity{}, identity.ErrNoIdentity
}

func (f *fakeIdentities) LoginByIdentity(_ context.Context, issuer, subject string, role identity.Role) (identity.User, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, link := range f.links {
		if link.Issuer == issuer && link.Subject == subject {
			return f.change(link.UserID, func(u *identity.User) {
				if role != "" {
					u.Role = role
				}
			}), f.err
		}
	}
	if f.err != nil {
		return identity.User{}, f.err
	}
	return identity.User{}, identity.ErrNoUser
}

func (f *fakeIdentities) CreateUserWithIdentity(ctx context.Context, u identity.User, i identity.Identity) error {
	if err := f.CreateUser(ctx, u); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	i.UserID, i.Email = u.ID, u.Email
	f.links = append(f.links, i)
	return nil
}

func (f *fakeIdentities) LinkIdentity(_ context.Context, i identity.Identity) (identity.User, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, link := range f.links {
		if link.Issuer == i.Issuer && link.Subject == i.Subject && link.UserID != i.UserID {
			return identity.User{}, identity.ErrIdentityTaken
		}
	}
	f.links = append(f.links, i)
	_ = f.EndOtherSessions(context.Background(), i.UserID, uuid.Nil) // never fails
	return f.change(i.UserID, func(*identity.User) {}), f.err
}

func (f *fakeIdentities) UnlinkIdentity(_ context.Context, user uuid.UUID, _ string) (identity.User, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.links = slices.DeleteFunc(f.links, func(i identity.Identity) bool { return i.UserID == user })
	_ = f.EndOtherSessions(context.Background(), user, uuid.Nil) // never fails
	return f.change(user, func(*identity.User) {}), f.err
}

// ssoHarness is a harness with single sign-on through a real provider, which knows Eve.
type ssoHarness struct {
	*harness
	server     *oidcprovider.Provider
	identities *fakeIdentities
	provider   *sso.Provider
	dropped    []uuid.UUID
}

func newSSOHarness(t *testing.T, signupOpen bool, change ...func(*auth.SingleSignOn)) *ssoHarness {
	t.Helper()
	h := &ssoHarness{harness: newHarness(t, signupOpen), server: oidcprovider.Start(t, redirectURL)}
	h.server.Set(eve)
	h.identities = &fakeIdentities{fakeUsers: h.users}
	h.provider = sso.New(sso.Config{Issuer: h.server.Issuer, ClientID: oidcprovider.ClientID, ClientSecret: oidcprovider.ClientSecret, RedirectURL: redirectURL, Groups: true}, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan struct{})
	go func() { h.provider.Run(ctx); close(stopped) }()
	t.Cleanup(func() { cancel(); <-stopped })
	testkit.Eventually(t, "the provider is discovered", h.provider.Reachable)
	o := auth.SingleSignOn{Provider: h.provider, Name: "Example ID", Identities: h.identities, Drop: func(id uuid.UUID) { h.dropped = append(h.dropped, id) }}
	for _, f := range change {
		f(&o)
	}
	h.service.UseSingleSignOn(o, true)
	return h
}

func domains(list ...string) func(*auth.SingleSignOn) {
	return func(o *auth.SingleSignOn) { o.Domains = list }
}

func adminGroup(group string) func(*auth.SingleSignOn) {
	return func(o *auth.SingleSignOn) { o.AdminGroup = group }
}

func (b *browser) beginSSO() (target string) {
	b.harness.t.Helper()
	var err error
	b.request(func(ctx context.Context) { target, err = b.harness.service.BeginSSO(ctx, ssoAddress, "/next") })
	if err != nil {
		b.harness.t.Fatal(err)
	}
	return target
}

func (b *browser) beginLink() (target string) {
	b.harness.t.Helper()
	var err error
	b.request(func(ctx context.Context) {
		principal, _ := identity.PrincipalFrom(ctx)
		target, err = b.harness.service.BeginLink(ctx, ssoAddress, principal)
	})
	if err != nil {
		b.harness.t.Fatal(err)
	}
	return target
}

func (b *browser) finishSSO(response *url.URL) (result auth.SSOResult, err error) {
	b.request(func(ctx context.Context) {
		result, err = b.harness.service.FinishSSO(ctx, ssoAddress, response.Query())
	})
	return result, err
}

func (b *browser) unlink() (err error) {
	b.request(func(ctx context.Context) {
		principal, _ := identity.PrincipalFrom(ctx)
		err = b.harness.service.Unlink(ctx, principal)
	})
	return err
}

// sso logs the person in through the provider.
func (h *ssoHarness) sso(b *browser, person oidcprovider.Person) error {
	h.t.Helper()
	h.server.Set(person)
	_, err := b.finishSSO(h.server.LogIn(b.beginSSO(), person))
	return err
}

func TestSSOCreatesUsers(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		signupOpen bool
		domains    []string
		person     oidcprovider.Person
		want       error // nil: the user is created
	}{
		"sign-up is open":                    {true, nil, eve, nil},
		"an allowed domain":                  {false, []string{"example.org", "example.com"}, eve, nil},
		"email in upper case":                {false, []string{"example.com"}, oidcprovider.Person{Subject: "eve", Email: "Eve@EXAMPLE.com", EmailVerified: true}, nil},
		"sign-up is closed":                  {false, nil, eve, auth.ErrSignupClosed},
		"a foreign domain":                   {false, []string{"example.org"}, eve, auth.ErrDomainNotAllowed},
		"a foreign domain, sign-up open":     {true, []string{"example.org"}, eve, auth.ErrDomainNotAllowed},
		"a subdomain":                        {true, []string{"ample.com"}, eve, auth.ErrDomainNotAllowed},
		"the domain in the local part":       {true, []string{"example.com"}, oidcprovider.Person{Subject: "eve", Email: "eve@example.com@evil.example", EmailVerified: true}, auth.ErrEmailNotVerified},
		"an unverified email":                {true, nil, oidcprovider.Person{Subject: "eve", Email: eveEmail}, auth.ErrEmailNotVerified},
		"no email":                           {true, nil, oidcprovider.Person{Subject: "eve", EmailVerified: true}, auth.ErrEmailNotVerified},
		"no address":                         {true, nil, oidcprovider.Person{Subject: "eve", Email: "Eve <eve@example.com>", EmailVerified: true}, auth.ErrEmailNotVerified},
		"a user's email":                     {true, nil, oidcprovider.Person{Subject: "eve", Email: adaEmail, EmailVerified: true}, auth.ErrEmailInUse},
		"a user's email, sign-up closed":     {false, nil, oidcprovider.Person{Subject: "eve", Email: "ADA@example.com", EmailVerified: true}, auth.ErrEmailInUse},
		"a user's email, but not verified":   {true, nil, oidcprovider.Person{Subject: "eve", Email: adaEmail}, auth.ErrEmailNotVerified},
		"a subject that is a user's email":   {true, nil, oidcprovider.Person{Subject: adaEmail, Email: eveEmail}, auth.ErrEmailNotVerified},
		"an email that was pasted somewhere": {true, nil, oidcprovider.Person{Subject: "eve", Email: "\u200beve@example.com", EmailVerified: true}, nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newSSOHarness(t, c.signupOpen, domains(c.domains...))
			b := h.browser()
			err := h.sso(b, c.person)
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if c.want != nil {
				if got := b.loggedInAs(); got != "" || len(h.users.users) != 1 {
					t.Errorf("logged in as %q, %d users, want nobody and only Ada", got, len(h.users.users))
				}
				return
			}
			if got := b.loggedInAs(); got != eveEmail {
				t.Errorf("logged in as %q, want %q", got, eveEmail)
			}
			again := h.browser()
			if err := h.sso(again, c.person); err != nil || again.loggedInAs() != eveEmail || len(h.users.users) != 2 {
				t.Errorf("second log-in: got %v as %q, %d users", err, again.loggedInAs(), len(h.users.users))
			}
		})
	}
}

// The subject decides, whatever email comes with it.
func TestSSOSubjectWithAnotherEmail(t *testing.T) {
	t.Parallel()
	for name, email := range map[string]string{"new email": "eve@new.example", "another user's email": adaEmail, "no email": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newSSOHarness(t, true)
			if err := h.sso(h.browser(), eve); err != nil {
				t.Fatal(err)
			}
			b := h.browser()
			err := h.sso(b, oidcprovider.Person{Subject: "eve", Email: email, EmailVerified: true})
			if got := b.loggedInAs(); err != nil || got != eveEmail {
				t.Errorf("got %v, logged in as %q, want %q", err, got, eveEmail)
			}
		})
	}
}

func TestSSOStateIsUsedOnce(t *testing.T) {
	t.Parallel()
	h := newSSOHarness(t, true)
	b := h.browser()
	response := h.server.LogIn(b.beginSSO(), eve)
	before := b.cookie
	if result, err := b.finishSSO(response); err != nil || result.Next != "/next" || result.Link {
		t.Fatalf("got %+v, %v", result, err)
	}
	if _, err := b.finishSSO(response); !errors.Is(err, auth.ErrSSOExpired) {
		t.Errorf("replayed in the same browser: got %v, want ErrSSOExpired", err)
	}
	if b.cookie.Value == before.Value {
		t.Error("the session's token is unchanged after the log-in")
	}
	thief := h.browser()
	thief.cookie = before
	if _, err := thief.finishSSO(response); !errors.Is(err, auth.ErrSSOExpired) || thief.loggedInAs() != "" {
		t.Errorf("replayed with the old session: got %v as %q, want ErrSSOExpired", err, thief.loggedInAs())
	}
}

// Two requests at a time both read the session before either has saved it.
func TestSSOStateIsUsedOnceAtATime(t *testing.T) {
	t.Parallel()
	h := newSSOHarness(t, true)
	first := h.browser()
	response := h.server.LogIn(first.beginSSO(), eve)
	second := h.browser()
	second.cookie = first.cookie
	var errs []error
	first.request(func(ctx context.Context) {
		second.request(func(ctx context.Context) {
			_, err := h.service.FinishSSO(ctx, ssoAddress, response.Query())
			errs = append(errs, err)
		})
		_, err := h.service.FinishSSO(ctx, ssoAddress, response.Query())
		errs = append(errs, err)
	})
	if errs[0] != nil || !errors.Is(errs[1], auth.ErrSSOExpired) {
		t.Errorf("got %v, want success and ErrSSOExpired", errs)
	}
}

func TestSSOInTwoBrowsers(t *testing.T) {
	t.Parallel()
	h := newSSOHarness(t, true)
	victim, attacker := h.browser(), h.browser()
	response := h.server.LogIn(attacker.beginSSO(), eve)
	victim.beginSSO()
	if _, err := victim.finishSSO(response); !errors.Is(err, auth.ErrSSOExpired) || victim.loggedInAs() != "" {
		t.Errorf("the response of another browser: got %v as %q, want ErrSSOExpired", err, victim.loggedInAs())
	}
	if _, err := h.browser().finishSSO(response); !errors.Is(err, auth.ErrSSOExpired) {
		t.Errorf("in a browser that began nothing: got %v, want ErrSSOExpired", err)
	}
	if _, err := attacker.finishSSO(response); err != nil || attacker.loggedInAs() != eveEmail {
		t.Errorf("in its own browser: got %v as %q", err, attacker.loggedInAs())
	}
}

func TestSSOInSeveralTabs(t *testing.T) {
	t.Parallel()
	h := newSSOHarness(t, true)
	b := h.browser()
	var targets []string
	for range 5 {
		targets = append(targets, b.beginSSO())
	}
	if _, err := b.finishSSO(h.server.LogIn(targets[0], eve)); !errors.Is(err, auth.ErrSSOExpired) {
		t.Errorf("the oldest of five: got %v, want ErrSSOExpired", err)
	}
	for i, target := range targets[1:] {
		if _, err := b.finishSSO(h.server.LogIn(target, eve)); err != nil {
			t.Errorf("tab %d: %v", i+1, err)
		}
	}
}

func TestSSOExpires(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		later time.Duration
		want  error
	}{"in time": {auth.PendingLifetime - time.Second, nil}, "too late": {auth.PendingLifetime + time.Second, auth.ErrSSOExpired}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newSSOHarness(t, true)
			b := h.browser()
			response := h.server.LogIn(b.beginSSO(), eve)
			if left := time.Until(b.cookie.Expires); left > auth.PendingLifetime+time.Minute {
				t.Errorf("the session of a visitor lasts for %s, want %s", left, auth.PendingLifetime)
			}
			h.service.SetNow(func() time.Time { return time.Now().Add(c.later) })
			if _, err := b.finishSSO(response); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if c.want == nil && time.Until(b.cookie.Expires) < time.Hour {
				t.Errorf("the session expires at %s, want that of a log-in", b.cookie.Expires)
			}
		})
	}
}

func TestSSOErrorsOfTheProvider(t *testing.T) {
	t.Parallel()
	h := newSSOHarness(t, true)
	b := h.browser()
	denied := h.server.Deny(b.beginSSO())
	if result, err := b.finishSSO(denied); !errors.Is(err, sso.RefusedError{Code: "access_denied"}) || result.Next != "/next" {
		t.Errorf("denied: got %+v, %v", result, err)
	}
	if _, err := b.finishSSO(denied); !errors.Is(err, auth.ErrSSOExpired) {
		t.Errorf("denied again: got %v, want ErrSSOExpired", err)
	}
	h.server.Forge(func(claims map[string]any) { claims["nonce"] = "another" })
	if err := h.sso(b, eve); !errors.Is(err, sso.ErrInvalidResponse) || b.loggedInAs() != "" {
		t.Errorf("wrong nonce: got %v as %q", err, b.loggedInAs())
	}
}

func TestSSOLimit(t *testing.T) {
	t.Parallel()
	h := newSSOHarness(t, true)
	b := h.browser()
	var target string
	for range 200 {
		target = b.beginSSO()
	}
	if _, err := b.finishSSO(h.server.LogIn(target, eve)); err != nil {
		t.Fatal(err)
	}
	for range 200 { // a successful one resets the limit
		b.beginSSO()
	}
	var err error
	b.request(func(ctx context.Context) { _, err = h.service.BeginSSO(ctx, ssoAddress, "/") })
	if !errors.Is(err, auth.TooManyAttemptsError{RetryAfter: throttledFor}) {
		t.Errorf("got %v, want too many attempts", err)
	}
}

func TestSSOStoreErrors(t *testing.T) {
	t.Parallel()
	storeErr := errors.New("database down")
	h := newSSOHarness(t, true)
	b := h.browser()
	response := h.server.LogIn(b.beginSSO(), eve)
	h.users.setErr(storeErr)
	if _, err := b.finishSSO(response); !errors.Is(err, storeErr) {
		t.Errorf("got %v, want %v", err, storeErr)
	}
}

func TestRoleFollowsTheGroup(t *testing.T) {
	t.Parallel()
	h := newSSOHarness(t, true, adminGroup("admins"))
	b := h.browser()
	role := func() (role identity.Role) {
		b.request(func(ctx context.Context) {
			principal, _ := identity.PrincipalFrom(ctx)
			role = principal.Role
		})
		return role
	}
	for _, step := range []struct {
		groups []string
		want   identity.Role
	}{{[]string{"staff", "admins"}, identity.RoleAdmin}, {[]string{"staff"}, identity.RoleUser}, {[]string{"admins"}, identity.RoleAdmin}, {nil, identity.RoleUser}} {
		person := eve
		person.Groups = step.groups
		if err := h.sso(b, person); err != nil {
			t.Fatal(err)
		}
		if got := role(); got != step.want {
			t.Errorf("groups %v: got role %q, want %q", step.groups, got, step.want)
		}
	}
	if len(h.dropped) != 4 {
		t.Errorf("dropped %d users from the cache, want one for each log-in", len(h.dropped))
	}
	// Without the setting, nobody's role changes.
	h.service.UseSingleSignOn(auth.SingleSignOn{Provider: h.provider, Identities: h.identities, Drop: func(uuid.UUID) {}}, true)
	h.users.edit(eveEmail, func(u *identity.User) { u.Role = identity.RoleAdmin })
	if err := h.sso(b, eve); err != nil || role() != identity.RoleAdmin {
		t.Errorf("without a group: got %v, role %q, want an admin still", err, role())
	}
}

func TestLink(t *testing.T) {
	t.Parallel()
	h := newSSOHarness(t, false)
	b, other := h.browser(), h.browser()
	for _, browser := range []*browser{b, other} {
		if err := browser.login(adaEmail, adaPassword); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.unlink(); !errors.Is(err, identity.ErrNoIdentity) {
		t.Errorf("unlinking before: got %v, want ErrNoIdentity", err)
	}
	before := b.cookie
	result, err := b.finishSSO(h.server.LogIn(b.beginLink(), eve))
	if err != nil || !result.Link {
		t.Fatalf("got %+v, %v", result, err)
	}
	if got := other.loggedInAs(); got != "" {
		t.Errorf("the other session: logged in as %q, want it ended", got)
	}
	if b.loggedInAs() != adaEmail || b.cookie.Value == before.Value {
		t.Errorf("this session: logged in as %q, token renewed: %t", b.loggedInAs(), b.cookie.Value != before.Value)
	}
	want := []identity.Identity{{Issuer: h.server.Issuer, Subject: "eve", UserID: h.users.users[0].ID, Email: eveEmail}}
	if diff := cmp.Diff(want, h.identities.links); diff != "" {
		t.Errorf("identities (-want +got):\n%s", diff)
	}
	if err := h.sso(other, eve); err != nil || other.loggedInAs() != adaEmail {
		t.Errorf("log-in with the linked account: got %v as %q", err, other.loggedInAs())
	}
	if err := b.unlink(); err != nil || b.loggedInAs() != adaEmail || other.loggedInAs() != "" {
		t.Errorf("unlinking: got %v, this session %q, the other %q", err, b.loggedInAs(), other.loggedInAs())
	}
	if err := h.sso(h.browser(), eve); !errors.Is(err, auth.ErrSignupClosed) {
		t.Errorf("log-in with the unlinked account: got %v, want ErrSignupClosed", err)
	}
}

func TestLinkNeedsTheSession(t *testing.T) {
	t.Parallel()
	cases := map[string]func(h *ssoHarness, b *browser) error{
		"logged out since":      func(_ *ssoHarness, b *browser) error { return b.logout() },
		"the session has ended": func(h *ssoHarness, _ *browser) error { return h.users.endSessions(adaEmail) },
		"another user has logged in": func(h *ssoHarness, b *browser) error {
			return h.sso(b, oidcprovider.Person{Subject: "bob", Email: "bob@example.com", EmailVerified: true})
		},
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newSSOHarness(t, true)
			b := h.browser()
			if err := b.login(adaEmail, adaPassword); err != nil {
				t.Fatal(err)
			}
			response := h.server.LogIn(b.beginLink(), eve)
			if err := change(h, b); err != nil {
				t.Fatal(err)
			}
			if _, err := b.finishSSO(response); !errors.Is(err, auth.ErrSSOExpired) {
				t.Errorf("got %v, want ErrSSOExpired", err)
			}
			for _, link := range h.identities.links {
				if link.Subject == "eve" {
					t.Errorf("linked %v", link)
				}
			}
		})
	}
}

func TestLinkOfAnotherUsersAccount(t *testing.T) {
	t.Parallel()
	h := newSSOHarness(t, true)
	if err := h.sso(h.browser(), eve); err != nil {
		t.Fatal(err)
	}
	b := h.browser()
	if err := b.login(adaEmail, adaPassword); err != nil {
		t.Fatal(err)
	}
	if _, err := b.finishSSO(h.server.LogIn(b.beginLink(), eve)); !errors.Is(err, identity.ErrIdentityTaken) || b.loggedInAs() != adaEmail {
		t.Errorf("got %v as %q, want ErrIdentityTaken", err, b.loggedInAs())
	}
}

func TestUserWithoutPassword(t *testing.T) {
	t.Parallel()
	h := newSSOHarness(t, true)
	b := h.browser()
	if err := h.sso(b, eve); err != nil {
		t.Fatal(err)
	}
	if len(b.others) != 0 {
		t.Errorf("got cookies %v, want none that a password signs", b.others)
	}
	for _, password := range []string{"", "a password"} {
		if err := h.browser().login(eveEmail, password); !errors.Is(err, auth.ErrInvalidCredentials) {
			t.Errorf("log-in with password %q: got %v, want ErrInvalidCredentials", password, err)
		}
	}
	if err := h.browser().login(eveEmail, adaPassword); !errors.Is(err, auth.ErrInvalidCredentials) {
		t.Errorf("log-in with the decoy's password: got %v, want ErrInvalidCredentials", err)
	}
	if err := h.browser().signUp(eveEmail, "a long password"); !errors.Is(err, identity.ErrEmailTaken) {
		t.Errorf("sign-up: got %v, want ErrEmailTaken", err)
	}
	if err := b.unlink(); !errors.Is(err, auth.ErrOnlyLogin) {
		t.Errorf("unlinking: got %v, want ErrOnlyLogin", err)
	}
	h.service.SetDecoy("not a hash")
	if err := h.browser().login(eveEmail, "x"); err == nil || errors.Is(err, auth.ErrInvalidCredentials) {
		t.Errorf("got %v, want the error of a comparison with an invalid decoy: it must cost the same", err)
	}
	if err := h.users.endSessions(eveEmail); err != nil {
		t.Fatal(err)
	}
	if got := b.loggedInAs(); got != "" {
		t.Errorf("after the access was revoked: logged in as %q, want nobody", got)
	}
}

func TestPasswordsOff(t *testing.T) {
	t.Parallel()
	h := newSSOHarness(t, true)
	b := h.browser()
	if err := b.login(adaEmail, adaPassword); err != nil {
		t.Fatal(err)
	}
	if _, err := b.finishSSO(h.server.LogIn(b.beginLink(), eve)); err != nil {
		t.Fatal(err)
	}
	h.service.UseSingleSignOn(auth.SingleSignOn{Provider: h.provider, Identities: h.identities, Drop: func(uuid.UUID) {}}, false)
	if h.service.PasswordLogin() || h.service.SignupOpen() {
		t.Errorf("PasswordLogin() = %t, SignupOpen() = %t, want neither", h.service.PasswordLogin(), h.service.SignupOpen())
	}
	if err := h.browser().login(adaEmail, adaPassword); !errors.Is(err, auth.ErrPasswordsOff) {
		t.Errorf("log-in: got %v, want ErrPasswordsOff", err)
	}
	if err := h.browser().signUp("bob@example.com", "a long password"); !errors.Is(err, auth.ErrPasswordsOff) {
		t.Errorf("sign-up: got %v, want ErrPasswordsOff", err)
	}
	if err := b.unlink(); !errors.Is(err, auth.ErrOnlyLogin) || b.loggedInAs() != adaEmail {
		t.Errorf("unlinking: got %v as %q, want ErrOnlyLogin", err, b.loggedInAs())
	}
	if err := h.sso(h.browser(), oidcprovider.Person{Subject: "bob", Email: "bob@example.com", EmailVerified: true}); err != nil {
		t.Errorf("single sign-on of a new user: got %v, want no error: sign-up is open", err)
	}
}

func TestErrorsHoldNoEmail(t *testing.T) {
	t.Parallel()
	h := newSSOHarness(t, false)
	if err := h.sso(h.browser(), eve); err == nil || strings.Contains(err.Error(), "eve") {
		t.Errorf("got error %v, want one without the email", err)
	}
}
