package webui

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/auth"
	"github.com/postcard-mms/postcard/internal/httpkit"
	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/invalid"
)

const (
	workspacesPath  = "/workspaces"
	membersPath     = "/settings/members"
	invitationsPath = "/invitations"
)

// workspacesPage lists the user's workspaces, with a form that creates one.
type workspacesPage struct {
	Name       string
	Violations invalid.Fields
	Error      string
}

func (p *Pages) workspaces(w http.ResponseWriter, r *http.Request, _ identity.Principal) {
	render(p, w, r, http.StatusOK, "workspaces", layout{Title: "Workspaces"}, workspacesPage{})
}

// createWorkspace creates a workspace and switches to it.
func (p *Pages) createWorkspace(w http.ResponseWriter, r *http.Request, principal identity.Principal) {
	if !p.readForm(w, r) {
		return
	}
	body := workspacesPage{Name: r.PostForm.Get("name")}
	workspace, err := p.Workspaces.Create(r.Context(), principal.UserID, body.Name)
	switch {
	case errors.As(err, &body.Violations):
		render(p, w, r, http.StatusUnprocessableEntity, "workspaces", layout{Title: "Workspaces"}, body)
	case errors.Is(err, identity.ErrTooManyMembers):
		body.Error = fmt.Sprintf("The workspace was not created: you already have %d.", identity.MaxWorkspaces)
		render(p, w, r, http.StatusConflict, "workspaces", layout{Title: "Workspaces"}, body)
	case err != nil:
		p.fail(w, r, err)
	default:
		p.Auth.UseWorkspace(r.Context(), workspace.ID)
		p.Auth.Flash(r.Context(), "The workspace is created. You are using it now.")
		p.redirect(w, r, membersPath)
	}
}

func (p *Pages) switchWorkspace(w http.ResponseWriter, r *http.Request, principal identity.Principal) {
	if !p.readForm(w, r) {
		return
	}
	id, err := uuid.Parse(r.PostForm.Get("to"))
	if err == nil {
		err = p.Auth.SwitchWorkspace(r.Context(), principal, id)
	}
	if err != nil {
		p.NotFound(w, r)
		return
	}
	p.redirect(w, r, "/messages")
}

func (p *Pages) leaveWorkspace(w http.ResponseWriter, r *http.Request, principal identity.Principal) {
	id, err := uuid.Parse(chi.URLParam(r, "id"))
	if err != nil {
		p.NotFound(w, r)
		return
	}
	err = p.Workspaces.Remove(r.Context(), id, principal.UserID)
	switch {
	case errors.Is(err, identity.ErrNoMember):
		p.NotFound(w, r)
	case errors.Is(err, identity.ErrLastManager):
		render(p, w, r, http.StatusConflict, "workspaces", layout{Title: "Workspaces"}, workspacesPage{
			Error: "You did not leave the workspace: nobody else may manage it. Let another member manage it first.",
		})
	case err != nil:
		p.fail(w, r, err)
	default:
		p.Auth.Flash(r.Context(), "You have left the workspace.")
		p.redirect(w, r, workspacesPath)
	}
}

// membersPage lists the members of the workspace and the invitations to it. Form fields hold
// what the user typed.
type membersPage struct {
	Members     []identity.Member
	Invitations []identity.Invitation
	Name        string
	Email       string
	Send        bool
	Manage      bool
	Link        string // of the invitation that was just created
	Invited     string // its email
	Violations  invalid.Fields
	Error       string
}

func (p *Pages) members(w http.ResponseWriter, r *http.Request, principal identity.Principal) {
	p.renderMembers(w, r, http.StatusOK, principal, membersPage{Name: principal.Workspace, Send: true})
}

func (p *Pages) renderMembers(w http.ResponseWriter, r *http.Request, status int, principal identity.Principal, body membersPage) {
	var err error
	if body.Members, err = p.Workspaces.Members(r.Context(), principal.WorkspaceID); err != nil {
		p.fail(w, r, err)
		return
	}
	if body.Invitations, err = p.Workspaces.Invitations(r.Context(), principal.WorkspaceID); err != nil {
		p.fail(w, r, err)
		return
	}
	render(p, w, r, status, "members", layout{Title: "Members"}, body)
}

