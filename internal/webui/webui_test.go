package webui_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/webui"
)

func TestLoginLeadsBackToTheRequestedPage(t *testing.T) {
	t.Parallel()
	_, b := newBackend(t, false)
	got := b.get("/messages/new?x=1")
	if got.status != http.StatusSeeOther || got.location != "/login?next=%2Fmessages%2Fnew%3Fx%3D1" {
		t.Errorf("visitor: got %d to %q, want a redirect to the login page", got.status, got.location)
	}
	b.want("login page", b.get(got.location), http.StatusOK, `value="/messages/new?x=1"`)
	wrong := b.post("/login", "email", userEmail, "password", "nonsense", "next", "/messages/new")
	b.want("wrong password", wrong, http.StatusUnprocessableEntity, "email or the password is wrong", `value="ada@example.com"`)
	if strings.Contains(wrong.body, "nonsense") {
		t.Error("the page contains the submitted password")
	}
	if got := b.post("/login", "email", userEmail, "password", password, "next", "/messages/new?x=1"); got.location != "/messages/new?x=1" {
		t.Errorf("after login: got %q, want /messages/new?x=1", got.location)
	}
	if got := b.get("/login"); got.location != "/messages" {
		t.Errorf("login page of a logged-in user: got %q, want /messages", got.location)
	}
	b.post("/logout")
	if got := b.get("/messages"); got.status != http.StatusSeeOther {
		t.Errorf("after logout: got status %d, want 303", got.status)
	}
}

func TestLoginDoesNotRedirectToOtherSites(t *testing.T) {
	t.Parallel()
	_, b := newBackend(t, false)
	for _, next := range []string{
		"//evil.example", `/\evil.example`, "https://evil.example", "evil.example", "javascript:alert(1)", "/\t/evil.example", "", "/%0d%0aX: y\r\n", `\\evil.example`,
	} {
		b.cookie = nil
		got := b.post("/login", "email", userEmail, "password", password, "next", next)
		if got.location != "/messages" && got.location != "/%0d%0aX:%20y" {
			t.Errorf("next=%q: got redirect to %q, want /messages", next, got.location)
		}
	}
}

// TestRedirectsHaveThePathOfThePublicURL sends requests without it: it is removed before.
func TestRedirectsHaveThePathOfThePublicURL(t *testing.T) {
	t.Parallel()
	_, b := newBackend(t, false, func(o *webui.Options) { o.PublicURL = "https://example.com/postcard" })
	for path, want := range map[string]string{
		"/": "/postcard/messages", "/settings": "/postcard/settings/keys",
		"/messages/new?x=1": "/postcard/login?next=%2Fpostcard%2Fmessages%2Fnew%3Fx%3D1",
	} {
		if got := b.get(path); got.location != want {
			t.Errorf("%s: got redirect to %q, want %q", path, got.location, want)
		}
	}
	if got := b.get("/favicon.ico").location; !strings.HasPrefix(got, "/postcard/static/postcard.svg?v=") {
		t.Errorf("/favicon.ico: got redirect to %q", got)
	}
	for next, want := range map[string]string{
		"/postcard/messages/new?x=1":    "/postcard/messages/new?x=1",
		"/postcard":                     "/postcard",
		"/postcard/":                    "/postcard/",
		"":                              "/postcard/messages",
		"/":                             "/postcard/messages",
		"/messages/new":                 "/postcard/messages", // of another application
		"/postcards":                    "/postcard/messages",
		"/postcard/../other":            "/postcard/messages",
		"/postcard/%2e%2e/other":        "/postcard/messages",
		"/postcard/x/..%2f..%2f../o":    "/postcard/messages",
		"//evil.example/postcard/":      "/postcard/messages",
		`/\evil.example/postcard/`:      "/postcard/messages",
		"https://evil.example/postcard": "/postcard/messages",
	} {
		b.cookie = nil
		if got := b.post("/login", "email", userEmail, "password", password, "next", next); got.location != want {
			t.Errorf("next=%q: got redirect to %q, want %q", next, got.location, want)
		}
	}
	sent := b.post("/messages/new", "to", "4155550123", "text", "Hi", "mediaUrl", "https://example.com/a.jpg")
	if !strings.HasPrefix(sent.location, "/postcard/messages/") {
		t.Errorf("sending: got redirect to %q, want the message below /postcard", sent.location)
	}
	if got := b.post("/logout").location; got != "/postcard/login" {
		t.Errorf("logging out: got redirect to %q, want /postcard/login", got)
	}
}

