-- A change of a message's status no longer fails when a webhook is deleted at the same
-- moment.

-- +goose Up

-- FOR KEY SHARE waits for the deletion, and then leaves the webhook out. Without it the
-- event violates its foreign key.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION create_webhook_events() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO webhook_events (webhook_id, message_id, status, version, reason, plivo_code)
    SELECT w.id, NEW.id, NEW.status, NEW.version, NEW.reason, NEW.plivo_code FROM webhooks w
    WHERE w.user_id = NEW.user_id AND w.disabled_at IS NULL AND (w.statuses = '{}' OR NEW.status = ANY (w.statuses))
    FOR KEY SHARE OF w;
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
