-- The tables of Postcard. Postgres is the record of every message; Redis only
-- holds hints about what to look at next. Every time is the database's own.

-- +goose Up

CREATE TABLE users (
    id            uuid        PRIMARY KEY,
    email         text        NOT NULL CHECK (email = lower(email) AND email LIKE '_%@_%' AND length(email) <= 254),
    password_hash text        NOT NULL CHECK (length(password_hash) = 60), -- bcrypt
    role          text        NOT NULL CHECK (role IN ('sender', 'admin')),
    created_at    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT users_email_taken UNIQUE (email)
);

-- Columns as scs's postgresstore reads them.
CREATE TABLE sessions (
    token  text        PRIMARY KEY,
    data   bytea       NOT NULL,
    expiry timestamptz NOT NULL
);
CREATE INDEX sessions_expiry ON sessions (expiry);

-- How often something was tried in the current window, e.g. logins to one
-- account. The key is a hash: it names nobody.
CREATE TABLE throttles (
    key         bytea       PRIMARY KEY CHECK (length(key) = 32),
    tries       int         NOT NULL,
    window_ends timestamptz NOT NULL
);
CREATE INDEX throttles_window_ends ON throttles (window_ends);

-- Only a key's SHA-256 is kept: the key itself is shown to its owner once.
CREATE TABLE api_keys (
    id           uuid        PRIMARY KEY,
    user_id      uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name         text        NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    key_hash     bytea       NOT NULL UNIQUE CHECK (length(key_hash) = 32),
    created_at   timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz,
    expires_at   timestamptz,
    revoked_at   timestamptz
);
CREATE INDEX api_keys_user ON api_keys (user_id);

CREATE TABLE messages (
    id              uuid        PRIMARY KEY, -- UUIDv7: ordered by time of acceptance
    user_id         uuid        NOT NULL REFERENCES users (id),
    sender          text        NOT NULL CHECK (sender ~ '^\+[1-9][0-9]{6,14}$'),
    recipient       text        NOT NULL CHECK (recipient ~ '^\+[1-9][0-9]{6,14}$'),
    text            text        NOT NULL CHECK (length(text) <= 1600),
    status          text        NOT NULL CHECK (status IN ('scheduled', 'queued', 'sending', 'in_doubt', 'submitted',
                                                           'sent', 'delivered', 'undelivered', 'failed', 'canceled')),
    reason          text        NOT NULL DEFAULT '', -- why it failed or waits; the words for it live in internal/mms
    plivo_uuid      text        UNIQUE,
    plivo_code      text        NOT NULL DEFAULT '' CHECK (length(plivo_code) <= 32),
    attempts        int         NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    version         bigint      NOT NULL DEFAULT 1,  -- grows with every event: the ETag of the status endpoint
    next_attempt_at timestamptz,                     -- when the next attempt is due, while queued
    task_generation int         NOT NULL DEFAULT 1,  -- part of the task id, so that a dead task cannot block a new one
    relay_at        timestamptz,                     -- when the relay looks whether the message still has its task
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    final_at        timestamptz,
    CHECK (sender <> recipient),
    CHECK ((status = 'queued') = (next_attempt_at IS NOT NULL)),
    CHECK ((status = 'queued') = (relay_at IS NOT NULL)),
    CHECK ((status IN ('delivered', 'undelivered', 'failed', 'canceled')) = (final_at IS NOT NULL)),
    CONSTRAINT messages_uuid_once_submitted CHECK (status NOT IN ('submitted', 'sent', 'delivered', 'undelivered') OR plivo_uuid IS NOT NULL)
);
CREATE INDEX messages_of_user ON messages (user_id, id DESC);
CREATE INDEX messages_of_user_by_status ON messages (user_id, status, id DESC);
CREATE INDEX messages_to_relay ON messages (relay_at) WHERE relay_at IS NOT NULL;

CREATE TABLE message_media (
    message_id uuid     NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
    position   smallint NOT NULL CHECK (position BETWEEN 1 AND 10),
    url        text     NOT NULL CHECK (length(url) BETWEEN 1 AND 2000),
    PRIMARY KEY (message_id, position)
);

-- One row per call to Plivo, committed before the first byte is written to it.
CREATE TABLE attempts (
    message_id  uuid        NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
    number      int         NOT NULL CHECK (number >= 1),
    token       text        NOT NULL UNIQUE CHECK (length(token) >= 32), -- unguessable, part of the callback URL
    sender      text        NOT NULL,
    started_at  timestamptz NOT NULL DEFAULT now(),
    lease_until timestamptz NOT NULL, -- after this the worker is taken for dead and the outcome for unknown
    finished_at timestamptz,
    outcome     text        CHECK (outcome IN ('accepted', 'refused_for_now', 'refused', 'account_trouble', 'unknown')),
    http_status int,                  -- NULL when no answer was read
    plivo_uuid  text        UNIQUE,
    api_id      text        NOT NULL DEFAULT '' CHECK (length(api_id) <= 100),
    detail      text        NOT NULL DEFAULT '' CHECK (length(detail) <= 2000), -- what Plivo or the network said
    PRIMARY KEY (message_id, number),
    CHECK ((outcome IS NULL) = (finished_at IS NULL)),
    CHECK (outcome IS DISTINCT FROM 'accepted' OR plivo_uuid IS NOT NULL)
);
CREATE UNIQUE INDEX attempts_one_open_per_message ON attempts (message_id) WHERE outcome IS NULL;
CREATE INDEX attempts_open_leases ON attempts (lease_until) WHERE outcome IS NULL;

-- Everything that happened to a message, in order. Rows are only ever added.
CREATE TABLE message_events (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    message_id  uuid        NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    kind        text        NOT NULL,
    status      text        NOT NULL, -- the message's status after the event
    attempt     int,                  -- the attempt it belongs to, if any
    detail      text        NOT NULL DEFAULT '' CHECK (length(detail) <= 2000)
);
CREATE INDEX message_events_of_message ON message_events (message_id, id);

-- +goose StatementBegin
CREATE FUNCTION refuse_change_of_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'message_events is append-only';
END $$;
-- +goose StatementEnd
CREATE TRIGGER message_events_append_only BEFORE UPDATE ON message_events
    FOR EACH ROW EXECUTE FUNCTION refuse_change_of_event();

-- Pairs that must not be sent to: the recipient opted out of this sender.
CREATE TABLE suppressions (
    sender     text        NOT NULL,
    recipient  text        NOT NULL,
    reason     text        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (sender, recipient)
);

-- +goose Down

DROP TABLE suppressions, message_events, attempts, message_media, messages, api_keys, throttles, sessions, users;
DROP FUNCTION refuse_change_of_event;
