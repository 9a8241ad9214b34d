package identity

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/pasted"
)

var (
	// ErrNoMember says that a user is not a member of a workspace.
	ErrNoMember = errors.New("no such member of the workspace")

	// ErrAlreadyMember says that the invited email is that of a member.
	ErrAlreadyMember = errors.New("already a member of the workspace")

	// ErrLastManager says that a change would leave a workspace without a member who may
	// manage it.
	ErrLastManager = errors.New("the workspace needs a member who may manage it")

	// ErrTooManyMembers says that a workspace has MaxMembers members and invitations, or
	// a user MaxWorkspaces workspaces.
	ErrTooManyMembers = errors.New("too many members or workspaces")

	// ErrNoInvitation says that an invitation is unknown, used, withdrawn or expired.
	ErrNoInvitation = errors.New("no such invitation")

	// ErrOtherEmail says that an invitation is for another email than the user's.
	ErrOtherEmail = errors.New("the invitation is for another email")

	// ErrNoWorkspace says that a workspace does not exist.
	ErrNoWorkspace = errors.New("no such workspace")
)

// Permission is what a member or an API key may do in a workspace.
type Permission string

// The permissions. Every member may read.
const (
	Read   Permission = "read"   // read messages
	Send   Permission = "send"   // create, cancel and resend messages, and decide on held ones
	Manage Permission = "manage" // change members, API keys and webhooks
)

// Limits of workspaces.
const (
	MaxWorkspaceName = 100 // characters
	MaxMembers       = 500 // members and invitations of a workspace
	MaxWorkspaces    = 100 // of a user
	InvitationDays   = 7
)

// MemberPermissions returns what a member can be given, least first.
func MemberPermissions() []Permission { return []Permission{Read, Send, Manage} }

// KeyPermissions returns what an API key can be given.
func KeyPermissions() []Permission { return []Permission{Send, Read} }

// Workspace is what messages, batches, uploads, API keys and webhooks belong to.
type Workspace struct {
	ID       uuid.UUID
	Name     string
	DailyCap int // messages a day, UTC; 0: the installation's default
}

// Membership is a user's place in a workspace.
type Membership struct {
	Workspace
	Permissions []Permission
}

// Member is a user in a workspace.
type Member struct {
	UserID      uuid.UUID
	Email       string
	Permissions []Permission
	Since       time.Time
}

// May reports whether the member has the permission.
func (m Member) May(p Permission) bool { return slices.Contains(m.Permissions, p) }

// LogValue logs the user's ID only.
func (m Member) LogValue() slog.Value { return slog.StringValue(m.UserID.String()) }

// Invitation asks a person to join a workspace.
type Invitation struct {
	ID          uuid.UUID
	WorkspaceID uuid.UUID
	Workspace   string // its name
	Email       string
	Permissions []Permission
	CreatedBy   uuid.UUID
	CreatedAt   time.Time
	ExpiresAt   time.Time
	Known       bool // a user has the email
}

// May reports whether the invitation gives the permission.
func (i Invitation) May(p Permission) bool { return slices.Contains(i.Permissions, p) }

// LogValue logs the invitation's ID only.
func (i Invitation) LogValue() slog.Value { return slog.StringValue(i.ID.String()) }

// InvitationToken is the secret part of an invitation's link. It must never be logged or
// stored.
type InvitationToken string

// LogValue keeps the token out of logs.
func (InvitationToken) LogValue() slog.Value { return slog.StringValue("[hidden]") }

// Hash returns the hash under which the invitation is stored. The token has 130 random
// bits, so a fast hash is enough.
func (t InvitationToken) Hash() [32]byte { return sha256.Sum256([]byte(t)) }

// NewInvitation makes an invitation with a new token, or returns all violations as
// invalid.Fields.
func NewInvitation(id, workspace, by uuid.UUID, email string, permissions []string) (Invitation, InvitationToken, error) {
	var violations invalid.Fields
	email = NormalizeEmail(email)
	validateEmail(email, &violations)
	granted := parseMemberPermissions(permissions, &violations)
	if err := violations.Err(); err != nil {
		return Invitation{}, "", err
	}
	return Invitation{ID: id, WorkspaceID: workspace, Email: email, Permissions: granted, CreatedBy: by}, InvitationToken(rand.Text()), nil
}

// ParseMemberPermissions parses what a member is given, or returns the violations as
// invalid.Fields. Read is always among the permissions.
func ParseMemberPermissions(names []string) ([]Permission, error) {
	var violations invalid.Fields
	permissions := parseMemberPermissions(names, &violations)
	return permissions, violations.Err()
}

func parseMemberPermissions(names []string, violations *invalid.Fields) []Permission {
	permissions := parsePermissions("permissions", append([]string{string(Read)}, names...), MemberPermissions(), violations)
	slices.SortFunc(permissions, func(a, b Permission) int {
		return slices.Index(MemberPermissions(), a) - slices.Index(MemberPermissions(), b)
	})
	return permissions
}

// parsePermissions returns the named permissions, each once. It adds a violation for each
// name that is not among those allowed.
func parsePermissions(field string, names []string, allowed []Permission, violations *invalid.Fields) []Permission {
	var permissions []Permission
	for i, name := range names {
		permission := Permission(name)
		if !slices.Contains(allowed, permission) {
			violations.Add(fmt.Sprintf("%s[%d]", field, i), "one_of", "must be "+choices(allowed))
		} else if !slices.Contains(permissions, permission) {
			permissions = append(permissions, permission)
		}
		if i > len(allowed) {
			break // bounds the number of violations
		}
	}
	return permissions
}

// choices returns "send or read", or "read, send or manage".
func choices(permissions []Permission) string {
	names := make([]string, len(permissions))
	for i, p := range permissions {
		names[i] = string(p)
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

// ParseWorkspaceName returns the name without the spaces around it, or the violations as
// invalid.Fields.
func ParseWorkspaceName(typed string) (string, error) {
	var violations invalid.Fields
	name := pasted.Clean(typed)
	validateName(name, "enter a name that the members recognize", MaxWorkspaceName, &violations)
	return name, violations.Err()
}

// validateName checks the name of a workspace or API key.
func validateName(name, advice string, longest int, violations *invalid.Fields) {
	switch {
	case name == "":
		violations.Add("name", "required", "is missing: "+advice)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		violations.Add("name", "control", "must be valid UTF-8 without control characters")
	case utf8.RuneCountInString(name) > longest:
		violations.Add("name", "max_length", fmt.Sprintf("must be at most %d characters long", longest))
	}
}

// WorkspaceNameOf returns the name of a new user's first workspace.
func WorkspaceNameOf(email string) string {
	name, _, _ := strings.Cut(email, "@")
	return string([]rune(name)[:min(MaxWorkspaceName, utf8.RuneCountInString(name))])
}