func (p *Pages) renameWorkspace(w http.ResponseWriter, r *http.Request, principal identity.Principal) {
	if !p.readForm(w, r) {
		return
	}
	body := membersPage{Name: r.PostForm.Get("name"), Send: true}
	err := p.Workspaces.Rename(r.Context(), principal.WorkspaceID, body.Name)
	switch {
	case errors.As(err, &body.Violations):
		p.renderMembers(w, r, http.StatusUnprocessableEntity, principal, body)
	case err != nil:
		p.fail(w, r, err)
	default:
		p.Auth.Flash(r.Context(), "The workspace has a new name.")
		p.redirect(w, r, membersPath)
	}
}

// lastManagerText explains identity.ErrLastManager.
const lastManagerText = "Nothing was changed: the workspace needs a member who may manage it. Let another member manage it first."

func (p *Pages) changeMember(w http.ResponseWriter, r *http.Request, principal identity.Principal) {
	if !p.readForm(w, r) {
		return
	}
	user, err := uuid.Parse(chi.URLParam(r, "user"))
	if err != nil {
		p.NotFound(w, r)
		return
	}
	notice, to := "The member’s permissions are changed.", membersPath
	if chi.URLParam(r, "action") == "remove" {
		notice, err = "The member is removed.", p.Workspaces.Remove(r.Context(), principal.WorkspaceID, user)
	} else {
		err = p.Workspaces.Change(r.Context(), principal.WorkspaceID, user, r.PostForm["permission"])
	}
	if user == principal.UserID {
		to = workspacesPath // the members' page may be closed to them now
	}
	var violations invalid.Fields
	switch {
	case errors.Is(err, identity.ErrNoMember):
		p.NotFound(w, r)
	case errors.Is(err, identity.ErrLastManager):
		p.renderMembers(w, r, http.StatusConflict, principal, membersPage{Name: principal.Workspace, Send: true, Error: lastManagerText})
	case errors.As(err, &violations):
		p.renderMembers(w, r, http.StatusUnprocessableEntity, principal, membersPage{Name: principal.Workspace, Send: true, Violations: violations})
	case err != nil:
		p.fail(w, r, err)
	default:
		p.Auth.Flash(r.Context(), notice)
		p.redirect(w, r, to)
	}
}

// invite shows the link in its response only, because its token is not stored.
func (p *Pages) invite(w http.ResponseWriter, r *http.Request, principal identity.Principal) {
	if !p.readForm(w, r) {
		return
	}
	permissions := r.PostForm["permission"]
	body := membersPage{
		Name: principal.Workspace, Email: r.PostForm.Get("email"),
		Send: slices.Contains(permissions, string(identity.Send)), Manage: slices.Contains(permissions, string(identity.Manage)),
	}
	invitation, token, err := p.Workspaces.Invite(r.Context(), principal.WorkspaceID, principal.UserID, body.Email, permissions)
	switch {
	case errors.As(err, &body.Violations):
		p.renderMembers(w, r, http.StatusUnprocessableEntity, principal, body)
	case errors.Is(err, identity.ErrAlreadyMember):
		body.Violations.Add("email", "taken", "is that of a member already")
		p.renderMembers(w, r, http.StatusConflict, principal, body)
	case errors.Is(err, identity.ErrTooManyMembers):
		body.Error = fmt.Sprintf("The invitation was not created: a workspace can have %d members and invitations.", identity.MaxMembers)
		p.renderMembers(w, r, http.StatusConflict, principal, body)
	case err != nil:
		p.fail(w, r, err)
	default:
		p.renderMembers(w, r, http.StatusOK, principal, membersPage{
			Name: principal.Workspace, Send: true, Invited: invitation.Email, Link: p.publicURL(r) + invitationsPath + "/" + string(token),
		})
	}
}

// publicURL returns the address of the pages as people reach them. Without PUBLIC_URL it is
// the one of the request.
func (p *Pages) publicURL(r *http.Request) string {
	if p.PublicURL != "" {
		return p.PublicURL
	}
	return "http://" + r.Host
}

