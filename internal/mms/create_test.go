package mms

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

func TestCaps(t *testing.T) {
	t.Parallel()
	user, key := uuid.UUID{1}, uuid.UUID{2}
	for name, tt := range map[string]struct {
		submitter  Submitter
		defaultCap int
		want       []Cap
	}{
		"no cap":           {Submitter{Workspace: user}, 0, nil},
		"installation cap": {Submitter{Workspace: user}, 9, []Cap{{user, 9, false}}},
		"user cap":         {Submitter{Workspace: user, WorkspaceCap: 5}, 9, []Cap{{user, 5, false}}},
		"user and key cap": {Submitter{Workspace: user, Key: key, WorkspaceCap: 5, KeyCap: 3}, 9, []Cap{{user, 5, false}, {key, 3, true}}},
	} {
		if diff := cmp.Diff(tt.want, tt.submitter.Caps(tt.defaultCap)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
