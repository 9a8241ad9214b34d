package httpapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/identity"
)

const (
	workspacesPath  = "/api/workspaces"
	membersPath     = "/api/members"
	invitationsPath = "/api/invitations"
)

// Workspace is a workspace and what you may do in it.
type Workspace struct {
	ID          uuid.UUID             `json:"id" format:"uuid" doc:"The ID of the workspace."`
	Name        string                `json:"name" doc:"The name of the workspace." example:"Web shop"`
	Permissions []identity.Permission `json:"permissions" enum:"read,send,manage" nullable:"false" doc:"What you may do in the workspace: read its messages, send messages and act on them, manage its members, API keys and webhooks."`
}

func workspaceOf(id uuid.UUID, name string, permissions []identity.Permission) Workspace {
	if permissions == nil {
		permissions = []identity.Permission{}
	}
	return Workspace{ID: id, Name: name, Permissions: permissions}
}

// WorkspaceList is the workspaces of a user.
type WorkspaceList struct {
	Workspaces []Workspace `json:"workspaces" nullable:"false" doc:"The workspaces that you are a member of."`
	Current    *uuid.UUID  `json:"current,omitempty" format:"uuid" doc:"The ID of the workspace that your session uses. Absent if you are not a member of any."`
}

// WorkspaceName is the body of createWorkspace and renameWorkspace.
type WorkspaceName struct {
	Name string `json:"name" doc:"The name of the workspace." minLength:"1" maxLength:"100" example:"Web shop"`
}

// TransformSchema implements huma.SchemaTransformer.
func (WorkspaceName) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema { return exactly(s) }

// Member is a user in the workspace.
type Member struct {
	UserID      uuid.UUID             `json:"userId" format:"uuid" doc:"The ID of the user."`
	Email       string                `json:"email" format:"email" doc:"The user's email address." example:"ada@example.com"`
	Permissions []identity.Permission `json:"permissions" enum:"read,send,manage" nullable:"false" doc:"What the member may do in the workspace."`
	Since       time.Time             `json:"since" doc:"When the user became a member."`
}

// MemberList is all members of the workspace.
type MemberList struct {
	Members []Member `json:"members" nullable:"false" doc:"By email."`
}

// MemberPermissions is the body of changeMember.
type MemberPermissions struct {
	Permissions []string `json:"permissions" doc:"What the member may do: send, manage or both. Every member may read." enum:"read,send,manage" nullable:"false" example:"[\"read\",\"send\"]"`
}

// TransformSchema implements huma.SchemaTransformer.
func (MemberPermissions) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	return exactly(s)
}

// InvitationRequest is the body of createInvitation.
type InvitationRequest struct {
	Email       string   `json:"email" doc:"The email address of the person. Only a user with this email can accept the invitation." format:"email" maxLength:"254" example:"bob@example.com"`
	Permissions []string `json:"permissions,omitempty" doc:"What the person will be able to do, beside reading: send, manage or both." enum:"read,send,manage" nullable:"false" example:"[\"read\",\"send\"]"`
}

// TransformSchema implements huma.SchemaTransformer.
func (InvitationRequest) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	return exactly(s)
}

// Invitation is an invitation to the workspace, without its link.
type Invitation struct {
	ID          uuid.UUID             `json:"id" format:"uuid" doc:"The ID of the invitation."`
	Email       string                `json:"email" format:"email" doc:"The invited email address." example:"bob@example.com"`
	Permissions []identity.Permission `json:"permissions" enum:"read,send,manage" nullable:"false" doc:"What the person will be able to do."`
	ExpiresAt   time.Time             `json:"expiresAt" doc:"When the invitation expires."`
}

// InvitationList is the open invitations to the workspace.
type InvitationList struct {
	Invitations []Invitation `json:"invitations" nullable:"false" doc:"By email."`
}

