package webui

import (
	"testing"

	"github.com/postcard-mms/postcard/internal/mms"
)

// TestOtherMessage finds the message that the timeline links to.
func TestOtherMessage(t *testing.T) {
	t.Parallel()
	const id = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"
	for name, tt := range map[string]struct {
		event mms.Event
		want  string
	}{
		"resent":           {mms.Event{Kind: mms.EventResent, Detail: id}, id},
		"refitted":         {mms.Event{Kind: mms.EventRefitted, Detail: "as message " + id}, id},
		"refit":            {mms.Event{Kind: mms.EventRefitted, Detail: "repeats message " + id}, id},
		"no id":            {mms.Event{Kind: mms.EventRefitted, Detail: "repeats a message"}, ""},
		"no other message": {mms.Event{Kind: mms.EventPrepared, Detail: id}, ""},
	} {
		if got := (timelineEntry{Event: tt.event}).OtherMessage(); got != tt.want {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}