func (p *Pages) withdrawInvitation(w http.ResponseWriter, r *http.Request, principal identity.Principal) {
	id, err := uuid.Parse(chi.URLParam(r, "id"))
	if err != nil {
		p.NotFound(w, r)
		return
	}
	err = p.Workspaces.WithdrawInvitation(r.Context(), principal.WorkspaceID, id)
	switch {
	case errors.Is(err, identity.ErrNoInvitation):
		p.NotFound(w, r)
	case err != nil:
		p.fail(w, r, err)
	default:
		p.Auth.Flash(r.Context(), "The invitation is withdrawn. Its link no longer works.")
		p.redirect(w, r, membersPath)
	}
}

// invitationPage is what the link of an invitation shows. It depends on who looks.
type invitationPage struct {
	identity.Invitation
	Path       string // of the page, for its forms
	Mine       bool   // the user of the session has the invited email
	LoginPath  string // leads back
	Violations invalid.Fields
	Error      string
}

func (p *Pages) invitation(w http.ResponseWriter, r *http.Request) {
	body, err := p.readInvitation(r)
	if err != nil {
		p.failInvitation(w, r, err)
		return
	}
	render(p, w, r, http.StatusOK, "invitation", layout{Title: "Invitation"}, body)
}

func (p *Pages) readInvitation(r *http.Request) (invitationPage, error) {
	token := identity.InvitationToken(chi.URLParam(r, "token"))
	invitation, err := p.Workspaces.Invitation(r.Context(), token)
	if err != nil {
		return invitationPage{}, err
	}
	principal, _ := identity.PrincipalFrom(r.Context())
	path := invitationsPath + "/" + string(token)
	return invitationPage{
		Invitation: invitation, Path: path, Mine: principal.Email == invitation.Email,
		LoginPath: "/login?" + url.Values{"next": {p.base + path}}.Encode(),
	}, nil
}

func (p *Pages) failInvitation(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, identity.ErrNoInvitation):
		p.renderError(w, r, http.StatusNotFound, "Invitation not found",
			fmt.Sprintf("This invitation was used or withdrawn, or is older than %d days. Ask for a new one.", identity.InvitationDays))
	case errors.Is(err, identity.ErrOtherEmail):
		p.renderError(w, r, http.StatusForbidden, "Invitation for another person", "This invitation is for another email. Log in with that email to accept it.")
	case errors.Is(err, identity.ErrTooManyMembers):
		p.renderError(w, r, http.StatusConflict, "Too many workspaces", fmt.Sprintf("You are a member of %d workspaces. Leave one before you join another.", identity.MaxWorkspaces))
	default:
		p.fail(w, r, err)
	}
}

// acceptInvitation makes the user of the session a member, or signs up a new user.
func (p *Pages) acceptInvitation(w http.ResponseWriter, r *http.Request) {
	if !p.readForm(w, r) {
		return
	}
	token := identity.InvitationToken(chi.URLParam(r, "token"))
	if principal, ok := identity.PrincipalFrom(r.Context()); ok {
		if err := p.Auth.Join(r.Context(), p.Workspaces, principal, token); err != nil {
			p.failInvitation(w, r, err)
			return
		}
		p.welcome(w, r)
		return
	}
	body, err := p.readInvitation(r)
	if err != nil {
		p.failInvitation(w, r, err)
		return
	}
	_, err = p.Auth.SignUpInvited(r.Context(), p.Workspaces, httpkit.ClientIP(r), token, r.PostForm.Get("password"))
	var tooMany auth.TooManyAttemptsError
	switch {
	case err == nil:
		p.welcome(w, r)
	case errors.As(err, &body.Violations):
		render(p, w, r, http.StatusUnprocessableEntity, "invitation", layout{Title: "Invitation"}, body)
	case errors.Is(err, identity.ErrEmailTaken):
		p.redirect(w, r, body.LoginPath)
	case errors.As(err, &tooMany):
		body.Error = tooManyText(w, tooMany)
		render(p, w, r, http.StatusTooManyRequests, "invitation", layout{Title: "Invitation"}, body)
	default:
		p.failInvitation(w, r, err)
	}
}

func (p *Pages) welcome(w http.ResponseWriter, r *http.Request) {
	p.Auth.Flash(r.Context(), "You are a member of the workspace now.")
	p.redirect(w, r, "/messages")
}
