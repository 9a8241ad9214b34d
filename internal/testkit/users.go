package testkit

import "github.com/postcard-mms/postcard/internal/identity"

// InOwnWorkspace returns the user as the database does after they have signed up: with a
// workspace of the same id. A user with other memberships, or with none but not nil, stays
// as they are.
func InOwnWorkspace(u identity.User) identity.User {
	if u.Memberships == nil {
		u.Memberships = []identity.Membership{{
			Workspace:   identity.Workspace{ID: u.ID, Name: identity.WorkspaceNameOf(u.Email)},
			Permissions: identity.MemberPermissions(),
		}}
	}
	return u
}
