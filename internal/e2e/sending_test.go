package e2e

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/postcard-mms/postcard/client"
	"github.com/postcard-mms/postcard/internal/failpoint"
	"github.com/postcard-mms/postcard/internal/plivosim"
	"github.com/postcard-mms/postcard/internal/testkit"
)

// newClient returns a client with an API key of the first admin.
func newClient(t *testing.T, url string) *client.Client {
	t.Helper()
	c := &contract{t: t, url: url}
	admin := c.user("")
	admin.http.Transport = nil
	admin.want(http.StatusOK, "POST", "/api/login", `{"email":"admin@example.com","password":"correct horse"}`)
	key := admin.want(http.StatusCreated, "POST", "/api/keys", `{"name":"test","scopes":["send","read"]}`)
	return client.New(url, fmt.Sprint(key["secret"]))
}

func TestClientSendsAndWaits(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	_, url := r.api()
	r.worker("")
	api := newClient(t, url)
	in := time.Now().Add(2 * time.Second)
	forecast, err := api.Forecast(t.Context(), client.MessageParams{To: "+14165551000", MediaURLs: []string{"https://example.com/a.jpg"}})
	if err != nil || forecast.From != sender || forecast.EstimatedCost == "" || forecast.EstimatedSendAt.IsZero() {
		t.Errorf("got forecast %+v (error %v)", forecast, err)
	}
	message, err := api.Send(t.Context(), client.MessageParams{
		To: "+14165551000", Text: "Hello", MediaURLs: []string{"https://example.com/a.jpg"}, SendAt: &in, Priority: "high",
		Metadata: map[string]string{"order": "1017"},
	})
	if err != nil || message.Status != "scheduled" {
		t.Fatalf("%+v, %v", message, err)
	}
	var statuses []string
	message, err = api.Watch(t.Context(), message.ID, func(m client.Message) { statuses = append(statuses, m.Status) })
	if err != nil || message.Status != "delivered" || message.Metadata["order"] != "1017" || statuses[0] != "scheduled" {
		t.Errorf("%+v, %v after %v", message, err, statuses)
	}
	if n := r.count(`SELECT count(*) FROM messages m JOIN attempts a ON a.message_id = m.id WHERE a.started_at >= m.send_at`); n != 1 {
		t.Error("the message was sent before its send time")
	}
	resent, err := api.Resend(t.Context(), message.ID, "")
	if err != nil || resent.ResendOf != message.ID || resent.Text != "Hello" || resent.Metadata["order"] != "1017" {
		t.Errorf("resent: got %+v (error %v)", resent, err)
	}
	if resent, err = api.Wait(t.Context(), resent.ID); err != nil || !resent.Final {
		t.Errorf("resent: got %+v (error %v)", resent, err)
	}
	page, err := api.List(t.Context(), client.Filter{Metadata: map[string]string{"order": "1017"}, Text: "hello", To: "+14165551000", Since: in.Add(-time.Hour), Limit: 1}, "")
	if err != nil || len(page.Messages) != 1 || page.Messages[0].ID != resent.ID || page.NextCursor == "" {
		t.Errorf("got list %+v (error %v)", page, err)
	}
	if page, err = api.List(t.Context(), client.Filter{Limit: 1}, page.NextCursor); err != nil || len(page.Messages) != 1 || page.Messages[0].ID != message.ID {
		t.Errorf("got second page %+v (error %v)", page, err)
	}
	later := time.Now().Add(time.Hour)
	canceled, err := api.Send(t.Context(), client.MessageParams{To: "+14165551000", MediaURLs: []string{"https://example.com/a.jpg"}, SendAt: &later})
	if err != nil {
		t.Fatal(err)
	}
	if canceled, err = api.Cancel(t.Context(), canceled.ID); err != nil || canceled.Status != "canceled" {
		t.Errorf("canceled: %+v, %v", canceled, err)
	}
	var apiErr *client.Error
	if _, err = api.Cancel(t.Context(), message.ID); !errors.As(err, &apiErr) || apiErr.Status != http.StatusConflict {
		t.Errorf("canceling a delivered message: got error %v, want 409", err)
	}
	r.verify(2)
}

