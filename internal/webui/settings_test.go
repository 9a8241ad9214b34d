package webui_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/webhook"
)

func TestSettingsRedirectToKeys(t *testing.T) {
	t.Parallel()
	_, b := newBackend(t, false)
	b.login(userEmail)
	if got := b.get("/settings"); got.location != "/settings/keys" {
		t.Errorf("got redirect to %q, want /settings/keys", got.location)
	}
}

func TestKeysPage(t *testing.T) {
	t.Parallel()
	f, b := newBackend(t, false)
	b.login(userEmail)
	b.want("page", b.get("/settings/keys"), http.StatusOK, "Create API key", `value="send" checked`)
	b.want("violations", b.post("/settings/keys", "name", " ", "days", "soon", "cap", "0"), http.StatusUnprocessableEntity,
		"Name is missing", "Permission is missing", "Expiry in days must be a whole number", "Maximum messages a day must be from 1")
	got := b.post("/settings/keys", "name", "<b>shop</b>", "scope", "send", "days", "")
	b.want("new key", got, http.StatusOK, "pc_", "cannot show it again", "&lt;b&gt;shop")
	if len(f.keys) != 1 || len(f.keys[0].Scopes) != 1 {
		t.Fatalf("got %+v, want one key with one scope", f.keys)
	}
	secret := regexp.MustCompile(`pc_[A-Z2-7]{26}`).FindString(got.body)
	if secret == "" {
		t.Error("the secret is not shown")
	}
	if again := b.get("/settings/keys"); strings.Contains(again.body, secret) {
		t.Error("the secret is shown twice")
	}
	path := "/settings/keys/" + f.keys[0].ID.String() + "/revoke"
	if got := b.post(path); got.location != "/settings/keys" {
		t.Errorf("revoking: got %d to %q, want /settings/keys", got.status, got.location)
	}
	b.want("revoked key", b.get("/settings/keys"), http.StatusOK, "no longer works", "<td>revoked</td>")
	b.want("key of another user", b.post("/settings/keys/"+uuid.NewString()+"/revoke"), http.StatusNotFound)
}

func TestWebhookPages(t *testing.T) {
	t.Parallel()
	f, b := newBackend(t, false)
	b.login(userEmail)
	b.want("violations", b.post("/settings/webhooks", "url", "http://10.0.0.1/", "status", "nope"), http.StatusUnprocessableEntity,
		"URL must start with https://", "Event must be a message status", `value="http://10.0.0.1/"`)
	b.want("new webhook", b.post("/settings/webhooks", "url", "https://example.com/events", "status", "failed"), http.StatusOK, "whsec_", "shown only once", "Events: "+mms.Failed.Title())
	path := "/settings/webhooks/" + f.webhooks[0].ID.String()
	if page := b.get(path); strings.Contains(page.body, "whsec_") {
		t.Error("the secret is shown twice")
	}
	b.want("rotated secret", b.post(path+"/rotate-secret"), http.StatusOK, escaped(string(f.secret)))
	for action, notice := range map[string]string{"test": "A test event is being sent", "enable": "The webhook is enabled"} {
		b.post(path + "/" + action)
		b.want(action, b.get(path), http.StatusOK, notice)
	}
	b.want("deliveries", b.get(path), http.StatusOK, "webhook.test", f.events[0].Error, "Replay</button>")
	b.post(path+"/replay", "event", f.events[0].ID.String())
	b.want("replayed event", b.get(path), http.StatusOK, "The event is being sent again", "pending")
	b.want("replay of an unknown event", b.post(path+"/replay", "event", "x"), http.StatusNotFound)
	b.want("unknown action", b.post(path+"/dance"), http.StatusNotFound)
	b.want("webhook of another user", b.get("/settings/webhooks/"+uuid.NewString()), http.StatusNotFound)
	now := time.Now()
	f.webhooks[0].DisabledAt, f.webhooks[0].DisabledReason = &now, webhook.DisabledFailing
	b.want("notice of a disabled webhook", b.get("/messages"), http.StatusOK, "receives no events", "https://example.com/events")
	if got := b.post(path + "/delete"); got.location != "/settings/webhooks" || len(f.webhooks) != 0 {
		t.Errorf("removing: got %d to %q with %d left, want /settings/webhooks with none left", got.status, got.location, len(f.webhooks))
	}
}

