package dispatch_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/webhook"
	"github.com/postcard-mms/postcard/internal/webhook/dispatch"
)

// fakeStore lets the same event be claimed any number of times, and keeps the
// results. Without an event, claims fail.
type fakeStore struct {
	mu          sync.Mutex
	delivery    webhook.Delivery
	results     []webhook.DeliveryResult
	retryAfters []*time.Duration
	next        []webhook.Task // released by the first result
	slow        []uuid.UUID    // webhooks marked as slow
	err         error
}

func (s *fakeStore) ClaimWebhookEvent(context.Context, uuid.UUID, time.Duration, bool) (webhook.Delivery, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.delivery, s.delivery.ID != uuid.Nil, s.err
}

func (s *fakeStore) MarkWebhookSlow(_ context.Context, webhookID uuid.UUID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slow = append(s.slow, webhookID)
	return nil
}

func (s *fakeStore) RecordWebhookDelivery(_ context.Context, _ webhook.Delivery, result webhook.DeliveryResult, retryAfter *time.Duration) ([]webhook.Task, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.results, s.retryAfters = append(s.results, result), append(s.retryAfters, retryAfter)
	next := s.next
	s.next = nil
	return next, nil
}

func newDispatcher(s *fakeStore, allowPrivate bool) *dispatch.Deliverer {
	return &dispatch.Deliverer{
		Store: s, Client: dispatch.NewClient(allowPrivate), Enqueue: func(context.Context, webhook.Task) error { return nil },
		Jitter: func() float64 { return 0 }, Logger: slog.New(slog.DiscardHandler),
	}
}

// process delivers the store's event and waits until its result is recorded.
func process(t *testing.T, s *fakeStore, allowPrivate bool) mms.TaskResult {
	t.Helper()
	dispatcher := newDispatcher(s, allowPrivate)
	defer dispatcher.Wait(time.Minute)
	return dispatcher.Process(t.Context(), s.delivery.ID)
}

func deliveryTo(url string, attempts int) webhook.Delivery {
	return webhook.Delivery{
		Event: webhook.Event{ID: uuid.New(), WebhookID: uuid.New(), MessageID: uuid.New(), Status: mms.Failed, Version: 4, Attempts: attempts},
		URL:   url, Secret: webhook.NewSecret(), OldSecret: webhook.NewSecret(), Now: time.Now(), // the verifier rejects old timestamps
		Message: mms.Message{Status: mms.Failed, Version: 4, Recipient: "+14155550123", Metadata: map[string]string{"order": "17"}},
	}
}

func TestDeliveryIsSignedAndDescribesTheMessage(t *testing.T) {
	t.Parallel()
	var header http.Header
	var body []byte
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		header = r.Header.Clone()
		body, _ = io.ReadAll(r.Body)
	}))
	defer server.Close()
	store := &fakeStore{delivery: deliveryTo(server.URL, 1)}
	result := process(t, store, true)
	if result.Action != mms.TaskDone || !store.results[0].OK || store.retryAfters[0] != nil {
		t.Fatalf("got %+v, %+v; want a successful delivery", result, store.results)
	}
	for name, secret := range map[string]webhook.Secret{"new": store.delivery.Secret, "old": store.delivery.OldSecret} {
		verifier, err := standardwebhooks.NewWebhook(string(secret))
		if err != nil {
			t.Fatal(err)
		}
		if err := verifier.Verify(body, header); err != nil {
			t.Errorf("verifying with the %s secret: %v", name, err)
		}
		if verifier.Verify(append(body, ' '), header) == nil {
			t.Errorf("verifying a changed body with the %s secret: got no error, want one", name)
		}
	}
	for _, want := range []string{`"type":"message.failed"`, `"version":4`, `"order":"17"`, `"to":"+14155550123"`} {
		if !strings.Contains(string(body), want) {
			t.Errorf("got body %s, want %s in it", body, want)
		}
	}
}