// NewInvitation is an invitation with its link, which only createInvitation returns.
type NewInvitation struct {
	ID    uuid.UUID `json:"id" format:"uuid" doc:"The ID of the invitation."`
	Email string    `json:"email" format:"email" doc:"The invited email address." example:"bob@example.com"`
	Link  string    `json:"link" doc:"The page on which the person accepts the invitation. It is shown only once, and works once, within 7 days."`
}

func (a *api) registerWorkspaces() {
	registerForUser(a, huma.Operation{
		OperationID: "listWorkspaces", Method: http.MethodGet, Path: workspacesPath, Tags: []string{"workspaces"},
		Summary:     "List your workspaces",
		Description: "Lists the workspaces that you are a member of. Messages, batches, uploads, API keys and webhooks belong to a workspace.",
		Responses:   map[string]*huma.Response{"200": {Description: "Your workspaces."}},
	}, a.listWorkspaces)
	registerForUser(a, huma.Operation{
		OperationID: "createWorkspace", Method: http.MethodPost, Path: workspacesPath, Tags: []string{"workspaces"},
		Summary:       "Create a workspace",
		Description:   "Creates a workspace that you may manage. Your session keeps its workspace: use switchWorkspace to change it.",
		DefaultStatus: http.StatusCreated,
		Responses:     map[string]*huma.Response{"201": {Description: "The workspace."}},
		Errors:        bodyErrors(http.StatusConflict),
	}, a.createWorkspace)
	describeBody(a, workspacesPath, WorkspaceName{Name: "Web shop"})
	registerForUser(a, huma.Operation{
		OperationID: "switchWorkspace", Method: http.MethodPost, Path: workspacesPath + "/{id}/switch", Tags: []string{"workspaces"},
		Summary:     "Switch to a workspace",
		Description: "Makes your session use another workspace from now on.",
		Responses:   map[string]*huma.Response{"204": {Description: "The session uses the workspace."}},
		Errors:      []int{http.StatusNotFound},
	}, a.switchWorkspace)
	registerForUser(a, huma.Operation{
		OperationID: "leaveWorkspace", Method: http.MethodPost, Path: workspacesPath + "/{id}/leave", Tags: []string{"workspaces"},
		Summary:     "Leave a workspace",
		Description: "Ends your membership. The last member who may manage a workspace cannot leave it.",
		Responses:   map[string]*huma.Response{"204": {Description: "You are no longer a member."}},
		Errors:      []int{http.StatusNotFound, http.StatusConflict},
	}, a.leaveWorkspace)
	registerForManager(a, huma.Operation{
		OperationID: "renameWorkspace", Method: http.MethodPost, Path: "/api/workspace", Tags: []string{"workspaces"},
		Summary:     "Rename the workspace",
		Description: "Changes the name of the workspace that your session uses.",
		Responses:   map[string]*huma.Response{"204": {Description: "The workspace has the new name."}},
		Errors:      bodyErrors(),
	}, a.renameWorkspace)
	describeBody(a, "/api/workspace", WorkspaceName{Name: "Web shop"})
	registerForManager(a, huma.Operation{
		OperationID: "listMembers", Method: http.MethodGet, Path: membersPath, Tags: []string{"workspaces"},
		Summary:     "List members",
		Description: "Lists the members of the workspace.",
		Responses:   map[string]*huma.Response{"200": {Description: "The members."}},
	}, a.listMembers)
	registerForManager(a, huma.Operation{
		OperationID: "changeMember", Method: http.MethodPost, Path: membersPath + "/{id}", Tags: []string{"workspaces"},
		Summary:     "Change a member's permissions",
		Description: "Replaces the permissions of a member. A workspace always keeps a member who may manage it.",
		Responses:   map[string]*huma.Response{"204": {Description: "The member has these permissions."}},
		Errors:      bodyErrors(http.StatusNotFound, http.StatusConflict),
	}, a.changeMember)
	describeBody(a, membersPath+"/{id}", MemberPermissions{Permissions: []string{"read", "send"}})
	registerForManager(a, huma.Operation{
		OperationID: "removeMember", Method: http.MethodDelete, Path: membersPath + "/{id}", Tags: []string{"workspaces"},
		Summary:     "Remove a member",
		Description: "Removes a member and ends their live streams. API keys that they created go on working: they belong to the workspace.",
		Responses:   map[string]*huma.Response{"204": {Description: "The user is no longer a member."}},
		Errors:      []int{http.StatusNotFound, http.StatusConflict},
	}, a.removeMember)
	registerForManager(a, huma.Operation{
		OperationID: "listInvitations", Method: http.MethodGet, Path: invitationsPath, Tags: []string{"workspaces"},
		Summary:     "List invitations",
		Description: "Lists the open invitations to the workspace, without their links.",
		Responses:   map[string]*huma.Response{"200": {Description: "The invitations that can still be accepted."}},
	}, a.listInvitations)
	registerForManager(a, huma.Operation{
		OperationID: "createInvitation", Method: http.MethodPost, Path: invitationsPath, Tags: []string{"workspaces"},
		Summary: "Invite a person",
		Description: "Creates an invitation and returns its link, which is shown only once. Give it to the person. It replaces an earlier invitation of the same email. " +
			"If the response is lost, create the invitation again.",
		DefaultStatus: http.StatusCreated,
		Responses:     map[string]*huma.Response{"201": {Description: "The invitation with its link."}},
		Errors:        bodyErrors(http.StatusConflict),
	}, a.createInvitation)
	describeBody(a, invitationsPath, InvitationRequest{Email: "bob@example.com", Permissions: []string{"read", "send"}})
	registerForManager(a, huma.Operation{
		OperationID: "withdrawInvitation", Method: http.MethodDelete, Path: invitationsPath + "/{id}", Tags: []string{"workspaces"},
		Summary:     "Withdraw an invitation",
		Description: "Makes the link of an invitation useless.",
		Responses:   map[string]*huma.Response{"204": {Description: "The invitation is withdrawn."}},
		Errors:      []int{http.StatusNotFound},
	}, a.withdrawInvitation)
}

