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

// keyOf logs the first admin in and makes an API key.
func keyOf(t *testing.T, url string) *client.Client {
	t.Helper()
	c := &contract{t: t, url: url}
	admin := c.user("")
	admin.http.Transport = nil
	admin.want(http.StatusOK, "POST", "/api/login", `{"email":"admin@example.com","password":"correct horse"}`)
	key := admin.want(http.StatusCreated, "POST", "/api/keys", `{"name":"test","scopes":["send","read"]}`)
	return client.New(url, fmt.Sprint(key["secret"]))
}

func TestAProgramSendsAndWaits(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	_, url := r.api()
	r.worker("")
	api := keyOf(t, url)
	in := time.Now().Add(2 * time.Second)
	forecast, err := api.Forecast(t.Context(), client.NewMessage{To: "+14165551000", MediaURLs: []string{"https://example.com/a.jpg"}})
	if err != nil || forecast.From != sender || forecast.EstimatedCost == "" || forecast.EstimatedSendAt.IsZero() {
		t.Errorf("the forecast is %+v, %v", forecast, err)
	}
	message, err := api.Send(t.Context(), client.NewMessage{
		To: "+14165551000", Text: "Hello", MediaURLs: []string{"https://example.com/a.jpg"}, SendAt: &in, Priority: "high",
		Metadata: map[string]string{"order": "1017"},
	})
	if err != nil || message.Status != "scheduled" {
		t.Fatalf("%+v, %v", message, err)
	}
	var story []string
	message, err = api.Watch(t.Context(), message.ID, func(m client.Message) { story = append(story, m.Status) })
	if err != nil || message.Status != "delivered" || message.Metadata["order"] != "1017" || story[0] != "scheduled" {
		t.Errorf("%+v, %v after %v", message, err, story)
	}
	if n := r.count(`SELECT count(*) FROM messages m JOIN attempts a ON a.message_id = m.id WHERE a.started_at >= m.send_at`); n != 1 {
		t.Error("it was sent before its time")
	}
	again, err := api.Resend(t.Context(), message.ID, "")
	if err != nil || again.ResendOf != message.ID || again.Text != "Hello" || again.Metadata["order"] != "1017" {
		t.Errorf("sent again: %+v, %v", again, err)
	}
	if again, err = api.Wait(t.Context(), again.ID); err != nil || !again.Final {
		t.Errorf("sent again: %+v, %v", again, err)
	}
	page, err := api.List(t.Context(), client.Filter{Metadata: map[string]string{"order": "1017"}, Text: "hello", To: "+14165551000", Since: in.Add(-time.Hour), Limit: 1}, "")
	if err != nil || len(page.Messages) != 1 || page.Messages[0].ID != again.ID || page.NextCursor == "" {
		t.Errorf("the list is %+v, %v", page, err)
	}
	if page, err = api.List(t.Context(), client.Filter{Limit: 1}, page.NextCursor); err != nil || len(page.Messages) != 1 || page.Messages[0].ID != message.ID {
		t.Errorf("the page behind is %+v, %v", page, err)
	}
	later := time.Now().Add(time.Hour)
	canceled, err := api.Send(t.Context(), client.NewMessage{To: "+14165551000", MediaURLs: []string{"https://example.com/a.jpg"}, SendAt: &later})
	if err != nil {
		t.Fatal(err)
	}
	if canceled, err = api.Cancel(t.Context(), canceled.ID); err != nil || canceled.Status != "canceled" {
		t.Errorf("canceled: %+v, %v", canceled, err)
	}
	var refused *client.Error
	if _, err = api.Cancel(t.Context(), message.ID); !errors.As(err, &refused) || refused.Status != http.StatusConflict {
		t.Errorf("canceling what is delivered: %v", err)
	}
	r.verify(2)
}

// TestAClientWhoseAnswerWasLostSendsOnce kills the api between its commit and its
// answer; the client repeats the request at the next api.
func TestAClientWhoseAnswerWasLostSendsOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	first, url := r.api()
	api := keyOf(t, url)
	first.end()
	addr := strings.TrimPrefix(url, "http://")
	dying := r.apiAt(addr, "POSTCARD_FAILPOINT="+failpoint.APICommitted)
	restarted := make(chan struct{})
	go func() {
		defer close(restarted)
		<-dying.ended
		r.apiAt(addr)
	}()
	api.MaxAttempts = 12
	message, err := api.Send(t.Context(), client.NewMessage{To: "+14165551000", MediaURLs: []string{"https://example.com/a.jpg"}})
	<-restarted
	if err != nil || message.Status != "queued" {
		t.Fatalf("%+v, %v", message, err)
	}
	r.worker("")
	r.awaitFinal()
	r.verify(1)
}

