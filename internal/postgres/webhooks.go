package postgres

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/webhook"
)

// webhookColumns are the columns of a webhookRow. The table must be aliased as w.
const webhookColumns = `w.id, w.workspace_id, w.url, w.description, w.statuses, w.created_at, w.failing_since, w.slow, w.disabled_at, w.disabled_reason,
    CASE WHEN w.next_call_at > now() THEN w.next_call_at END AS waits_until,
    CASE WHEN w.old_secret_until > now() THEN w.old_secret_until END AS old_secret_until`

type webhookRow struct {
	ID             uuid.UUID      `db:"id"`
	WorkspaceID    uuid.UUID      `db:"workspace_id"`
	URL            string         `db:"url"`
	Description    string         `db:"description"`
	Statuses       pq.StringArray `db:"statuses"`
	CreatedAt      time.Time      `db:"created_at"`
	FailingSince   *time.Time     `db:"failing_since"`
	Slow           bool           `db:"slow"`
	WaitsUntil     *time.Time     `db:"waits_until"`
	DisabledAt     *time.Time     `db:"disabled_at"`
	DisabledReason string         `db:"disabled_reason"`
	OldSecretUntil *time.Time     `db:"old_secret_until"`
}

func (r webhookRow) webhook() webhook.Endpoint {
	w := webhook.Endpoint{
		ID: r.ID, Workspace: r.WorkspaceID, URL: r.URL, Description: r.Description, CreatedAt: r.CreatedAt, FailingSince: r.FailingSince, Slow: r.Slow, WaitsUntil: r.WaitsUntil,
		DisabledAt: r.DisabledAt, DisabledReason: r.DisabledReason, OldSecretUntil: r.OldSecretUntil,
	}
	for _, status := range r.Statuses {
		w.Statuses = append(w.Statuses, mms.Status(status))
	}
	return w
}

const insertWebhook = `
INSERT INTO webhooks AS w (id, workspace_id, url, description, statuses, secret)
SELECT $1, $2, $3, $4, coalesce($5, '{}'::text[]), $6 WHERE (SELECT count(*) FROM webhooks WHERE workspace_id = $2 AND id <> $1) < $7
ON CONFLICT (id) DO UPDATE SET secret = EXCLUDED.secret
RETURNING ` + webhookColumns

// CreateWebhook adds a webhook, or returns webhook.ErrTooMany when its workspace has
// webhook.MaxEndpoints. It is idempotent by the id, because database/sql repeats a
// statement whose connection broke.
func (s *Store) CreateWebhook(ctx context.Context, w webhook.Endpoint, secret webhook.Secret) (webhook.Endpoint, error) {
	var row webhookRow
	err := s.db.GetContext(ctx, &row, insertWebhook, w.ID, w.Workspace, w.URL, w.Description, pq.Array(w.Statuses), string(secret), webhook.MaxEndpoints)
	if errors.Is(err, sql.ErrNoRows) {
		return webhook.Endpoint{}, webhook.ErrTooMany
	}
	return row.webhook(), wrapError(err, "adding a webhook")
}

const selectWebhooks = `SELECT ` + webhookColumns + ` FROM webhooks w WHERE workspace_id = $1 ORDER BY id`

// Webhooks returns the workspace's webhooks.
func (s *Store) Webhooks(ctx context.Context, workspace uuid.UUID) ([]webhook.Endpoint, error) {
	var rows []webhookRow
	if err := s.db.SelectContext(ctx, &rows, selectWebhooks, workspace); err != nil {
		return nil, wrapError(err, "listing webhooks")
	}
	webhooks := make([]webhook.Endpoint, len(rows))
	for i, row := range rows {
		webhooks[i] = row.webhook()
	}
	return webhooks, nil
}

const selectWebhook = `SELECT ` + webhookColumns + ` FROM webhooks w WHERE id = $1 AND workspace_id = $2`

// Webhook returns the workspace's webhook, or webhook.ErrNotFound.
func (s *Store) Webhook(ctx context.Context, workspace, id uuid.UUID) (webhook.Endpoint, error) {
	var row webhookRow
	err := s.db.GetContext(ctx, &row, selectWebhook, id, workspace)
	if errors.Is(err, sql.ErrNoRows) {
		return webhook.Endpoint{}, webhook.ErrNotFound
	}
	return row.webhook(), wrapError(err, "reading a webhook")
}

