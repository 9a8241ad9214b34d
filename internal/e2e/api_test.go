package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/postcard-mms/postcard/internal/failpoint"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/plivosim"
	"github.com/postcard-mms/postcard/internal/testkit"
)

// caller uses an api process as curl does.
type caller struct {
	t    *testing.T
	http *http.Client
	url  string
}

// loggedIn logs the first admin in.
func loggedIn(t *testing.T, url string) *caller {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &caller{t: t, url: url, http: &http.Client{Jar: jar, Timeout: 30 * time.Second}}
	if status, body, err := c.post("/api/login", `{"email":"admin@example.com","password":"correct horse"}`); err != nil || status != http.StatusOK {
		t.Fatalf("login: %d %s %v", status, body, err)
	}
	return c
}

func (c *caller) post(path, body string) (int, string, error) {
	response, err := c.http.Post(c.url+path, "application/json", bytes.NewBufferString(body))
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	return response.StatusCode, string(answer), err
}

const greeting = `{"to":"+14165551000","text":"Secret greeting","mediaUrl":"https://pictures.example.com/secret.jpg"}`

// TestAKilledAPILosesNothingItAccepted kills the api at each step of accepting.
// Without its answer the client cannot know whether the message was taken; with
// the commit it must be sent, once.
func TestAKilledAPILosesNothingItAccepted(t *testing.T) {
	t.Parallel()
	for place, messages := range map[string]int{failpoint.APIBeforeCommit: 0, failpoint.APICommitted: 1, failpoint.APIEnqueued: 1} {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, plivosim.Config{})
			api, url := r.api("POSTCARD_FAILPOINT=" + place)
			c := loggedIn(t, url)
			if status, body, err := c.post("/api/send-mms", greeting); err == nil {
				t.Fatalf("a killed api answered %d %s", status, body)
			}
			api.awaitKilled()
			if n := r.count(`SELECT count(*) FROM messages`); n != messages {
				t.Fatalf("%d messages are stored, want %d", n, messages)
			}
			r.worker("")
			r.awaitFinal()
			r.verify(messages)
		})
	}
}

// TestNothingPersonalLeavesThePostgres sends through real processes, in good
// and bad ways, and reads everything else that they wrote.
func TestNothingPersonalLeavesThePostgres(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	if err := r.sim.SetFault(plivosim.Fault{Scenario: plivosim.RefusedDestination, Recipient: "+14165551001"}); err != nil {
		t.Fatal(err)
	}
	api, url := r.api("LOG_LEVEL=debug")
	c := loggedIn(t, url)
	for _, body := range []string{greeting, strings.Replace(greeting, "1000", "1001", 1), `{"to":"+14165551000","text":1,"mediaUrl":"https://pictures.example.com/secret.jpg"}`} {
		if _, _, err := c.post("/api/send-mms", body); err != nil {
			t.Fatal(err)
		}
	}
	client := redisClient(t, r.redis)
	var written strings.Builder
	dump := func() {
		keys, err := client.Keys(t.Context(), "*").Result()
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range keys {
			value, err := client.Dump(t.Context(), key).Result()
			if err != nil {
				continue // gone meanwhile
			}
			written.WriteString(key + " " + value + "\n")
		}
	}
	dump() // while the tasks are pending
	worker := r.worker("", "LOG_LEVEL=debug")
	r.awaitFinal()
	dump() // and when one is dead
	_, metrics, err := get(t.Context(), worker.metrics+"/metrics")
	if err != nil {
		t.Fatal(err)
	}
	written.WriteString(metrics)
	for _, p := range []*process{api, worker} {
		log, err := os.ReadFile(p.log)
		if err != nil {
			t.Fatal(err)
		}
		written.Write(log)
	}
	var token string
	if err := r.store.DB().QueryRow(`SELECT token FROM attempts LIMIT 1`).Scan(&token); err != nil {
		t.Fatal(err)
	}
	for name, secret := range map[string]string{
		"a phone number": "4165551000", "the text": "Secret greeting", "the picture's URL": "pictures.example.com",
		"the callback's token": token, "the Plivo token": authToken, "a password": "correct horse", "an email": "admin@example.com",
	} {
		if strings.Contains(written.String(), secret) {
			t.Errorf("%s stands in Redis, a log or the metrics", name)
		}
	}
	if !strings.Contains(written.String(), "asynq:{messages}") || !strings.Contains(written.String(), "postcard_attempts_total") {
		t.Error("Redis or the metrics were not read")
	}
}

func TestPlivoOutOfReach(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	m := r.acceptTo("+14165551000")
	lost := r.worker("", "PLIVO_BASE_URL=http://127.0.0.1:1", "MAX_ATTEMPTS=1")
	testkit.Eventually(t, "it was tried twice", func() bool { return r.count(`SELECT count(*) FROM attempts WHERE outcome = 'transient_failure'`) == 2 })
	h := r.wantStatus(m, mms.Queued)
	if h.Reason != mms.ReasonUnreachable || !strings.Contains(h.AttemptList[0].Detail, "refused") {
		t.Errorf("it waits for %q after %+v", h.Reason, h.AttemptList)
	}
	lost.end()
	r.worker("")
	r.drained([]mms.Message{m})
}

// TestTheAPIWhileRedisIsDown answers 202 and is ready; the message is sent when
// Redis is back.
func TestTheAPIWhileRedisIsDown(t *testing.T) {
	t.Parallel()
	server := ownRedis(t)
	r := newRigOn(t, plivosim.Config{}, testkit.Database(t), server.URL)
	_, url := r.api()
	c := loggedIn(t, url)
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	status, body, err := c.post("/api/send-mms", greeting)
	var accepted struct{ ID string }
	if err != nil || status != http.StatusAccepted || json.Unmarshal([]byte(body), &accepted) != nil || accepted.ID == "" {
		t.Fatalf("without Redis: %d %s %v, want 202", status, body, err)
	}
	if status, body, err := get(t.Context(), url+"/readyz"); err != nil || status != http.StatusOK || !strings.Contains(body, `"redis":"down"`) {
		t.Errorf("/readyz: %d %s %v, want 200 that tells of Redis", status, body, err)
	}
	r.worker("")
	if err := server.Restart(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	r.awaitFinal()
	r.verify(1)
}

// TestTheAPIWhilePostgresIsDown refuses clearly, and works again afterwards.
func TestTheAPIWhilePostgresIsDown(t *testing.T) {
	t.Parallel()
	server := ownPostgres(t)
	r := newRigOn(t, plivosim.Config{}, server.URL, testkit.Redis(t))
	_, url := r.api()
	c := loggedIn(t, url)
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	if status, body, err := c.post("/api/send-mms", greeting); err != nil || status != http.StatusServiceUnavailable {
		t.Errorf("without Postgres: %d %s %v, want 503", status, body, err)
	}
	if status, _, err := get(t.Context(), url+"/readyz"); err != nil || status != http.StatusServiceUnavailable {
		t.Errorf("/readyz: %d %v, want 503", status, err)
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the api accepts again", func() bool {
		status, _, err := c.post("/api/send-mms", greeting)
		return err == nil && status == http.StatusAccepted
	})
}
