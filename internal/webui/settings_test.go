package webui_test

import (
	"bytes"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
)

func TestKeysPage(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t, false)
	b.login("ada@example.com")
	b.want("the page", b.get("/settings/keys"), http.StatusOK, "Make a key", `value="send" checked`)
	b.want("faults", b.post("/settings/keys", "name", " ", "days", "soon", "cap", "0"), http.StatusUnprocessableEntity,
		"name is missing", "scopes is missing", "expiresInDays must be a whole number", "dailyCap must be from 1")
	got := b.post("/settings/keys", "name", "<b>shop</b>", "scope", "send", "days", "")
	b.want("a new key", got, http.StatusOK, "pc_", "cannot be shown again", "&lt;b&gt;shop")
	if len(w.keys) != 1 || len(w.keys[0].Scopes) != 1 {
		t.Fatalf("%+v", w.keys)
	}
	secret := regexp.MustCompile(`pc_[A-Z2-7]{26}`).FindString(got.body)
	if again := b.get("/settings/keys"); secret == "" || strings.Contains(again.body, secret) {
		t.Error("the key is shown twice, or not at all")
	}
	path := "/settings/keys/" + w.keys[0].ID.String() + "/revoke"
	if got := b.post(path); got.location != "/settings/keys" {
		t.Errorf("revoking: %d", got.status)
	}
	b.want("a revoked key", b.get("/settings/keys"), http.StatusOK, "does not work any more", "revoked")
	b.want("another's", b.post("/settings/keys/"+uuid.NewString()+"/revoke"), http.StatusNotFound)
}

func TestWebhooksPages(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t, false)
	b.login("ada@example.com")
	b.want("faults", b.post("/settings/webhooks", "url", "http://10.0.0.1/", "status", "nope"), http.StatusUnprocessableEntity, "must start with https://", "must be a message status", `value="http://10.0.0.1/"`)
	b.want("a new one", b.post("/settings/webhooks", "url", "https://example.com/events", "status", "failed"), http.StatusOK, "whsec_", "shown this once", "Told of Failed")
	path := "/settings/webhooks/" + w.webhooks[0].ID.String()
	if page := b.get(path); strings.Contains(page.body, "whsec_") {
		t.Error("the secret is shown twice")
	}
	rotated := b.post(path + "/rotate-secret")
	b.want("another secret", rotated, http.StatusOK, strings.ReplaceAll(string(w.secret), "+", "&#43;"))
	for act, notice := range map[string]string{"test": "on its way", "enable": "switched on"} {
		b.post(path + "/" + act)
		b.want(act, b.get(path), http.StatusOK, notice)
	}
	b.want("the log", b.get(path), http.StatusOK, "webhook.test", "It answered 500.", "Send again")
	b.post(path+"/replay", "event", w.told[0].ID.String())
	b.want("replayed", b.get(path), http.StatusOK, "on its way again", "pending")
	b.want("replaying what there is not", b.post(path+"/replay", "event", "x"), http.StatusNotFound)
	b.want("no such act", b.post(path+"/dance"), http.StatusNotFound)
	b.want("another's", b.get("/settings/webhooks/"+uuid.NewString()), http.StatusNotFound)
	now := time.Now()
	w.webhooks[0].DisabledAt, w.webhooks[0].DisabledReason = &now, "failing"
	b.want("a notice on every page", b.get("/messages"), http.StatusOK, "was switched off", "https://example.com/events")
	if got := b.post(path + "/delete"); got.location != "/settings/webhooks" || len(w.webhooks) != 0 {
		t.Errorf("removing: %d to %q", got.status, got.location)
	}
}

// upload posts the form of a batch.
func (b *browser) upload(file string, fields ...string) answer {
	b.t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for i := 0; i < len(fields); i += 2 {
		if err := form.WriteField(fields[i], fields[i+1]); err != nil {
			b.t.Fatal(err)
		}
	}
	if file != "" {
		part, err := form.CreateFormFile("file", "rows.csv")
		if err != nil {
			b.t.Fatal(err)
		}
		_, _ = part.Write([]byte(file))
	}
	form.Close()
	r := httptest.NewRequest("POST", "/batches/new", &body)
	r.Header.Set("Content-Type", form.FormDataContentType())
	return b.request(r)
}

