package webui_test

import (
	"context"
	"html"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/auth"
	"github.com/postcard-mms/postcard/internal/auth/authtest"
	"github.com/postcard-mms/postcard/internal/identity"
)

// fakeWorkspaces keeps the members of workspaces in the users of the backend.
type fakeWorkspaces struct {
	invitations map[[32]byte]identity.Invitation
	err         error
}

func (f *fakeBackend) CreateWorkspace(_ context.Context, id uuid.UUID, name string, user uuid.UUID) error {
	return f.changeUser(user, func(u *identity.User) {
		u.Memberships = append(u.Memberships, identity.Membership{Workspace: identity.Workspace{ID: id, Name: name}, Permissions: identity.MemberPermissions()})
	})
}

// changeUser changes a user, who has a workspace of their own.
func (f *fakeBackend) changeUser(id uuid.UUID, change func(*identity.User)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := slices.IndexFunc(f.users, func(u identity.User) bool { return u.ID == id })
	if i < 0 {
		return identity.ErrNoMember
	}
	f.users[i] = authtest.InOwnWorkspace(f.users[i])
	change(&f.users[i])
	return f.workspaces.err
}

func (f *fakeBackend) RenameWorkspace(_ context.Context, id uuid.UUID, name string) error {
	for _, u := range f.users {
		_ = f.changeUser(u.ID, func(u *identity.User) {
			for i := range u.Memberships {
				if u.Memberships[i].ID == id {
					u.Memberships[i].Name = name
				}
			}
		})
	}
	return f.workspaces.err
}

func (f *fakeBackend) Members(_ context.Context, workspace uuid.UUID) (list []identity.Member, err error) {
	for _, u := range f.users {
		for _, m := range authtest.InOwnWorkspace(u).Memberships {
			if m.ID == workspace {
				list = append(list, identity.Member{UserID: u.ID, Email: u.Email, Permissions: m.Permissions})
			}
		}
	}
	return list, nil
}

func (f *fakeBackend) SetPermissions(_ context.Context, workspace, user uuid.UUID, permissions []identity.Permission) error {
	return f.changeUser(user, func(u *identity.User) {
		for i := range u.Memberships {
			if u.Memberships[i].ID == workspace {
				u.Memberships[i].Permissions = permissions
			}
		}
	})
}

func (f *fakeBackend) RemoveMember(_ context.Context, workspace, user uuid.UUID) error {
	return f.changeUser(user, func(u *identity.User) {
		if f.workspaces.err == nil {
			u.Memberships = slices.DeleteFunc(u.Memberships, func(m identity.Membership) bool { return m.ID == workspace })
		}
	})
}

func (f *fakeBackend) CreateInvitation(_ context.Context, i identity.Invitation, hash [32]byte) error {
	f.workspaces.invitations[hash] = i
	return f.workspaces.err
}

func (f *fakeBackend) Invitations(context.Context, uuid.UUID) (list []identity.Invitation, err error) {
	for _, i := range f.workspaces.invitations {
		list = append(list, i)
	}
	return list, nil
}

func (f *fakeBackend) InvitationByToken(_ context.Context, hash [32]byte) (identity.Invitation, error) {
	i, ok := f.workspaces.invitations[hash]
	if !ok {
		return i, identity.ErrNoInvitation
	}
	_, err := f.UserByEmail(context.Background(), i.Email)
	i.Known, i.Workspace = err == nil, "Shop"
	return i, nil
}

func (f *fakeBackend) WithdrawInvitation(_ context.Context, _, id uuid.UUID) error {
	for hash, i := range f.workspaces.invitations {
		if i.ID == id {
			delete(f.workspaces.invitations, hash)
			return nil
		}
	}
	return identity.ErrNoInvitation
}

func (f *fakeBackend) AcceptInvitation(ctx context.Context, hash [32]byte, user identity.User) (uuid.UUID, error) {
	i, err := f.InvitationByToken(ctx, hash)
	switch {
	case err != nil:
		return uuid.Nil, err
	case i.Email != user.Email:
		return uuid.Nil, identity.ErrOtherEmail
	}
	delete(f.workspaces.invitations, hash)
	return i.WorkspaceID, f.changeUser(user.ID, func(u *identity.User) {
		u.Memberships = append(u.Memberships, identity.Membership{Workspace: identity.Workspace{ID: i.WorkspaceID, Name: i.Workspace}, Permissions: i.Permissions})
	})
}