// TestABatchIsTakenOnWholeOrNotAtAll kills the api before the commit of a batch
// and after it.
func TestABatchIsTakenOnWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	const rows = 2500 // several statements
	batch := client.NewBatch{Text: "Hi {{name}}", MediaURL: "https://example.com/a.jpg", IdempotencyKey: "spring"}
	for i := range rows {
		batch.Rows = append(batch.Rows, map[string]string{"to": fmt.Sprintf("+1416%07d", 5600000+i), "name": fmt.Sprint(i)})
	}
	for place, messages := range map[string]int{failpoint.APIBatchInserted: 0, failpoint.APICommitted: rows} {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, plivosim.Config{})
			first, url := r.api()
			api := keyOf(t, url)
			first.end()
			dying := r.apiAt(strings.TrimPrefix(url, "http://"), "POSTCARD_FAILPOINT="+place)
			api.MaxAttempts = 1
			if taken, err := api.SendBatch(t.Context(), batch); err == nil {
				t.Fatalf("a killed api answered %+v", taken)
			}
			dying.awaitKilled()
			if n := r.count(`SELECT count(*) FROM messages`); n != messages {
				t.Fatalf("%d messages are stored, want %d", n, messages)
			}
			if n := r.count(`SELECT count(*) FROM batches`) + r.count(`SELECT count(*) FROM idempotency_keys`); n != 2*min(messages, 1) {
				t.Errorf("%d batches and keys are stored for %d messages", n, messages)
			}
			r.apiAt(strings.TrimPrefix(url, "http://"))
			taken, err := api.SendBatch(t.Context(), batch)
			if err != nil || taken.Created != rows {
				t.Fatalf("repeated: %+v, %v", taken, err)
			}
			if n := r.count(`SELECT count(*) FROM messages`); n != rows {
				t.Errorf("%d messages are stored after the repetition, want %d", n, rows)
			}
		})
	}
}

// TestABatchDelaysNobody sends single messages while a batch of the same sender
// is under way without a pace, which is when a worker has the most to do.
func TestABatchDelaysNobody(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	_, url := r.api()
	api := keyOf(t, url)
	rows := make([]map[string]string, 3000)
	for i := range rows {
		rows[i] = map[string]string{"to": fmt.Sprintf("+1416%07d", 5600000+i)}
	}
	taken, err := api.SendBatch(t.Context(), client.NewBatch{MediaURL: "https://example.com/a.jpg", Rows: rows})
	if err != nil {
		t.Fatal(err)
	}
	r.worker("")
	testkit.Eventually(t, "the batch is under way", func() bool { return len(r.sim.Ledger()) > 100 })
	single, err := api.Send(t.Context(), client.NewMessage{To: "+12125551000", MediaURLs: []string{"https://example.com/a.jpg"}})
	if err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the single message is with Plivo", func() bool {
		m, err := api.Message(t.Context(), single.ID)
		return err == nil && m.PlivoUUID != ""
	})
	if batch, err := api.Batch(t.Context(), taken.ID); err != nil || batch.Remaining == 0 {
		t.Errorf("the batch of 3000 went first: %+v, %v", batch, err)
	}
	r.awaitFinal()
	r.verify(len(rows) + 1)
}

func TestABatchIsPausedResumedAndCanceled(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	_, url := r.api()
	api := keyOf(t, url)
	rows := make([]map[string]string, 200)
	for i := range rows {
		rows[i] = map[string]string{"to": fmt.Sprintf("+1416%07d", 5600000+i)}
	}
	batch, err := api.SendBatch(t.Context(), client.NewBatch{MediaURL: "https://example.com/a.jpg", Rows: rows})
	if err != nil {
		t.Fatal(err)
	}
	if batch, err = api.PauseBatch(t.Context(), batch.ID); err != nil || batch.State != "paused" {
		t.Fatalf("%+v, %v", batch, err)
	}
	r.worker("", "SENDER_RATE=600")
	testkit.Eventually(t, "its messages are set aside", func() bool {
		return r.count(`SELECT count(*) FROM messages WHERE backlog_state = 'parked'`) == len(rows)
	})
	if n := len(r.sim.Ledger()); n != 0 {
		t.Errorf("%d messages of a paused batch were sent", n)
	}
	if _, err = api.ResumeBatch(t.Context(), batch.ID); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "some are sent", func() bool { return len(r.sim.Ledger()) >= 5 })
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

