package e2e

import (
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"testing"
	"time"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/plivosim"
)

// situations put the message $1 into a state. Beside it stands what its explanation must say.
var situations = []struct{ name, update, want string }{
	{"queued", ``, "waiting to be sent."},
	{"waiting", `UPDATE messages SET backlog_state = 'waiting', task_check_at = 'infinity' WHERE id = $1`, "waiting to be sent."},
	{"tried", `UPDATE messages SET attempts = 1, reason = 'rate_limited' WHERE id = $1`, "attempts so far: 1"},
	{"paused", `INSERT INTO pauses (cause, since, probe_at) SELECT 'plivo_credit', '2026-03-09 07:05Z', now() WHERE $1::uuid IS NOT NULL`, "Postcard paused all sending on 9 Mar 2026, 07:05:00 UTC. The Plivo account has no credit left."},
	{"waiting in a pause", `WITH m AS (UPDATE messages SET backlog_state = 'waiting', task_check_at = 'infinity' WHERE id = $1)
		INSERT INTO pauses (cause, probe_at) VALUES ('plivo_credentials', now())`, "Postcard paused all sending on "},
	{"batch paused", `WITH b AS (INSERT INTO batches (id, workspace_id, name, state) SELECT id, workspace_id, '', 'paused' FROM messages WHERE id = $1 RETURNING id)
		UPDATE messages SET batch_id = $1, backlog_state = 'parked', task_check_at = 'infinity' WHERE id = $1`, "Its batch was paused by a user"},
	{"scheduled", `UPDATE messages SET status = 'scheduled', send_at = now() + interval '1 hour', next_attempt_at = NULL, task_check_at = NULL WHERE id = $1`, "scheduled time"},
	{"sending", setStatus("sending", "", ""), "A worker is sending"},
	{"in doubt", setStatus("in_doubt", "no_response", ""), "Postcard is checking with Plivo"},
	{"held", setStatus("in_doubt", "ambiguous", "held = true"), "held for a decision"},
	{"submitted", setStatus("submitted", "", "plivo_uuid = $1::text"), "will pass it to the carrier"},
	{"submitted, closed", setStatus("submitted", "", "plivo_uuid = $1::text, final_at = now()"), "never reported"},
	{"sent", setStatus("sent", "", "plivo_uuid = $1::text"), "often the last report"},
	{"sent, closed", setStatus("sent", "", "plivo_uuid = $1::text, final_at = now()"), "did not confirm delivery"},
	{"sent by decision", setStatus("sent", "decided_sent", "final_at = now()"), "by a person"},
	{"delivered", setStatus("delivered", "", "plivo_uuid = $1::text, plivo_code = '000', final_at = now()"), "was delivered."},
	{"undelivered", setStatus("undelivered", "", "plivo_uuid = $1::text, plivo_code = '30', final_at = now()"), "(Plivo's code 30)"},
	{"canceled", setStatus("canceled", "", "final_at = now()"), "canceled before"},
}

// setStatus returns an update that sets the status and reason of a message that is not
// queued, and more.
func setStatus(status, reason, more string) string {
	if more != "" {
		more = ", " + more
	}
	return fmt.Sprintf(`UPDATE messages SET status = '%s', reason = '%s', next_attempt_at = NULL, task_check_at = NULL%s WHERE id = $1`, status, reason, more)
}

// TestPageAndAPIExplainAlike puts a message into every state and checks that its page, the
// API and a list of the API explain it with the same words, and that none shows Plivo's
// code for no error.
func TestPageAndAPIExplainAlike(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	_, url := r.api()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar, Timeout: time.Minute}
	request := func(method, path, body string) string {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), method, url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		response, err := browser.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode >= 400 {
			t.Fatalf("%s %s: got %d %s, %v", method, path, response.StatusCode, text, err)
		}
		return string(text)
	}
	request("POST", "/api/signup", `{"email":"eve@example.com","password":"correct horse"}`)
	all := situations
	for _, reason := range []mms.Reason{mms.ReasonRejected, mms.ReasonForbidden, mms.ReasonExpired, mms.ReasonOptedOut, mms.ReasonUnresolved, mms.ReasonAttemptsExhausted, mms.ReasonDecidedGiveUp} {
		all = append(all, struct{ name, update, want string }{string(reason), setStatus("failed", string(reason), "final_at = now()"), reason.Description()})
	}
	for i, s := range all {
		body := strings.Replace(sendBody, "+14165551000", fmt.Sprintf("+1416555%04d", 1000+i), 1) // one message of a pair is in flight
		message := decodeExplained(t, request("POST", "/api/send-mms", body))
		if s.update != "" {
			if _, err := r.store.DB().Exec(s.update, message.ID); err != nil {
				t.Fatalf("%s: %v", s.name, err)
			}
		}
		text := request("GET", "/api/messages/"+message.ID, "")
		message = decodeExplained(t, text)
		page := html.UnescapeString(request("GET", "/messages/"+message.ID, ""))
		shown := message.Explanation
		if message.QueuePosition.Explanation != "" {
			shown += " " + message.QueuePosition.Explanation
		}
		if !strings.Contains(message.Explanation, s.want) || !strings.Contains(page, "<p>"+shown+"</p>") || !strings.Contains(page, message.NextStep) {
			t.Errorf("%s: the API says %q and %q, want %q in it, and the same on the page:\n%s", s.name, shown, message.NextStep, s.want, page)
		}
		var list struct{ Messages []explained }
		if err := json.Unmarshal([]byte(request("GET", "/api/messages?limit=1", "")), &list); err != nil {
			t.Fatal(err)
		}
		if got := list.Messages[0]; got.Explanation != message.Explanation || got.NextStep != message.NextStep {
			t.Errorf("%s: the list says %q, want %q", s.name, got.Explanation, message.Explanation)
		}
		if strings.Contains(text, `"000"`) || strings.Contains(page, "Plivo error code") != strings.Contains(text, "plivoCode") {
			t.Errorf("%s: got %s, want no code, and the same on the page:\n%s", s.name, text, page)
		}
		if _, err := r.store.DB().Exec(`DELETE FROM pauses`); err != nil {
			t.Fatal(err)
		}
	}
}

// explained is the part of a message that explains it.
type explained struct {
	ID, Explanation, NextStep string
	QueuePosition             struct{ Explanation string }
}

func decodeExplained(t *testing.T, text string) explained {
	t.Helper()
	var e explained
	if err := json.Unmarshal([]byte(text), &e); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return e
}
