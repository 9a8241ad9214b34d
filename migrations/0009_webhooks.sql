-- Users' own endpoints, which are told what happens to their messages.

-- +goose Up

CREATE TABLE webhooks (
    id               uuid        PRIMARY KEY, -- UUIDv7
    user_id          uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    url              text        NOT NULL CHECK (length(url) <= 2000),
    description      text        NOT NULL DEFAULT '' CHECK (length(description) <= 200),
    statuses         text[]      NOT NULL DEFAULT '{}', -- it is told of these; empty: of all
    secret           text        NOT NULL,              -- signs what it is told; whoever can send from here knows it
    old_secret       text,
    old_secret_until timestamptz,                       -- until then the old secret signs, too
    failing_since    timestamptz,                       -- the first failure after the last success
    disabled_at      timestamptz,
    disabled_why     text        NOT NULL DEFAULT '' CHECK (disabled_why IN ('', 'failing', 'gone')),
    created_at       timestamptz NOT NULL DEFAULT now(),
    CHECK ((disabled_at IS NULL) = (disabled_why = '')),
    CHECK ((old_secret IS NULL) = (old_secret_until IS NULL))
);
CREATE INDEX webhooks_of_user ON webhooks (user_id);

-- What a webhook is told: one event, until it has taken it.
CREATE TABLE webhook_events (
    id          uuid        PRIMARY KEY DEFAULT gen_random_uuid(), -- the same at each try: receivers can tell doubles
    number      bigint      GENERATED ALWAYS AS IDENTITY,
    webhook_id  uuid        NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    message_id  uuid        REFERENCES messages (id) ON DELETE CASCADE, -- NULL: a test
    status      text        NOT NULL DEFAULT '',
    version     bigint      NOT NULL DEFAULT 0, -- of the message: receivers can sort
    reason      text        NOT NULL DEFAULT '',
    plivo_code  text        NOT NULL DEFAULT '',
    occurred_at timestamptz NOT NULL DEFAULT now(),
    state       text        NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'failed')),
    tries       int         NOT NULL DEFAULT 0,
    generation  int         NOT NULL DEFAULT 0,         -- part of the task id
    due_at      timestamptz NOT NULL DEFAULT now(),     -- when the next try is due
    look_at     timestamptz NOT NULL DEFAULT now(),     -- when it is looked whether the event still has its task
    tried_at    timestamptz,
    http_status int,
    error       text        NOT NULL DEFAULT '' CHECK (length(error) <= 500)
);
CREATE INDEX webhook_events_log ON webhook_events (webhook_id, number DESC);
CREATE INDEX webhook_events_pending ON webhook_events (look_at) WHERE state = 'pending';
CREATE INDEX webhook_events_of_message ON webhook_events (message_id);
CREATE INDEX webhook_events_age ON webhook_events (occurred_at);

-- A change of status and the events that tell of it are one transaction,
-- whatever statement makes the change.
-- +goose StatementBegin
CREATE FUNCTION tell_webhooks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO webhook_events (webhook_id, message_id, status, version, reason, plivo_code)
    SELECT w.id, NEW.id, NEW.status, NEW.version, NEW.reason, NEW.plivo_code FROM webhooks w
    WHERE w.user_id = NEW.user_id AND w.disabled_at IS NULL AND (w.statuses = '{}' OR NEW.status = ANY (w.statuses));
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER messages_tell_webhooks AFTER UPDATE OF status ON messages FOR EACH ROW
    WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION tell_webhooks();

-- +goose Down

DROP TRIGGER messages_tell_webhooks ON messages;
DROP FUNCTION tell_webhooks;
DROP TABLE webhook_events, webhooks;