// TestLoginAfterAFormLeadsBack submits forms without a session. A proxy may have replaced the
// host of the request.
func TestLoginAfterAFormLeadsBack(t *testing.T) {
	t.Parallel()
	_, b := newBackend(t, false, func(o *webui.Options) { o.PublicURL = "https://mms.example.com/postcard" })
	for referer, want := range map[string]string{
		"https://mms.example.com/postcard/settings/keys?x": "/postcard/settings/keys?x",
		"http://api:8080/postcard/settings/keys":           "/postcard/settings/keys",
		"https://mms.example.com/other":                    "/postcard/messages",
		"https://evil.example/postcard/settings/keys":      "/postcard/messages",
		"": "/postcard/messages",
	} {
		r := httptest.NewRequest(http.MethodPost, "http://api:8080/settings/keys", nil)
		r.Header.Set("Referer", referer)
		if got, want := b.request(r).location, "/postcard/login?ended=1&next="+url.QueryEscape(want); got != want {
			t.Errorf("referer %q: got redirect to %q, want %q", referer, got, want)
		}
	}
}

func TestLoginThrottled(t *testing.T) {
	t.Parallel()
	f, b := newBackend(t, false)
	f.throttle = 90 * time.Second
	got := b.post("/login", "email", userEmail, "password", password)
	b.want("throttled login", got, http.StatusTooManyRequests, "in 2 minutes")
	if seconds := got.header.Get("Retry-After"); seconds != "90" {
		t.Errorf("got Retry-After %q, want 90", seconds)
	}
}

func TestSignup(t *testing.T) {
	t.Parallel()
	_, closed := newBackend(t, false)
	closed.want("closed sign-up, form", closed.get("/signup"), http.StatusForbidden, "closed")
	closed.want("closed sign-up, submission", closed.post("/signup", "email", "x@example.com", "password", "long enough"), http.StatusForbidden, "closed")
	_, b := newBackend(t, true)
	b.want("form", b.get("/signup"), http.StatusOK, `name="password"`)
	b.want("short password", b.post("/signup", "email", "new@example.com", "password", "short"), http.StatusUnprocessableEntity, "Password must be at least 10", `value="new@example.com"`)
	b.want("taken email", b.post("/signup", "email", userEmail, "password", "long enough"), http.StatusUnprocessableEntity, "is already registered")
	if got := b.post("/signup", "email", "new@example.com", "password", "long enough"); got.location != "/messages" {
		t.Errorf("after sign-up: got %d to %q, want /messages", got.status, got.location)
	}
	b.want("empty list", b.get("/messages"), http.StatusOK, "No messages yet", "new@example.com")
}

func TestComposeKeepsInvalidInput(t *testing.T) {
	t.Parallel()
	_, b := newBackend(t, false)
	b.login(userEmail)
	b.want("form", b.get("/messages/new"), http.StatusOK, `id="media-0"`, "Choose automatically")
	const hostile = `<script>alert(1)</script>"'>`
	got := b.post("/messages/new", "to", hostile, "text", hostile, "mediaUrl", hostile, "mediaUrl", "", "mediaUrl", "https://ok.example.com/x.jpg", "from", "+14155550101")
	b.want("violations", got, http.StatusUnprocessableEntity, "The message was not sent", `href="#to"`, `href="#media-0"`, "Recipient must be a phone number, like (415) 555-0123",
		`id="media-1" name="mediaUrl" type="url" inputmode="url" value="https://ok.example.com/x.jpg"`, `<option value="&#43;14155550101" selected>`)
	if n := strings.Count(got.body, "&lt;script&gt;alert(1)"); n != 4 || strings.Contains(got.body, "<script>alert") {
		t.Errorf("got the input %d times in escaped form, want 4 and none unescaped", n)
	}
	long := b.post("/messages/new", "to", "4155550123", "text", strings.Repeat("x", 70<<10))
	b.want("body too large", long, http.StatusRequestEntityTooLarge, "64 KiB")
}

