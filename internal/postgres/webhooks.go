package postgres

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/webhook"
)

// webhookColumns are the columns of a webhookRow. The table must be aliased as w.
const webhookColumns = `w.id, w.user_id, w.url, w.description, w.statuses, w.created_at, w.failing_since, w.disabled_at, w.disabled_reason,
    CASE WHEN w.old_secret_until > now() THEN w.old_secret_until END AS old_secret_until`

type webhookRow struct {
	ID             uuid.UUID      `db:"id"`
	UserID         uuid.UUID      `db:"user_id"`
	URL            string         `db:"url"`
	Description    string         `db:"description"`
	Statuses       pq.StringArray `db:"statuses"`
	CreatedAt      time.Time      `db:"created_at"`
	FailingSince   *time.Time     `db:"failing_since"`
	DisabledAt     *time.Time     `db:"disabled_at"`
	DisabledReason string         `db:"disabled_reason"`
	OldSecretUntil *time.Time     `db:"old_secret_until"`
}

func (r webhookRow) webhook() webhook.Endpoint {
	w := webhook.Endpoint{
		ID: r.ID, Owner: r.UserID, URL: r.URL, Description: r.Description, CreatedAt: r.CreatedAt, FailingSince: r.FailingSince,
		DisabledAt: r.DisabledAt, DisabledReason: r.DisabledReason, OldSecretUntil: r.OldSecretUntil,
	}
	for _, status := range r.Statuses {
		w.Statuses = append(w.Statuses, mms.Status(status))
	}
	return w
}

const insertWebhook = `
INSERT INTO webhooks AS w (id, user_id, url, description, statuses, secret)
SELECT $1, $2, $3, $4, coalesce($5, '{}'::text[]), $6 WHERE (SELECT count(*) FROM webhooks WHERE user_id = $2) < $7
RETURNING ` + webhookColumns

// CreateWebhook adds a webhook, or returns webhook.ErrTooMany when its owner has
// webhook.MaxEndpoints.
func (s *Store) CreateWebhook(ctx context.Context, w webhook.Endpoint, secret webhook.Secret) (webhook.Endpoint, error) {
	var row webhookRow
	err := s.db.GetContext(ctx, &row, insertWebhook, w.ID, w.Owner, w.URL, w.Description, pq.Array(w.Statuses), string(secret), webhook.MaxEndpoints)
	if errors.Is(err, sql.ErrNoRows) {
		return webhook.Endpoint{}, webhook.ErrTooMany
	}
	return row.webhook(), wrapError(err, "adding a webhook")
}

const selectWebhooks = `SELECT ` + webhookColumns + ` FROM webhooks w WHERE user_id = $1 ORDER BY id`

// Webhooks returns the owner's webhooks.
func (s *Store) Webhooks(ctx context.Context, owner uuid.UUID) ([]webhook.Endpoint, error) {
	var rows []webhookRow
	if err := s.db.SelectContext(ctx, &rows, selectWebhooks, owner); err != nil {
		return nil, wrapError(err, "listing webhooks")
	}
	webhooks := make([]webhook.Endpoint, len(rows))
	for i, row := range rows {
		webhooks[i] = row.webhook()
	}
	return webhooks, nil
}

const selectWebhook = `SELECT ` + webhookColumns + ` FROM webhooks w WHERE id = $1 AND user_id = $2`

// Webhook returns the owner's webhook, or webhook.ErrNotFound.
func (s *Store) Webhook(ctx context.Context, owner, id uuid.UUID) (webhook.Endpoint, error) {
	var row webhookRow
	err := s.db.GetContext(ctx, &row, selectWebhook, id, owner)
	if errors.Is(err, sql.ErrNoRows) {
		return webhook.Endpoint{}, webhook.ErrNotFound
	}
	return row.webhook(), wrapError(err, "reading a webhook")
}

const deleteWebhook = `DELETE FROM webhooks WHERE id = $1 AND user_id = $2`