func TestBatchPages(t *testing.T) {
	t.Parallel()
	f, b := newBackend(t, false)
	b.login(userEmail)
	b.want("empty list", b.get("/batches"), http.StatusOK, "No batches yet")
	b.want("form", b.get("/batches/new"), http.StatusOK, "{{name}}", `name="idempotencyKey"`)
	b.want("no file", b.upload("", "mediaUrl", "https://example.com/a.jpg"), http.StatusUnprocessableEntity, "File is missing")
	b.want("rejected rows", b.upload("to,name\n+14155550123,Ada\n1,<b>\n", "name", "spring", "text", "Hi {{name}}", "mediaUrl", "https://example.com/a.jpg"),
		http.StatusUnprocessableEntity, "Rejected rows: 1", "Row 3: Recipient must be a phone number", `value="spring"`, "Hi {{name}}")
	b.want("unreadable file", b.upload("to\n\"+1", "mediaUrl", "https://example.com/a.jpg"), http.StatusUnprocessableEntity, "The quote that begins in line 2 of the file is never closed.")
	const latin = "to;name\r\n+14155550123;Jos\xe9\r\n"
	b.want("Windows-1252", b.upload(latin, "text", "Hi {{name}}", "mediaUrl", "https://example.com/a.jpg"), http.StatusUnprocessableEntity, "“José”", `name="charset"`)
	if got := b.upload(latin, "text", "Hi {{name}}", "mediaUrl", "https://example.com/a.jpg", "charset", "windows-1252"); got.status != http.StatusSeeOther {
		t.Errorf("declared Windows-1252: got %d, want 303: %s", got.status, got.body)
	}
	b.want("two texts", b.upload("to,Message,Body\n+14155550123,Hi,Hi\n", "mediaUrl", "https://example.com/a.jpg"), http.StatusUnprocessableEntity, "Text is empty, and the columns")
	clear(f.batches)
	got := b.upload("to,name\n+14155550123,Ada\n1,<b>\n", "name", "spring", "text", "Hi {{name}}", "mediaUrl", "https://example.com/a.jpg", "onError", "create_valid")
	if got.status != http.StatusSeeOther || len(f.batches) != 1 {
		t.Fatalf("creating: got %d with %d batches, want 303 with one: %s", got.status, len(f.batches), got.body)
	}
	id := uuid.MustParse(strings.TrimPrefix(got.location, "/batches/"))
	b.want("batch", b.get(got.location), http.StatusOK, "spring", escaped(f.batches[id].Explain()), "Row 3: Recipient must be a phone number", "Pause batch", `class="status queued"`)
	b.want("list", b.get("/batches"), http.StatusOK, "spring", escaped(f.batches[id].Title()))
	b.post(got.location + "/pause")
	if state := f.batches[id].State; state != mms.BatchPaused {
		t.Errorf("after pausing: got state %q, want paused", state)
	}
	b.want("paused batch", b.get(got.location), http.StatusOK, escaped(f.batches[id].Explain()), "Resume batch")
	b.want("unknown action", b.post(got.location+"/dance"), http.StatusNotFound)
	b.want("batch of another user", b.get("/batches/"+uuid.NewString()), http.StatusNotFound)
}

func TestCancelAndResend(t *testing.T) {
	t.Parallel()
	f, b := newBackend(t, false)
	b.login(userEmail)
	h := newHistory(f.users[0].ID, mms.Queued)
	f.messages[h.ID] = h
	path := "/messages/" + h.ID.String()
	b.want("queued message", b.get(path), http.StatusOK, "Cancel message")
	b.post(path + "/resend")
	b.want("resend of a queued message", b.get(path), http.StatusOK, "The message was not resent")
	b.post(path + "/cancel")
	b.want("canceled message", b.get(path), http.StatusOK, "The message is canceled.")
	b.post(path + "/cancel")
	b.want("second cancellation", b.get(path), http.StatusOK, "The message was not canceled")
	h.Status, h.FinalAt = mms.Failed, &h.CreatedAt
	f.messages[h.ID] = h
	page := b.get(path)
	key := regexp.MustCompile(`name="idempotencyKey" value="([^"]+)"`).FindStringSubmatch(page.body)
	if key == nil {
		t.Fatal("the form has no idempotency key")
	}
	got := b.post(path+"/resend", "idempotencyKey", key[1])
	if got.status != http.StatusSeeOther || got.location == path {
		t.Errorf("resend: got %d to %q, want a redirect to the new message", got.status, got.location)
	}
	if len(f.keysUsed) != 1 || f.keysUsed[0] != "form "+key[1] {
		t.Errorf("got idempotency keys %q, want %q", f.keysUsed, "form "+key[1])
	}
}