const disableForDeletion = `
UPDATE webhooks SET disabled_at = coalesce(disabled_at, now()), disabled_reason = CASE WHEN disabled_at IS NULL THEN 'gone' ELSE disabled_reason END
WHERE id = $1 AND workspace_id = $2`

const deleteEvents = `
DELETE FROM webhook_events WHERE id = ANY (ARRAY(SELECT id FROM webhook_events WHERE webhook_id = $1 LIMIT $2 FOR UPDATE SKIP LOCKED))`

const deleteWebhook = `DELETE FROM webhooks WHERE id = $1 AND workspace_id = $2`

// maxDeletedEvents is how many events one statement deletes.
const maxDeletedEvents = 5000

// DeleteWebhook deletes the workspace's webhook and its events, or returns
// webhook.ErrNotFound. It deletes events in parts first: the deletion of the webhook
// makes changes of its user's messages wait.
func (s *Store) DeleteWebhook(ctx context.Context, workspace, id uuid.UUID) error {
	const doing = "deleting a webhook"
	if err := s.updateWebhook(ctx, doing, disableForDeletion, id, workspace); err != nil {
		return err
	}
	for n := int64(maxDeletedEvents); n == maxDeletedEvents; {
		result, err := s.db.ExecContext(ctx, deleteEvents, id, maxDeletedEvents)
		if err != nil {
			return wrapError(err, "deleting a webhook's events")
		}
		if n, err = result.RowsAffected(); err != nil {
			return wrapError(err, "deleting a webhook's events")
		}
	}
	return s.updateWebhook(ctx, doing, deleteWebhook, id, workspace)
}

const rotateSecret = `
UPDATE webhooks SET old_secret = CASE WHEN secret = $3 THEN old_secret ELSE secret END,
    old_secret_until = CASE WHEN secret = $3 THEN old_secret_until ELSE now() + $4 * interval '1 second' END, secret = $3
WHERE id = $1 AND workspace_id = $2`

// RotateSecret replaces the secret of the workspace's webhook. The old secret signs
// deliveries too for webhook.SecretOverlap, even if the statement is repeated. It returns
// webhook.ErrNotFound.
func (s *Store) RotateSecret(ctx context.Context, workspace, id uuid.UUID, secret webhook.Secret) error {
	return s.updateWebhook(ctx, "rotating a webhook's secret", rotateSecret, id, workspace, string(secret), webhook.SecretOverlap.Seconds())
}

const enableWebhook = `
UPDATE webhooks SET disabled_at = NULL, disabled_reason = '',
    failing_since = CASE WHEN disabled_at IS NULL THEN failing_since ELSE now() END, slots = CASE WHEN disabled_at IS NULL THEN slots ELSE 1 END,
    slow_failures = CASE WHEN disabled_at IS NULL THEN slow_failures ELSE 0 END, next_call_at = CASE WHEN disabled_at IS NULL THEN next_call_at ELSE '-infinity' END
WHERE id = $1 AND workspace_id = $2`

// EnableWebhook enables the workspace's webhook after it was disabled, or returns
// webhook.ErrNotFound. Only a delivery shows that a webhook works: until one succeeds, it is
// failing since now, and as slow as it was. An enabled webhook does not change.
func (s *Store) EnableWebhook(ctx context.Context, workspace, id uuid.UUID) error {
	return s.updateWebhook(ctx, "enabling a webhook", enableWebhook, id, workspace)
}

// updateWebhook executes a statement that changes one webhook.
func (s *Store) updateWebhook(ctx context.Context, doing, query string, args ...any) error {
	result, err := s.db.ExecContext(ctx, query, args...)
	if err != nil {
		return wrapError(err, doing)
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return errors.Join(webhook.ErrNotFound, err)
	}
	return nil
}

// eventColumns are the columns of a webhookEventRow. The table must be aliased as e.
const eventColumns = `e.id, e.sequence, e.webhook_id, e.message_id, e.status, e.version, e.occurred_at, e.state, e.attempts, e.attempted_at,
    CASE WHEN e.state = 'pending' AND e.due_at > now() THEN e.due_at END AS due_at,
    coalesce(e.http_status, 0) AS http_status, e.error`