func TestComposeAcceptsNationalFormat(t *testing.T) {
	t.Parallel()
	f, b := newBackend(t, false)
	b.login(userEmail)
	got := b.post("/messages/new", "to", "(415) 555-0123", "text", "Hi", "mediaUrl", "https://example.com/a.jpg")
	if got.status != http.StatusSeeOther || !strings.HasPrefix(got.location, "/messages/") || len(f.messages) != 1 {
		t.Fatalf("sending: got %d to %q, want a redirect to the message", got.status, got.location)
	}
	const notice = "The recipient “(415) 555-0123” was read as &#43;1 415-555-0123"
	id := uuid.MustParse(strings.TrimPrefix(got.location, "/messages/"))
	b.want("message", b.get(got.location), http.StatusOK, notice, escaped(f.messages[id].Explain()), `http-equiv="refresh"`)
	if again := b.get(got.location); strings.Contains(again.body, notice) {
		t.Error("the notice is shown twice")
	}
}

func TestStoreErrorKeepsInput(t *testing.T) {
	t.Parallel()
	f, b := newBackend(t, false)
	b.login(userEmail)
	for err, status := range map[error]int{errors.New("secret detail"): 500, fmt.Errorf("x: %w", mms.ErrUnavailable): 503} {
		f.err = err
		// The message may have been stored, so the form must keep its key.
		got := b.post("/messages/new", "idempotencyKey", "click-1", "to", "4155550123", "text", "Keep me", "mediaUrl", "https://example.com/a.jpg")
		b.want("message", got, status, "Keep me", "will not be sent twice", `value="4155550123"`, `name="idempotencyKey" value="click-1"`)
		got = b.upload("to\n+14155550123\n", "idempotencyKey", "click-2", "mediaUrl", "https://example.com/a.jpg")
		b.want("batch", got, status, "no message will be sent twice", `name="idempotencyKey" value="click-2"`)
		id := uuid.NewString()
		for _, page := range []response{got, b.get("/messages"), b.get("/messages/" + id), b.post("/messages/"+id+"/decision", "decision", "give_up")} {
			if page.status != status {
				t.Errorf("got status %d, want %d", page.status, status)
			}
			if strings.Contains(page.body, "secret detail") {
				t.Error("the page shows the error of the store")
			}
		}
	}
}

// newHistory returns a message that has all that the message page can show.
func newHistory(workspace uuid.UUID, status mms.Status) mms.History {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	later := now.Add(1500 * time.Millisecond)
	h := mms.History{Message: mms.Message{
		ID: uuid.Must(uuid.NewV7()), Workspace: workspace, Sender: "+14155550100", Recipient: "+14155550123", Text: "<b>Hi</b>",
		MediaURLs: []string{"https://example.com/a.jpg?<x>"}, Status: status, Reason: mms.ReasonNoResponse, PlivoUUID: "plivo-1", PlivoCode: "30",
		Attempts: 1, Version: 7, CreatedAt: now, NextAttemptAt: &later,
	}}
	if status.Final() {
		units := 2
		h.FinalAt, h.Details = &later, mms.Details{Units: &units, Cost: "0.032000", SentAt: &now, ReportedAt: &later}
	}
	h.AttemptList = []mms.Attempt{{Ordinal: 1, StartedAt: now, FinishedAt: &later, Outcome: mms.Unknown, HTTPStatus: 500, Detail: "<i>temporary failure</i>"}, {Ordinal: 2, StartedAt: now}}
	h.Events = []mms.Event{{At: now, Kind: mms.EventCreated, Status: mms.Queued}, {At: later, Kind: mms.EventInDoubt, Status: mms.InDoubt, Attempt: 1, Detail: string(mms.ReasonNoResponse)}}
	return h
}

