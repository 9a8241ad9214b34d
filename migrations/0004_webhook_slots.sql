-- Shares the delivery slots between webhooks by how their endpoints answered lately.

-- +goose Up

ALTER TABLE webhooks
    ADD COLUMN slots         smallint    NOT NULL DEFAULT 1 CHECK (slots > 0), -- calls at a time, over all workers
    ADD COLUMN slow          boolean     NOT NULL DEFAULT false,               -- the last call took long; see webhook.Patience
    ADD COLUMN slow_failures int         NOT NULL DEFAULT 0,                   -- failed calls in a row that took long
    ADD COLUMN next_call_at  timestamptz NOT NULL DEFAULT '-infinity';         -- no call before it, after such failures

-- A pending event has a task, or a call in progress, until task_check_at. These indexes
-- find the events of a webhook that are due, and count those that have a task.
CREATE INDEX webhook_events_due ON webhook_events (webhook_id, due_at) WHERE state = 'pending';
CREATE INDEX webhook_events_released ON webhook_events (webhook_id, task_check_at) WHERE state = 'pending';
DROP INDEX webhook_events_pending;

-- The lock makes the statement wait for a deletion of the webhook and then skip it.
-- Without it the change of the message would fail: the foreign key would be violated.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION create_webhook_events() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO webhook_events (webhook_id, message_id, status, version, reason, plivo_code)
    SELECT w.id, NEW.id, NEW.status, NEW.version, NEW.reason, NEW.plivo_code FROM webhooks w
    WHERE w.user_id = NEW.user_id AND w.disabled_at IS NULL AND (w.statuses = '{}' OR NEW.status = ANY (w.statuses))
    FOR KEY SHARE;
    RETURN NULL;
END $$;
-- +goose StatementEnd

-- +goose Down

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION create_webhook_events() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO webhook_events (webhook_id, message_id, status, version, reason, plivo_code)
    SELECT w.id, NEW.id, NEW.status, NEW.version, NEW.reason, NEW.plivo_code FROM webhooks w
    WHERE w.user_id = NEW.user_id AND w.disabled_at IS NULL AND (w.statuses = '{}' OR NEW.status = ANY (w.statuses));
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE INDEX webhook_events_pending ON webhook_events (task_check_at) WHERE state = 'pending';
DROP INDEX webhook_events_due, webhook_events_released;
ALTER TABLE webhooks DROP COLUMN slots, DROP COLUMN slow, DROP COLUMN slow_failures, DROP COLUMN next_call_at;