type webhookEventRow struct {
	ID          uuid.UUID     `db:"id"`
	Sequence    int64         `db:"sequence"`
	WebhookID   uuid.UUID     `db:"webhook_id"`
	MessageID   uuid.NullUUID `db:"message_id"`
	Status      string        `db:"status"`
	Version     int64         `db:"version"`
	OccurredAt  time.Time     `db:"occurred_at"`
	State       string        `db:"state"`
	Attempts    int           `db:"attempts"`
	DueAt       *time.Time    `db:"due_at"`
	AttemptedAt *time.Time    `db:"attempted_at"`
	HTTPStatus  int           `db:"http_status"`
	Error       string        `db:"error"`
}

func (r webhookEventRow) event() webhook.Event {
	return webhook.Event{
		ID: r.ID, Sequence: r.Sequence, WebhookID: r.WebhookID, MessageID: r.MessageID.UUID, Status: mms.Status(r.Status), Version: r.Version,
		OccurredAt: r.OccurredAt, State: webhook.EventState(r.State), Attempts: r.Attempts, DueAt: r.DueAt, AttemptedAt: r.AttemptedAt,
		HTTPStatus: r.HTTPStatus, Error: r.Error,
	}
}

const insertTestEvent = `
INSERT INTO webhook_events AS e (webhook_id) SELECT id FROM webhooks WHERE id = $1 AND workspace_id = $2 AND disabled_at IS NULL
RETURNING ` + eventColumns

// CreateTestEvent adds a test event to the workspace's webhook, or returns
// webhook.ErrNotFound, also for a disabled webhook.
func (s *Store) CreateTestEvent(ctx context.Context, workspace, id uuid.UUID) (webhook.Event, error) {
	var row webhookEventRow
	err := s.db.GetContext(ctx, &row, insertTestEvent, id, workspace)
	if errors.Is(err, sql.ErrNoRows) {
		return webhook.Event{}, webhook.ErrNotFound
	}
	return row.event(), wrapError(err, "adding a test event")
}

const selectWebhookEvents = `
SELECT ` + eventColumns + ` FROM webhook_events e JOIN webhooks w ON w.id = e.webhook_id
WHERE w.id = $1 AND w.workspace_id = $2 AND ($3 = 0 OR e.sequence < $3) ORDER BY e.sequence DESC LIMIT $4`

// WebhookEvents returns a page of the events of the workspace's webhook, newest first,
// and true when older ones follow. before is the sequence number at which the page
// begins, exclusive; 0 for the newest.
func (s *Store) WebhookEvents(ctx context.Context, workspace, id uuid.UUID, before int64, limit int) ([]webhook.Event, bool, error) {
	var rows []webhookEventRow
	if err := s.db.SelectContext(ctx, &rows, selectWebhookEvents, id, workspace, before, limit+1); err != nil {
		return nil, false, wrapError(err, "listing a webhook's events")
	}
	events := make([]webhook.Event, min(len(rows), limit))
	for i := range events {
		events[i] = rows[i].event()
	}
	return events, len(rows) > limit, nil
}

const replayEvent = `
UPDATE webhook_events AS e SET state = 'pending', attempts = 0, due_at = now(), task_check_at = now()
FROM webhooks w WHERE e.id = $1 AND w.id = $2 AND w.workspace_id = $3 AND e.webhook_id = w.id AND w.disabled_at IS NULL
RETURNING ` + eventColumns

// ReplayEvent makes an event of the workspace's webhook pending again. It returns
// webhook.ErrNotFound, also for a disabled webhook.
func (s *Store) ReplayEvent(ctx context.Context, workspace, endpoint, id uuid.UUID) (webhook.Event, error) {
	var row webhookEventRow
	err := s.db.GetContext(ctx, &row, replayEvent, id, endpoint, workspace)
	if errors.Is(err, sql.ErrNoRows) {
		return webhook.Event{}, webhook.ErrNotFound
	}
	return row.event(), wrapError(err, "replaying an event")
}

// The order of locks: a statement that locks a webhook and its events locks the webhook
// first. Nothing locks two webhooks, and a statement that locks several events waits for
// them in the order of their ids or skips those that are locked. A trigger inserts events
// while it holds their message and the webhook FOR KEY SHARE, for which only the deletion
// of the webhook makes it wait; a deletion never waits for a message.