func TestMessagePageForEveryStatus(t *testing.T) {
	t.Parallel()
	f, b := newBackend(t, false)
	b.login(userEmail)
	for _, status := range mms.Statuses() {
		h := newHistory(f.users[0].ID, status)
		f.messages[h.ID] = h
		got := b.get("/messages/" + h.ID.String())
		b.want(string(status), got, http.StatusOK, escaped(status.Title()), "&lt;b&gt;Hi&lt;/b&gt;", "plivo-1", "1.5s",
			escaped(mms.EventCreated.Title()), escaped(mms.ReasonNoResponse.Description()), "&lt;i&gt;temporary")
		if status.Final() {
			b.want(string(status), got, http.StatusOK, "0.032000 US dollars for 2 units", "(Plivo’s clock)", "1.5s later")
		}
		if live := !strings.Contains(got.body, "data-final"); live == status.Final() {
			t.Errorf("%s: got live updates %v, want %v", status, live, !status.Final())
		}
		b.want("list", b.get("/messages?status="+string(status)), http.StatusOK, `class="status `+string(status)+`"`)
	}
}

// escaped returns text as html/template writes it.
func escaped(text string) string {
	return strings.ReplaceAll(template.HTMLEscapeString(text), "+", "&#43;")
}

func TestQueuePosition(t *testing.T) {
	t.Parallel()
	f, b := newBackend(t, false)
	b.login(userEmail)
	h := newHistory(f.users[0].ID, mms.Queued)
	f.messages[h.ID] = h
	if got := b.get("/messages/" + h.ID.String()); strings.Contains(got.body, "data-waiting") {
		t.Error("the page of a message that is not waiting is refreshed periodically")
	}
	f.position = mms.QueuePosition{Ahead: 3, Wait: 61 * time.Second}
	b.want("waiting message", b.get("/messages/"+h.ID.String()), http.StatusOK, escaped(f.position.Description()), " data-waiting")
}

// TestComposeAfterTheSessionEnded checks that the form is shown again with its
// input, but without data that requires a session.
func TestComposeAfterTheSessionEnded(t *testing.T) {
	t.Parallel()
	f, b := newBackend(t, false)
	got := b.post("/messages/new", "idempotencyKey", "click-1", "to", "(415) 555-0123", "from", "+14155550101", "text", "Dear <Bob>", "mediaUrl", "https://example.com/a.jpg")
	b.want("form", got, http.StatusForbidden, "Your session has ended", "(415) 555-0123",
		`name="from" value="&#43;14155550101"`, `name="idempotencyKey" value="click-1"`, "Dear &lt;Bob&gt;", "https://example.com/a.jpg")
	if strings.Contains(got.body, `<select id="from"`) {
		t.Error("a visitor is shown the senders")
	}
	if len(f.messages) > 0 {
		t.Error("a visitor created a message")
	}
}

// TestFormAfterTheSessionEnded checks that login leads back to the page with the
// form, if that page is ours.
func TestFormAfterTheSessionEnded(t *testing.T) {
	t.Parallel()
	_, b := newBackend(t, false)
	for referer, next := range map[string]string{
		"":                            "/messages",
		"http://example.com/batches":  "/batches",
		"http://evil.example/batches": "/messages",
		"http://example.com//evil":    "/messages",
	} {
		r := httptest.NewRequest("POST", "http://example.com/batches/1/pause", nil)
		r.Header.Set("Referer", referer)
		got, query := b.request(r), url.Values{"next": {next}, "ended": {"1"}}
		if want := "/login?" + query.Encode(); got.location != want {
			t.Errorf("referer %q: got %q, want %q", referer, got.location, want)
		}
		b.want("login page", b.get(got.location), http.StatusOK, "nothing was changed", `value="`+next+`"`)
	}
}

func TestDecisions(t *testing.T) {
	t.Parallel()
	f, b := newBackend(t, false)
	b.login(userEmail)
	h := newHistory(f.users[0].ID, mms.InDoubt)
	h.Held = true
	f.messages[h.ID] = h
	path := "/messages/" + h.ID.String()
	b.want("held message", b.get(path), http.StatusOK, "Mark as sent", "Retry", "Give up")
	b.want("unknown decision", b.post(path+"/decision", "decision", "perhaps"), http.StatusBadRequest, "unknown decision")
	if got := b.post(path+"/decision", "decision", "retry"); got.location != path || f.decision != mms.DecideRetry {
		t.Errorf("got decision %q and redirect to %q, want resend and %q", f.decision, got.location, path)
	}
	h.Held = false
	f.messages[h.ID] = h
	b.post(path+"/decision", "decision", "give_up")
	b.want("message no longer held", b.get(path), http.StatusOK, "no longer needs a decision")
}

