package webui_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
)

func TestFormsReadPastedValues(t *testing.T) {
	t.Parallel()
	f, b := newBackend(t, false)
	b.login("\u00a0" + strings.ToUpper(userEmail) + "\u200b ")
	for _, typed := range []string{"\u202a+1 415 555 0123\u202c", "415\u00a0555\u00a00123", "\ufeff415–555–0123", "1.415.555.0123"} {
		got := b.post("/messages/new", "to", typed, "text", "Hi", "mediaUrl", "\ufeffhttps://example.com/a.jpg\u200b", "mediaUrl", "\u200b")
		id, err := uuid.Parse(strings.TrimPrefix(got.location, "/messages/"))
		if err != nil {
			t.Errorf("%q: got %d to %q, want a redirect to the message", typed, got.status, got.location)
			continue
		}
		if m := f.messages[id]; m.Recipient != "+14155550123" || len(m.MediaURLs) != 1 || m.MediaURLs[0] != "https://example.com/a.jpg" {
			t.Errorf("%q: got %s with %q", typed, m.Recipient, m.MediaURLs)
		}
		b.want("search", b.get("/messages?to="+url.QueryEscape(typed)), http.StatusOK, "/messages/"+id.String())
	}
	got := b.post("/messages/new", "to", "4155550123", "text", "Hi", "mediaUrl", "https://example.com/\u200ba.jpg")
	b.want("inside a URL", got, http.StatusUnprocessableEntity, "Link to a picture has an invisible character (U&#43;200B)")
}

func TestPagesWarnAboutUnknownNumbers(t *testing.T) {
	t.Parallel()
	f, b := newBackend(t, false)
	b.login(userEmail)
	got := b.post("/messages/new", "to", "(624) 555-0142", "text", "Hi", "mediaUrl", "https://example.com/a.jpg")
	const warning = "Postcard knows no numbers that begin with 624-555"
	if page := b.get(got.location); strings.Count(page.body, warning) != 2 {
		t.Errorf("after sending: want the warning in the notice and on the page, got %s", page.body)
	}
	if page := b.get(got.location); strings.Count(page.body, warning) != 1 {
		t.Errorf("later: want the warning on the page, got %s", page.body)
	}
	id := uuid.MustParse(strings.TrimPrefix(got.location, "/messages/"))
	delivered := f.messages[id]
	delivered.Status = mms.Delivered
	f.messages[id] = delivered
	if page := b.get(got.location); strings.Contains(page.body, warning) {
		t.Errorf("delivered: want no warning, got %s", page.body)
	}
}

func TestOptOutsReadPastedNumbers(t *testing.T) {
	t.Parallel()
	f, b := newBackend(t, false)
	b.login(adminEmail)
	const path = "/admin/suppressions"
	b.post(path, "numbers", "\ufeff\u202a+1 415 555 0101\u202c\r\n415.555.0102\r\n4155550103,\r\n\"14155550104\";\r\n tel:415-555-0105 \r\n\u200b\r\n", "sender", "\u202a+14155550101\u202c")
	if len(f.suppressions) != 5 {
		t.Errorf("got %+v, want five numbers", f.suppressions)
	}
	b.want("search", b.get(path+"?recipient="+url.QueryEscape("\u202a(415) 555-0105\u202c")), http.StatusOK, "&#43;1 415-555-0105")
	got := b.post(path, "numbers", "1.41556E+10", "sender", "+14155550101")
	b.want("changed by a spreadsheet", got, http.StatusUnprocessableEntity, "line 1 is in scientific notation")
}