// DeleteWebhook deletes the owner's webhook and its events, or returns
// webhook.ErrNotFound.
func (s *Store) DeleteWebhook(ctx context.Context, owner, id uuid.UUID) error {
	return s.updateWebhook(ctx, "deleting a webhook", deleteWebhook, id, owner)
}

const rotateSecret = `
UPDATE webhooks SET old_secret = secret, old_secret_until = now() + $4 * interval '1 second', secret = $3
WHERE id = $1 AND user_id = $2`

// RotateSecret replaces the secret of the owner's webhook. The old secret signs
// deliveries too for webhook.SecretOverlap. It returns webhook.ErrNotFound.
func (s *Store) RotateSecret(ctx context.Context, owner, id uuid.UUID, secret webhook.Secret) error {
	return s.updateWebhook(ctx, "rotating a webhook's secret", rotateSecret, id, owner, string(secret), webhook.SecretOverlap.Seconds())
}

const enableWebhook = `
UPDATE webhooks SET disabled_at = NULL, disabled_reason = '', failing_since = NULL WHERE id = $1 AND user_id = $2`

// EnableWebhook enables the owner's webhook after it was disabled, or returns
// webhook.ErrNotFound.
func (s *Store) EnableWebhook(ctx context.Context, owner, id uuid.UUID) error {
	return s.updateWebhook(ctx, "enabling a webhook", enableWebhook, id, owner)
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
const eventColumns = `e.id, e.sequence, e.webhook_id, e.message_id, e.status, e.version, e.occurred_at, e.state, e.attempts, e.due_at, e.attempted_at,
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
	DueAt       time.Time     `db:"due_at"`
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
INSERT INTO webhook_events AS e (webhook_id) SELECT id FROM webhooks WHERE id = $1 AND user_id = $2 AND disabled_at IS NULL
RETURNING ` + eventColumns

// CreateTestEvent adds a test event to the owner's webhook, or returns
// webhook.ErrNotFound, also for a disabled webhook.
func (s *Store) CreateTestEvent(ctx context.Context, owner, id uuid.UUID) (webhook.Event, error) {
	var row webhookEventRow
	err := s.db.GetContext(ctx, &row, insertTestEvent, id, owner)
	if errors.Is(err, sql.ErrNoRows) {
		return webhook.Event{}, webhook.ErrNotFound
	}
	return row.event(), wrapError(err, "adding a test event")
}

const selectWebhookEvents = `
SELECT ` + eventColumns + ` FROM webhook_events e JOIN webhooks w ON w.id = e.webhook_id
WHERE w.id = $1 AND w.user_id = $2 AND ($3 = 0 OR e.sequence < $3) ORDER BY e.sequence DESC LIMIT $4`

// WebhookEvents returns a page of the events of the owner's webhook, newest first,
// and true when older ones follow. before is the sequence number at which the page
// begins, exclusive; 0 for the newest.
func (s *Store) WebhookEvents(ctx context.Context, owner, id uuid.UUID, before int64, limit int) ([]webhook.Event, bool, error) {
	var rows []webhookEventRow
	if err := s.db.SelectContext(ctx, &rows, selectWebhookEvents, id, owner, before, limit+1); err != nil {
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
FROM webhooks w WHERE e.id = $1 AND w.id = $2 AND w.user_id = $3 AND e.webhook_id = w.id AND w.disabled_at IS NULL
RETURNING ` + eventColumns

// ReplayEvent makes an event of the owner's webhook pending again. It returns
// webhook.ErrNotFound, also for a disabled webhook.
func (s *Store) ReplayEvent(ctx context.Context, owner, endpoint, id uuid.UUID) (webhook.Event, error) {
	var row webhookEventRow
	err := s.db.GetContext(ctx, &row, replayEvent, id, endpoint, owner)
	if errors.Is(err, sql.ErrNoRows) {
		return webhook.Event{}, webhook.ErrNotFound
	}
	return row.event(), wrapError(err, "replaying an event")
}

const takeEvents = `
UPDATE webhook_events SET generation = generation + 1,
    task_check_at = now() + least(greatest(now() - occurred_at, interval '30 seconds'), interval '10 minutes')
WHERE id IN (
    SELECT e.id FROM webhook_events e WHERE e.state = 'pending' AND e.task_check_at <= now()
    ORDER BY e.task_check_at LIMIT $1 FOR UPDATE SKIP LOCKED
)
RETURNING id, generation`

// TakeWebhookEvents returns a task with a new generation for each of up to limit
// pending events that have no task yet, or may have lost it.
func (s *Store) TakeWebhookEvents(ctx context.Context, limit int) ([]webhook.Task, error) {
	var rows []struct {
		ID         uuid.UUID `db:"id"`
		Generation int       `db:"generation"`
	}
	if err := s.db.SelectContext(ctx, &rows, takeEvents, limit); err != nil {
		return nil, wrapError(err, "taking webhook events")
	}
	tasks := make([]webhook.Task, len(rows))
	for i, row := range rows {
		tasks[i] = webhook.Task{EventID: row.ID, Generation: row.Generation}
	}
	return tasks, nil
}

// claimEvent begins a delivery attempt. The event is not due for $2 seconds, so nobody
// else attempts it meanwhile.
const claimEvent = `
WITH e AS (
    UPDATE webhook_events SET attempts = attempts + 1, attempted_at = now(), due_at = now() + $2 * interval '1 second',
        task_check_at = now() + ($2 + 1) * interval '1 second'
    FROM webhooks w WHERE webhook_events.id = $1 AND state = 'pending' AND due_at <= now() AND w.id = webhook_id AND w.disabled_at IS NULL
    RETURNING webhook_events.*
)
SELECT ` + eventColumns + `, e.reason AS event_reason, e.plivo_code AS event_code, now() AS now,
    w.url, w.secret, w.failing_since IS NOT NULL AS failing,
    CASE WHEN w.old_secret_until > now() THEN w.old_secret ELSE '' END AS old_secret
FROM e JOIN webhooks w ON w.id = e.webhook_id`

const selectMessageByID = `
SELECT ` + messageColumns + `, ` + mediaOfMessage + `
FROM messages m WHERE m.id = $1`

const selectEventDue = `
SELECT greatest(0, extract(epoch FROM e.due_at - now())) AS wait FROM webhook_events e JOIN webhooks w ON w.id = e.webhook_id
WHERE e.id = $1 AND e.state = 'pending' AND w.disabled_at IS NULL`

// WebhookEventDue returns the time until the next delivery attempt of a pending event;
// false when there will be none.
func (s *Store) WebhookEventDue(ctx context.Context, id uuid.UUID) (time.Duration, bool, error) {
	var wait float64
	err := s.db.GetContext(ctx, &wait, selectEventDue, id)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, false, nil
	}
	return seconds(wait), err == nil, wrapError(err, "reading when a webhook event is due")
}

// ClaimWebhookEvent begins a delivery attempt that may take up to lease. It returns
// false when the event is not due or not pending.
func (s *Store) ClaimWebhookEvent(ctx context.Context, id uuid.UUID, lease time.Duration) (webhook.Delivery, bool, error) {
	var row struct {
		webhookEventRow
		Reason    string    `db:"event_reason"`
		PlivoCode string    `db:"event_code"`
		Now       time.Time `db:"now"`
		URL       string    `db:"url"`
		Secret    string    `db:"secret"`
		OldSecret string    `db:"old_secret"`
		Failing   bool      `db:"failing"`
	}
	err := s.db.GetContext(ctx, &row, claimEvent, id, lease.Seconds())
	if errors.Is(err, sql.ErrNoRows) {
		return webhook.Delivery{}, false, nil
	}
	if err != nil {
		return webhook.Delivery{}, false, wrapError(err, "claiming a webhook event")
	}
	delivery := webhook.Delivery{
		Event: row.event(), URL: row.URL, Secret: webhook.Secret(row.Secret), OldSecret: webhook.Secret(row.OldSecret),
		Failing: row.Failing, Now: row.Now,
	}
	if !row.MessageID.Valid {
		return delivery, true, nil
	}
	var message messageRow
	if err := s.db.GetContext(ctx, &message, selectMessageByID, row.MessageID.UUID); err != nil {
		return webhook.Delivery{}, false, wrapError(err, "reading the message of a webhook event")
	}
	delivery.Message = webhook.AsOf(message.message(), delivery.Event, mms.Reason(row.Reason), row.PlivoCode)
	return delivery, true, nil
}

const postponeEvent = `
UPDATE webhook_events SET attempts = attempts - 1, due_at = now() + $3 * interval '1 second', task_check_at = now() + ($3 + 30) * interval '1 second'
WHERE id = $1 AND attempts = $2 AND state = 'pending'`

// PostponeWebhookEvent undoes a claim without an attempt; the event is due again after
// wait.
func (s *Store) PostponeWebhookEvent(ctx context.Context, d webhook.Delivery, wait time.Duration) error {
	_, err := s.db.ExecContext(ctx, postponeEvent, d.ID, d.Attempts, wait.Seconds())
	return wrapError(err, "postponing a webhook event")
}

// recordDelivery records the result of a delivery attempt. Parameters: $1 event,
// $2 number of the attempt, $3 whether it succeeded, $4 HTTP status, $5 error,
// $6 seconds until the next attempt, NULL for none, $7 whether the endpoint is gone,
// $8 how many seconds a webhook may fail before it is disabled.
const recordDelivery = `
WITH e AS (
    UPDATE webhook_events SET http_status = nullif($4, 0), error = $5,
        state = CASE WHEN $3 THEN 'delivered' WHEN $6::float8 IS NULL THEN 'failed' ELSE state END,
        due_at = now() + coalesce($6::float8, 0) * interval '1 second', task_check_at = now() + (coalesce($6::float8, 0) + 30) * interval '1 second'
    WHERE id = $1 AND attempts = $2 AND state = 'pending' RETURNING webhook_id
), w AS (
    UPDATE webhooks SET failing_since = CASE WHEN NOT $3 THEN coalesce(failing_since, now()) END,
        disabled_at = CASE WHEN $7 OR NOT $3 AND failing_since < now() - $8 * interval '1 second' THEN now() END,
        disabled_reason = CASE WHEN $7 THEN 'gone' WHEN NOT $3 AND failing_since < now() - $8 * interval '1 second' THEN 'failing' ELSE '' END
    FROM e WHERE webhooks.id = e.webhook_id AND disabled_at IS NULL
        AND (failing_since IS NOT NULL OR NOT $3)
    RETURNING webhooks.id, disabled_at
)
UPDATE webhook_events SET state = 'failed', error = 'The webhook was disabled.'
FROM w WHERE w.disabled_at IS NOT NULL AND webhook_id = w.id AND state = 'pending' AND webhook_events.id <> $1`

// RecordWebhookDelivery records the result of a delivery attempt. next is the time
// until the next attempt; nil means that there is none. The webhook is disabled when
// its endpoint is gone or has failed for webhook.DisableAfter.
func (s *Store) RecordWebhookDelivery(ctx context.Context, d webhook.Delivery, result webhook.DeliveryResult, next *time.Duration) error {
	var wait sql.NullFloat64
	if next != nil {
		wait = sql.NullFloat64{Float64: next.Seconds(), Valid: true}
	}
	_, err := s.db.ExecContext(ctx, recordDelivery, d.ID, d.Attempts, result.OK, result.HTTPStatus, result.Error, wait, result.Gone(), webhook.DisableAfter.Seconds())
	return wrapError(err, "recording a webhook delivery")
}

const deleteOldEvents = `
DELETE FROM webhook_events WHERE id IN (
    SELECT id FROM webhook_events WHERE occurred_at < now() - interval '30 days' AND state <> 'pending' LIMIT $1)`