func TestOtherUsersMessagesAreNotFound(t *testing.T) {
	t.Parallel()
	f, b := newBackend(t, false)
	b.login(userEmail)
	h := newHistory(uuid.New(), mms.Delivered)
	f.messages[h.ID] = h
	for _, got := range []response{
		b.get("/messages/" + h.ID.String()), b.post("/messages/"+h.ID.String()+"/decision", "decision", "give_up"),
		b.get("/messages/" + uuid.NewString()), b.get("/messages/1"), b.get("/nowhere"), b.get("/messages?status=gone"), b.get("/messages?before=1"),
	} {
		b.want("not found", got, http.StatusNotFound, "does not exist")
	}
	b.want("unsupported method", b.do("DELETE", "/messages", nil), http.StatusMethodNotAllowed, "does not support the method DELETE")
}

// TestPauses checks that all users see a pause, and that only admins see Plivo's
// response, can resume sending, and see that DOUBT_SILENCE is off.
func TestPauses(t *testing.T) {
	t.Parallel()
	f, b := newBackend(t, false)
	f.pauses = []mms.Pause{{Cause: mms.ReasonCredentials, Detail: "<no>", Since: time.Now()}}
	f.silenceOff = time.Hour
	cause := escaped(f.pauses[0].Explain())
	if got := b.get("/login"); strings.Contains(got.body, "paused") {
		t.Error("a visitor is shown the pause")
	}
	b.login(userEmail)
	got := b.get("/messages")
	b.want("pause, as a user", got, http.StatusOK, "Sending is paused", cause)
	if strings.Contains(got.body, "&lt;no&gt;") {
		t.Error("a user is shown Plivo's response")
	}
	if strings.Contains(got.body, "DOUBT_SILENCE") {
		t.Error("a user is shown the state of DOUBT_SILENCE")
	}
	if strings.Contains(got.body, "Resume sending") {
		t.Error("a user is offered to resume sending")
	}
	b.want("resuming as a user", b.post("/admin/resume", "cause", string(mms.ReasonCredentials)), http.StatusNotFound)
	b.post("/logout")
	b.login(adminEmail)
	b.want("pause, as an admin", b.get("/messages"), http.StatusOK, "Sending is paused", cause, "&lt;no&gt;", "Resume sending", "/admin/queues", "DOUBT_SILENCE is off")
	b.want("resuming without a text", b.post("/admin/resume", "cause", "a\x00b"), http.StatusBadRequest, "names no cause")
	b.post("/admin/resume", "cause", string(mms.ReasonCredentials))
	b.want("after resuming", b.get("/messages"), http.StatusOK, "Sending has resumed.")
}

func TestListPaging(t *testing.T) {
	t.Parallel()
	f, b := newBackend(t, false)
	b.login(userEmail)
	h := newHistory(f.users[0].ID, mms.Sent)
	f.messages[h.ID], f.more = h, true
	b.want("first page", b.get("/messages?status=sent"), http.StatusOK, "/messages?before="+h.ID.String()+"&amp;status=sent")
	f.more = false
	b.want("last page", b.get("/messages?before="+h.ID.String()), http.StatusOK, "Newest")
}

func TestListFilters(t *testing.T) {
	t.Parallel()
	f, b := newBackend(t, false)
	b.login(userEmail)
	h := newHistory(f.users[0].ID, mms.Failed)
	f.messages[h.ID], f.more = h, true
	b.want("all filters", b.get("/messages?status=failed&to=(415)+555-0123&text=a%26b"), http.StatusOK,
		`value="(415) 555-0123"`, `value="a&amp;b"`, "status=failed&amp;text=a%26b&amp;to=%2B14155550123", "/api/messages/export?")
	b.want("invalid recipient", b.get("/messages?to=x"), http.StatusOK, "Recipient must be a phone number")
	b.want("text with NUL", b.get("/messages?text=a%00b"), http.StatusOK, "Text must not contain NUL characters")
	b.want("text in Latin-1", b.get("/messages?text=%E9t%E9"), http.StatusOK, "Text must be valid UTF-8")
	b.want("long text", b.get("/messages?text="+strings.Repeat("x", 201)), http.StatusOK, "Text must be at most 200 bytes long")
	b.want("recipient with a plus sign", b.get("/messages?to=+14155550123"), http.StatusOK, "to=%2B14155550123")
	b.want("batch in upper case", b.get("/messages?batch="+strings.ToUpper(h.ID.String())), http.StatusOK, h.ID.String())
	b.want("invalid batch", b.get("/messages?batch=x"), http.StatusNotFound)
}

