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

// story is what a webhook is told, oldest first.
func told(t *testing.T, store *postgres.Store, w webhook.Endpoint) (list []string) {
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

func claimEvent(t *testing.T, store *postgres.Store) webhook.Delivery {
	t.Helper()
	tasks, err := store.TakeWebhookEvents(t.Context(), 1)
	if err != nil || len(tasks) != 1 {
		t.Fatalf("%v, %v", tasks, err)
	}
	telling, claimed, err := store.ClaimWebhookEvent(t.Context(), tasks[0].EventID, time.Minute)
	if err != nil || !claimed {
		t.Fatalf("claimed %t, %v", claimed, err)
	}
	return telling
}

func TestEveryChangeOfStatusIsToldToThoseWhoAsked(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	bob := addUser(t, store, "bob@example.com")
	all, some, bobs := newWebhook(t, store, ada), newWebhook(t, store, ada, "submitted", "canceled"), newWebhook(t, store, bob)
	m := accept(t, store, ada)
	c, _ := claim(t, store, m.ID)
	if adopted, err := adopt(t.Context(), store, c.AttemptRef, "uuid-1"); err != nil || !adopted {
		t.Fatal(err)
	}
	if got := fmt.Sprint(told(t, store, all)); got != "[message.sending pending message.submitted pending]" {
		t.Errorf("all: %s", got)
	}
	if got := fmt.Sprint(told(t, store, some)); got != "[message.submitted pending]" {
		t.Errorf("some: %s", got)
	}
	if got := told(t, store, bobs); len(got) != 0 {
		t.Errorf("another's: %s", got)
	}
	telling := claimEvent(t, store)
	if telling.Message.ID != m.ID || telling.Message.Status != telling.Status || telling.URL != all.URL || telling.Attempts != 1 {
		t.Errorf("%+v", telling)
	}
	if _, claimed, err := store.ClaimWebhookEvent(t.Context(), telling.ID, time.Minute); claimed || err != nil {
		t.Errorf("claimed twice: %v", err)
	}
	if wait, pending, err := store.WebhookEventDue(t.Context(), telling.ID); !pending || wait < 50*time.Second || err != nil {
		t.Errorf("while it is tried: %v %t %v", wait, pending, err)
	}
}

func TestTries(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	w := newWebhook(t, store, ada)
	if _, err := store.CreateTestEvent(t.Context(), ada, w.ID); err != nil {
		t.Fatal(err)
	}
	telling := claimEvent(t, store)
	if telling.Type() != "webhook.test" || telling.OldSecret != "" {
		t.Errorf("%+v", telling)
	}
	wait := time.Hour
	if err := store.RecordWebhookDelivery(t.Context(), telling, webhook.DeliveryResult{HTTPStatus: 500, Error: "It answered 500."}, &wait); err != nil {
		t.Fatal(err)
	}
	if got, _ := store.Webhook(t.Context(), ada, w.ID); got.FailingSince == nil || got.DisabledAt != nil {
		t.Errorf("%+v", got)
	}
	if left, pending, err := store.WebhookEventDue(t.Context(), telling.ID); !pending || left < 59*time.Minute || err != nil {
		t.Errorf("the next try: %v %t %v", left, pending, err)
	}
	if err := store.RecordWebhookDelivery(t.Context(), webhook.Delivery{Event: webhook.Event{ID: telling.ID, Attempts: 0}}, webhook.DeliveryResult{OK: true}, nil); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(told(t, store, w)); got != "[webhook.test pending]" {
		t.Errorf("after the word of a try that is not the last: %s", got)
	}
	if _, err := store.DB().Exec(`UPDATE webhook_events SET due_at = now(), task_check_at = now()`); err != nil {
		t.Fatal(err)
	}
	if err := store.RecordWebhookDelivery(t.Context(), claimEvent(t, store), webhook.DeliveryResult{OK: true, HTTPStatus: 204}, nil); err != nil {
		t.Fatal(err)
	}
	got, err := store.Webhook(t.Context(), ada, w.ID)
	if story := fmt.Sprint(told(t, store, w)); story != "[webhook.test delivered]" || got.FailingSince != nil || err != nil {
		t.Errorf("%s, %+v, %v", story, got, err)
	}
	again, err := store.ReplayEvent(t.Context(), ada, w.ID, telling.ID)
	if err != nil || again.State != webhook.Pending || again.Attempts != 0 {
		t.Errorf("replayed: %+v, %v", again, err)
	}
	if _, err := store.ReplayEvent(t.Context(), uuid.New(), w.ID, telling.ID); !errors.Is(err, webhook.ErrNotFound) {
		t.Errorf("replayed by another: %v", err)
	}
}

func TestAWebhookThatFailsForDaysIsSwitchedOff(t *testing.T) {
	t.Parallel()
	for why, answer := range map[string]webhook.DeliveryResult{"failing": {HTTPStatus: 503, Error: "It answered 503."}, "gone": {HTTPStatus: 410, Error: "It answered 410."}} {
		t.Run(why, func(t *testing.T) {
			t.Parallel()
			store, ada := newStore(t)
			w := newWebhook(t, store, ada)
			for range 3 {
				if _, err := store.CreateTestEvent(t.Context(), ada, w.ID); err != nil {
					t.Fatal(err)
				}
			}
			telling := claimEvent(t, store)
			if why == "failing" {
				if _, err := store.DB().Exec(`UPDATE webhooks SET failing_since = now() - interval '73 hours'`); err != nil {
					t.Fatal(err)
				}
			}
			wait := time.Hour
			if err := store.RecordWebhookDelivery(t.Context(), telling, answer, &wait); err != nil {
				t.Fatal(err)
			}
			got, err := store.Webhook(t.Context(), ada, w.ID)
			if err != nil || got.DisabledAt == nil || got.DisabledReason != why {
				t.Fatalf("%+v, %v", got, err)
			}
			if n := count(t, store, `SELECT count(*) FROM webhook_events WHERE state = 'failed'`); n != 2 {
				t.Errorf("%d of the other two events have failed", n)
			}
			if _, err := store.CreateTestEvent(t.Context(), ada, w.ID); !errors.Is(err, webhook.ErrNotFound) {
				t.Errorf("a test of one that is off: %v", err)
			}
			claim(t, store, accept(t, store, ada).ID)
			if n := count(t, store, `SELECT count(*) FROM webhook_events`); n != 3 {
				t.Errorf("one that is off has %d events", n)
			}
			if err := store.EnableWebhook(t.Context(), ada, w.ID); err != nil {
				t.Fatal(err)
			}
			if got, _ := store.Webhook(t.Context(), ada, w.ID); got.DisabledAt != nil || got.FailingSince != nil {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestSecretsOverlap(t *testing.T) {
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
	telling := claimEvent(t, store)
	if telling.Secret != second || telling.OldSecret == "" {
		t.Errorf("while they overlap: old secret signs: %t", telling.OldSecret != "")
	}
	if _, err := store.DB().Exec(`UPDATE webhooks SET old_secret_until = now(); UPDATE webhook_events SET due_at = now(), task_check_at = now()`); err != nil {
		t.Fatal(err)
	}
	if telling := claimEvent(t, store); telling.OldSecret != "" {
		t.Error("the old secret signs for ever")
	}
	if err := store.DeleteWebhook(t.Context(), ada, w.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Webhook(t.Context(), ada, w.ID); !errors.Is(err, webhook.ErrNotFound) {
		t.Errorf("removed: %v", err)
	}
}