func TestAnExportIsWhole(t *testing.T) {
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
		t.Errorf("the first message's text is %q", got)
	}
	ids := map[string]bool{}
	for _, row := range rows {
		ids[row[0]] = true
	}
	if len(ids) != len(rows) {
		t.Errorf("%d ids in %d rows", len(ids), len(rows))
	}
}

// receiver is a user's own endpoint: it answers as it is told to, and keeps what
// it took.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	answer func(n int) int // the status for the nth request, from 1
	n      int
	taken  []string
	header []http.Header
}

func newReceiver(t *testing.T, answer func(n int) int) *receiver {
	t.Helper()
	r := &receiver{answer: answer}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, _ := io.ReadAll(q.Body)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.n++
		status := r.answer(r.n)
		if status/100 == 2 {
			r.taken, r.header = append(r.taken, string(body)), append(r.header, q.Header.Clone())
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

func (r *receiver) requests() (n int, taken []string, header []http.Header) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.n, r.taken, r.header
}

// TestAWebhookIsToldOfEverything has a receiver that first fails, first leads
// elsewhere, or is dead for a while with Redis emptied meanwhile.
func TestAWebhookIsToldOfEverything(t *testing.T) {
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
	// The waits between tries are minutes, and what matters is that they end.
	if _, err := r.store.DB().Exec(`UPDATE webhook_events SET due_at = now(), task_check_at = now() WHERE state = 'pending'`); err != nil {
		t.Fatal(err)
	}
	r.worker("", "ALLOW_PRIVATE_WEBHOOKS=true")
	testkit.Eventually(t, "all events are taken", func() bool {
		return r.count(`SELECT count(*) FROM webhook_events WHERE state <> 'delivered'`) == 0
	})
	_, taken, header := hook.requests()
	verifier, err := standardwebhooks.NewWebhook(fmt.Sprint(webhook["secret"]))
	if err != nil {
		t.Fatal(err)
	}
	versions := map[string]string{}
	for i, body := range taken {
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
			t.Errorf("told of %s", body)
		}
		versions[fmt.Sprintf("%02d", event.Data.Version)] = event.Type
	}
	var story []string // as a receiver sorts it
	for _, version := range slices.Sorted(maps.Keys(versions)) {
		story = append(story, versions[version])
	}
	want := []string{"message.sending", "message.submitted", "message.sent", "message.delivered"}
	if diff := cmp.Diff(want, story); diff != "" {
		t.Errorf("told of (-want +got):\n%s", diff)
	}
	for _, row := range ada.want(http.StatusOK, "GET", "/api/webhooks/"+fmt.Sprint(webhook["id"])+"/events", "")["events"].([]any) {
		if e := row.(map[string]any); e["state"] != "delivered" || e["httpStatus"] != 200.0 {
			t.Errorf("the log has %v", e)
		}
	}
}

// TestAWebhookReachesNoPrivateAddress registers one by a name that leads home.
func TestAWebhookReachesNoPrivateAddress(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	_, url := r.api("ALLOW_PRIVATE_WEBHOOKS=true") // a name whose address changed after it was registered
	c := readContract(t, url)
	ada := c.person("ada.lovelace@example.com")
	hook := newReceiver(t, func(int) int { return 200 })
	webhook := ada.want(http.StatusCreated, "POST", "/api/webhooks", fmt.Sprintf(`{"url":%q}`, hook.URL))
	ada.want(http.StatusAccepted, "POST", "/api/webhooks/"+fmt.Sprint(webhook["id"])+"/test", "")
	r.worker("")
	testkit.Eventually(t, "it was tried", func() bool { return r.count(`SELECT count(*) FROM webhook_events WHERE error <> ''`) == 1 })
	if n, _, _ := hook.requests(); n != 0 {
		t.Errorf("a private address was called %d times", n)
	}
	if n := r.count(`SELECT count(*) FROM webhook_events WHERE error LIKE '%private%'`); n != 1 {
		t.Error("its owner is not told why")
	}
}
