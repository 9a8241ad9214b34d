package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/postcard-mms/postcard/client"
)

// api answers with one message after the other, the last one again and again.
func api(t *testing.T, messages ...client.Message) {
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

// story is a message that goes through the statuses, titled alike.
func story(statuses ...string) []client.Message {
	var all []client.Message
	for i, s := range statuses {
		final := s == "delivered" || s == "undelivered" || s == "failed"
		all = append(all, client.Message{ID: "m", Version: int64(i + 1), Status: s, StatusTitle: strings.ToUpper(s), Explanation: "It is " + s + ".", Final: final})
	}
	return all
}

func TestSendFollowsAMessage(t *testing.T) {
	const words = "send --to +14155550123 --media https://example.com/a.jpg --wait"
	for name, tt := range map[string]struct {
		statuses []string
		lines    int
		fails    string
	}{
		"delivered":   {[]string{"queued", "queued", "sending", "sending", "delivered"}, 3, ""},
		"undelivered": {[]string{"queued", "undelivered"}, 2, "the message ended as “UNDELIVERED”"},
		"failed":      {[]string{"failed"}, 1, "the message ended as “FAILED”"},
	} {
		t.Run(name, func(t *testing.T) {
			api(t, story(tt.statuses...)...)
			out, err := call(t, "", words)
			if lines := strings.Count(out, "\n"); lines != tt.lines {
				t.Errorf("%d lines, want %d, each once:\n%s", lines, tt.lines, out)
			}
			if tt.fails == "" && err != nil || tt.fails != "" && (err == nil || err.Error() != tt.fails) {
				t.Errorf("the error is %v, want %q", err, tt.fails)
			}
		})
	}
}

func TestSendIsPatientOnlyForSoLong(t *testing.T) {
	const words = "send --to +14155550123 --media https://example.com/a.jpg --wait --for 50ms"
	api(t, story("queued", "sent")...)
	if out, err := call(t, "", words); err != nil || !strings.Contains(out, "SENT") {
		t.Errorf("sent is often the last word: %v\n%s", err, out)
	}
	api(t, story("queued", "queued")...)
	if _, err := call(t, "", words); err == nil || !strings.Contains(err.Error(), "after 50ms the message stands at “QUEUED”") {
		t.Errorf("%v", err)
	}
}

func TestSendSaysWhatIsMissing(t *testing.T) {
	for words, want := range map[string]string{
		"send --to +14155550123":                     "--media is missing",
		"send --media https://example.com/a.jpg":     "--to is missing",
		"send --to +14155550123 --media x a":         `"a" is too much`,
		"send --to 1 --media x --wait --for -5s":     "--for must be longer",
		"send --to 1 --media x --at tomorrow":        "-at",
		"send --to 1 --media x --metadata something": "NAME=VALUE",
	} {
		if _, err := call(t, "", words); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", words, err, want)
		}
	}
	if out, err := call(t, "", "send --help"); err != nil || !strings.HasPrefix(out, "Usage:") {
		t.Errorf("--help: %v\n%s", err, out)
	}
}
