package auth

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/identity"
)

// WorkspaceStore stores workspaces, their members and invitations. The errors are those of
// internal/identity; internal/postgres says which method returns which.
type WorkspaceStore interface {
	CreateWorkspace(ctx context.Context, id uuid.UUID, name string, user uuid.UUID) error
	RenameWorkspace(ctx context.Context, id uuid.UUID, name string) error
	Members(ctx context.Context, workspace uuid.UUID) ([]identity.Member, error)
	SetPermissions(ctx context.Context, workspace, user uuid.UUID, permissions []identity.Permission) error
	RemoveMember(ctx context.Context, workspace, user uuid.UUID) error
	CreateInvitation(ctx context.Context, i identity.Invitation, hash [32]byte) error
	Invitations(ctx context.Context, workspace uuid.UUID) ([]identity.Invitation, error)
	InvitationByToken(ctx context.Context, hash [32]byte) (identity.Invitation, error)
	WithdrawInvitation(ctx context.Context, workspace, id uuid.UUID) error
	AcceptInvitation(ctx context.Context, hash [32]byte, user identity.User) (workspace uuid.UUID, err error)
	CreateInvitedUser(ctx context.Context, hash [32]byte, user identity.User) (workspace uuid.UUID, err error)
}

// WorkspaceService manages workspaces for the JSON API and the UI. It does not check what
// the caller may do.
type WorkspaceService struct {
	WorkspaceStore
	users *UserCache
}

// NewWorkspaceService returns a service that keeps users up to date.
func NewWorkspaceService(store WorkspaceStore, users *UserCache) *WorkspaceService {
	return &WorkspaceService{WorkspaceStore: store, users: users}
}

// Create adds a workspace that the user may manage. It returns the violations of the name as
// invalid.Fields, or identity.ErrTooManyMembers.
func (s *WorkspaceService) Create(ctx context.Context, user uuid.UUID, name string) (identity.Workspace, error) {
	name, err := identity.ParseWorkspaceName(name)
	if err != nil {
		return identity.Workspace{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return identity.Workspace{}, fmt.Errorf("generating a workspace id: %w", err)
	}
	if err := s.CreateWorkspace(ctx, id, name, user); err != nil {
		return identity.Workspace{}, err
	}
	s.users.Drop(user)
	return identity.Workspace{ID: id, Name: name}, nil
}

// Rename changes the name of a workspace. It returns the violations of the name as
// invalid.Fields.
func (s *WorkspaceService) Rename(ctx context.Context, workspace uuid.UUID, name string) error {
	name, err := identity.ParseWorkspaceName(name)
	if err != nil {
		return err
	}
	if err := s.RenameWorkspace(ctx, workspace, name); err != nil {
		return err
	}
	s.users.Drop(uuid.Nil) // of each member
	return nil
}

// Change gives a member other permissions. It returns violations as invalid.Fields,
// identity.ErrNoMember or identity.ErrLastManager.
func (s *WorkspaceService) Change(ctx context.Context, workspace, user uuid.UUID, permissions []string) error {
	parsed, err := identity.ParseMemberPermissions(permissions)
	if err != nil {
		return err
	}
	err = s.SetPermissions(ctx, workspace, user, parsed)
	s.users.Drop(user)
	return err
}

// Remove removes a member, which ends their streams at all processes. It returns
// identity.ErrNoMember or identity.ErrLastManager.
func (s *WorkspaceService) Remove(ctx context.Context, workspace, user uuid.UUID) error {
	err := s.RemoveMember(ctx, workspace, user)
	s.users.Drop(user)
	return err
}

// Invite adds an invitation to the workspace and returns it with the token of its link,
// which is shown once. It returns violations as invalid.Fields, identity.ErrAlreadyMember or
// identity.ErrTooManyMembers.
func (s *WorkspaceService) Invite(ctx context.Context, workspace, by uuid.UUID, email string, permissions []string) (identity.Invitation, identity.InvitationToken, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return identity.Invitation{}, "", fmt.Errorf("generating an invitation id: %w", err)
	}
	invitation, token, err := identity.NewInvitation(id, workspace, by, email, permissions)
	if err != nil {
		return identity.Invitation{}, "", err
	}
	return invitation, token, s.CreateInvitation(ctx, invitation, token.Hash())
}

// Invitation returns the invitation of a link, or identity.ErrNoInvitation.
func (s *WorkspaceService) Invitation(ctx context.Context, token identity.InvitationToken) (identity.Invitation, error) {
	return s.InvitationByToken(ctx, token.Hash())
}

// SwitchWorkspace makes the session use another workspace of the principal. It returns
// identity.ErrNoMember.
func (s *Service) SwitchWorkspace(ctx context.Context, p identity.Principal, workspace uuid.UUID) error {
	for _, m := range p.Memberships {
		if m.ID == workspace {
			s.UseWorkspace(ctx, workspace)
			return nil
		}
	}
	return identity.ErrNoMember
}

// UseWorkspace makes the session use a workspace that the user is a member of.
func (s *Service) UseWorkspace(ctx context.Context, workspace uuid.UUID) {
	s.sessions.Put(ctx, workspaceKey, workspace.String())
}

// Join accepts an invitation for the user of the session, which uses the workspace from then
// on. It returns identity.ErrNoInvitation, identity.ErrOtherEmail or
// identity.ErrTooManyMembers.
func (s *Service) Join(ctx context.Context, workspaces *WorkspaceService, p identity.Principal, token identity.InvitationToken) error {
	workspace, err := workspaces.AcceptInvitation(ctx, token.Hash(), identity.User{ID: p.UserID, Email: p.Email})
	if err != nil {
		return err
	}
	workspaces.users.Drop(p.UserID)
	s.UseWorkspace(ctx, workspace)
	return nil
}

// SignUpInvited creates a user with the email of an invitation, makes them a member of its
// workspace and logs them in. It works while sign-up is closed. It returns
// identity.ErrNoInvitation, TooManyAttemptsError, identity.ErrEmailTaken, or the violations
// of the password as invalid.Fields.
func (s *Service) SignUpInvited(ctx context.Context, workspaces *WorkspaceService, clientIP string, token identity.InvitationToken, password string) (identity.Principal, error) {
	if err := s.limit(ctx, signupPerAddress, network(clientIP)); err != nil {
		return identity.Principal{}, err
	}
	invitation, err := workspaces.Invitation(ctx, token)
	if err != nil {
		return identity.Principal{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return identity.Principal{}, fmt.Errorf("generating a user id: %w", err)
	}
	user, err := identity.NewUser(id, invitation.Email, password, identity.RoleUser)
	if err != nil {
		return identity.Principal{}, err
	}
	workspace, err := workspaces.CreateInvitedUser(ctx, token.Hash(), user)
	if err != nil {
		return identity.Principal{}, err
	}
	if user, err = s.users.UserByID(ctx, id); err != nil {
		return identity.Principal{}, fmt.Errorf("reading a new user: %w", err)
	}
	principal, err := s.startSession(ctx, user)
	if err != nil {
		return identity.Principal{}, err
	}
	s.UseWorkspace(ctx, workspace)
	return principal, nil
}
