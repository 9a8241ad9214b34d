package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/postcard-mms/postcard/internal/postgres"
	"github.com/postcard-mms/postcard/internal/testkit"
	"github.com/postcard-mms/postcard/internal/webhook"
)

func newWebhook(t *testing.T, store *postgres.Store, workspace uuid.UUID, statuses ...string) webhook.Endpoint {
	t.Helper()
	w, _, err := webhook.Create(t.Context(), store, workspace, webhook.Params{URL: "https://example.com/events", Statuses: statuses}, false)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// eventsOf returns the types and states of a webhook's events, oldest first.
func eventsOf(t *testing.T, store *postgres.Store, w webhook.Endpoint) (list []string) {
	t.Helper()
	events, _, err := store.WebhookEvents(t.Context(), w.Workspace, w.ID, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		list = append([]string{fmt.Sprintf("%s %s", e.Type(), e.State)}, list...)
	}
	return list
}

// releaseEvents releases events and returns their tasks.
func releaseEvents(t *testing.T, store *postgres.Store, limit int) []webhook.Task {
	t.Helper()
	tasks, err := store.ReleaseWebhookEvents(t.Context(), limit)
	if err != nil {
		t.Fatal(err)
	}
	return tasks
}

// claimTask claims the event of a task.
func claimTask(t *testing.T, store *postgres.Store, task webhook.Task) webhook.Delivery {
	t.Helper()
	delivery, claimed, err := store.ClaimWebhookEvent(t.Context(), task.EventID, time.Minute, task.Slow)
	if err != nil || !claimed {
		t.Fatalf("ClaimWebhookEvent() = %t, %v, want true", claimed, err)
	}
	return delivery
}

// claimEvent claims the first event that is released.
func claimEvent(t *testing.T, store *postgres.Store) webhook.Delivery {
	t.Helper()
	tasks := releaseEvents(t, store, 1)
	if len(tasks) != 1 {
		t.Fatalf("got %d released events, want 1", len(tasks))
	}
	return claimTask(t, store, tasks[0])
}

// record records the result of a delivery and returns the tasks of the next events.
func record(t *testing.T, store *postgres.Store, d webhook.Delivery, result webhook.DeliveryResult, next *time.Duration) []webhook.Task {
	t.Helper()
	tasks, err := store.RecordWebhookDelivery(t.Context(), d, result, next)
	if err != nil {
		t.Fatal(err)
	}
	return tasks
}

// addEvents adds n events to a webhook.
func addEvents(t *testing.T, store *postgres.Store, w webhook.Endpoint, n int) {
	t.Helper()
	if _, err := store.DB().Exec(`INSERT INTO webhook_events (webhook_id, occurred_at, due_at) SELECT $1, now(), now() + (i - $2) * interval '1 millisecond' FROM generate_series(1, $2) i`, w.ID, n); err != nil {
		t.Fatal(err)
	}
}

var (
	answer  = webhook.DeliveryResult{OK: true, Quick: true, HTTPStatus: 200}
	failure = webhook.DeliveryResult{Quick: true, HTTPStatus: 500, Error: "It answered 500."}
	stall   = webhook.DeliveryResult{Error: "It did not answer within 15 seconds."}
)

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
	if _, claimed, err := store.ClaimWebhookEvent(t.Context(), delivery.ID, time.Minute, true); claimed || err != nil {
		t.Errorf("second ClaimWebhookEvent() = %t, %v, want false", claimed, err)
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
	record(t, store, delivery, failure, &wait)
	if got, _ := store.Webhook(t.Context(), ada, w.ID); got.FailingSince == nil || got.DisabledAt != nil {
		t.Errorf("got webhook %+v, want failing and enabled", got)
	}
	if tasks := releaseEvents(t, store, 10); len(tasks) != 0 {
		t.Errorf("before the retry is due: got %d released events, want none", len(tasks))
	}
	earlier := delivery
	earlier.Attempts = 0
	record(t, store, earlier, answer, nil)
	if got := fmt.Sprint(eventsOf(t, store, w)); got != "[webhook.test pending]" {
		t.Errorf("after the result of an earlier attempt: got %s, want it ignored", got)
	}
	if _, err := store.DB().Exec(`UPDATE webhook_events SET due_at = now(), task_check_at = now()`); err != nil {
		t.Fatal(err)
	}
	record(t, store, claimEvent(t, store), answer, nil)
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
			record(t, store, delivery, result, &wait)
			got, err := store.Webhook(t.Context(), ada, w.ID)
			if err != nil || got.DisabledAt == nil || got.DisabledReason != reason {
				t.Fatalf("got webhook %+v, %v, want it disabled: %s", got, err, reason)
			}
			if n, err := store.FailEventsOfDisabledWebhooks(t.Context(), 10); n != 3 || err != nil {
				t.Errorf("FailEventsOfDisabledWebhooks() = %d, %v, want 3", n, err)
			}
			if n := count(t, store, `SELECT count(*) FROM webhook_events WHERE state = 'failed' AND error LIKE 'The webhook was disabled.%'`); n != 3 {
				t.Errorf("got %d failed events, want 3", n)
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
			got, _ = store.Webhook(t.Context(), ada, w.ID)
			if got.DisabledAt != nil || got.FailingSince == nil {
				t.Errorf("got webhook %+v, want it enabled and failing", got)
			}
			// Enabling it again must not move the three days after which it is disabled.
			exec(t, store, `UPDATE webhooks SET failing_since = '2026-01-01T00:00:00Z', slow = true, slots = 4`)
			if err := store.EnableWebhook(t.Context(), ada, w.ID); err != nil {
				t.Fatal(err)
			}
			if n := count(t, store, `SELECT count(*) FROM webhooks WHERE failing_since = '2026-01-01T00:00:00Z' AND slow AND slots = 4`); n != 1 {
				t.Error("enabling an enabled webhook changed it")
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

// TestSlotsFollowTheResults checks how many events of a webhook are released.
func TestSlotsFollowTheResults(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	w := newWebhook(t, store, ada)
	addEvents(t, store, w, 100)
	tasks := releaseEvents(t, store, 100)
	if len(tasks) != 1 || tasks[0].Slow {
		t.Fatalf("a new webhook: got tasks %v, want one, not slow", tasks)
	}
	if more := releaseEvents(t, store, 100); len(more) != 0 {
		t.Errorf("while its slot is taken: got tasks %v, want none", more)
	}
	delivered := 0
	for ; len(tasks) < webhook.MaxSlots; delivered++ {
		next := record(t, store, claimTask(t, store, tasks[0]), answer, nil)
		if len(next) != 2 {
			t.Fatalf("after success %d: got %d next tasks, want 2", delivered+1, len(next))
		}
		tasks = append(tasks[1:], next...)
	}
	for range 3 { // with the last slot gained, a success makes room for one
		next := record(t, store, claimTask(t, store, tasks[0]), answer, nil)
		if len(next) != 1 {
			t.Fatalf("with all slots: got %d next tasks, want 1", len(next))
		}
		tasks = append(tasks[1:], next...)
	}
	if d := claimTask(t, store, tasks[0]); !d.Settled {
		t.Error("with all slots: got a delivery that is not settled")
	} else if next := record(t, store, d, failure, nil); len(next) != 0 {
		t.Errorf("after a failure with 7 other tasks: got %d next tasks, want none", len(next))
	}
	for i, task := range tasks[1:] {
		// 4 slots remain, then 2, then 1.
		next := record(t, store, claimTask(t, store, task), failure, nil)
		if want := map[bool]int{true: 1}[i == 6]; len(next) != want {
			t.Errorf("after failure %d: got %d next tasks, want %d", i+2, len(next), want)
		}
		tasks = next
	}
	if next := record(t, store, claimTask(t, store, tasks[0]), answer, nil); len(next) != 2 {
		t.Errorf("after a success: got %d next tasks, want 2", len(next))
	}
}

// TestSlowWebhookUsesItsOwnSlots checks that a webhook is slow from a slow call to the
// next quick one, and paused after slow failures.
func TestSlowWebhookUsesItsOwnSlots(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	w := newWebhook(t, store, ada)
	addEvents(t, store, w, 100)
	first := claimEvent(t, store)
	tasks := record(t, store, first, answer, nil)
	stalled := claimTask(t, store, tasks[0])
	if err := store.MarkWebhookSlow(t.Context(), w.ID); err != nil {
		t.Fatal(err)
	}
	if _, claimed, err := store.ClaimWebhookEvent(t.Context(), tasks[1].EventID, time.Minute, true); claimed || err != nil {
		t.Errorf("ClaimWebhookEvent() of a task that was taken back = %t, %v, want false", claimed, err)
	}
	tasks = releaseEvents(t, store, 100)
	if len(tasks) != 1 || !tasks[0].Slow {
		t.Fatalf("got tasks %v, want one, slow", tasks)
	}
	if _, claimed, err := store.ClaimWebhookEvent(t.Context(), tasks[0].EventID, time.Minute, false); claimed || err != nil {
		t.Errorf("ClaimWebhookEvent() of a slow webhook's event in a slot for others = %t, %v, want false", claimed, err)
	}
	second := claimTask(t, store, tasks[0])
	wait := time.Hour
	if next := record(t, store, stalled, stall, &wait); len(next) != 0 {
		t.Errorf("after a slow failure: got next tasks %v, want none", next)
	}
	record(t, store, second, stall, &wait)
	if n := count(t, store, `SELECT slow_failures FROM webhooks`); n != 1 {
		t.Errorf("after two slow failures at once: got %d counted, want 1", n)
	}
	if tasks := releaseEvents(t, store, 100); len(tasks) != 0 {
		t.Errorf("during the pause: got tasks %v, want none", tasks)
	}
	execute(t, store, `UPDATE webhooks SET next_call_at = now()`)
	tasks = releaseEvents(t, store, 100)
	if len(tasks) != 1 || !tasks[0].Slow {
		t.Fatalf("after the pause: got tasks %v, want one, slow", tasks)
	}
	if next := record(t, store, claimTask(t, store, tasks[0]), answer, nil); len(next) != 2 || next[0].Slow {
		t.Errorf("after a quick answer: got next tasks %v, want two, not slow", next)
	}
}

// TestReceiverPausesItsEvents checks that a receiver that asks for a wait gets no other event
// during it, whatever the results of the calls that were in flight.
func TestReceiverPausesItsEvents(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	w := newWebhook(t, store, ada)
	addEvents(t, store, w, 100)
	execute(t, store, `UPDATE webhooks SET slots = 3`)
	tasks := releaseEvents(t, store, 100)
	if len(tasks) != 3 {
		t.Fatalf("got %d tasks, want 3", len(tasks))
	}
	first, second, third := claimTask(t, store, tasks[0]), claimTask(t, store, tasks[1]), claimTask(t, store, tasks[2])
	wait := 2 * time.Hour
	if next := record(t, store, first, webhook.DeliveryResult{HTTPStatus: 429, Quick: true, RetryAfter: wait}, &wait); len(next) != 0 {
		t.Errorf("got next tasks %v, want none", next)
	}
	if next := record(t, store, second, answer, nil); len(next) != 0 {
		t.Errorf("after a success that was in flight: got next tasks %v, want none", next)
	}
	record(t, store, third, webhook.DeliveryResult{HTTPStatus: 500, Quick: true}, &wait)
	if tasks := releaseEvents(t, store, 100); len(tasks) != 0 {
		t.Errorf("got tasks %v, want none during the wait", tasks)
	}
	paused, err := store.Webhook(t.Context(), ada, w.ID)
	if err != nil || paused.WaitsUntil == nil || time.Until(*paused.WaitsUntil) > webhook.MaxPause || time.Until(*paused.WaitsUntil) < webhook.MaxPause/2 {
		t.Errorf("got a wait until %v, %v, want an hour", paused.WaitsUntil, err)
	}
	execute(t, store, `UPDATE webhooks SET next_call_at = now()`)
	if tasks := releaseEvents(t, store, 100); len(tasks) == 0 {
		t.Error("got no tasks after the wait")
	}
}

// TestWebhooksTakeTurns checks that the backlog of a webhook does not fill a batch, and
// that a lost task is replaced.
func TestWebhooksTakeTurns(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	var webhooks []webhook.Endpoint
	for range 3 {
		w := newWebhook(t, store, ada)
		addEvents(t, store, w, 2000)
		webhooks = append(webhooks, w)
	}
	execute(t, store, `UPDATE webhooks SET slots = 2`)
	tasks := releaseEvents(t, store, 100)
	var order []string
	for _, task := range tasks {
		d := claimTask(t, store, task)
		for i, w := range webhooks {
			if w.ID == d.WebhookID {
				order = append(order, fmt.Sprint(i))
			}
		}
	}
	if got := fmt.Sprint(order); got != "[0 1 2 0 1 2]" {
		t.Errorf("got events of the webhooks %s, want them to take turns", got)
	}
	execute(t, store, `UPDATE webhook_events SET task_check_at = now(), due_at = now() - interval '1 minute' WHERE attempts = 1`)
	again := releaseEvents(t, store, 100)
	if len(again) != 6 || again[0].Generation != tasks[0].Generation+1 {
		t.Errorf("after the leases: got tasks %v, want the same events with a new generation", again)
	}
}

// TestResultsOfADisabledWebhook checks that a webhook that was disabled gets no further call,
// and that the results of calls in progress are recorded without enabling it.
func TestResultsOfADisabledWebhook(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	w := newWebhook(t, store, ada)
	addEvents(t, store, w, 10)
	execute(t, store, `UPDATE webhooks SET slots = 4`)
	tasks := releaseEvents(t, store, 10)
	gone, answered, failed := claimTask(t, store, tasks[0]), claimTask(t, store, tasks[1]), claimTask(t, store, tasks[2])
	if next := record(t, store, gone, webhook.DeliveryResult{Quick: true, HTTPStatus: 410, Error: "It answered 410."}, nil); len(next) != 0 {
		t.Errorf("after 410: got next tasks %v, want none", next)
	}
	if _, claimed, err := store.ClaimWebhookEvent(t.Context(), tasks[3].EventID, time.Minute, true); claimed || err != nil {
		t.Errorf("ClaimWebhookEvent() after the switch = %t, %v, want false", claimed, err)
	}
	if _, err := store.FailEventsOfDisabledWebhooks(t.Context(), 100); err != nil {
		t.Fatal(err)
	}
	wait := time.Hour
	if next := append(record(t, store, answered, answer, nil), record(t, store, failed, failure, &wait)...); len(next) != 0 {
		t.Errorf("after results of a disabled webhook: got next tasks %v, want none", next)
	}
	if got, err := store.Webhook(t.Context(), ada, w.ID); err != nil || got.DisabledReason != webhook.DisabledGone {
		t.Errorf("got webhook %+v, %v, want it disabled", got, err)
	}
	if n := count(t, store, `SELECT count(*) FROM webhook_events WHERE state = 'delivered'`); n != 1 {
		t.Errorf("got %d delivered events, want 1", n)
	}
	if n := count(t, store, `SELECT count(*) FROM webhook_events WHERE state = 'failed'`); n != 9 {
		t.Errorf("got %d failed events, want 9", n)
	}
}

// TestClaimWaitsForDisabling checks that a claim that begins while a webhook is being
// disabled obeys it.
func TestClaimWaitsForDisabling(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	w := newWebhook(t, store, ada)
	addEvents(t, store, w, 1)
	task := releaseEvents(t, store, 1)[0]
	tx, err := store.DB().Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.Exec(`UPDATE webhooks SET disabled_at = now(), disabled_reason = 'failing'`); err != nil {
		t.Fatal(err)
	}
	claimed := make(chan bool)
	go func() {
		_, ok, err := store.ClaimWebhookEvent(t.Context(), task.EventID, time.Minute, true)
		claimed <- ok || err != nil
	}()
	testkit.Eventually(t, "the claim waits", func() bool {
		return count(t, store, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) == 1
	})
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if <-claimed {
		t.Error("an event of a disabled webhook was claimed")
	}
}

// TestTransitionsOfAWebhookDoNotDeadlock runs everything that locks a webhook or its
// events at the same moment, many times, on the same few rows.
func TestTransitionsOfAWebhookDoNotDeadlock(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	store.DB().SetMaxOpenConns(20)
	execute(t, store, `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET deadlock_timeout = %L', current_database(), '20ms'); END $$`)
	store.DB().SetMaxIdleConns(0) // new connections have the setting
	store.DB().SetMaxIdleConns(20)
	setRateLimit(t, store, 0)
	wait := time.Hour
	for range 25 {
		w := newWebhook(t, store, ada)
		addEvents(t, store, w, 30)
		execute(t, store, `UPDATE webhooks SET slots = 8, failing_since = now() - interval '73 hours'`)
		var work []func(context.Context) error
		for i, task := range releaseEvents(t, store, 8) {
			if i == 7 {
				work = append(work, func(ctx context.Context) error {
					_, _, err := store.ClaimWebhookEvent(ctx, task.EventID, time.Minute, true)
					return err
				})
				continue
			}
			d := claimTask(t, store, task)
			result := []webhook.DeliveryResult{answer, failure, stall}[i%3]
			work = append(work, func(ctx context.Context) error {
				_, err := store.RecordWebhookDelivery(ctx, d, result, &wait)
				return err
			})
		}
		m := create(t, store, ada)
		work = append(work,
			func(ctx context.Context) error { _, err := store.ReleaseWebhookEvents(ctx, 10); return err },
			func(ctx context.Context) error { _, err := store.FailEventsOfDisabledWebhooks(ctx, 10); return err },
			func(ctx context.Context) error { return store.MarkWebhookSlow(ctx, w.ID) },
			func(ctx context.Context) error { return store.RotateSecret(ctx, ada, w.ID, webhook.NewSecret()) },
			func(ctx context.Context) error { return store.EnableWebhook(ctx, ada, w.ID) },
			func(ctx context.Context) error { _, _, err := store.Claim(ctx, m.ID, token(), time.Minute); return err },
			func(ctx context.Context) error { return store.DeleteWebhook(ctx, ada, w.ID) },
		)
		rand.Shuffle(len(work), func(i, j int) { work[i], work[j] = work[j], work[i] })
		var group errgroup.Group
		begin := make(chan struct{})
		for _, run := range work {
			group.Go(func() error { <-begin; return run(t.Context()) })
		}
		close(begin)
		if err := group.Wait(); err != nil && !errors.Is(err, webhook.ErrNotFound) {
			t.Fatal(err)
		}
	}
}

// TestDeletingAWebhookDoesNotFailMessages changes a message's status while its user's
// webhook is being deleted.
func TestDeletingAWebhookDoesNotFailMessages(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	w, m := newWebhook(t, store, ada), create(t, store, ada)
	tx, err := store.DB().Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.Exec(`DELETE FROM webhooks WHERE id = $1`, w.ID); err != nil {
		t.Fatal(err)
	}
	claimed := make(chan error)
	go func() {
		_, ok, err := store.Claim(t.Context(), m.ID, token(), time.Minute)
		if err == nil && !ok {
			err = errors.New("not claimed")
		}
		claimed <- err
	}()
	testkit.Eventually(t, "the claim waits", func() bool {
		return count(t, store, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) == 1
	})
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := <-claimed; err != nil {
		t.Errorf("claiming a message: %v", err)
	}
}

// TestWebhookPlansUseIndexes checks the plans for many webhooks and long backlogs.
func TestWebhookPlansUseIndexes(t *testing.T) {
	t.Parallel()
	store, ada := newStoreForLargeTables(t)
	w := newWebhook(t, store, ada)
	if _, err := store.DB().Exec(`INSERT INTO webhooks (id, workspace_id, url, secret) SELECT lpad(to_hex(i), 32, '0')::uuid, $1, '', '' FROM generate_series(1, 3000) i`, ada); err != nil {
		t.Fatal(err)
	}
	execute(t, store, `INSERT INTO webhook_events (webhook_id, state) SELECT id, 'delivered' FROM webhooks, generate_series(1, 10)`)
	addEvents(t, store, w, 20000)
	execute(t, store, `ANALYZE`)
	id := `'` + w.ID.String() + `'`
	for name, statement := range map[string]struct{ query, args string }{
		"release":        {postgres.ReleaseEventsStatement, `500`},
		"fail":           {postgres.FailEventsStatement, `500, 500`},
		"claim":          {postgres.ClaimEventStatement, id + `, 30, false, 8`},
		"mark as slow":   {postgres.MarkSlowStatement, id},
		"record":         {postgres.RecordDeliveryStatement, `2, ` + id + `, 1, true, 200, '', NULL, ` + id + `, 8, false, 1, true, 0.0`},
		"record settled": {postgres.RecordSettledDeliveryStatement, `2, ` + id + `, 1, true, 200, '', NULL, ` + id + `, 8`},
	} {
		wantIndexes(t, store, name, statement.query, statement.args)
	}
}

// TestReleasingReadsNoBacklog checks that a delivery reads a few pages, however many
// events wait, and although the database believes that its tables are empty.
func TestReleasingReadsNoBacklog(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	store.DB().SetMaxOpenConns(1) // the connection with the prepared statements
	execute(t, store, `ALTER TABLE webhook_events SET (autovacuum_enabled = false)`)
	execute(t, store, `SET plan_cache_mode = force_generic_plan`)
	w := newWebhook(t, store, ada)
	addEvents(t, store, w, 20000)
	d := claimEvent(t, store)
	execute(t, store, `PREPARE release_events AS `+postgres.ReleaseEventsStatement)
	execute(t, store, `PREPARE record_settled AS `+postgres.RecordSettledDeliveryStatement)
	execute(t, store, `UPDATE webhooks SET slots = 8`)
	for name, query := range map[string]string{
		"record":  fmt.Sprintf(`EXECUTE record_settled(2, '%s', 1, true, 200, '', NULL, '%s', 8)`, d.ID, w.ID),
		"release": `EXECUTE release_events(500)`,
	} {
		pagesRead(t, store, query) // reads the system's tables
		if pages := pagesRead(t, store, query); pages > 300 {
			t.Errorf("%s: got %d pages read, want a few", name, pages)
		}
	}
}