// TestClientRetriesLostResponse kills the api between its commit and its response.
// The client repeats the request at the next api, and one message is sent.
func TestClientRetriesLostResponse(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	first, url := r.api()
	api := newClient(t, url)
	first.end()
	addr := strings.TrimPrefix(url, "http://")
	dying := r.apiAt(addr, "POSTCARD_FAILPOINT="+failpoint.APICommitted)
	restarted := make(chan struct{})
	go func() {
		defer close(restarted)
		<-dying.exited
		r.apiAt(addr)
	}()
	api.MaxAttempts = 12
	message, err := api.Send(t.Context(), client.MessageParams{To: "+14165551000", MediaURLs: []string{"https://example.com/a.jpg"}})
	<-restarted
	if err != nil || message.Status != "queued" {
		t.Fatalf("%+v, %v", message, err)
	}
	r.worker("")
	r.awaitFinal()
	r.verify(1)
}

// TestBatchIsCreatedAtomically kills the api before the commit of a batch and after
// it.
func TestBatchIsCreatedAtomically(t *testing.T) {
	t.Parallel()
	const rows = 2500 // several statements
	batch := client.BatchParams{Text: "Hi {{name}}", MediaURL: "https://example.com/a.jpg", IdempotencyKey: "spring"}
	for i := range rows {
		batch.Rows = append(batch.Rows, map[string]string{"to": fmt.Sprintf("+1416%07d", 5600000+i), "name": fmt.Sprint(i)})
	}
	for point, messages := range map[string]int{failpoint.APIBatchInserted: 0, failpoint.APICommitted: rows} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, plivosim.Config{})
			first, url := r.api()
			api := newClient(t, url)
			first.end()
			dying := r.apiAt(strings.TrimPrefix(url, "http://"), "POSTCARD_FAILPOINT="+point)
			api.MaxAttempts = 1
			if created, err := api.SendBatch(t.Context(), batch); err == nil {
				t.Fatalf("got %+v from a killed api", created)
			}
			dying.awaitKilled()
			if n := r.count(`SELECT count(*) FROM messages`); n != messages {
				t.Fatalf("got %d stored messages, want %d", n, messages)
			}
			if n := r.count(`SELECT count(*) FROM batches`) + r.count(`SELECT count(*) FROM idempotency_keys`); n != 2*min(messages, 1) {
				t.Errorf("got %d batches and keys for %d messages, want one of each per batch", n, messages)
			}
			r.apiAt(strings.TrimPrefix(url, "http://"))
			created, err := api.SendBatch(t.Context(), batch)
			if err != nil || created.Created != rows {
				t.Fatalf("repeated: got %+v (error %v)", created, err)
			}
			if n := r.count(`SELECT count(*) FROM messages`); n != rows {
				t.Errorf("got %d stored messages after the repetition, want %d", n, rows)
			}
		})
	}
}

// TestBatchDoesNotDelaySingleMessage sends a single message while a batch of the same
// sender is being sent without a rate limit, when a worker has the most to do.
func TestBatchDoesNotDelaySingleMessage(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	_, url := r.api()
	api := newClient(t, url)
	rows := make([]map[string]string, 1000)
	for i := range rows {
		rows[i] = map[string]string{"to": fmt.Sprintf("+1416%07d", 5600000+i)}
	}
	created, err := api.SendBatch(t.Context(), client.BatchParams{MediaURL: "https://example.com/a.jpg", Rows: rows})
	if err != nil {
		t.Fatal(err)
	}
	r.worker("")
	testkit.Eventually(t, "part of the batch is sent", func() bool { return len(r.sim.Ledger()) > 100 })
	single, err := api.Send(t.Context(), client.MessageParams{To: "+12125551000", MediaURLs: []string{"https://example.com/a.jpg"}})
	if err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the single message is submitted", func() bool {
		m, err := api.Message(t.Context(), single.ID)
		return err == nil && m.PlivoUUID != ""
	})
	if batch, err := api.Batch(t.Context(), created.ID); err != nil || batch.Remaining == 0 {
		t.Errorf("got batch %+v (error %v), want open messages behind the single one", batch, err)
	}
	r.awaitFinal()
	r.verify(len(rows) + 1)
}

