package main

import (
	"strings"
	"testing"

	"github.com/postcard-mms/postcard/internal/identity"
)

func TestWorkspaceCommands(t *testing.T) {
	store := newDatabase(t)
	for _, email := range []string{"ada@example.com", "bob@example.com"} {
		if _, err := call(t, secret, "user add "+email); err != nil {
			t.Fatal(err)
		}
	}
	ada, err := store.UserByEmail(t.Context(), "ada@example.com")
	if err != nil {
		t.Fatal(err)
	}
	own := ada.ID.String()
	for _, step := range []struct{ args, wantOut, wantErr string }{
		{"workspace cap " + own + " 7", "Set the daily cap", ""},
		{"workspace cap " + own + " many", "", "MESSAGES must be a whole number"},
		{"workspace cap shop 7", "", "WORKSPACE must be an id"},
		{"workspace list", own + "  ada", ""},
		{"workspace add " + own + " BOB@example.com send", "Added the member", ""},
		{"workspace add " + own + " nobody@example.com", "", "no such user"},
		{"workspace add " + own + " bob@example.com root", "", "must be read, send or manage"},
		{"workspace members " + own, "bob@example.com  read, send", ""},
		{"workspace remove " + own + " ada@example.com", "", "needs a member who may manage it"},
		{"workspace remove " + own + " bob@example.com", "Removed the member", ""},
		{"workspace create Shop bob@example.com", "Created the workspace", ""},
		{"workspace create Shop nobody@example.com", "", "no such user"},
		{"workspace nonsense " + own, "", "wrong arguments"},
		{"workspace list all", "", "wrong arguments"},
	} {
		out, err := call(t, "", step.args)
		if (err != nil) != (step.wantErr != "") || !strings.Contains(out, step.wantOut) || err != nil && !strings.Contains(err.Error(), step.wantErr) {
			t.Errorf("postcard %s = %q, %v; want output containing %q, error containing %q", step.args, out, err, step.wantOut, step.wantErr)
		}
	}
	if ada, err = store.UserByEmail(t.Context(), "ada@example.com"); err != nil || ada.Memberships[0].DailyCap != 7 {
		t.Errorf("got %+v, %v, want a cap of 7", ada.Memberships, err)
	}
	bob, err := store.UserByEmail(t.Context(), "bob@example.com")
	if err != nil || len(bob.Memberships) != 2 || !bob.Principal(bob.Memberships[1].ID).May(identity.Manage) {
		t.Errorf("got %+v, %v, want Bob to manage a second workspace", bob.Memberships, err)
	}
}