func (f *fakeBackend) CreateInvitedUser(ctx context.Context, hash [32]byte, user identity.User) (uuid.UUID, error) {
	user.Memberships = []identity.Membership{}
	f.users = append(f.users, user)
	return f.AcceptInvitation(ctx, hash, user)
}

// invitationLink finds the link that a page shows once.
var invitationLink = regexp.MustCompile(`https?://[^<]*(/invitations/[A-Z2-7]+)`)

// invite invites a person as the logged-in user and returns the path of the link.
func (b *browser) invite(email string, permissions ...string) string {
	b.t.Helper()
	pairs := []string{"email", email}
	for _, p := range permissions {
		pairs = append(pairs, "permission", p)
	}
	got := b.post("/settings/invitations", pairs...)
	link := invitationLink.FindStringSubmatch(html.UnescapeString(got.body))
	if got.status != http.StatusOK || link == nil {
		b.t.Fatalf("inviting %s: got %d %s, want a page with a link", email, got.status, got.body)
	}
	return link[1]
}

func TestInvitationOfANewUser(t *testing.T) {
	t.Parallel()
	f, ada := newBackend(t, false)
	ada.login(userEmail)
	path := ada.invite("new@example.com", "send")
	bob := ada.another()
	page := bob.get(path)
	bob.want("invitation", page, http.StatusOK, "new@example.com", "Sign up and join")
	bob.want("short password", bob.post(path, "password", "short"), http.StatusUnprocessableEntity, "at least 10 characters")
	got := bob.post(path, "password", "correct horse battery")
	if got.status != http.StatusSeeOther || got.location != "/messages" {
		t.Fatalf("accepting: got %d to %q, want 303 to /messages", got.status, got.location)
	}
	bob.want("first page", bob.get("/messages"), http.StatusOK, "You are a member of the workspace now.")
	user, err := f.UserByEmail(t.Context(), "new@example.com")
	if err != nil || len(user.Memberships) != 1 || user.Memberships[0].ID != f.users[0].ID || slices.Contains(user.Memberships[0].Permissions, identity.Manage) {
		t.Errorf("got %+v (error %v), want a member of Ada's workspace who may send", user.Memberships, err)
	}
	ada.want("used link", ada.another().get(path), http.StatusNotFound, "used or withdrawn")
}

func TestInvitationOfAKnownUser(t *testing.T) {
	t.Parallel()
	f, ada := newBackend(t, false)
	ada.login(userEmail)
	path := ada.invite(adminEmail)
	ada.want("logged out", ada.another().get(path), http.StatusOK, "Log in to join")
	ada.want("another user", ada.get(path), http.StatusOK, "for another email than yours")
	ada.want("another user accepts", ada.post(path), http.StatusForbidden, "for another email")
	root := ada.another()
	root.login(adminEmail)
	root.want("invited user", root.get(path), http.StatusOK, "Join the workspace")
	if got := root.post(path); got.status != http.StatusSeeOther {
		t.Fatalf("accepting: got %d %s", got.status, got.body)
	}
	root.want("switched", root.get("/workspaces"), http.StatusOK, "in use", "Switch to root")
	if user, err := f.UserByEmail(t.Context(), adminEmail); err != nil || len(user.Memberships) != 2 {
		t.Errorf("got %+v (error %v), want two workspaces", user.Memberships, err)
	}
}

func TestWithdrawnInvitation(t *testing.T) {
	t.Parallel()
	f, ada := newBackend(t, false)
	ada.login(userEmail)
	path := ada.invite("new@example.com")
	for _, i := range f.workspaces.invitations {
		if got := ada.post("/settings/invitations/" + i.ID.String() + "/withdraw"); got.status != http.StatusSeeOther {
			t.Errorf("withdrawing: got %d, want 303", got.status)
		}
	}
	ada.want("withdrawn", ada.another().get(path), http.StatusNotFound, "used or withdrawn")
	ada.want("again", ada.post("/settings/invitations/"+uuid.NewString()+"/withdraw"), http.StatusNotFound)
}

