package postgres_test

import (
	"testing"
)

// The time of the next attempt is shown only while it lies ahead.
func TestNextAttemptIsAhead(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	message := create(t, store, ada)
	w := newWebhook(t, store, ada)
	event, err := store.CreateTestEvent(t.Context(), ada, w.ID)
	if err != nil || event.DueAt != nil {
		t.Fatalf("a new event is due at %v, %v, want no time", event.DueAt, err)
	}
	for offset, want := range map[string]bool{"- interval '1 hour'": false, "+ interval '0 s'": false, "+ interval '1 hour'": true} {
		exec(t, store, `UPDATE messages SET next_attempt_at = now() `+offset)
		exec(t, store, `UPDATE webhook_events SET due_at = now() `+offset)
		h, err := store.Message(t.Context(), ada, message.ID)
		if err != nil || (h.NextAttemptAt != nil) != want {
			t.Errorf("now() %s: got next attempt of the message %v, %v, want one: %t", offset, h.NextAttemptAt, err, want)
		}
		events, _, err := store.WebhookEvents(t.Context(), ada, w.ID, 0, 10)
		if err != nil || len(events) != 1 || (events[0].DueAt != nil) != want {
			t.Errorf("now() %s: got events %+v, %v, want a time: %t", offset, events, err, want)
		}
	}
	exec(t, store, `UPDATE webhook_events SET state = 'delivered'`)
	if events, _, err := store.WebhookEvents(t.Context(), ada, w.ID, 0, 10); err != nil || events[0].DueAt != nil {
		t.Errorf("a delivered event: got %+v, %v, want no time", events, err)
	}
}
