package postgres_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/postgres"
)

// testHash has the length of a hash, and matches no password.
var testHash = identity.PasswordHash(strings.Repeat("x", 60))

// invite creates an invitation to the workspace.
func invite(t *testing.T, store *postgres.Store, workspace, by uuid.UUID, email string, permissions ...string) (identity.Invitation, identity.InvitationToken) {
	t.Helper()
	invitation, token, err := identity.NewInvitation(uuid.Must(uuid.NewV7()), workspace, by, email, permissions)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.CreateInvitation(t.Context(), invitation, token.Hash()); err != nil {
		t.Fatal(err)
	}
	return invitation, token
}

// members returns the permissions of a workspace's members by email.
func members(t *testing.T, store *postgres.Store, workspace uuid.UUID) map[string][]identity.Permission {
	t.Helper()
	list, err := store.Members(t.Context(), workspace)
	if err != nil {
		t.Fatal(err)
	}
	permissions := map[string][]identity.Permission{}
	for _, m := range list {
		slices.Sort(m.Permissions)
		permissions[m.Email] = m.Permissions
	}
	return permissions
}

func TestNewUserHasAWorkspace(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	user, err := store.UserByID(t.Context(), ada)
	if err != nil {
		t.Fatal(err)
	}
	want := []identity.Membership{{Workspace: identity.Workspace{ID: ada, Name: "ada"}, Permissions: identity.MemberPermissions()}}
	if diff := cmp.Diff(want, user.Memberships); diff != "" {
		t.Errorf("memberships (-want +got):\n%s", diff)
	}
}

func TestInvitations(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	bob := addUser(t, store, "bob@example.com")
	eve := addUser(t, store, "eve@example.com")
	invitation, token := invite(t, store, ada, ada, "bob@example.com", "send")
	got, err := store.InvitationByToken(t.Context(), token.Hash())
	if err != nil || got.ID != invitation.ID || got.Workspace != "ada" || !got.Known {
		t.Errorf("InvitationByToken() = %+v, %v, want that of Bob, who is known", got, err)
	}
	if _, err := store.AcceptInvitation(t.Context(), token.Hash(), identity.User{ID: eve, Email: "eve@example.com"}); !errors.Is(err, identity.ErrOtherEmail) {
		t.Errorf("another user: got error %v, want ErrOtherEmail", err)
	}
	workspace, err := store.AcceptInvitation(t.Context(), token.Hash(), identity.User{ID: bob, Email: "bob@example.com"})
	if err != nil || workspace != ada {
		t.Errorf("AcceptInvitation() = %s, %v, want Ada's workspace", workspace, err)
	}
	if _, err := store.AcceptInvitation(t.Context(), token.Hash(), identity.User{ID: bob, Email: "bob@example.com"}); !errors.Is(err, identity.ErrNoInvitation) {
		t.Errorf("a second time: got error %v, want ErrNoInvitation", err)
	}
	want := map[string][]identity.Permission{
		"ada@example.com": {identity.Manage, identity.Read, identity.Send}, "bob@example.com": {identity.Read, identity.Send},
	}
	if diff := cmp.Diff(want, members(t, store, ada)); diff != "" {
		t.Errorf("members (-want +got):\n%s", diff)
	}
	again, _, _ := identity.NewInvitation(uuid.New(), ada, ada, "bob@example.com", nil)
	if err := store.CreateInvitation(t.Context(), again, [32]byte{1}); !errors.Is(err, identity.ErrAlreadyMember) {
		t.Errorf("inviting a member: got error %v, want ErrAlreadyMember", err)
	}
}

// TestInvitedUser: a person who signs up with an invitation is a member of that workspace
// alone.
func TestInvitedUser(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	_, token := invite(t, store, ada, ada, "bob@example.com")
	bob := identity.User{ID: uuid.New(), Email: "bob@example.com", PasswordHash: testHash, Role: identity.RoleUser}
	if workspace, err := store.CreateInvitedUser(t.Context(), token.Hash(), bob); err != nil || workspace != ada {
		t.Fatalf("CreateInvitedUser() = %s, %v, want Ada's workspace", workspace, err)
	}
	got, err := store.UserByID(t.Context(), bob.ID)
	if err != nil || len(got.Memberships) != 1 || got.Memberships[0].ID != ada {
		t.Errorf("got %+v, %v, want a member of Ada's workspace alone", got.Memberships, err)
	}
	_, token = invite(t, store, ada, ada, "eve@example.com")
	bob.ID = uuid.New()
	if _, err := store.CreateInvitedUser(t.Context(), token.Hash(), bob); !errors.Is(err, identity.ErrOtherEmail) {
		t.Errorf("another email: got error %v, want ErrOtherEmail", err)
	}
}

func TestInvitationsThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	bob := identity.User{ID: addUser(t, store, "bob@example.com"), Email: "bob@example.com"}
	cases := map[string]func(identity.Invitation){
		"withdrawn": func(i identity.Invitation) {
			if err := store.WithdrawInvitation(t.Context(), ada, i.ID); err != nil {
				t.Error(err)
			}
		},
		"expired": func(i identity.Invitation) {
			execute(t, store, `UPDATE invitations SET expires_at = now() WHERE id = '`+i.ID.String()+`'`)
		},
		"replaced": func(identity.Invitation) { invite(t, store, ada, ada, "bob@example.com", "send") },
	}
	for name, spoil := range cases {
		invitation, token := invite(t, store, ada, ada, "bob@example.com")
		spoil(invitation)
		if _, err := store.AcceptInvitation(t.Context(), token.Hash(), bob); !errors.Is(err, identity.ErrNoInvitation) {
			t.Errorf("%s: got error %v, want ErrNoInvitation", name, err)
		}
	}
	if err := store.WithdrawInvitation(t.Context(), bob.ID, uuid.New()); !errors.Is(err, identity.ErrNoInvitation) {
		t.Errorf("withdrawing an unknown invitation: got error %v, want ErrNoInvitation", err)
	}
}

