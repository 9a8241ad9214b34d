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

// store hands out one event, again and again, and keeps what came of it.
type store struct {
	mu      sync.Mutex
	telling webhook.Delivery
	told    []webhook.DeliveryResult
	next    []*time.Duration
	putOff  int
	err     error
}

func (s *store) ClaimWebhookEvent(context.Context, uuid.UUID, time.Duration) (webhook.Delivery, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.telling, s.telling.ID != uuid.Nil, s.err
}

func (s *store) WebhookEventDue(context.Context, uuid.UUID) (time.Duration, bool, error) {
	return 3 * time.Second, true, s.err
}

func (s *store) PostponeWebhookEvent(context.Context, webhook.Delivery, time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.putOff++
	return nil
}

func (s *store) RecordWebhookDelivery(_ context.Context, _ webhook.Delivery, told webhook.DeliveryResult, next *time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told, s.next = append(s.told, told), append(s.next, next)
	return nil
}

func newNotifier(s *store, allowPrivate bool) *dispatch.Dispatcher {
	return &dispatch.Dispatcher{Store: s, Client: dispatch.NewClient(allowPrivate), Jitter: func() float64 { return 0 }, Logger: slog.New(slog.DiscardHandler)}
}

func tellingTo(url string, tries int) webhook.Delivery {
	return webhook.Delivery{
		Event: webhook.Event{ID: uuid.New(), WebhookID: uuid.New(), MessageID: uuid.New(), Status: mms.Failed, Version: 4, Attempts: tries},
		URL:   url, Secret: webhook.NewSecret(), OldSecret: webhook.NewSecret(), Now: time.Now(), // the verifier refuses old signatures
		Message: mms.Message{Status: mms.Failed, Version: 4, Recipient: "+14155550123", Metadata: map[string]string{"order": "17"}},
	}
}

func TestWhatAReceiverGets(t *testing.T) {
	t.Parallel()
	s := &store{}
	var header http.Header
	var body []byte
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		header = r.Header.Clone()
		body, _ = io.ReadAll(r.Body)
	}))
	defer server.Close()
	s.telling = tellingTo(server.URL, 1)
	if d := newNotifier(s, true).Process(t.Context(), s.telling.ID); d.Action != mms.TaskDone || !s.told[0].OK || s.next[0] != nil {
		t.Fatalf("%+v, %+v", d, s.told)
	}
	for name, secret := range map[string]webhook.Secret{"new": s.telling.Secret, "old": s.telling.OldSecret} {
		verifier, err := standardwebhooks.NewWebhook(string(secret))
		if err != nil {
			t.Fatal(err)
		}
		if err := verifier.Verify(body, header); err != nil {
			t.Errorf("the %s secret: %v", name, err)
		}
		if verifier.Verify(append(body, ' '), header) == nil {
			t.Errorf("the %s secret signs anything", name)
		}
	}
	for _, words := range []string{`"type":"message.failed"`, `"version":4`, `"order":"17"`, `"to":"+14155550123"`} {
		if !strings.Contains(string(body), words) {
			t.Errorf("%s is missing in %s", words, body)
		}
	}
}

// TestReceiversThatMisbehave names each fault for the webhook's owner, and tries
// again where that makes sense.
func TestReceiversThatMisbehave(t *testing.T) {
	t.Parallel()
	var elsewhere int
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere++ }))
	defer target.Close()
	for name, tt := range map[string]struct {
		tries  int
		answer http.HandlerFunc
		kind   mms.TaskAction
		error  string
		status int
	}{
		"fails":      {1, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, mms.TaskRetry, "answered 500", 500},
		"fails last": {11, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, mms.TaskFail, "answered 500", 500},
		"is gone":    {1, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(410) }, mms.TaskFail, "answered 410", 410},
		"redirects": {1, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, target.URL, http.StatusTemporaryRedirect)
		},
			mms.TaskRetry, "redirects are not followed", 307},
		"hangs up": {1, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, mms.TaskRetry, "broke the connection off", 0},
		"lies about its length": {1, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000000")
			_, _ = w.Write([]byte("short"))
		}, mms.TaskDone, "", 200},
		"never ends": {1, func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1<<10)); err != nil {
					return
				}
			}
		}, mms.TaskDone, "", 200},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(tt.answer)
			defer server.Close()
			s := &store{telling: tellingTo(server.URL, tt.tries)}
			d := newNotifier(s, true).Process(t.Context(), s.telling.ID)
			if d.Action != tt.kind || s.told[0].HTTPStatus != tt.status || !strings.Contains(s.told[0].Error, tt.error) || s.told[0].OK != (tt.error == "") {
				t.Errorf("%+v, %+v", d, s.told[0])
			}
			if (s.next[0] != nil) != (tt.kind == mms.TaskRetry) {
				t.Errorf("the next try is in %v", s.next[0])
			}
		})
	}
	if elsewhere != 0 {
		t.Error("a redirect was followed")
	}
}

func TestPrivateAddressesAreNotDialed(t *testing.T) {
	t.Parallel()
	called := false
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called = true }))
	defer server.Close()
	_, port, _ := strings.Cut(strings.TrimPrefix(server.URL, "http://"), ":")
	for _, host := range []string{"127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "10.0.0.1", "169.254.169.254", "192.168.1.1", "0.0.0.0", "100.64.0.1", "[fd00::1]", "[64:ff9b::7f00:1]"} {
		s := &store{telling: tellingTo("http://"+host+":"+port, 1)}
		newNotifier(s, false).Process(t.Context(), s.telling.ID)
		if told := s.told[0]; told.OK || !strings.Contains(told.Error, "private or reserved") {
			t.Errorf("%s: %+v", host, told)
		}
	}
	if called {
		t.Error("a private address was called")
	}
}

// TestAReceiverThatStallsHoldsUpFew calls, and a failing one a single call.
func TestAReceiverThatStallsHoldsUpFew(t *testing.T) {
	t.Parallel()
	for failing, most := range map[bool]int{false: 4, true: 1} {
		release, arrived := make(chan struct{}), make(chan struct{}, 100)
		server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { arrived <- struct{}{}; <-release }))
		s := &store{telling: tellingTo(server.URL, 1)}
		s.telling.Failing = failing
		n := newNotifier(s, true)
		var group sync.WaitGroup
		for range most {
			group.Go(func() { n.Process(t.Context(), s.telling.ID) })
		}
		for range most {
			<-arrived
		}
		if d := n.Process(t.Context(), s.telling.ID); d.Action != mms.TaskPostpone || s.putOff != 1 {
			t.Errorf("failing %t: one more: %+v", failing, d)
		}
		close(release)
		group.Wait()
		server.Close()
		if len(s.told) != most {
			t.Errorf("failing %t: %d calls", failing, len(s.told))
		}
	}
}

func TestTasksThatComeTooEarlyOrWithoutADatabase(t *testing.T) {
	t.Parallel()
	s := &store{}
	if d := newNotifier(s, true).Process(t.Context(), uuid.New()); d.Action != mms.TaskPostpone || d.Wait != 3*time.Second {
		t.Errorf("too early: %+v", d)
	}
	s.err = errors.New("down")
	if d := newNotifier(s, true).Process(t.Context(), uuid.New()); d.Action != mms.TaskPostpone {
		t.Errorf("without a database: %+v", d)
	}
}
