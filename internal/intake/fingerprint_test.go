package intake_test

import (
	"testing"

	"github.com/postcard-mms/postcard/internal/intake"
	"github.com/postcard-mms/postcard/internal/mms"
)

func TestFingerprint(t *testing.T) {
	t.Parallel()
	hour, again := 3600, 3600
	params := mms.CreateParams{To: "+14155550123", Text: "hello", ValidFor: &hour, Metadata: map[string]string{"a": "1", "b": "2"}}
	want := intake.Fingerprint("send", params, "x", "y")

	repeated := params
	repeated.ValidFor, repeated.Metadata = &again, map[string]string{"b": "2", "a": "1"}
	repeated.Idempotency = mms.Idempotency{Key: "k"}
	if intake.Fingerprint("send", repeated, "x", "y") != want {
		t.Error("got another fingerprint for an equal request")
	}

	bare, empty := params, params
	bare.Metadata, bare.MediaURLs = nil, nil
	empty.Metadata, empty.MediaURLs = map[string]string{}, []string{}
	if intake.Fingerprint("send", bare) != intake.Fingerprint("send", empty) {
		t.Error("got another fingerprint for an empty list and object")
	}

	text := params
	text.Text = "Hello"
	metadata := params
	metadata.Metadata = map[string]string{"a": "1"}
	for name, got := range map[string][32]byte{
		"operation":      intake.Fingerprint("batch", params, "x", "y"),
		"text":           intake.Fingerprint("send", text, "x", "y"),
		"metadata":       intake.Fingerprint("send", metadata, "x", "y"),
		"extra values":   intake.Fingerprint("send", params, "x", "z"),
		"extra boundary": intake.Fingerprint("send", params, "xy"),
	} {
		if got == want {
			t.Errorf("another %s: got the same fingerprint", name)
		}
	}
}