// Forms are read like the bodies of the API.
func TestFormInput(t *testing.T) {
	t.Parallel()
	f, b := newBackend(t, true)
	b.login(userEmail)
	h := newHistory(f.users[0].ID, mms.Failed)
	f.messages[h.ID] = h
	message := []string{"to", "+14155550123", "mediaUrl", "https://example.com/a.jpg", "idempotencyKey", "k"}
	b.want("NUL in a text", b.post("/messages/new", append(message, "text", "a\x00b")...), http.StatusUnprocessableEntity, "Text must not contain control characters")
	b.want("text in Latin-1", b.post("/messages/new", append(message, "text", "\xe9t\xe9")...), http.StatusUnprocessableEntity, "Text must be valid UTF-8")
	b.want("id in upper case", b.get("/messages/"+strings.ToUpper(h.ID.String())), http.StatusOK, h.ID.String())
	b.want("NUL in a key's name", b.post("/settings/keys", "name", "a\x00b", "scope", "read"), http.StatusUnprocessableEntity, "must be valid UTF-8 without control characters")
	b.want("NUL in a webhook's description", b.post("/settings/webhooks", "url", "https://example.com/", "description", "a\x00b"), http.StatusUnprocessableEntity, "must contain only printable characters")
	b.want("NUL in a batch's name, and no file", b.upload("", "name", "a\x00b"), http.StatusUnprocessableEntity, "must contain only printable characters", "choose a CSV file")
	for encoding, want := range map[string]int{"br": http.StatusUnsupportedMediaType, "gzip": http.StatusBadRequest, "identity": http.StatusUnprocessableEntity} {
		r := httptest.NewRequest("POST", "/messages/new", strings.NewReader("to=x"))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Content-Encoding", encoding)
		b.want(encoding, b.request(r), want)
	}
}

// TestEncodedUpload checks that the form with a file is decoded like the others.
func TestEncodedUpload(t *testing.T) {
	t.Parallel()
	_, b := newBackend(t, true)
	b.login(userEmail)
	const form = "--x\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\nNewsletter\r\n--x--\r\n"
	var compressed bytes.Buffer
	w := gzip.NewWriter(&compressed)
	_, _ = w.Write([]byte(form))
	w.Close()
	for name, tt := range map[string]struct {
		encoding, body string
		status         int
		want           string
	}{
		"gzip":     {"gzip", compressed.String(), http.StatusUnprocessableEntity, "Newsletter"},
		"not gzip": {"gzip", form, http.StatusBadRequest, "Invalid upload"},
		"another":  {"br", form, http.StatusUnsupportedMediaType, "br"},
	} {
		r := httptest.NewRequest("POST", "/batches/new", strings.NewReader(tt.body))
		r.Header.Set("Content-Type", "multipart/form-data; boundary=x")
		r.Header.Set("Content-Encoding", tt.encoding)
		b.want(name, b.request(r), tt.status, tt.want)
	}
}