func TestMembersPage(t *testing.T) {
	t.Parallel()
	f, ada := newBackend(t, false)
	ada.login(userEmail)
	own := f.users[0].ID.String()
	ada.want("members", ada.get("/settings/members"), http.StatusOK, userEmail, "Create invitation")
	ada.want("invalid email", ada.post("/settings/invitations", "email", "nobody"), http.StatusUnprocessableEntity, "Email must be an email address")
	ada.want("unknown permission", ada.post("/settings/invitations", "email", "new@example.com", "permission", "root"), http.StatusUnprocessableEntity, "must be read, send or manage")
	ada.want("rename to nothing", ada.post("/settings/workspace", "name", " "), http.StatusUnprocessableEntity, "Name is missing")
	if got := ada.post("/settings/workspace", "name", "Web shop"); got.status != http.StatusSeeOther {
		t.Errorf("rename: got %d, want 303", got.status)
	}
	ada.want("renamed", ada.get("/settings/members"), http.StatusOK, "Web shop")
	f.workspaces.err = identity.ErrLastManager
	ada.want("last manager", ada.post("/settings/members/"+own+"/remove"), http.StatusConflict, "needs a member who may manage it")
	ada.want("last manager leaves", ada.post("/workspaces/"+own+"/leave"), http.StatusConflict, "nobody else may manage it")
	f.workspaces.err = nil
	ada.want("stranger", ada.post("/settings/members/"+uuid.NewString()+"/change"), http.StatusNotFound)
	f.workspaces.err = identity.ErrTooManyMembers
	ada.want("too many", ada.post("/settings/invitations", "email", "new@example.com"), http.StatusConflict, "500 members")
	ada.want("too many workspaces", ada.post("/workspaces", "name", "More"), http.StatusConflict, "already have 100")
	f.workspaces.err = identity.ErrAlreadyMember
	ada.want("already a member", ada.post("/settings/invitations", "email", "new@example.com"), http.StatusConflict, "is that of a member already")
}

// TestFormOfAnotherWorkspace: a form that was opened before the user switched does nothing.
func TestFormOfAnotherWorkspace(t *testing.T) {
	t.Parallel()
	f, ada := newBackend(t, false)
	ada.login(userEmail)
	before := f.users[0].ID.String()
	if got := ada.post("/workspaces", "name", "Second"); got.status != http.StatusSeeOther {
		t.Fatalf("creating a workspace: got %d", got.status)
	}
	created := len(f.messages)
	for path, fields := range map[string][]string{
		"/messages/new":         {"to", "+14155550123", "mediaUrl", "https://example.com/a.jpg", "workspace", before},
		"/settings/keys":        {"name", "shop", "scope", "send", "workspace", before},
		"/settings/webhooks":    {"url", "https://example.com", "workspace", before},
		"/settings/invitations": {"email", "new@example.com", "workspace", before},
	} {
		ada.want(path, ada.post(path, fields...), http.StatusConflict, "You have switched to the workspace Second")
	}
	if len(f.messages) != created || len(f.keys)+len(f.webhooks)+len(f.workspaces.invitations) > 0 {
		t.Errorf("got %d messages, %d keys, %d webhooks, %d invitations; want nothing new", len(f.messages), len(f.keys), len(f.webhooks), len(f.workspaces.invitations))
	}
}

func TestSwitchingWorkspaces(t *testing.T) {
	t.Parallel()
	f, ada := newBackend(t, false)
	ada.login(userEmail)
	first := f.users[0].ID.String()
	ada.want("no name", ada.post("/workspaces", "name", ""), http.StatusUnprocessableEntity, "Name is missing")
	if got := ada.post("/workspaces", "name", "Second"); got.location != "/settings/members" {
		t.Fatalf("creating: got %d to %q, want to the members", got.status, got.location)
	}
	page := ada.get("/workspaces")
	if !strings.Contains(page.body, "Switch to ada") || strings.Contains(page.body, "Switch to Second") {
		t.Errorf("got a page that does not use the new workspace:\n%s", page.body)
	}
	ada.want("a stranger's", ada.post("/workspaces/switch", "to", uuid.NewString()), http.StatusNotFound)
	if got := ada.post("/workspaces/switch", "to", first); got.location != "/messages" {
		t.Errorf("switching: got %d to %q, want to the messages", got.status, got.location)
	}
	ada.want("switched", ada.get("/workspaces"), http.StatusOK, "Switch to Second")
	if got := ada.post("/workspaces/" + first + "/leave"); got.location != "/workspaces" {
		t.Errorf("leaving: got %d to %q, want to the workspaces", got.status, got.location)
	}
	page = ada.get("/workspaces")
	if strings.Contains(page.body, "Switch to") {
		t.Errorf("after leaving the workspace in use, got a page that does not use the other one:\n%s", page.body)
	}
}

var _ auth.WorkspaceStore = (*fakeBackend)(nil)
