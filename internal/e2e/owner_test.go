package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/postcard-mms/postcard/internal/plivosim"
)

// belongings are what somebody has, by the first words of their paths.
type belongings map[string][]string

// TestNobodySeesOrChangesWhatIsAnothers makes every operation of the description
// with the ids of what is another's, as a person and by keys of both scopes: the
// answer is that there is no such thing, and nothing has changed.
func TestNobodySeesOrChangesWhatIsAnothers(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	_, url := r.api("ALLOW_PRIVATE_WEBHOOKS=true")
	c := readContract(t, url)
	ada, bob := c.person("ada.lovelace@example.com"), c.person("bob@example.com")
	mine := c.belongingsOf(ada)
	before := r.rowsOf()
	asked := 0
	for _, by := range []*user{bob, c.newKey(bob, `"send","read"`)} {
		for _, o := range c.operations {
			ids, parametrised := mine[strings.Split(o.path, "/")[2]]
			if !strings.Contains(o.path, "{") {
				if o.method == "GET" && o.byPerson {
					wantNothingOf(t, by, o.path, mine)
				}
				continue
			}
			if !parametrised {
				t.Fatalf("%s has parameters, and the test has nothing of Ada's for it", o.path)
			}
			asked++
			body := ""
			if o.id == "decideMessage" {
				body = `{"decision":"give_up"}`
			}
			want := http.StatusNotFound
			if by.key != "" && !o.byKey {
				want = http.StatusForbidden
			}
			if status, _, text := by.do(o.method, o.withIDs(ids...), body); status != want {
				t.Errorf("%s with what is another's: %d %s, want %d", o.id, status, text, want)
			}
		}
	}
	if asked < 30 {
		t.Errorf("only %d operations were tried", asked)
	}
	// The messages of a batch cannot be had by its id either.
	batch := mine["batches"][0]
	for _, path := range []string{"/api/messages?batch=" + batch, "/api/messages/export?batch=" + batch} {
		wantNothingOf(t, bob, path, mine)
	}
	if after := r.rowsOf(); after != before {
		t.Errorf("what is Ada's has changed:\n%s\n%s", before, after)
	}
}

func (c *contract) belongingsOf(ada *user) belongings {
	message := ada.want(http.StatusAccepted, "POST", "/api/send-mms", sendBody)
	batch := ada.want(http.StatusAccepted, "POST", "/api/batches",
		`{"mediaUrl":"https://example.com/a.jpg","onError":"create_valid","rows":[{"to":"+14165551000"},{"to":"1"}]}`)
	key := ada.want(http.StatusCreated, "POST", "/api/keys", `{"name":"mine","scopes":["send"]}`)
	webhook := ada.want(http.StatusCreated, "POST", "/api/webhooks", `{"url":"http://127.0.0.1:1/mine"}`)
	event := ada.want(http.StatusAccepted, "POST", "/api/webhooks/"+fmt.Sprint(webhook["id"])+"/test", "")
	return belongings{
		"messages": {fmt.Sprint(message["id"])}, "batches": {fmt.Sprint(batch["id"])}, "keys": {fmt.Sprint(key["id"])},
		"webhooks": {fmt.Sprint(webhook["id"]), fmt.Sprint(event["id"])},
	}
}

// wantNothingOf reads a list, in which nothing of another's may stand.
func wantNothingOf(t *testing.T, by *user, path string, of belongings) {
	t.Helper()
	_, _, text := by.do("GET", path, "")
	for _, ids := range of {
		for _, id := range ids {
			if strings.Contains(text, id) {
				t.Errorf("GET %s shows what is another's: %s", path, text)
			}
		}
	}
}

// rowsOf sums up all that belongs to anybody but Bob.
func (r *rig) rowsOf() string {
	r.t.Helper()
	var sum string
	err := r.store.DB().QueryRow(`
		WITH ada AS (SELECT id FROM users WHERE email LIKE 'ada.lovelace%')
		SELECT concat_ws(' ', (SELECT string_agg(id || status || version, ',' ORDER BY id) FROM messages WHERE user_id IN (SELECT id FROM ada)),
			(SELECT string_agg(id || state || sync_pending, ',' ORDER BY id) FROM batches WHERE user_id IN (SELECT id FROM ada)),
			(SELECT string_agg(id || coalesce(revoked_at::text, ''), ',' ORDER BY id) FROM api_keys WHERE user_id IN (SELECT id FROM ada)),
			(SELECT string_agg(id || secret || coalesce(disabled_at::text, ''), ',' ORDER BY id) FROM webhooks WHERE user_id IN (SELECT id FROM ada)),
			(SELECT string_agg(e.id || e.state, ',' ORDER BY e.id) FROM webhook_events e JOIN webhooks w ON w.id = e.webhook_id WHERE w.user_id IN (SELECT id FROM ada)))`).Scan(&sum)
	if err != nil || len(sum) < 100 {
		r.t.Fatalf("summing up: %q %v", sum, err)
	}
	return sum
}