func TestStaticFiles(t *testing.T) {
	t.Parallel()
	_, b := newBackend(t, false)
	page := b.get("/login")
	for _, name := range []string{"postcard.css", "postcard.js", "postcard.svg"} {
		address := regexp.MustCompile(`/static/` + regexp.QuoteMeta(name) + `\?v=[0-9a-f]+`).FindString(page.body)
		got := b.get(address)
		if got.status != http.StatusOK || !strings.Contains(got.header.Get("Cache-Control"), "immutable") || got.header.Get("ETag") == "" {
			t.Errorf("%s: got %d with %v, want 200, immutable, with an ETag", address, got.status, got.header)
		}
		if plain := b.get("/static/" + name); plain.header.Get("Cache-Control") != "" {
			t.Errorf("%s without a version: got Cache-Control %q, want none", name, plain.header.Get("Cache-Control"))
		}
	}
	for _, path := range []string{"/static/", "/static/x.css", "/static/../webui.go"} {
		if got := b.get(path); got.status != http.StatusNotFound {
			t.Errorf("%s: got status %d, want 404", path, got.status)
		}
	}
}

func TestOptOutsPage(t *testing.T) {
	t.Parallel()
	const path = "/admin/suppressions"
	f, b := newBackend(t, false, func(o *webui.Options) { o.OptOutScope = mms.OptOutsOfOneSender })
	if got := b.get(path); got.status != http.StatusSeeOther {
		t.Errorf("visitor: got status %d, want 303", got.status)
	}
	b.login(userEmail)
	b.want("as a user", b.get(path), http.StatusNotFound)
	b.want("adding as a user", b.post(path, "numbers", "4155550123"), http.StatusNotFound)
	b.want("removing as a user", b.post(path+"/remove", "recipient", "+14155550123"), http.StatusNotFound)
	b.login(adminEmail)
	b.want("empty list", b.get(path), http.StatusOK, "No opt-outs yet")
	got := b.post(path, "numbers", "(415) 555-0123\r\nnonsense\r\n\r\n12", "sender", "+14155550101")
	b.want("invalid lines", got, http.StatusUnprocessableEntity, "line 2 ", "line 4 ", "nonsense", `value="&#43;14155550101" selected`)
	b.want("no numbers", b.post(path, "numbers", " \n"), http.StatusUnprocessableEntity, "one phone number per line")
	b.want("unknown sender", b.post(path, "numbers", "4155550123", "sender", "+14165550199"), http.StatusUnprocessableEntity, "Sender is not one of")
	if len(f.suppressions) != 0 {
		t.Errorf("got %v despite violations, want none", f.suppressions)
	}
	b.post(path, "numbers", "(415) 555-0123\n+14155550124,\n")
	if len(f.suppressions) != 2 || f.suppressions[0].Reason != mms.SuppressedByAdmin {
		t.Errorf("got %+v, want two numbers", f.suppressions)
	}
	b.want("list", b.get(path), http.StatusOK, "Added 2 opt-outs.", "&#43;1 415-555-0124", "All senders", escaped(mms.SuppressedByAdmin.Description()))
	b.post(path, "numbers", "4155550123", "sender", "+14155550100")
	f.more = true
	b.want("search", b.get(path+"?recipient=4155550124"), http.StatusOK, "&#43;1 415-555-0124", "after=%2B14155550124")
	b.want("search without matches", b.get(path+"?recipient=4155550125"), http.StatusOK, "This recipient has not opted out")
	b.want("invalid search", b.get(path+"?recipient=x"), http.StatusOK, "Recipient must be a phone number")
	b.post(path+"/remove", "sender", "+14155550100", "recipient", "+14155550123")
	b.want("after removal", b.get(path), http.StatusOK, "Removed the opt-out of &#43;1 415-555-0123 for sender &#43;1 415-555-0100.")
	b.post(path+"/remove", "sender", "", "recipient", "+14155550123")
	b.want("after removal for all senders", b.get(path), http.StatusOK, "Removed the opt-out of &#43;1 415-555-0123 for all senders.")
	if len(f.suppressions) != 1 {
		t.Errorf("got %+v, want one", f.suppressions)
	}
	f.err = mms.ErrUnavailable
	b.want("list without a database", b.get(path), http.StatusServiceUnavailable)
	b.want("adding without a database", b.post(path, "numbers", "4155550123"), http.StatusServiceUnavailable)
	b.want("removing without a database", b.post(path+"/remove"), http.StatusServiceUnavailable)
}