func TestBatchIsPausedResumedAndCanceled(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	_, url := r.api()
	api := newClient(t, url)
	rows := make([]map[string]string, 200)
	for i := range rows {
		rows[i] = map[string]string{"to": fmt.Sprintf("+1416%07d", 5600000+i)}
	}
	batch, err := api.SendBatch(t.Context(), client.BatchParams{MediaURL: "https://example.com/a.jpg", Rows: rows})
	if err != nil {
		t.Fatal(err)
	}
	if batch, err = api.PauseBatch(t.Context(), batch.ID); err != nil || batch.State != "paused" {
		t.Fatalf("%+v, %v", batch, err)
	}
	r.worker("", "SENDER_RATE=600")
	testkit.Eventually(t, "its messages are parked", func() bool {
		return r.count(`SELECT count(*) FROM messages WHERE backlog_state = 'parked'`) == len(rows)
	})
	if n := len(r.sim.Ledger()); n != 0 {
		t.Errorf("got %d sent messages of a paused batch, want 0", n)
	}
	if _, err = api.ResumeBatch(t.Context(), batch.ID); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "some messages are sent", func() bool { return len(r.sim.Ledger()) >= 5 })
	if _, err = api.CancelBatch(t.Context(), batch.ID); err != nil {
		t.Fatal(err)
	}
	r.awaitFinal()
	batch, err = api.Batch(t.Context(), batch.ID)
	sent := len(r.sim.Ledger())
	if err != nil || batch.Remaining != 0 || batch.Counts["canceled"] != len(rows)-sent || sent == len(rows) {
		t.Errorf("%+v, %v after %d were sent", batch, err, sent)
	}
	r.verify(sent)
}

func TestExportIsComplete(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	_, url := r.api()
	c := &contract{t: t, url: url}
	admin := c.user("")
	admin.http.Transport = nil
	admin.want(http.StatusOK, "POST", "/api/login", `{"email":"admin@example.com","password":"correct horse"}`)
	var body bytes.Buffer
	out := csv.NewWriter(&body)
	_ = out.Write([]string{"to", "name"})
	for i := range 1201 { // three pages
		_ = out.Write([]string{fmt.Sprintf("+1416%07d", 5600000+i), fmt.Sprintf("=1+%d, \"quoted\"\nand more", i)})
	}
	out.Flush()
	admin.want(http.StatusAccepted, "POST", "/api/batches?text=%7B%7Bname%7D%7D&mediaUrl=https://example.com/a.jpg", body.String(), "Content-Type", "text/csv")
	status, header, text := admin.do("GET", "/api/messages/export", "")
	rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if status != http.StatusOK || err != nil || len(rows) != 1202 || !strings.HasPrefix(header.Get("Content-Type"), "text/csv") {
		t.Fatalf("%d %d rows, %v", status, len(rows), err)
	}
	if got := rows[1201][4]; got != "'=1+0, \"quoted\"\nand more" {
		t.Errorf("got text %q of the first message", got)
	}
	ids := map[string]bool{}
	for _, row := range rows {
		ids[row[0]] = true
	}
	if len(ids) != len(rows) {
		t.Errorf("got %d ids in %d rows", len(ids), len(rows))
	}
}

// receiver is a user's webhook endpoint. It answers with chosen statuses and keeps
// the events that it answered with 2xx.
type receiver struct {
	*httptest.Server
	mu       sync.Mutex
	status   func(n int) int // of the nth request, from 1
	n        int
	received []string
	header   []http.Header
}

func newReceiver(t *testing.T, status func(n int) int) *receiver {
	t.Helper()
	r := &receiver{status: status}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, _ := io.ReadAll(q.Body)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.n++
		status := r.status(r.n)
		if status/100 == 2 {
			r.received, r.header = append(r.received, string(body)), append(r.header, q.Header.Clone())
		}
		if status/100 == 3 {
			w.Header().Set("Location", "http://"+q.Host+"/elsewhere")
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(r.Close)
	return r
}

func decodeJSON(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
}

func (r *receiver) requests() (n int, received []string, header []http.Header) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.n, r.received, r.header
}

