package intake_test

import (
	"encoding/hex"
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
	empty.Metadata, empty.MediaURLs, empty.MediaIDs = map[string]string{}, []string{}, []string{}
	if intake.Fingerprint("send", bare) != intake.Fingerprint("send", empty) {
		t.Error("got another fingerprint for an empty list and object")
	}

	text := params
	text.Text = "Hello"
	metadata, upload, fit := params, params, params
	metadata.Metadata = map[string]string{"a": "1"}
	upload.MediaIDs = []string{"0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"}
	fit.Fit = "never"
	for name, got := range map[string][32]byte{
		"operation":      intake.Fingerprint("batch", params, "x", "y"),
		"text":           intake.Fingerprint("send", text, "x", "y"),
		"metadata":       intake.Fingerprint("send", metadata, "x", "y"),
		"upload":         intake.Fingerprint("send", upload, "x", "y"),
		"fit":            intake.Fingerprint("send", fit, "x", "y"),
		"extra values":   intake.Fingerprint("send", params, "x", "z"),
		"extra boundary": intake.Fingerprint("send", params, "xy"),
	} {
		if got == want {
			t.Errorf("another %s: got the same fingerprint", name)
		}
	}
}

// TestFingerprintOfEarlierVersions: a client may repeat a request after an upgrade. If the
// fingerprint of its request changed, the repetition would be refused.
func TestFingerprintOfEarlierVersions(t *testing.T) {
	t.Parallel()
	hour := 3600
	params := mms.CreateParams{To: "+14155550123", Text: "hello", MediaURL: "https://example.com/a.jpg", ValidFor: &hour, Metadata: map[string]string{"a": "1", "b": "2"}}
	for want, got := range map[string][32]byte{
		"5e44fa9d764214e5473bce07f82a8cc9cbe05302f4f6fb1ec19e11b9ddea6175": intake.Fingerprint("send", params),
		"442c3d790e062286db6bb59a1d056d3ca2fc009ea1213cc9b07c319d617d961b": intake.Fingerprint("batch", params, "spring", "false", "x"),
	} {
		if hex.EncodeToString(got[:]) != want {
			t.Errorf("got fingerprint %x, want %s", got, want)
		}
	}
}