// TestOptOutsOfEverySender expects a page that does not let an admin limit an opt-out to a
// sender, where it would hold for all.
func TestOptOutsOfEverySender(t *testing.T) {
	t.Parallel()
	const path = "/admin/suppressions"
	f, b := newBackend(t, false)
	b.login(adminEmail)
	f.suppressions = []mms.Suppression{{Sender: "+14155550100", Recipient: "+14155550123", Reason: mms.SuppressedByRecipient}}
	got := b.get(path)
	b.want("list", got, http.StatusOK, "from any sender", "&#43;1 415-555-0100", `aria-label="Remove &#43;1 415-555-0123"`)
	if strings.Contains(got.body, "<select") {
		t.Error("the form has a choice of senders, want none")
	}
	b.post(path+"/remove", "sender", "+14155550100", "recipient", "+14155550123")
	b.want("after removal", b.get(path), http.StatusOK, "Removed the opt-outs of &#43;1 415-555-0123.")
}

func TestReplies(t *testing.T) {
	t.Parallel()
	f, b := newBackend(t, false)
	b.login(userEmail)
	h := newHistory(f.users[0].ID, mms.Sent)
	f.messages[h.ID] = h
	f.replies = map[uuid.UUID][]mms.Inbound{h.ID: {{Text: "<i>Stop</i>", Keyword: mms.KeywordStop, MediaURLs: []string{"https://media.example.com/1"}}, {}}}
	b.want("replies", b.get("/messages/"+h.ID.String()), http.StatusOK, "&lt;i&gt;Stop&lt;/i&gt;", "opted out", "https://media.example.com/1", "(no text)")
}

func TestOverviewPage(t *testing.T) {
	t.Parallel()
	f, b := newBackend(t, false)
	b.login(userEmail)
	b.want("no messages", b.get("/overview"), http.StatusOK, "No messages were created in the last 7 days")
	day := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	counts := map[mms.Status]int{mms.Delivered: 3000, mms.Sent: 1, mms.Failed: 1, mms.Queued: 2}
	reason := mms.ReasonCount{Reason: mms.ReasonReported, PlivoCode: "30", Messages: 1}
	f.stats = mms.Overview{
		Days:    []mms.Day{{Date: day, Counts: map[mms.Status]int{}}, {Date: day.AddDate(0, 0, 1), Counts: counts}},
		Totals:  counts,
		Medians: []mms.Median{{Status: mms.Delivered, Took: 2500 * time.Millisecond, Messages: 3000}},
		Reasons: []mms.ReasonCount{reason},
	}
	got := b.get("/overview?days=30&users=all")
	b.want("own messages", got, http.StatusOK, "100.0%", "<td>3004</td><td>3001</td><td>1</td><td>2</td>", "2 Mar", "2.5s", escaped(reason.Description()),
		`<rect class="good"`, `<rect class="bad"`, `<rect class="open"`)
	if strings.Contains(strings.ToLower(got.body), "all users") {
		t.Error("a user is offered the overview of all users")
	}
	b.login(adminEmail)
	b.want("all users", b.get("/overview?days=90&users=all"), http.StatusOK, "Overview of all users", "My messages")
	b.get("/overview?days=1000000")
	want := []string{
		fmt.Sprintf("7 days of %s", f.users[0].ID), fmt.Sprintf("30 days of %s", f.users[0].ID),
		fmt.Sprintf("90 days of %s", uuid.Nil), fmt.Sprintf("7 days of %s", f.users[1].ID),
	}
	if diff := cmp.Diff(want, f.statsCalls); diff != "" {
		t.Errorf("calls of Overview (-want +got):\n%s", diff)
	}
	f.err = mms.ErrUnavailable
	b.want("without a database", b.get("/overview"), http.StatusServiceUnavailable)
}

// TestSenderChoice shows the senders with their rates, and without them while the database is
// down.
func TestSenderChoice(t *testing.T) {
	t.Parallel()
	f, b := newBackend(t, false)
	b.login(userEmail)
	for _, path := range []string{"/messages/new", "/batches/new"} {
		b.want(path, b.get(path), http.StatusOK, "415-555-0100 (15 messages a minute)</option>", "415-555-0101</option>")
		f.err = mms.ErrUnavailable
		b.want(path+" without rates", b.get(path), http.StatusOK, "415-555-0100</option>", "415-555-0101</option>")
		f.err = nil
	}
}
