package httpapi_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/identity"
)

// needed has the permission that each operation needs. A new operation must be added here,
// or to forEverybody.
var needed = map[identity.Permission]string{
	identity.Read: "listBatches getBatch listBatchErrors exportMessages getMessage listMessages streamMessage streamMessages",
	identity.Send: "cancelMessage resendMessage createBatch pauseBatch resumeBatch cancelBatch decideMessage sendMms " +
		"uploadMedia getMedia getMediaContent deleteMedia checkMedia",
	identity.Manage: "createKey listKeys revokeKey createWebhook listWebhooks getWebhook deleteWebhook rotateWebhookSecret enableWebhook " +
		"testWebhook listWebhookEvents replayWebhookEvent renameWorkspace listMembers changeMember removeMember listInvitations createInvitation withdrawInvitation",
}

// forEverybody are operations for visitors or for every user.
const forEverybody = "login loginFactor logout signup me listWorkspaces createWorkspace switchWorkspace leaveWorkspace " +
	"getAccount changeAccount listSessions endOtherSessions endSession"

// forAdmins are operations for admins, whose permissions in a workspace do not matter.
const forAdmins = "getHealth listSenders addSender removeSender setSenderRate restSender putBackSender listSettings listVerifications"

// TestMissingPermissions calls every operation as users and API keys that lack the
// permission it needs.
func TestMissingPermissions(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	doc, _ := readDocument(t)
	key := func(scopes ...identity.Permission) identity.Principal {
		return identity.Principal{UserID: uuid.New(), WorkspaceID: uuid.New(), Permissions: scopes, Key: &identity.Key{ID: uuid.New(), Scopes: scopes}}
	}
	member := func(permissions ...identity.Permission) identity.Principal {
		w := identity.Workspace{ID: uuid.New()}
		return identity.User{ID: uuid.New(), Memberships: []identity.Membership{{Workspace: w, Permissions: permissions}}}.Principal(w.ID)
	}
	principals := map[string]identity.Principal{
		"reader": member(identity.Read), "sender": member(identity.Read, identity.Send), "manager": member(identity.Read, identity.Manage),
		"member of nothing": identity.User{ID: uuid.New(), Role: identity.RoleAdmin}.Principal(uuid.Nil),
		"sending key":       key(identity.Send), "reading key": key(identity.Read), "any key": key(identity.Send, identity.Read),
	}
	refused := 0
	for path, operations := range doc.Paths {
		for method, op := range operations {
			permission, admins := permissionOf(op.OperationID), slices.Contains(strings.Fields(forAdmins), op.OperationID)
			if permission == "" && !admins {
				if !slices.Contains(strings.Fields(forEverybody), op.OperationID) {
					t.Errorf("%s is in no list of this test", op.OperationID)
				}
				continue
			}
			for who, principal := range principals {
				want := http.StatusForbidden
				switch {
				case !admins && principal.May(permission), admins && principal.IsAdmin():
					continue
				case admins && principal.Key == nil:
					want = http.StatusNotFound
				}
				refused++
				r := httptest.NewRequest(strings.ToUpper(method), strings.NewReplacer("{id}", uuid.NewString(), "{event}", uuid.NewString()).Replace(path), strings.NewReader("{}"))
				r.Header.Set("Content-Type", "application/json")
				got := s.anonymous().send(r.WithContext(identity.WithPrincipal(r.Context(), principal)))
				if got.status != want {
					t.Errorf("%s as %s: got %d %s, want %d", op.OperationID, who, got.status, got.body, want)
				}
			}
		}
	}
	if refused < 120 {
		t.Errorf("got %d refusals, want at least 120", refused)
	}
}

func permissionOf(operation string) identity.Permission {
	for permission, operations := range needed {
		if slices.Contains(strings.Fields(operations), operation) {
			return permission
		}
	}
	return ""
}