// TestWebhookReceivesEveryEvent has a receiver that first fails, then redirects, and
// a Redis that is flushed between delivery attempts.
func TestWebhookReceivesEveryEvent(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	_, url := r.api("ALLOW_PRIVATE_WEBHOOKS=true")
	c := readContract(t, url)
	ada := c.person("ada.lovelace@example.com")
	hook := newReceiver(t, func(n int) int { return map[int]int{1: 500, 2: 302}[n] + 200*min(1, max(0, n-2)) })
	webhook := ada.want(http.StatusCreated, "POST", "/api/webhooks", fmt.Sprintf(`{"url":%q}`, hook.URL))
	message := ada.want(http.StatusAccepted, "POST", "/api/send-mms", sendBody)
	worker := r.worker("", "ALLOW_PRIVATE_WEBHOOKS=true")
	r.awaitFinal()
	testkit.Eventually(t, "the receiver has failed twice", func() bool { n, _, _ := hook.requests(); return n >= 2 })
	worker.end()
	if err := redisClient(t, r.redis).FlushDB(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	r.worker("", "ALLOW_PRIVATE_WEBHOOKS=true")
	// A delivery that the first worker was making is repeated after 35 s.
	testkit.EventuallyWithin(t, time.Minute, "all events are delivered", func() bool {
		return r.count(`SELECT count(*) FROM webhook_events WHERE state <> 'delivered'`) == 0
	})
	_, received, header := hook.requests()
	verifier, err := standardwebhooks.NewWebhook(fmt.Sprint(webhook["secret"]))
	if err != nil {
		t.Fatal(err)
	}
	versions := map[string]string{}
	for i, body := range received {
		if err := verifier.Verify([]byte(body), header[i]); err != nil {
			t.Errorf("the signature of %s: %v", body, err)
		}
		var event struct {
			Type string
			Data struct {
				ID      string
				Version int
			}
		}
		decodeJSON(t, body, &event)
		if event.Data.ID != message["id"] {
			t.Errorf("got an event of another message: %s", body)
		}
		versions[fmt.Sprintf("%02d", event.Data.Version)] = event.Type
	}
	var types []string // sorted by version, as a receiver does
	for _, version := range slices.Sorted(maps.Keys(versions)) {
		types = append(types, versions[version])
	}
	want := []string{"message.sending", "message.submitted", "message.sent", "message.delivered"}
	if diff := cmp.Diff(want, types); diff != "" {
		t.Errorf("event types (-want +got):\n%s", diff)
	}
	for _, row := range ada.want(http.StatusOK, "GET", "/api/webhooks/"+fmt.Sprint(webhook["id"])+"/events", "")["events"].([]any) {
		if e := row.(map[string]any); e["state"] != "delivered" || e["httpStatus"] != 200.0 {
			t.Errorf("got delivery log entry %v, want delivered with 200", e)
		}
	}
}

// TestWebhookToPrivateAddressIsBlocked has a webhook whose name resolves to a private
// address.
func TestWebhookToPrivateAddressIsBlocked(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	_, url := r.api("ALLOW_PRIVATE_WEBHOOKS=true") // stands for a name whose address changes after registration
	c := readContract(t, url)
	ada := c.person("ada.lovelace@example.com")
	hook := newReceiver(t, func(int) int { return 200 })
	webhook := ada.want(http.StatusCreated, "POST", "/api/webhooks", fmt.Sprintf(`{"url":%q}`, hook.URL))
	ada.want(http.StatusAccepted, "POST", "/api/webhooks/"+fmt.Sprint(webhook["id"])+"/test", "")
	r.worker("")
	testkit.Eventually(t, "a delivery attempt has failed", func() bool { return r.count(`SELECT count(*) FROM webhook_events WHERE error <> ''`) == 1 })
	if n, _, _ := hook.requests(); n != 0 {
		t.Errorf("got %d requests to a private address, want 0", n)
	}
	if n := r.count(`SELECT count(*) FROM webhook_events WHERE error LIKE '%private%'`); n != 1 {
		t.Error("the delivery log does not give the reason")
	}
}