type workspacesOutput struct{ Body WorkspaceList }

func (a *api) listWorkspaces(_ context.Context, principal identity.Principal, _ *noBody) (*workspacesOutput, error) {
	out := &workspacesOutput{Body: WorkspaceList{Workspaces: make([]Workspace, len(principal.Memberships))}}
	for i, m := range principal.Memberships {
		out.Body.Workspaces[i] = workspaceOf(m.ID, m.Name, m.Permissions)
	}
	if len(principal.Memberships) > 0 {
		out.Body.Current = &principal.WorkspaceID
	}
	return out, nil
}

type workspaceOutput struct{ Body Workspace }

func (a *api) createWorkspace(ctx context.Context, principal identity.Principal, in *bodyInput) (*workspaceOutput, error) {
	var body WorkspaceName
	if err := readObject(in.Request, &body); err != nil {
		return nil, err
	}
	w, err := a.Workspaces.Create(ctx, principal.UserID, body.Name)
	if errors.Is(err, identity.ErrTooManyMembers) {
		return nil, newProblem(http.StatusConflict, "You have reached the maximum number of workspaces.")
	}
	if err != nil {
		return nil, err
	}
	return &workspaceOutput{Body: workspaceOf(w.ID, w.Name, identity.MemberPermissions())}, nil
}

type workspaceInput struct {
	ID string `path:"id" format:"uuid" doc:"The ID of the workspace."`
}

func (a *api) switchWorkspace(ctx context.Context, principal identity.Principal, in *workspaceInput) (*noBody, error) {
	id, err := parseID(in.ID, errNoWorkspace)
	if err != nil {
		return nil, err
	}
	if a.Auth.SwitchWorkspace(ctx, principal, id) != nil {
		return nil, errNoWorkspace
	}
	return nil, nil
}

// errNoWorkspace does not tell an unknown workspace from one of others.
var errNoWorkspace = newProblem(http.StatusNotFound, "You are not a member of such a workspace.")