// released is the condition for an event to have a task or a call in progress. Workers of
// version 0.1.0 also set later times, for events that wait for a retry.
const released = `task_check_at > now() AND task_check_at <= now() + interval '1 minute'`

// maxCountedTasks bounds the count of a webhook's tasks. With the order, it makes the
// planner use webhook_events_released; the count could also read all pending events of
// the webhook by the other index.
const maxCountedTasks = `100`

// releaseInto gives a task to the oldest due events of the webhooks in the CTE free_slots,
// with the columns id, slow and free: how many more tasks a webhook may have. An event
// whose task is lost is released again after half a minute.
const releaseInto = `, picked AS (
    SELECT due.id FROM free_slots f, LATERAL (
        SELECT e.id FROM webhook_events e WHERE e.webhook_id = f.id AND e.state = 'pending' AND e.due_at <= now() AND e.task_check_at <= now()
        ORDER BY e.due_at LIMIT greatest(f.free, 0) FOR UPDATE SKIP LOCKED
    ) due LIMIT $1
)
UPDATE webhook_events SET generation = generation + 1, task_check_at = now() + interval '30 seconds'
WHERE id = ANY (ARRAY(SELECT id FROM picked))
RETURNING id, generation, webhook_id, (SELECT slow FROM free_slots f WHERE f.id = webhook_id) AS slow`

// pendingWebhooks starts a statement with the CTE pending: the webhooks with pending
// events. It reads one entry of the index for each, however many events they have.
const pendingWebhooks = `
WITH RECURSIVE pending AS (
    (SELECT webhook_id FROM webhook_events WHERE state = 'pending' ORDER BY webhook_id LIMIT 1)
    UNION ALL
    SELECT (SELECT e.webhook_id FROM webhook_events e WHERE e.state = 'pending' AND e.webhook_id > pending.webhook_id ORDER BY e.webhook_id LIMIT 1)
    FROM pending WHERE pending.webhook_id IS NOT NULL
)`

// releaseEvents releases events of each webhook until it has as many tasks as slots.
const releaseEvents = pendingWebhooks + `, free_slots AS (
    SELECT w.id, w.slow, w.slots - (SELECT count(*) FROM (
        SELECT FROM webhook_events e WHERE e.webhook_id = w.id AND e.state = 'pending' AND ` + released + `
        ORDER BY e.task_check_at LIMIT ` + maxCountedTasks + `) tasks) AS free
    FROM pending JOIN webhooks w ON w.id = pending.webhook_id WHERE w.disabled_at IS NULL AND w.next_call_at <= now()
)` + releaseInto

// hasPendingEvents spares a worker at rest the transaction of a release.
const hasPendingEvents = `SELECT EXISTS (SELECT FROM webhook_events WHERE state = 'pending')`

const lockRelease = `SELECT pg_try_advisory_xact_lock(hashtextextended('release webhook events', 0))`

type releasedRow struct {
	ID         uuid.UUID `db:"id"`
	Generation int       `db:"generation"`
	WebhookID  uuid.UUID `db:"webhook_id"`
	Slow       bool      `db:"slow"`
}

// ReleaseWebhookEvents gives a task to up to limit due events, at most as many of each
// webhook as it has slots free. The webhooks take turns in the tasks that it returns. It
// returns none while another process does the same, because both would fill the same slots.
func (s *Store) ReleaseWebhookEvents(ctx context.Context, limit int) ([]webhook.Task, error) {
	const doing = "releasing webhook events"
	ctx, cancel := s.db.withTimeout(ctx)
	defer cancel()
	var pending bool
	if err := s.db.GetContext(ctx, &pending, hasPendingEvents); err != nil || !pending {
		return nil, wrapError(err, doing)
	}
	tx, err := s.db.BeginTxx(ctx, nil)
	if err != nil {
		return nil, wrapError(err, doing)
	}
	defer func() { _ = tx.Rollback() }()
	var locked bool
	if err := tx.GetContext(ctx, &locked, lockRelease); err != nil || !locked {
		return nil, wrapError(err, doing)
	}
	var rows []releasedRow // counted after the lock, in the snapshot of the second statement
	if err := tx.SelectContext(ctx, &rows, releaseEvents, limit); err != nil {
		return nil, wrapError(err, doing)
	}
	if err := tx.Commit(); err != nil {
		return nil, wrapError(err, doing)
	}
	return takeTurns(rows), nil
}

