package e2e

import (
	"net/http"
	"testing"

	"github.com/postcard-mms/postcard/internal/callback"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/plivosim"
)

// TestOptOutHoldsForEverySender has a recipient opt out from one sender, in words that Plivo
// does not know, and in again from another.
func TestOptOutHoldsForEverySender(t *testing.T) {
	t.Parallel()
	const phone, other = "+14165551000", "+14155550101"
	r := newRig(t, plivosim.Config{})
	r.intake.Rules.Senders = []mms.PhoneNumber{sender, other}
	r.worker("", "PLIVO_SENDER_NUMBER="+sender+","+other)
	text := func(to, content string) {
		t.Helper()
		status, err := r.sim.Receive(t.Context(), plivosim.Text{From: phone, To: to, Text: content, URL: r.callback.URL + callback.InboundPath})
		if err != nil || status != http.StatusOK {
			t.Fatalf("text %q: got %d (error %v), want 200", content, status, err)
		}
	}
	createFrom := func(from string) mms.Message {
		t.Helper()
		m, err := r.intake.CreateMessage(t.Context(), mms.Submitter{Workspace: r.workspace}, mms.CreateParams{To: phone, From: from, MediaURL: "https://example.com/a.jpg"})
		if err != nil {
			t.Fatal(err)
		}
		return m.Message
	}
	first := createFrom(other)
	r.awaitFinal()
	if again := createFrom(""); again.Sender != other {
		t.Errorf("got sender %s without from, want %s, the last one", again.Sender, other)
	}
	r.awaitFinal()
	text(other, "Stop, please!\n\nSent from my phone")
	blocked := createFrom(sender)
	r.awaitFinal()
	text(sender, "Start.")
	last := createFrom(other)
	r.awaitFinal()
	r.wantStatus(first, mms.Delivered)
	h := r.wantStatus(blocked, mms.Failed)
	if why := h.Events[len(h.Events)-1].Description(); h.Reason != mms.ReasonOptedOut || len(h.AttemptList) != 0 || why != "the recipient opted out by a text message to +1 415-555-0101" {
		t.Errorf("got reason %q (%q) after %d attempts, want opted out from the other sender, and 0", h.Reason, why, len(h.AttemptList))
	}
	r.wantStatus(last, mms.Delivered)
	r.verify(3)
}
