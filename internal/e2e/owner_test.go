package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"net/http"
	"strings"
	"testing"

	"github.com/postcard-mms/postcard/internal/plivosim"
)

// resources are a workspace's ids for the parameters of a path, by its first segment.
type resources map[string][]string

// TestOtherWorkspacesResources calls every operation of the API with the ids of another
// workspace's resources, by session and by API key: the response is 404, or 403 where keys
// are not permitted, and nothing changes.
func TestOtherWorkspacesResources(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	_, url := r.api("ALLOW_PRIVATE_WEBHOOKS=true")
	c := readContract(t, url)
	ada, bob := c.person("ada.lovelace@example.com"), c.person("bob@example.com")
	adas := c.createResources(ada)
	before := r.resourceRows()
	calls := 0
	for _, by := range []*user{bob, c.newKey(bob, `"send","read"`)} {
		for _, o := range c.operations {
			ids, known := adas[strings.Split(o.path, "/")[2]]
			if !strings.Contains(o.path, "{") {
				if o.method == "GET" && o.bySession {
					wantNoneListed(t, by, o.path, adas)
				}
				continue
			}
			if !known {
				t.Fatalf("%s has parameters for which the test has no ids", o.path)
			}
			calls++
			body := ""
			switch o.id {
			case "decideMessage":
				body = `{"decision":"give_up"}`
			case "changeMember":
				body = `{"permissions":["send"]}`
			}
			want := http.StatusNotFound
			if by.key != "" && !o.byKey {
				want = http.StatusForbidden
			}
			if status, _, text := by.do(o.method, o.withIDs(ids...), body); status != want {
				t.Errorf("%s on another workspace's resource: got %d %s, want %d", o.id, status, text, want)
			}
		}
	}
	if calls < 30 {
		t.Errorf("got %d calls, want at least 30", calls)
	}
	// Nor do lists show the messages of another user's batch.
	batch := adas["batches"][0]
	for _, path := range []string{"/api/messages?batch=" + batch, "/api/messages/export?batch=" + batch} {
		wantNoneListed(t, bob, path, adas)
	}
	if after := r.resourceRows(); after != before {
		t.Errorf("Ada's resources have changed; before and after:\n%s\n%s", before, after)
	}
}

func (c *contract) createResources(ada *user) resources {
	message := ada.want(http.StatusAccepted, "POST", "/api/send-mms", sendBody)
	batch := ada.want(http.StatusAccepted, "POST", "/api/batches",
		`{"mediaUrl":"https://example.com/a.jpg","onError":"create_valid","rows":[{"to":"+14165551000"},{"to":"1"}]}`)
	key := ada.want(http.StatusCreated, "POST", "/api/keys", `{"name":"mine","scopes":["send"]}`)
	webhook := ada.want(http.StatusCreated, "POST", "/api/webhooks", `{"url":"http://127.0.0.1:1/mine"}`)
	event := ada.want(http.StatusAccepted, "POST", "/api/webhooks/"+fmt.Sprint(webhook["id"])+"/test", "")
	invitation := ada.want(http.StatusCreated, "POST", "/api/invitations", `{"email":"eve@example.com"}`)
	me := ada.want(http.StatusOK, "GET", "/api/me", "")
	id := fmt.Sprint(me["user"].(map[string]any)["id"])
	return resources{
		"admin": {"+14155550100"}, "workspaces": {id}, "members": {id}, "invitations": {fmt.Sprint(invitation["id"])},
		"account":  {ada.currentSession()},
		"media":    {ada.uploadPixel()},
		"messages": {fmt.Sprint(message["id"])}, "batches": {fmt.Sprint(batch["id"])}, "keys": {fmt.Sprint(key["id"])},
		"webhooks": {fmt.Sprint(webhook["id"]), fmt.Sprint(event["id"])},
	}
}

