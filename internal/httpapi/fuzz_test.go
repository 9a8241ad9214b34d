package httpapi_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
)

// FuzzSend posts arbitrary bodies. The response must never be a 5xx, and a created
// message must be valid and equal the request.
func FuzzSend(f *testing.F) {
	for _, seed := range []string{
		validSend, `{}`, `{"to":1}`, `null`, `[`, `{"to":"+14155550123","to":"+14155550124"}`,
		`{"to":"+14155550123","text":"\ud83d\ude00 \u0000 \ud83d","mediaUrls":["https://example.com/a.jpg"],"from":"+14155550101"}`,
		"{\"text\":\"\xff\"}", `{"to":"+14155550123","mediaUrl":"https://user@example.com/"}`, validSend + validSend,
		`{"to":"+442079460000","mediaUrl":"http://[::1]/"}`, `{"TO":"+14155550123","mediaUrl":"https://example.com/a.jpg"}`,
	} {
		f.Add([]byte(seed))
	}
	s := newSystem(f)
	ada := s.ada()
	f.Fuzz(func(t *testing.T, body []byte) {
		c := &client{system: &system{t: t, handler: s.handler}, cookie: ada.cookie}
		got := c.doAs("application/json", "POST", "/api/send-mms", string(body))
		switch got.status {
		case http.StatusBadRequest, http.StatusRequestEntityTooLarge:
		case http.StatusAccepted:
			id := uuid.MustParse(strings.TrimPrefix(got.header.Get("Location"), "/api/messages/"))
			checkCreated(t, body, s.messages.take(id))
		default:
			t.Fatalf("%d %s", got.status, got.body)
		}
	})
}

// checkCreated restates the rules independently of package mms.
func checkCreated(t *testing.T, body []byte, m mms.Message) {
	t.Helper()
	var sent struct {
		To, Text, MediaURL, From string
		MediaURLs                []string
	}
	if err := json.Unmarshal(body, &sent); err != nil || !utf8.Valid(body) {
		t.Errorf("created a message from invalid JSON: %v", err)
	}
	if n, err := mms.ParseTypedPhoneNumber(sent.To); err != nil || n != m.Recipient || m.Recipient == m.Sender {
		t.Errorf("got recipient %q from %q (%v) and sender %q", m.Recipient, sent.To, err, m.Sender)
	}
	if sent.From != "" && sent.From != string(m.Sender) || !strings.HasPrefix(string(m.Sender), "+1415555010") {
		t.Errorf("got sender %q, want %q", m.Sender, sent.From)
	}
	if m.Text != strings.ReplaceAll(sent.Text, "\r\n", "\n") || utf8.RuneCountInString(m.Text) > 1600 || strings.ContainsRune(m.Text, 0) {
		t.Errorf("got text %q, want %q", m.Text, sent.Text)
	}
	if media := append(sent.MediaURLs, sent.MediaURL); len(m.MediaURLs) < 1 || len(m.MediaURLs) > 10 || m.MediaURLs[0] != media[0] {
		t.Errorf("got pictures %q, want %q", m.MediaURLs, media)
	}
	for _, raw := range m.MediaURLs {
		u, err := url.Parse(raw)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || len(raw) > 2000 {
			t.Errorf("got invalid picture %q (%v)", raw, err)
		}
	}
}