// takeTurns returns the tasks ordered so that no webhook has its second before every
// other has its first, and so on.
func takeTurns(rows []releasedRow) []webhook.Task {
	turns := make(map[uuid.UUID]int, len(rows))
	var rounds [][]webhook.Task
	for _, row := range rows {
		turn := turns[row.WebhookID]
		turns[row.WebhookID]++
		if turn == len(rounds) {
			rounds = append(rounds, nil)
		}
		rounds[turn] = append(rounds[turn], row.task())
	}
	return slices.Concat(rounds...)
}

func (r releasedRow) task() webhook.Task {
	return webhook.Task{EventID: r.ID, Generation: r.Generation, Slow: r.Slow}
}

// failEvents fails pending events of disabled webhooks. Recording the delivery that
// disables a webhook leaves this to it: there may be too many for one statement.
const failEvents = pendingWebhooks + `
UPDATE webhook_events SET state = 'failed', error = left('The webhook was disabled. ' || error, $2)
WHERE id = ANY (ARRAY(
    SELECT left_over.id FROM pending JOIN webhooks w ON w.id = pending.webhook_id AND w.disabled_at IS NOT NULL, LATERAL (
        SELECT e.id FROM webhook_events e WHERE e.webhook_id = w.id AND e.state = 'pending' LIMIT $1 FOR UPDATE SKIP LOCKED
    ) left_over LIMIT $1
))`

// FailEventsOfDisabledWebhooks fails up to limit pending events of disabled webhooks and
// returns how many.
func (s *Store) FailEventsOfDisabledWebhooks(ctx context.Context, limit int) (int, error) {
	const doing = "failing events of disabled webhooks"
	result, err := s.db.ExecContext(ctx, failEvents, limit, webhook.MaxError)
	if err != nil {
		return 0, wrapError(err, doing)
	}
	n, err := result.RowsAffected()
	return int(n), wrapError(err, doing)
}

// claimEvent begins a delivery attempt of a released event. The event is not due for $2
// seconds, so no other attempt begins meanwhile. The lock makes the claim wait for a
// statement that disables the webhook, or marks it as slow, and then see the change. $3 is
// whether the webhook may be slow. The event is found by its id alone: with its webhook, the planner
// might read webhook_events_released instead.
const claimEvent = `
WITH w AS (
    SELECT id, url, secret, old_secret, old_secret_until, slots, slow, failing_since FROM webhooks
    WHERE id = (SELECT webhook_id FROM webhook_events WHERE id = $1) AND disabled_at IS NULL AND (NOT slow OR $3)
    FOR SHARE
), e AS (
    UPDATE webhook_events SET attempts = attempts + 1, attempted_at = now(), due_at = now() + $2 * interval '1 second',
        task_check_at = now() + $2 * interval '1 second'
    FROM w WHERE webhook_events.id = $1 AND state = 'pending' AND due_at <= now() AND task_check_at > now()
    RETURNING webhook_events.*
)
SELECT ` + eventColumns + `, e.reason AS event_reason, e.plivo_code AS event_code, now() AS now,
    w.url, w.secret, w.slots = $4 AND NOT w.slow AND w.failing_since IS NULL AS settled,
    CASE WHEN w.old_secret_until > now() THEN w.old_secret ELSE '' END AS old_secret
FROM e JOIN w ON w.id = e.webhook_id`

const selectMessageByID = `
SELECT ` + messageColumns + `, ` + mediaOfMessage + `
FROM messages m WHERE m.id = $1`