// currentSession returns the id of the user's session.
func (u *user) currentSession() string {
	u.t.Helper()
	list, _ := u.want(http.StatusOK, "GET", "/api/account/sessions", "")["sessions"].([]any)
	for _, entry := range list {
		if session, _ := entry.(map[string]any); session["current"] == true {
			return fmt.Sprint(session["id"])
		}
	}
	u.t.Fatalf("got sessions %v, want a current one", list)
	return ""
}

// uploadPixel uploads the smallest picture and returns its id.
func (u *user) uploadPixel() string {
	u.t.Helper()
	var pixel bytes.Buffer
	if err := png.Encode(&pixel, image.NewGray(image.Rect(0, 0, 1, 1))); err != nil {
		u.t.Fatal(err)
	}
	form, contentType := formOf("file", "pixel.png", pixel.Bytes())
	status, _, text := u.do("POST", "/api/media", form, contentType...)
	var uploads []struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal([]byte(text), &uploads); err != nil || status != http.StatusCreated {
		u.t.Fatalf("uploading a picture: got %d %s (error %v)", status, text, err)
	}
	return uploads[0].ID
}

// formOf returns a form with one part, and the header that declares it.
func formOf(field, file string, content []byte) (body string, contentType []string) {
	disposition := fmt.Sprintf("form-data; name=%q", field)
	if file != "" {
		disposition += fmt.Sprintf("; filename=%q", file)
	}
	return fmt.Sprintf("--b\r\nContent-Disposition: %s\r\n\r\n%s\r\n--b--\r\n", disposition, content), []string{"Content-Type", "multipart/form-data; boundary=b"}
}

// wantNoneListed checks that a list has none of another user's ids.
func wantNoneListed(t *testing.T, by *user, path string, others resources) {
	t.Helper()
	_, _, text := by.do("GET", path, "")
	for _, ids := range others {
		for _, id := range ids {
			if strings.Contains(text, id) {
				t.Errorf("GET %s shows another user's resource: %s", path, text)
			}
		}
	}
}

// resourceRows returns a summary of the rows of Ada's resources.
func (r *rig) resourceRows() string {
	r.t.Helper()
	var sum string
	err := r.store.DB().QueryRow(`
		WITH ada AS (SELECT id FROM users WHERE email LIKE 'ada.lovelace%')
		SELECT concat_ws(' ', (SELECT string_agg(id::text, ',' ORDER BY id) FROM user_sessions WHERE user_id IN (SELECT id FROM ada)),
			(SELECT string_agg(id || status || version, ',' ORDER BY id) FROM messages WHERE workspace_id IN (SELECT id FROM ada)),
			(SELECT string_agg(id || state || sync_pending, ',' ORDER BY id) FROM batches WHERE workspace_id IN (SELECT id FROM ada)),
			(SELECT string_agg(id || coalesce(revoked_at::text, ''), ',' ORDER BY id) FROM api_keys WHERE workspace_id IN (SELECT id FROM ada)),
			(SELECT string_agg(id || encode(sent, 'hex'), ',' ORDER BY id) FROM media_uploads WHERE workspace_id IN (SELECT id FROM ada)),
			(SELECT string_agg(id || secret || coalesce(disabled_at::text, ''), ',' ORDER BY id) FROM webhooks WHERE workspace_id IN (SELECT id FROM ada)),
			(SELECT string_agg(user_id || array_to_string(permissions, ''), ',' ORDER BY user_id) FROM members WHERE workspace_id IN (SELECT id FROM ada)),
			(SELECT string_agg(id || email, ',' ORDER BY id) FROM invitations WHERE workspace_id IN (SELECT id FROM ada)),
			(SELECT string_agg(e.id || e.state, ',' ORDER BY e.id) FROM webhook_events e JOIN webhooks w ON w.id = e.webhook_id WHERE w.workspace_id IN (SELECT id FROM ada)))`).Scan(&sum)
	if err != nil || len(sum) < 100 {
		r.t.Fatalf("summarizing Ada's rows: got %q (error %v)", sum, err)
	}
	return sum
}