func TestBatchPages(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t, false)
	b.login("ada@example.com")
	b.want("no batches", b.get("/batches"), http.StatusOK, "No batches yet")
	b.want("the form", b.get("/batches/new"), http.StatusOK, "{{name}}", `name="once"`)
	b.want("no file", b.upload("", "mediaUrl", "https://example.com/a.jpg"), http.StatusUnprocessableEntity, "file is missing")
	b.want("bad rows", b.upload("to,name\n+14155550123,Ada\n1,<b>\n", "name", "spring", "text", "Hi {{name}}", "mediaUrl", "https://example.com/a.jpg"),
		http.StatusUnprocessableEntity, "Rows that are not right: 1", "Row 2: to", `value="spring"`, "Hi {{name}}")
	b.want("a broken file", b.upload("to\n\"+1", "mediaUrl", "https://example.com/a.jpg"), http.StatusUnprocessableEntity, "check its quotes")
	got := b.upload("to,name\n+14155550123,Ada\n1,<b>\n", "name", "spring", "text", "Hi {{name}}", "mediaUrl", "https://example.com/a.jpg", "onError", "create_valid")
	if got.status != http.StatusSeeOther || len(w.batches) != 1 {
		t.Fatalf("%d %s", got.status, got.body)
	}
	b.want("the batch", b.get(got.location), http.StatusOK, "spring", "Left: 1 message.", "Row 2: to", "Pause", `class="status queued"`)
	b.want("the list", b.get("/batches"), http.StatusOK, "spring", "Being sent")
	b.post(got.location + "/pause")
	b.want("paused", b.get(got.location), http.StatusOK, "is paused", "Resume")
	b.want("no such act", b.post(got.location+"/dance"), http.StatusNotFound)
	b.want("another's", b.get("/batches/"+uuid.NewString()), http.StatusNotFound)
}

func TestCancelAndSendAgain(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t, false)
	b.login("ada@example.com")
	h := told(w.users[0].ID, mms.Queued)
	w.messages[h.ID] = h
	path := "/messages/" + h.ID.String()
	b.want("a queued message", b.get(path), http.StatusOK, "Cancel it")
	b.post(path + "/resend")
	b.want("too early", b.get(path), http.StatusOK, "It was not sent again")
	b.post(path + "/cancel")
	b.want("canceled", b.get(path), http.StatusOK, "The message is canceled.")
	b.post(path + "/cancel")
	b.want("too late", b.get(path), http.StatusOK, "too late to cancel")
	h.Status, h.FinalAt = mms.Failed, &h.CreatedAt
	w.messages[h.ID] = h
	page := b.get(path)
	once := regexp.MustCompile(`name="once" value="([^"]+)"`).FindStringSubmatch(page.body)
	if once == nil {
		t.Fatal("the form has no key")
	}
	got := b.post(path+"/resend", "once", once[1])
	if got.status != http.StatusSeeOther || got.location == path || w.once[0] != "form "+once[1] {
		t.Errorf("%d to %q under %q", got.status, got.location, w.once)
	}
}

func TestFiltersOfTheList(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t, false)
	b.login("ada@example.com")
	h := told(w.users[0].ID, mms.Failed)
	w.messages[h.ID] = h
	w.more = true
	b.want("all filters", b.get("/messages?status=failed&to=(415)+555-0123&text=a%26b"), http.StatusOK,
		`value="(415) 555-0123"`, `value="a&amp;b"`, "status=failed&amp;text=a%26b&amp;to=%2B14155550123", "/api/messages/export?")
	b.want("no number", b.get("/messages?to=x"), http.StatusOK, "The recipient must be a phone number")
	b.want("no batch", b.get("/messages?batch=x"), http.StatusNotFound)
}
