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

	"github.com/google/uuid"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/webhook"
	"github.com/postcard-mms/postcard/internal/webhook/dispatch"
)

// fakeStore lets the same event be claimed any number of times, and keeps the
// results. Without an event, claims fail and the event is due in 3 seconds.
type fakeStore struct {
	mu          sync.Mutex
	delivery    webhook.Delivery
	results     []webhook.DeliveryResult
	retryAfters []*time.Duration
	postponed   int
	err         error
}

func (s *fakeStore) ClaimWebhookEvent(context.Context, uuid.UUID, time.Duration) (webhook.Delivery, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.delivery, s.delivery.ID != uuid.Nil, s.err
}

func (s *fakeStore) WebhookEventDue(context.Context, uuid.UUID) (time.Duration, bool, error) {
	return 3 * time.Second, true, s.err
}

func (s *fakeStore) PostponeWebhookEvent(context.Context, webhook.Delivery, time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.postponed++
	return nil
}

func (s *fakeStore) RecordWebhookDelivery(_ context.Context, _ webhook.Delivery, result webhook.DeliveryResult, retryAfter *time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.results, s.retryAfters = append(s.results, result), append(s.retryAfters, retryAfter)
	return nil
}

func newDispatcher(s *fakeStore, allowPrivate bool) *dispatch.Deliverer {
	return &dispatch.Deliverer{Store: s, Client: dispatch.NewClient(allowPrivate), Jitter: func() float64 { return 0 }, Logger: slog.New(slog.DiscardHandler)}
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
	result := newDispatcher(store, true).Process(t.Context(), store.delivery.ID)
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
// webhook's owner, and retried unless a retry is pointless.
func TestMisbehavingEndpoints(t *testing.T) {
	t.Parallel()
	var redirected int
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { redirected++ }))
	defer target.Close()
	for name, tt := range map[string]struct {
		attempts int
		handler  http.HandlerFunc
		action   mms.TaskAction
		error    string // part of the text; empty for success
		status   int
	}{
		"server error":            {1, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, mms.TaskRetry, "answered 500", 500},
		"server error, last time": {11, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, mms.TaskFail, "answered 500", 500},
		"gone":                    {1, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(410) }, mms.TaskFail, "answered 410", 410},
		"redirect": {1, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, target.URL, http.StatusTemporaryRedirect)
		},
			mms.TaskRetry, "redirects are not followed", 307},
		"closed connection": {1, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, mms.TaskRetry, "closed the connection", 0},
		"wrong Content-Length": {1, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000000")
			_, _ = w.Write([]byte("short"))
		}, mms.TaskDone, "", 200},
		"endless body": {1, func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1<<10)); err != nil {
					return
				}
			}
		}, mms.TaskDone, "", 200},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(tt.handler)
			defer server.Close()
			store := &fakeStore{delivery: deliveryTo(server.URL, tt.attempts)}
			task := newDispatcher(store, true).Process(t.Context(), store.delivery.ID)
			result := store.results[0]
			if task.Action != tt.action || result.HTTPStatus != tt.status || !strings.Contains(result.Error, tt.error) || result.OK != (tt.error == "") {
				t.Errorf("got %+v, %+v; want action %d, status %d, error %q", task, result, tt.action, tt.status, tt.error)
			}
			if got, want := store.retryAfters[0] != nil, tt.action == mms.TaskRetry; got != want {
				t.Errorf("retry recorded: got %t, want %t", got, want)
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
		newDispatcher(store, false).Process(t.Context(), store.delivery.ID)
		if result := store.results[0]; result.OK || !strings.Contains(result.Error, "private or reserved") {
			t.Errorf("%s: got %+v, want an error about a private address", host, result)
		}
	}
	if called {
		t.Error("a private address was called")
	}
}

func TestConcurrentCallsPerWebhookAreLimited(t *testing.T) {
	t.Parallel()
	for failing, limit := range map[bool]int{false: 4, true: 1} {
		release, arrived := make(chan struct{}), make(chan struct{}, 100)
		server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { arrived <- struct{}{}; <-release }))
		store := &fakeStore{delivery: deliveryTo(server.URL, 1)}
		store.delivery.Failing = failing
		dispatcher := newDispatcher(store, true)
		var group sync.WaitGroup
		for range limit {
			group.Go(func() { dispatcher.Process(t.Context(), store.delivery.ID) })
		}
		for range limit {
			<-arrived
		}
		if task := dispatcher.Process(t.Context(), store.delivery.ID); task.Action != mms.TaskPostpone || store.postponed != 1 {
			t.Errorf("failing %t, call beyond the limit: got %+v and %d postponed, want it postponed", failing, task, store.postponed)
		}
		close(release)
		group.Wait()
		server.Close()
		if len(store.results) != limit {
			t.Errorf("failing %t: got %d calls, want %d", failing, len(store.results), limit)
		}
	}
}

func TestTaskIsPostponed(t *testing.T) {
	t.Parallel()
	store := &fakeStore{}
	if task := newDispatcher(store, true).Process(t.Context(), uuid.New()); task.Action != mms.TaskPostpone || task.Wait != 3*time.Second {
		t.Errorf("event not due yet: got %+v, want it postponed by 3s", task)
	}
	store.err = errors.New("down")
	if task := newDispatcher(store, true).Process(t.Context(), uuid.New()); task.Action != mms.TaskPostpone {
		t.Errorf("database down: got %+v, want it postponed", task)
	}
}