func (a *api) leaveWorkspace(ctx context.Context, principal identity.Principal, in *workspaceInput) (*noBody, error) {
	id, err := parseID(in.ID, errNoWorkspace)
	if err != nil {
		return nil, err
	}
	err = a.Workspaces.Remove(ctx, id, principal.UserID)
	if errors.Is(err, identity.ErrNoMember) {
		return nil, errNoWorkspace
	}
	return nil, err
}

func (a *api) renameWorkspace(ctx context.Context, principal identity.Principal, in *bodyInput) (*noBody, error) {
	var body WorkspaceName
	if err := readObject(in.Request, &body); err != nil {
		return nil, err
	}
	return nil, a.Workspaces.Rename(ctx, principal.WorkspaceID, body.Name)
}

type membersOutput struct{ Body MemberList }

func (a *api) listMembers(ctx context.Context, principal identity.Principal, _ *noBody) (*membersOutput, error) {
	members, err := a.Workspaces.Members(ctx, principal.WorkspaceID)
	if err != nil {
		return nil, err
	}
	out := &membersOutput{Body: MemberList{Members: make([]Member, len(members))}}
	for i, m := range members {
		out.Body.Members[i] = Member{UserID: m.UserID, Email: m.Email, Permissions: m.Permissions, Since: m.Since.UTC()}
	}
	return out, nil
}

type memberInput struct {
	Request
	ID string `path:"id" format:"uuid" doc:"The ID of the user."`
}

func (a *api) changeMember(ctx context.Context, principal identity.Principal, in *memberInput) (*noBody, error) {
	var body MemberPermissions
	if err := readObject(in.Request, &body); err != nil {
		return nil, err
	}
	id, err := parseID(in.ID, identity.ErrNoMember)
	if err != nil {
		return nil, err
	}
	return nil, a.Workspaces.Change(ctx, principal.WorkspaceID, id, body.Permissions)
}

func (a *api) removeMember(ctx context.Context, principal identity.Principal, in *memberInput) (*noBody, error) {
	id, err := parseID(in.ID, identity.ErrNoMember)
	if err != nil {
		return nil, err
	}
	return nil, a.Workspaces.Remove(ctx, principal.WorkspaceID, id)
}

type invitationsOutput struct{ Body InvitationList }

func (a *api) listInvitations(ctx context.Context, principal identity.Principal, _ *noBody) (*invitationsOutput, error) {
	list, err := a.Workspaces.Invitations(ctx, principal.WorkspaceID)
	if err != nil {
		return nil, err
	}
	out := &invitationsOutput{Body: InvitationList{Invitations: make([]Invitation, len(list))}}
	for i, v := range list {
		out.Body.Invitations[i] = Invitation{ID: v.ID, Email: v.Email, Permissions: v.Permissions, ExpiresAt: v.ExpiresAt.UTC()}
	}
	return out, nil
}

type newInvitationOutput struct{ Body NewInvitation }

func (a *api) createInvitation(ctx context.Context, principal identity.Principal, in *bodyInput) (*newInvitationOutput, error) {
	var body InvitationRequest
	if err := readObject(in.Request, &body); err != nil {
		return nil, err
	}
	invitation, token, err := a.Workspaces.Invite(ctx, principal.WorkspaceID, principal.UserID, body.Email, body.Permissions)
	if errors.Is(err, identity.ErrTooManyMembers) {
		return nil, newProblem(http.StatusConflict, "The workspace has reached the maximum number of members and invitations.")
	}
	if err != nil {
		return nil, err
	}
	return &newInvitationOutput{Body: NewInvitation{ID: invitation.ID, Email: invitation.Email, Link: a.PublicURL + "/invitations/" + string(token)}}, nil
}

func (a *api) withdrawInvitation(ctx context.Context, principal identity.Principal, in *memberInput) (*noBody, error) {
	id, err := parseID(in.ID, identity.ErrNoInvitation)
	if err != nil {
		return nil, err
	}
	return nil, a.Workspaces.WithdrawInvitation(ctx, principal.WorkspaceID, id)
}
