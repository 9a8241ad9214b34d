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

// caller calls the API with a session cookie.
type caller struct {
	t    *testing.T
	http *http.Client
	url  string
}

// loggedIn returns a caller that is logged in as the first admin.
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
	text, err := io.ReadAll(response.Body)
	return response.StatusCode, string(text), err
}

const greeting = `{"to":"+14165551000","text":"Secret greeting","mediaUrl":"https://pictures.example.com/secret.jpg"}`

// TestKilledAPI kills the api at each step of creating a message. Once committed,
// the message is sent exactly once.
func TestKilledAPI(t *testing.T) {
	t.Parallel()
	for point, messages := range map[string]int{failpoint.APIBeforeCommit: 0, failpoint.APICommitted: 1, failpoint.APIEnqueued: 1} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, plivosim.Config{})
			api, url := r.api("POSTCARD_FAILPOINT=" + point)
			c := loggedIn(t, url)
			if status, body, err := c.post("/api/send-mms", greeting); err == nil {
				t.Fatalf("got response %d %s from a killed api", status, body)
			}
			api.awaitKilled()
			if n := r.count(`SELECT count(*) FROM messages`); n != messages {
				t.Fatalf("got %d stored messages, want %d", n, messages)
			}
			r.worker("")
			r.awaitFinal()
			r.verify(messages)
		})
	}
}

// TestPersonalDataStaysInPostgres sends valid and invalid messages and searches
// Redis, the logs and the metrics for personal data and secrets.
func TestPersonalDataStaysInPostgres(t *testing.T) {
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
				continue // the key has expired
			}
			written.WriteString(key + " " + value + "\n")
		}
	}
	dump() // while the tasks are pending
	worker := r.worker("", "LOG_LEVEL=debug")
	r.awaitFinal()
	dump() // and when one is archived
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
			t.Errorf("found %s in Redis, a log or the metrics", name)
		}
	}
	if !strings.Contains(written.String(), "asynq:{messages}") || !strings.Contains(written.String(), "postcard_attempts_total") {
		t.Error("the dump lacks Redis or the metrics")
	}
}

func TestUnreachablePlivo(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	m := r.createTo("+14165551000")
	worker := r.worker("", "PLIVO_BASE_URL=http://127.0.0.1:1", "MAX_ATTEMPTS=1")
	testkit.Eventually(t, "two attempts have failed", func() bool { return r.count(`SELECT count(*) FROM attempts WHERE outcome = 'transient_failure'`) == 2 })
	h := r.wantStatus(m, mms.Queued)
	if h.Reason != mms.ReasonUnreachable || !strings.Contains(h.AttemptList[0].Detail, "refused") {
		t.Errorf("got reason %q after attempts %+v, want unreachable", h.Reason, h.AttemptList)
	}
	worker.end()
	r.worker("")
	r.wantAllDelivered([]mms.Message{m})
}

// TestAPIWithoutRedis expects 202 and readiness while Redis is down. The message is
// sent when Redis is back.
func TestAPIWithoutRedis(t *testing.T) {
	t.Parallel()
	server := ownRedis(t)
	r := newRigOn(t, plivosim.Config{}, testkit.Database(t), server.URL)
	_, url := r.api()
	c := loggedIn(t, url)
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	status, body, err := c.post("/api/send-mms", greeting)
	var created struct{ ID string }
	if err != nil || status != http.StatusAccepted || json.Unmarshal([]byte(body), &created) != nil || created.ID == "" {
		t.Fatalf("without Redis: got %d %s (error %v), want 202", status, body, err)
	}
	testkit.Eventually(t, "/readyz reports Redis down", func() bool {
		status, body, err := get(t.Context(), url+"/readyz")
		if err != nil || status != http.StatusOK {
			t.Fatalf("/readyz: got %d %s (error %v), want 200", status, body, err)
		}
		return strings.Contains(body, `"redis":"down"`)
	})
	r.worker("")
	if err := server.Restart(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	r.awaitFinal()
	r.verify(1)
}

// TestAPIWithoutPostgres expects 503 while Postgres is down, and recovery.
func TestAPIWithoutPostgres(t *testing.T) {
	t.Parallel()
	server := ownPostgres(t)
	r := newRigOn(t, plivosim.Config{}, server.URL, testkit.Redis(t))
	_, url := r.api()
	c := loggedIn(t, url)
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	if status, body, err := c.post("/api/send-mms", greeting); err != nil || status != http.StatusServiceUnavailable {
		t.Errorf("without Postgres: got %d %s (error %v), want 503", status, body, err)
	}
	testkit.Eventually(t, "/readyz says 503", func() bool {
		status, _, err := get(t.Context(), url+"/readyz")
		return err == nil && status == http.StatusServiceUnavailable
	})
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the api creates messages again", func() bool {
		status, _, err := c.post("/api/send-mms", greeting)
		return err == nil && status == http.StatusAccepted
	})
}
