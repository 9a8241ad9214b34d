package postgres_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/postgres"
	"github.com/postcard-mms/postcard/internal/webhook"
)

func newWebhook(t *testing.T, store *postgres.Store, owner uuid.UUID, statuses ...string) webhook.Endpoint {
	t.Helper()
	w, _, err := webhook.Create(t.Context(), store, owner, webhook.Params{URL: "https://example.com/events", Statuses: statuses}, false)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// eventsOf returns the types and states of a webhook's events, oldest first.
func eventsOf(t *testing.T, store *postgres.Store, w webhook.Endpoint) (list []string) {
	t.Helper()
	events, _, err := store.WebhookEvents(t.Context(), w.Owner, w.ID, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		list = append([]string{fmt.Sprintf("%s %s", e.Type(), e.State)}, list...)
	}
	return list
}

// claimEvent claims the first event that has a task.
func claimEvent(t *testing.T, store *postgres.Store) webhook.Delivery {
	t.Helper()
	tasks, err := store.TakeWebhookEvents(t.Context(), 1)
	if err != nil || len(tasks) != 1 {
		t.Fatalf("TakeWebhookEvents() = %v, %v, want 1", tasks, err)
	}
	delivery, claimed, err := store.ClaimWebhookEvent(t.Context(), tasks[0].EventID, time.Minute)
	if err != nil || !claimed {
		t.Fatalf("ClaimWebhookEvent() = %t, %v, want true", claimed, err)
	}
	return delivery
}

func TestChangesOfStatusCreateEvents(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	bob := addUser(t, store, "bob@example.com")
	all, some, bobs := newWebhook(t, store, ada), newWebhook(t, store, ada, "submitted", "canceled"), newWebhook(t, store, bob)
	m := create(t, store, ada)
	c, _ := claim(t, store, m.ID)
	if adopted, err := adopt(t.Context(), store, c.AttemptRef, "uuid-1"); err != nil || !adopted {
		t.Fatal(err)
	}
	if got := fmt.Sprint(eventsOf(t, store, all)); got != "[message.sending pending message.submitted pending]" {
		t.Errorf("webhook for all statuses: got %s", got)
	}
	if got := fmt.Sprint(eventsOf(t, store, some)); got != "[message.submitted pending]" {
		t.Errorf("webhook for some statuses: got %s", got)
	}
	if got := eventsOf(t, store, bobs); len(got) != 0 {
		t.Errorf("another user's webhook: got %s, want none", got)
	}
	delivery := claimEvent(t, store)
	if delivery.Message.ID != m.ID || delivery.Message.Status != delivery.Status || delivery.URL != all.URL || delivery.Attempts != 1 {
		t.Errorf("got delivery %+v, want the first attempt of the first event", delivery)
	}
	if _, claimed, err := store.ClaimWebhookEvent(t.Context(), delivery.ID, time.Minute); claimed || err != nil {
		t.Errorf("second ClaimWebhookEvent() = %t, %v, want false", claimed, err)
	}
	if wait, pending, err := store.WebhookEventDue(t.Context(), delivery.ID); !pending || wait < 50*time.Second || err != nil {
		t.Errorf("WebhookEventDue() during an attempt = %v, %t, %v, want about a minute", wait, pending, err)
	}
}

func TestDeliveryAttempts(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	w := newWebhook(t, store, ada)
	if _, err := store.CreateTestEvent(t.Context(), ada, w.ID); err != nil {
		t.Fatal(err)
	}
	delivery := claimEvent(t, store)
	if delivery.Type() != "webhook.test" || delivery.OldSecret != "" {
		t.Errorf("got delivery %+v, want a test with one secret", delivery)
	}
	wait := time.Hour
	if err := store.RecordWebhookDelivery(t.Context(), delivery, webhook.DeliveryResult{HTTPStatus: 500, Error: "The endpoint answered 500."}, &wait); err != nil {
		t.Fatal(err)
	}
	if got, _ := store.Webhook(t.Context(), ada, w.ID); got.FailingSince == nil || got.DisabledAt != nil {
		t.Errorf("got webhook %+v, want failing and enabled", got)
	}
	if wait, pending, err := store.WebhookEventDue(t.Context(), delivery.ID); !pending || wait < 59*time.Minute || err != nil {
		t.Errorf("WebhookEventDue() after a failure = %v, %t, %v, want about an hour", wait, pending, err)
	}
	if err := store.RecordWebhookDelivery(t.Context(), webhook.Delivery{Event: webhook.Event{ID: delivery.ID, Attempts: 0}}, webhook.DeliveryResult{OK: true}, nil); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(eventsOf(t, store, w)); got != "[webhook.test pending]" {
		t.Errorf("after the result of an earlier attempt: got %s, want it ignored", got)
	}
	if _, err := store.DB().Exec(`UPDATE webhook_events SET due_at = now(), task_check_at = now()`); err != nil {
		t.Fatal(err)
	}
	if err := store.RecordWebhookDelivery(t.Context(), claimEvent(t, store), webhook.DeliveryResult{OK: true, HTTPStatus: 204}, nil); err != nil {
		t.Fatal(err)
	}
	got, err := store.Webhook(t.Context(), ada, w.ID)
	if events := fmt.Sprint(eventsOf(t, store, w)); events != "[webhook.test delivered]" || got.FailingSince != nil || err != nil {
		t.Errorf("after a success: got events %s, webhook %+v, %v", events, got, err)
	}
	replayed, err := store.ReplayEvent(t.Context(), ada, w.ID, delivery.ID)
	if err != nil || replayed.State != webhook.Pending || replayed.Attempts != 0 {
		t.Errorf("ReplayEvent() = %+v, %v, want pending without attempts", replayed, err)
	}
	if _, err := store.ReplayEvent(t.Context(), uuid.New(), w.ID, delivery.ID); !errors.Is(err, webhook.ErrNotFound) {
		t.Errorf("ReplayEvent() of another user: got %v, want ErrNotFound", err)
	}
}

func TestFailingWebhookIsDisabled(t *testing.T) {
	t.Parallel()
	for reason, result := range map[string]webhook.DeliveryResult{"failing": {HTTPStatus: 503, Error: "The endpoint answered 503."}, "gone": {HTTPStatus: 410, Error: "The endpoint answered 410."}} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			store, ada := newStore(t)
			w := newWebhook(t, store, ada)
			for range 3 {
				if _, err := store.CreateTestEvent(t.Context(), ada, w.ID); err != nil {
					t.Fatal(err)
				}
			}
			delivery := claimEvent(t, store)
			if reason == "failing" {
				if _, err := store.DB().Exec(`UPDATE webhooks SET failing_since = now() - interval '73 hours'`); err != nil {
					t.Fatal(err)
				}
			}
			wait := time.Hour
			if err := store.RecordWebhookDelivery(t.Context(), delivery, result, &wait); err != nil {
				t.Fatal(err)
			}
			got, err := store.Webhook(t.Context(), ada, w.ID)
			if err != nil || got.DisabledAt == nil || got.DisabledReason != reason {
				t.Fatalf("got webhook %+v, %v, want it disabled: %s", got, err, reason)
			}
			if n := count(t, store, `SELECT count(*) FROM webhook_events WHERE state = 'failed'`); n != 2 {
				t.Errorf("got %d failed events, want the other 2", n)
			}
			if _, err := store.CreateTestEvent(t.Context(), ada, w.ID); !errors.Is(err, webhook.ErrNotFound) {
				t.Errorf("CreateTestEvent() for a disabled webhook: got %v, want ErrNotFound", err)
			}
			claim(t, store, create(t, store, ada).ID)
			if n := count(t, store, `SELECT count(*) FROM webhook_events`); n != 3 {
				t.Errorf("got %d events of a disabled webhook, want 3", n)
			}
			if err := store.EnableWebhook(t.Context(), ada, w.ID); err != nil {
				t.Fatal(err)
			}
			if got, _ := store.Webhook(t.Context(), ada, w.ID); got.DisabledAt != nil || got.FailingSince != nil {
				t.Errorf("got webhook %+v, want it enabled", got)
			}
		})
	}
}

func TestRotatedSecretOverlaps(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	w := newWebhook(t, store, ada)
	second := webhook.NewSecret()
	if err := store.RotateSecret(t.Context(), ada, w.ID, second); err != nil {
		t.Fatal(err)
	}
	if _, err := store.CreateTestEvent(t.Context(), ada, w.ID); err != nil {
		t.Fatal(err)
	}
	delivery := claimEvent(t, store)
	if delivery.Secret != second || delivery.OldSecret == "" {
		t.Errorf("during the overlap: got new secret %t, old secret %t, want both", delivery.Secret == second, delivery.OldSecret != "")
	}
	if _, err := store.DB().Exec(`UPDATE webhooks SET old_secret_until = now(); UPDATE webhook_events SET due_at = now(), task_check_at = now()`); err != nil {
		t.Fatal(err)
	}
	if delivery := claimEvent(t, store); delivery.OldSecret != "" {
		t.Error("got an old secret after the overlap, want none")
	}
	if err := store.DeleteWebhook(t.Context(), ada, w.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Webhook(t.Context(), ada, w.ID); !errors.Is(err, webhook.ErrNotFound) {
		t.Errorf("deleted webhook: got %v, want ErrNotFound", err)
	}
}
