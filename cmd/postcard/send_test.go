package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/postcard-mms/postcard/client"
)

// fakeAPI answers each request with the next message, and repeats the last one.
func fakeAPI(t *testing.T, messages ...client.Message) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m := messages[0]
		if len(messages) > 1 {
			messages = messages[1:]
		}
		if err := json.NewEncoder(w).Encode(m); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	t.Setenv("POSTCARD_URL", server.URL)
	t.Setenv("POSTCARD_API_KEY", "pc_key")
}

// messagesWith returns successive versions of one message, one for each status.
func messagesWith(statuses ...string) []client.Message {
	var all []client.Message
	for i, s := range statuses {
		final := s == "delivered" || s == "undelivered" || s == "failed"
		all = append(all, client.Message{ID: "m", Version: int64(i + 1), Status: s, StatusTitle: strings.ToUpper(s), Explanation: "It is " + s + ".", Final: final})
	}
	return all
}

func TestSendWaitsForFinalStatus(t *testing.T) {
	const args = "send --to +14155550123 --media https://example.com/a.jpg --wait"
	for name, tt := range map[string]struct {
		statuses []string
		lines    int // of output
		wantErr  string
	}{
		"delivered":   {[]string{"queued", "queued", "sending", "sending", "delivered"}, 3, ""},
		"undelivered": {[]string{"queued", "undelivered"}, 2, "the message was not delivered: its final status is “UNDELIVERED”"},
		"failed":      {[]string{"failed"}, 1, "the message was not delivered: its final status is “FAILED”"},
	} {
		t.Run(name, func(t *testing.T) {
			fakeAPI(t, messagesWith(tt.statuses...)...)
			out, err := call(t, "", args)
			if lines := strings.Count(out, "\n"); lines != tt.lines {
				t.Errorf("got %d lines, want %d:\n%s", lines, tt.lines, out)
			}
			if tt.wantErr == "" && err != nil || tt.wantErr != "" && (err == nil || err.Error() != tt.wantErr) {
				t.Errorf("got error %v, want %q", err, tt.wantErr)
			}
		})
	}
}

func TestSendStopsWaitingAfterTimeout(t *testing.T) {
	const args = "send --to +14155550123 --media https://example.com/a.jpg --wait --for 50ms"
	fakeAPI(t, messagesWith("queued", "sent")...)
	if out, err := call(t, "", args); err != nil || !strings.Contains(out, "SENT") {
		t.Errorf("with status sent: got error %v, want none; output:\n%s", err, out)
	}
	fakeAPI(t, messagesWith("queued", "queued")...)
	if _, err := call(t, "", args); err == nil || !strings.Contains(err.Error(), "not final after 50ms: its status is “QUEUED”") {
		t.Errorf("with status queued: got error %v, want one that names the status", err)
	}
}

// TestSendWithUnknownOutcome: the user learns how to repeat the command safely.
func TestSendWithUnknownOutcome(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "3600") // longer than the client waits
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte(`{"status":503,"detail":"It is unknown whether the message was stored.","outcome":"unknown","id":"m"}`))
	}))
	t.Cleanup(server.Close)
	t.Setenv("POSTCARD_URL", server.URL)
	t.Setenv("POSTCARD_API_KEY", "pc_key")
	_, err := call(t, "", "send --to +14155550123 --media https://example.com/a.jpg --key order-17")
	if err == nil || !strings.Contains(err.Error(), "--key order-17: the message is not sent twice") {
		t.Errorf("got error %v, want one that says how to repeat the command", err)
	}
}

func TestSendReportsInvalidFlags(t *testing.T) {
	for args, want := range map[string]string{
		"send --to +14155550123":                                     "--media is missing",
		"send --media https://example.com/a.jpg":                     "--to is missing",
		"send --to +14155550123 --media https://x.example a":         `unexpected argument "a"`,
		"send --to 1 --media missing.jpg":                            "missing.jpg",
		"send --to 1 --media https://x.example --wait --for -5s":     "--for must be longer",
		"send --to 1 --media https://x.example --at tomorrow":        "-at",
		"send --to 1 --media https://x.example --metadata something": "NAME=VALUE",
	} {
		if _, err := call(t, "", args); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("postcard %s: got error %v, want one containing %q", args, err, want)
		}
	}
	if out, err := call(t, "", "send --help"); err != nil || !strings.HasPrefix(out, "Usage:") {
		t.Errorf("send --help: got error %v and output %q, want the usage", err, out)
	}
}

// TestSendUploadsFiles sends a picture from a file beside one behind a URL.
func TestSendUploadsFiles(t *testing.T) {
	var uploaded, sent []byte
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/media" {
			sent, _ = io.ReadAll(r.Body)
			_, _ = w.Write([]byte(`{"id":"m","statusTitle":"Queued"}`))
			return
		}
		file, header, err := r.FormFile("file")
		if err != nil || header.Filename != "picture.jpg" {
			t.Errorf("got file %v, %v, want picture.jpg", header, err)
			return
		}
		uploaded, _ = io.ReadAll(file)
		_, _ = w.Write([]byte(`[{"id":"u1"}]`))
	}))
	t.Cleanup(server.Close)
	t.Setenv("POSTCARD_URL", server.URL)
	t.Setenv("POSTCARD_API_KEY", "pc_key")
	path := filepath.Join(t.TempDir(), "picture.jpg")
	if err := os.WriteFile(path, []byte("pixels"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := call(t, "", "send --to +14155550123 --media https://example.com/a.jpg --media "+path); err != nil {
		t.Fatal(err)
	}
	if string(uploaded) != "pixels" || !strings.Contains(string(sent), `"mediaUrls":["https://example.com/a.jpg"],"mediaIds":["u1"]`) {
		t.Errorf("uploaded %q and sent %s, want the file and both pictures", uploaded, sent)
	}
}