// TestInvitationOnce lets several requests use one invitation at the same moment.
func TestInvitationOnce(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	_, token := invite(t, store, ada, ada, "bob@example.com")
	var group sync.WaitGroup
	results := make(chan error, 4)
	for range cap(results) {
		group.Go(func() {
			_, err := store.CreateInvitedUser(t.Context(), token.Hash(), identity.User{
				ID: uuid.New(), Email: "bob@example.com", PasswordHash: testHash, Role: identity.RoleUser,
			})
			results <- err
		})
	}
	group.Wait()
	close(results)
	accepted := 0
	for err := range results {
		if err == nil {
			accepted++
		} else if !errors.Is(err, identity.ErrNoInvitation) && !errors.Is(err, identity.ErrEmailTaken) {
			t.Errorf("got error %v, want ErrNoInvitation or ErrEmailTaken", err)
		}
	}
	if accepted != 1 || len(members(t, store, ada)) != 2 {
		t.Errorf("got %d accepted and %v, want 1 and two members", accepted, members(t, store, ada))
	}
}

// TestLastManagerStays lets two managers remove each other, or themselves, at the same
// moment: one remains.
func TestLastManagerStays(t *testing.T) {
	t.Parallel()
	cases := map[string]func(s *postgres.Store, workspace, one, other uuid.UUID) (first, second error){
		"remove each other": func(s *postgres.Store, w, one, other uuid.UUID) (first, second error) {
			return together(func() error { return s.RemoveMember(t.Context(), w, other) }, func() error { return s.RemoveMember(t.Context(), w, one) })
		},
		"both leave": func(s *postgres.Store, w, one, other uuid.UUID) (first, second error) {
			return together(func() error { return s.RemoveMember(t.Context(), w, one) }, func() error { return s.RemoveMember(t.Context(), w, other) })
		},
		"take the permission from each other": func(s *postgres.Store, w, one, other uuid.UUID) (first, second error) {
			read := []identity.Permission{identity.Read}
			return together(func() error { return s.SetPermissions(t.Context(), w, other, read) }, func() error { return s.SetPermissions(t.Context(), w, one, read) })
		},
	}
	store, ada := newStore(t)
	for name, change := range cases {
		email := uuid.NewString() + "@example.com"
		bob := addUser(t, store, email)
		workspace := uuid.New()
		if err := store.CreateWorkspace(t.Context(), workspace, name, ada); err != nil {
			t.Fatal(err)
		}
		if err := store.AddMember(t.Context(), workspace, email, identity.MemberPermissions()); err != nil {
			t.Fatal(err)
		}
		first, second := change(store, workspace, ada, bob)
		if (first == nil) == (second == nil) || !errors.Is(errors.Join(first, second), identity.ErrLastManager) {
			t.Errorf("%s: got errors %v and %v, want one ErrLastManager", name, first, second)
		}
		managers := count(t, store, `SELECT count(*) FROM members WHERE workspace_id = $1 AND 'manage' = ANY (permissions)`, workspace)
		if managers != 1 {
			t.Errorf("%s: got %d managers, want 1", name, managers)
		}
	}
}

// together runs both at the same time.
func together(a, b func() error) (first, second error) {
	var group sync.WaitGroup
	group.Go(func() { first = a() })
	group.Go(func() { second = b() })
	group.Wait()
	return first, second
}

func TestChangesOfStrangers(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	bob := addUser(t, store, "bob@example.com")
	if err := store.SetPermissions(t.Context(), ada, bob, identity.MemberPermissions()); !errors.Is(err, identity.ErrNoMember) {
		t.Errorf("changing a stranger: got error %v, want ErrNoMember", err)
	}
	if err := store.RemoveMember(t.Context(), ada, bob); !errors.Is(err, identity.ErrNoMember) {
		t.Errorf("removing a stranger: got error %v, want ErrNoMember", err)
	}
	for name, err := range map[string]error{
		"renaming":     store.RenameWorkspace(t.Context(), uuid.New(), "x"),
		"capping":      store.SetDailyCap(t.Context(), uuid.New(), 1),
		"adding to it": store.AddMember(t.Context(), uuid.New(), "bob@example.com", identity.MemberPermissions()),
	} {
		if !errors.Is(err, identity.ErrNoWorkspace) {
			t.Errorf("%s an unknown workspace: got error %v, want ErrNoWorkspace", name, err)
		}
	}
	if err := store.AddMember(t.Context(), ada, "nobody@example.com", identity.MemberPermissions()); !errors.Is(err, identity.ErrNoUser) {
		t.Errorf("adding an unknown user: got error %v, want ErrNoUser", err)
	}
}

func TestWorkspaceLimits(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	for range identity.MaxWorkspaces - 1 { // beside the first one
		if err := store.CreateWorkspace(t.Context(), uuid.New(), "more", ada); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.CreateWorkspace(t.Context(), uuid.New(), "one more", ada); !errors.Is(err, identity.ErrTooManyMembers) {
		t.Errorf("got error %v, want ErrTooManyMembers", err)
	}
	bob := addUser(t, store, "bob@example.com")
	_, token := invite(t, store, bob, bob, "ada@example.com")
	if _, err := store.AcceptInvitation(t.Context(), token.Hash(), identity.User{ID: ada, Email: "ada@example.com"}); !errors.Is(err, identity.ErrTooManyMembers) {
		t.Errorf("joining one more: got error %v, want ErrTooManyMembers", err)
	}
}