// ClaimWebhookEvent begins a delivery attempt that may take up to lease. It returns
// false when the event is not due, has not been released, or is not pending, when its
// webhook is disabled, and when the webhook is slow and maySlow is false.
func (s *Store) ClaimWebhookEvent(ctx context.Context, id uuid.UUID, lease time.Duration, maySlow bool) (webhook.Delivery, bool, error) {
	var row struct {
		webhookEventRow
		Reason    string    `db:"event_reason"`
		PlivoCode string    `db:"event_code"`
		Now       time.Time `db:"now"`
		URL       string    `db:"url"`
		Secret    string    `db:"secret"`
		OldSecret string    `db:"old_secret"`
		Settled   bool      `db:"settled"`
	}
	err := s.db.GetContext(ctx, &row, claimEvent, id, lease.Seconds(), maySlow, webhook.MaxSlots)
	if errors.Is(err, sql.ErrNoRows) {
		return webhook.Delivery{}, false, nil
	}
	if err != nil {
		return webhook.Delivery{}, false, wrapError(err, "claiming a webhook event")
	}
	delivery := webhook.Delivery{
		Event: row.event(), URL: row.URL, Secret: webhook.Secret(row.Secret), OldSecret: webhook.Secret(row.OldSecret),
		Settled: row.Settled, Now: row.Now,
	}
	if !row.MessageID.Valid {
		return delivery, true, nil
	}
	var message messageRow
	if err := s.db.GetContext(ctx, &message, selectMessageByID, row.MessageID.UUID); err != nil {
		return webhook.Delivery{}, false, wrapError(err, "reading the message of a webhook event")
	}
	delivery.Message = webhook.AsOf(message.message(), delivery.Event, mms.Reason(row.Reason), mms.ErrorCode(row.PlivoCode))
	return delivery, true, nil
}

const markSlow = `
WITH w AS (
    UPDATE webhooks SET slow = true WHERE id = $1 AND NOT slow RETURNING id
)
UPDATE webhook_events SET task_check_at = now() WHERE id IN (
    SELECT e.id FROM webhook_events e WHERE e.webhook_id = (SELECT id FROM w) AND e.state = 'pending' AND e.due_at <= now() AND ` + released + `
    ORDER BY e.id FOR UPDATE)`

// MarkWebhookSlow marks a webhook as slow and takes back the tasks of its events that
// have not been claimed.
func (s *Store) MarkWebhookSlow(ctx context.Context, id uuid.UUID) error {
	_, err := s.db.ExecContext(ctx, markSlow, id)
	return wrapError(err, "marking a webhook as slow")
}

// maxNextEvents is how many events follow a delivery: one in its slot, and one in the
// slot that the webhook gains by a success.
const maxNextEvents = 2

// recordResult is the part of recordDelivery that changes the event, of the webhook in
// the CTE w. Parameters: $1 maxNextEvents, $2 event, $3 number of the attempt, $4 whether
// it succeeded, $5 HTTP status, $6 error, $7 seconds until the next attempt, NULL for
// none. A result also counts for an event that failed because its webhook was disabled
// during the call; without a success it stays failed.
const recordResult = `, e AS (
    UPDATE webhook_events SET http_status = nullif($5, 0), error = $6,
        state = CASE WHEN $4 THEN 'delivered' WHEN $7::float8 IS NULL OR w.disabled_at < now() THEN 'failed' ELSE 'pending' END,
        due_at = now() + coalesce($7::float8, 0) * interval '1 second', task_check_at = now()
    FROM w WHERE webhook_events.id = $2 AND webhook_id = w.id AND attempts = $3 AND state <> 'delivered' RETURNING webhook_id
)`