// TestMisbehavingEndpoints ensures that each failure is explained to the
// webhook's workspace, and retried unless a retry is pointless.
func TestMisbehavingEndpoints(t *testing.T) {
	t.Parallel()
	var redirected int
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { redirected++ }))
	defer target.Close()
	for name, tt := range map[string]struct {
		attempts int
		handler  http.HandlerFunc
		retried  bool
		error    string // part of the text; empty for success
		status   int
	}{
		"server error":            {1, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, true, "answered 500", 500},
		"server error, last time": {11, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, false, "answered 500", 500},
		"gone":                    {1, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(410) }, false, "answered 410", 410},
		"redirect": {1, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, target.URL, http.StatusTemporaryRedirect)
		},
			true, "redirects are not followed", 307},
		"closed connection": {1, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, true, "closed the connection", 0},
		"wrong Content-Length": {1, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000000")
			_, _ = w.Write([]byte("short"))
		}, false, "", 200},
		"endless body": {1, func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1<<10)); err != nil {
					return
				}
			}
		}, false, "", 200},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(tt.handler)
			defer server.Close()
			store := &fakeStore{delivery: deliveryTo(server.URL, tt.attempts)}
			task := process(t, store, true)
			result := store.results[0]
			if task.Action != mms.TaskDone || result.HTTPStatus != tt.status || !strings.Contains(result.Error, tt.error) || result.OK != (tt.error == "") {
				t.Errorf("got %+v, %+v; want status %d, error %q", task, result, tt.status, tt.error)
			}
			if got := store.retryAfters[0] != nil; got != tt.retried {
				t.Errorf("retry recorded: got %t, want %t", got, tt.retried)
			}
		})
	}
	if redirected != 0 {
		t.Errorf("got %d followed redirects, want none", redirected)
	}
}

func TestPrivateAddressesAreNotDialed(t *testing.T) {
	t.Parallel()
	called := false
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called = true }))
	defer server.Close()
	_, port, _ := strings.Cut(strings.TrimPrefix(server.URL, "http://"), ":")
	for _, host := range []string{"127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "10.0.0.1", "169.254.169.254", "192.168.1.1", "0.0.0.0", "100.64.0.1", "[fd00::1]", "[64:ff9b::7f00:1]"} {
		store := &fakeStore{delivery: deliveryTo("http://"+host+":"+port, 1)}
		process(t, store, false)
		if result := store.results[0]; result.OK || !strings.Contains(result.Error, "private or reserved") {
			t.Errorf("%s: got %+v, want an error about a private address", host, result)
		}
	}
	if called {
		t.Error("a private address was called")
	}
}

// TestStalledCallFreesItsSlot checks that a call occupies a slot of Process only for
// webhook.Patience, and that its result is recorded all the same.
func TestStalledCallFreesItsSlot(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer server.Close()
	store := &fakeStore{delivery: deliveryTo(server.URL, 1)}
	dispatcher := newDispatcher(store, true)
	if task := dispatcher.Process(t.Context(), store.delivery.ID); task.Action != mms.TaskDone || len(store.results) != 0 {
		t.Errorf("got %+v and results %v, want the task done before the call has ended", task, store.results)
	}
	if len(store.slow) != 1 || store.slow[0] != store.delivery.WebhookID {
		t.Errorf("got webhooks %v marked as slow, want %v", store.slow, store.delivery.WebhookID)
	}
	close(release)
	dispatcher.Wait(time.Minute)
	if len(store.results) != 1 || !store.results[0].OK || store.results[0].Quick {
		t.Errorf("got results %+v, want a success that was not quick", store.results)
	}
}

// TestSlowCallKeepsASlotForSlowEndpoints checks that ProcessSlow returns with the result.
func TestSlowCallKeepsASlotForSlowEndpoints(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { time.Sleep(webhook.Patience * 11 / 10) }))
	defer server.Close()
	store := &fakeStore{delivery: deliveryTo(server.URL, 1)}
	newDispatcher(store, true).ProcessSlow(t.Context(), store.delivery.ID)
	if len(store.results) != 1 || !store.results[0].OK || store.results[0].Quick {
		t.Errorf("got results %+v, want a success that was not quick", store.results)
	}
}

// TestDrippingBodyEndsTheCall checks that the status decides although the body never ends.
func TestDrippingBodyEndsTheCall(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	defer server.Close()
	store := &fakeStore{delivery: deliveryTo(server.URL, 1)}
	newDispatcher(store, true).ProcessSlow(t.Context(), store.delivery.ID)
	if len(store.results) != 1 || !store.results[0].OK || !store.results[0].Quick {
		t.Errorf("got results %+v, want a quick success", store.results)
	}
}

