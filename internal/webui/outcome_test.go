package webui_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
)

// TestOutcomeOfAForm checks what the pages say when the database did not answer: whether
// something was created, and what to do.
func TestOutcomeOfAForm(t *testing.T) {
	t.Parallel()
	f, b := newBackend(t, false)
	b.login(userEmail)
	id := uuid.Must(uuid.NewV7())
	compose := func() response {
		return b.post("/messages/new", "idempotencyKey", "click-1", "to", "4155550123", "text", "Keep me", "mediaUrl", "https://example.com/a.jpg")
	}
	batch := func() response {
		return b.upload("to\n+14155550123\n", "idempotencyKey", "click-2", "mediaUrl", "https://example.com/a.jpg")
	}
	resend := func() response { return b.post("/messages/"+id.String()+"/resend", "idempotencyKey", "click-3") }
	decide := func() response { return b.post("/messages/"+id.String()+"/decision", "decision", "give_up") }

	f.err = fmt.Errorf("storing: %w", mms.OutcomeUnknownError{ID: id, Err: mms.ErrUnavailable})
	b.want("message, unknown", compose(), http.StatusServiceUnavailable, "could not confirm", "will not be sent twice", `href="/messages/`+id.String(), `value="click-1"`)
	b.want("resend, unknown", resend(), http.StatusServiceUnavailable, "unknown whether the message was resent", "will not be resent twice")
	f.err = fmt.Errorf("storing: %w", mms.OutcomeUnknownError{ID: id, Batch: true, Err: mms.ErrUnavailable})
	b.want("batch, unknown", batch(), http.StatusServiceUnavailable, "may have been created", "no message will be sent twice", `href="/batches/`+id.String(), `value="click-2"`)

	f.err = fmt.Errorf("%w: %w", mms.ErrNotStored, mms.ErrUnavailable)
	for name, got := range map[string]response{"message": compose(), "batch": batch()} {
		b.want(name+", not stored", got, http.StatusServiceUnavailable, "was not created", "in a minute")
		if strings.Contains(got.body, "could not confirm") {
			t.Errorf("%s, not stored: the page is in doubt", name)
		}
	}
	f.err = mms.ErrUnavailable
	b.want("decision", decide(), http.StatusServiceUnavailable, "unknown whether your change was made")
	b.want("reading", b.get("/messages"), http.StatusServiceUnavailable, "Please try again in a minute")
}