// recordDelivery records the result of a delivery attempt and releases the next events
// of the webhook. A success earns a slot, a failure costs half of them, a slow failure
// all but one. Slow failures pause the webhook for up to a minute, and a receiver that asks
// us to wait pauses it for up to webhook.MaxPause; other calls that end during a pause
// neither lengthen nor end it. Nothing changes in a webhook that is disabled. The statement
// locks the webhook once, by its change: a lock before the change can deadlock with others
// that wait for the webhook. Parameters: see recordResult, and $8 webhook, $9 the largest
// number of slots, $10 whether the endpoint is gone, $11 how many seconds a webhook may fail
// before it is disabled, $12 whether the call was quick, $13 for how many seconds the
// receiver pauses the webhook.
const recordDelivery = `
WITH w AS (
    UPDATE webhooks SET failing_since = CASE WHEN disabled_at IS NOT NULL THEN failing_since WHEN NOT $4 THEN coalesce(failing_since, now()) END,
        disabled_at = CASE WHEN disabled_at IS NOT NULL THEN disabled_at
            WHEN $10 OR NOT $4 AND failing_since < now() - $11 * interval '1 second' THEN now() END,
        disabled_reason = CASE WHEN disabled_at IS NOT NULL THEN disabled_reason
            WHEN $10 THEN 'gone' WHEN NOT $4 AND failing_since < now() - $11 * interval '1 second' THEN 'failing' ELSE '' END,
        slots = CASE WHEN disabled_at IS NOT NULL THEN slots WHEN $4 THEN least(slots + 1, $9) WHEN $12 THEN greatest(slots / 2, 1) ELSE 1 END,
        slow = CASE WHEN disabled_at IS NOT NULL THEN slow ELSE NOT $12 END,
        slow_failures = CASE WHEN disabled_at IS NOT NULL THEN slow_failures
            WHEN $4 OR $12 THEN 0 WHEN next_call_at > now() THEN slow_failures ELSE slow_failures + 1 END,
        next_call_at = CASE WHEN disabled_at IS NOT NULL THEN next_call_at
            WHEN $13 > 0 THEN greatest(next_call_at, now() + $13 * interval '1 second')
            WHEN $4 OR $12 OR next_call_at > now() THEN next_call_at
            ELSE now() + least(power(2, least(slow_failures, 6)), 60) * interval '1 second' END
    WHERE id = $8 AND EXISTS (SELECT FROM webhook_events WHERE id = $2 AND attempts = $3 AND state <> 'delivered')
    RETURNING id, slow, slots, disabled_at, next_call_at
)` + recordResult + `, free_slots AS (
    SELECT w.id, w.slow, least($1, w.slots - (SELECT count(*) FROM (
        SELECT FROM webhook_events e WHERE e.webhook_id = w.id AND e.state = 'pending' AND e.id <> $2 AND ` + released + `
        ORDER BY e.task_check_at LIMIT ` + maxCountedTasks + `) tasks)) AS free
    FROM w JOIN e ON e.webhook_id = w.id WHERE w.disabled_at IS NULL AND w.next_call_at <= now()
)` + releaseInto

// recordSettledDelivery is recordDelivery for a quick success of a webhook for which it
// changes nothing. It does not lock the webhook, so that its deliveries do not wait for
// each other, and counts nothing: the next event takes the slot of this one, unless the
// webhook has lost slots meanwhile.
const recordSettledDelivery = `
WITH w AS (
    SELECT id, disabled_at FROM webhooks WHERE id = $8
)` + recordResult + `, free_slots AS (
    SELECT webhooks.id, slow, least($1, 1) AS free FROM webhooks JOIN e ON webhooks.id = e.webhook_id
    WHERE disabled_at IS NULL AND next_call_at <= now() AND slots = $9
)` + releaseInto

// RecordWebhookDelivery records the result of a delivery attempt, and returns tasks for
// the next events of the webhook. next is the time until the next attempt; nil means that
// there is none. The webhook is disabled when its endpoint is gone or has failed for
// webhook.DisableAfter.
func (s *Store) RecordWebhookDelivery(ctx context.Context, d webhook.Delivery, result webhook.DeliveryResult, next *time.Duration) ([]webhook.Task, error) {
	var wait sql.NullFloat64
	if next != nil {
		wait = sql.NullFloat64{Float64: next.Seconds(), Valid: true}
	}
	query := recordSettledDelivery
	args := []any{maxNextEvents, d.ID, d.Attempts, result.OK, result.HTTPStatus, result.Error, wait, d.WebhookID, webhook.MaxSlots}
	if !d.Settled || !result.OK || !result.Quick {
		query = recordDelivery
		args = append(args, result.Gone(), webhook.DisableAfter.Seconds(), result.Quick, result.Pause().Seconds())
	}
	var rows []releasedRow
	if err := s.db.SelectContext(ctx, &rows, query, args...); err != nil {
		return nil, wrapError(err, "recording a webhook delivery")
	}
	return takeTurns(rows), nil
}

const deleteOldEvents = `
DELETE FROM webhook_events WHERE id IN (
    SELECT id FROM webhook_events WHERE occurred_at < now() - interval '30 days' AND state <> 'pending' LIMIT $1 FOR UPDATE SKIP LOCKED)`