// TestNextEvents checks that the first event that a delivery releases is delivered in the
// same slot, unless its endpoint is slow, and that the others are enqueued.
func TestNextEvents(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	first, second := webhook.Task{EventID: uuid.New(), Generation: 1}, webhook.Task{EventID: uuid.New(), Generation: 2}
	slow := webhook.Task{EventID: uuid.New(), Generation: 3, Slow: true}
	for name, tt := range map[string]struct {
		next, enqueued []webhook.Task
		delivered      int
	}{
		"quick endpoint": {[]webhook.Task{first, second}, []webhook.Task{second}, 2},
		"slow endpoint":  {[]webhook.Task{slow, slow}, []webhook.Task{slow, slow}, 1},
		"none":           {nil, nil, 1},
	} {
		store := &fakeStore{delivery: deliveryTo(server.URL, 1), next: tt.next}
		dispatcher := newDispatcher(store, true)
		var enqueued []webhook.Task
		dispatcher.Enqueue = func(_ context.Context, task webhook.Task) error {
			enqueued = append(enqueued, task)
			return errors.New("down")
		}
		dispatcher.Process(t.Context(), store.delivery.ID)
		dispatcher.Wait(time.Minute)
		if diff := cmp.Diff(tt.enqueued, enqueued); diff != "" || len(store.results) != tt.delivered {
			t.Errorf("%s: got %d deliveries, want %d; enqueued tasks (-want +got):\n%s", name, len(store.results), tt.delivered, diff)
		}
	}
}

func TestUnclaimedEvent(t *testing.T) {
	t.Parallel()
	store := &fakeStore{}
	if task := newDispatcher(store, true).Process(t.Context(), uuid.New()); task.Action != mms.TaskDone {
		t.Errorf("event not due: got %+v, want the task done", task)
	}
	store.err = errors.New("down")
	if task := newDispatcher(store, true).Process(t.Context(), uuid.New()); task.Action != mms.TaskPostpone {
		t.Errorf("database down: got %+v, want it postponed", task)
	}
}

// TestRetryAfter checks that a receiver may postpone the next attempt, and that the
// webhook's workspace learns why it is late.
func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Now().UTC()
	for name, tt := range map[string]struct {
		status int
		value  string
		want   time.Duration
		error  string // part of the text
	}{
		"429":                  {429, "120", 2 * time.Minute, "It answered 429. Only 200 to 299 counts as delivered. It asked for a wait of 120 seconds (Retry-After)."},
		"503 with a date":      {503, now.Add(time.Hour).Format(http.TimeFormat), time.Hour, "It asked for a wait of 3600 seconds"},
		"shorter than planned": {429, "1", 5 * time.Second, "It asked for a wait of 1 second (Retry-After)."},
		"capped":               {429, "999999999999999999999", 24 * time.Hour, "It asked for a wait of 24 hours or more (Retry-After): Postcard waits 24 hours."},
		"nonsense":             {429, "-5 minutes", 5 * time.Second, "It answered 429. Only 200 to 299 counts as delivered."},
		"date in the past":     {503, "Sun, 06 Nov 1994 08:49:37 GMT", 5 * time.Second, "counts as delivered."},
		"another status":       {500, "120", 5 * time.Second, "counts as delivered."},
		"a success needs none": {200, "120", 0, ""},
		"none":                 {429, "", 5 * time.Second, "counts as delivered."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header()["Date"] = []string{now.Format(http.TimeFormat)}
				if tt.value != "" {
					w.Header().Set("Retry-After", tt.value)
				}
				w.WriteHeader(tt.status)
			}))
			defer server.Close()
			store := &fakeStore{delivery: deliveryTo(server.URL, 1)}
			process(t, store, true)
			var got time.Duration
			if store.retryAfters[0] != nil {
				got = *store.retryAfters[0]
			}
			if text := store.results[0].Error; got != tt.want || !strings.Contains(text, tt.error) || strings.Contains(text, "Retry-After") != (strings.Contains(tt.error, "asked")) {
				t.Errorf("got a retry after %v and error %q, want %v and %q", got, text, tt.want, tt.error)
			}
		})
	}
}
