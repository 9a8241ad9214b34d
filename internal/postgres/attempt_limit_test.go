package postgres_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/postgres"
)

// TestAttemptLimit ends doubts without evidence: the message is queued again only while it
// may have another attempt.
func TestAttemptLimit(t *testing.T) {
	t.Parallel()
	for limit, want := range map[int]mms.Status{1: mms.Failed, 2: mms.Queued} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			t.Parallel()
			store, workspace := newStore(t)
			m, ref, _ := doubt(t, store, workspace)
			limited := postgres.AttemptLimit{Store: store, Max: limit}
			for _, want := range []bool{true, false} {
				if ok, err := limited.RetryInDoubt(t.Context(), ref); err != nil || ok != want {
					t.Errorf("RetryInDoubt: got %t, %v, want %t", ok, err, want)
				}
			}
			h := read(t, store, m)
			if want == mms.Queued {
				wantEvents(t, h, want, beforeDoubt+"no_evidence>queued")
				return
			}
			wantEvents(t, h, want, beforeDoubt+"unresolved>failed")
			if text := h.Explain(); h.Reason != mms.ReasonUnresolved || !strings.HasPrefix(text, "Whether the message was sent is unknown.") || !h.Final() {
				t.Errorf("got reason %s, explained as %q, want a final message whose outcome is unknown", h.Reason, text)
			}
			if ok, err := adopt(t.Context(), store, ref, "u-1"); err != nil || !ok {
				t.Errorf("late evidence: got %t, %v, want true", ok, err)
			}
		})
	}
}
