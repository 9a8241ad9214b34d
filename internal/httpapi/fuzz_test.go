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

// FuzzSend throws bodies at the endpoint: never a failure of ours, and nothing
// accepted that breaks a rule or says something else than it seems to.
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
			checkAccepted(t, body, s.messages.take(id))
		default:
			t.Fatalf("%d %s", got.status, got.body)
		}
	})
}

// checkAccepted states the rules again, in other words than the heart's.
func checkAccepted(t *testing.T, body []byte, m mms.Message) {
	t.Helper()
	var plain struct {
		To, Text, MediaURL, From string
		MediaURLs                []string
	}
	if err := json.Unmarshal(body, &plain); err != nil || !utf8.Valid(body) {
		t.Errorf("accepted what is not JSON in UTF-8: %v", err)
	}
	if n, err := mms.ParsePhoneNumber(plain.To); err != nil || n != m.Recipient || m.Recipient == m.Sender {
		t.Errorf("recipient %q of %q (%v), sender %q", m.Recipient, plain.To, err, m.Sender)
	}
	if plain.From != "" && plain.From != string(m.Sender) || !strings.HasPrefix(string(m.Sender), "+1415555010") {
		t.Errorf("sender %q, asked for %q", m.Sender, plain.From)
	}
	if m.Text != strings.ReplaceAll(plain.Text, "\r\n", "\n") || utf8.RuneCountInString(m.Text) > 1600 || strings.ContainsRune(m.Text, 0) {
		t.Errorf("text %q of %q", m.Text, plain.Text)
	}
	if asked := append(plain.MediaURLs, plain.MediaURL); len(m.MediaURLs) < 1 || len(m.MediaURLs) > 10 || m.MediaURLs[0] != asked[0] {
		t.Errorf("pictures %q of %q", m.MediaURLs, asked)
	}
	for _, raw := range m.MediaURLs {
		u, err := url.Parse(raw)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || len(raw) > 2000 {
			t.Errorf("picture %q (%v)", raw, err)
		}
	}
}
