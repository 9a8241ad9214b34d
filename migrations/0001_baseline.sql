-- The schema of Postcard. Postgres is the record of every message; the queue in
-- Redis can be rebuilt from it. All times are by the database's clock, unless a
-- comment names another.

-- +goose Up

CREATE TABLE users (
    id            uuid        PRIMARY KEY,
    email         text        NOT NULL CHECK (email = lower(email) AND email LIKE '_%@_%' AND length(email) <= 254),
    password_hash text        NOT NULL CHECK (length(password_hash) = 60), -- bcrypt
    role          text        NOT NULL CHECK (role IN ('user', 'admin')),
    daily_cap     int         CHECK (daily_cap > 0), -- messages a day, UTC; NULL: DAILY_CAP
    created_at    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT users_email_taken UNIQUE (email)
);

-- Sessions of the web UI, with the columns of scs's postgresstore.
CREATE TABLE sessions (
    token  text        PRIMARY KEY,
    data   bytea       NOT NULL,
    expiry timestamptz NOT NULL
);
CREATE INDEX sessions_expiry ON sessions (expiry);

-- Counts log-ins and sign-ups per window. The key is a hash, so it identifies nobody.
CREATE TABLE throttles (
    key         bytea       PRIMARY KEY CHECK (length(key) = 32),
    hits        int         NOT NULL,
    window_ends timestamptz NOT NULL
);
CREATE INDEX throttles_window_ends ON throttles (window_ends);

-- Only the SHA-256 of a key is stored; its owner sees the key once.
CREATE TABLE api_keys (
    id           uuid        PRIMARY KEY,
    user_id      uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name         text        NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    key_hash     bytea       NOT NULL UNIQUE CHECK (length(key_hash) = 32),
    prefix       text        NOT NULL DEFAULT '' CHECK (length(prefix) <= 12), -- the key's first characters
    scopes       text[]      NOT NULL DEFAULT '{send,read}' CHECK (scopes <@ '{send,read}' AND cardinality(scopes) > 0),
    daily_cap    int         CHECK (daily_cap > 0), -- messages a day, UTC; NULL: the user's cap alone
    created_at   timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz,
    expires_at   timestamptz,
    revoked_at   timestamptz
);
CREATE INDEX api_keys_user ON api_keys (user_id);

-- Messages of a batch wait in the backlog from the start and get their tasks
-- when they are released, so that a large batch does not fill the queue.
CREATE TABLE batches (
    id           uuid        PRIMARY KEY, -- UUIDv7
    user_id      uuid        NOT NULL REFERENCES users (id),
    api_key_id   uuid        REFERENCES api_keys (id),
    name         text        NOT NULL CHECK (length(name) <= 100),
    state        text        NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'paused', 'canceled')),
    sync_pending boolean     NOT NULL DEFAULT false, -- the batch syncer has yet to apply the state to its messages
    created      int         NOT NULL DEFAULT 0 CHECK (created >= 0),  -- rows that became messages
    rejected     int         NOT NULL DEFAULT 0 CHECK (rejected >= 0), -- rows that did not
    created_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX batches_of_user ON batches (user_id, id DESC);
CREATE INDEX batches_sync_pending ON batches (id) WHERE sync_pending;

-- Errors in rejected rows.
CREATE TABLE batch_errors (
    batch_id uuid NOT NULL REFERENCES batches (id) ON DELETE CASCADE,
    sequence int  NOT NULL, -- ordered by row
    row      int  NOT NULL, -- from 1
    field    text NOT NULL CHECK (length(field) <= 200),
    rule     text NOT NULL,
    message  text NOT NULL CHECK (length(message) <= 500),
    PRIMARY KEY (batch_id, sequence)
);

CREATE TABLE messages (
    id               uuid          PRIMARY KEY, -- UUIDv7: ordered by time of creation
    user_id          uuid          NOT NULL REFERENCES users (id),
    sender           text          NOT NULL CHECK (sender ~ '^\+[1-9][0-9]{6,14}$'),
    recipient        text          NOT NULL CHECK (recipient ~ '^\+[1-9][0-9]{6,14}$'),
    text             text          NOT NULL CHECK (length(text) <= 1600),
    status           text          NOT NULL CHECK (status IN ('scheduled', 'queued', 'sending', 'in_doubt', 'submitted',
                                                              'sent', 'delivered', 'undelivered', 'failed', 'canceled')),
    reason           text          NOT NULL DEFAULT '', -- why it failed or waits; internal/mms describes the codes
    plivo_uuid       text,
    plivo_code       text          NOT NULL DEFAULT '' CHECK (length(plivo_code) <= 32),
    attempts         int           NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    version          bigint        NOT NULL DEFAULT 1, -- counts the events; the ETag of the status endpoint
    next_attempt_at  timestamptz,                      -- when the next attempt is due, while queued
    expires_at       timestamptz   NOT NULL DEFAULT now() + interval '3 hours', -- not sent after this
    backlog_state    text          CHECK (backlog_state IN ('waiting', 'released', 'parked')), -- parked: its batch is paused
    held             boolean       NOT NULL DEFAULT false, -- in doubt, and a person has to decide
    task_generation  int           NOT NULL DEFAULT 1, -- part of the task id, so that a dead task cannot block a new one
    task_check_at    timestamptz,                      -- when the task relay checks that the message has its task
    poll_base_at     timestamptz,                      -- Plivo is polled REPORT_WAIT after this; NULL: not polled
    priority         smallint      NOT NULL DEFAULT 2 CHECK (priority BETWEEN 1 AND 3), -- 1 high, 2 normal, 3 bulk
    send_at          timestamptz,                      -- not sent before this; NULL: immediately
    metadata         jsonb         NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
    api_key_id       uuid          REFERENCES api_keys (id), -- the key that created it; NULL: a person
    resend_of        uuid          REFERENCES messages (id) ON DELETE SET NULL, -- the message that this one repeats
    batch_id         uuid          REFERENCES batches (id),
    batch_row        int,                              -- from 1
    units            int           CHECK (units >= 0),
    cost             numeric(12, 6) CHECK (cost >= 0), -- in US dollars, as Plivo charged it
    carrier_sent_at  timestamptz,                      -- when Plivo handed it to the carrier, by Plivo's clock
    carrier_report_at timestamptz,                     -- when the carrier reported, by Plivo's clock
    created_at       timestamptz   NOT NULL DEFAULT now(),
    updated_at       timestamptz   NOT NULL DEFAULT now(),
    final_at         timestamptz,
    CHECK (sender <> recipient),
    CHECK ((status = 'queued') = (next_attempt_at IS NOT NULL)),
    CHECK ((status = 'queued') = (task_check_at IS NOT NULL)),
    CONSTRAINT messages_scheduled_at CHECK (status <> 'scheduled' OR send_at IS NOT NULL),
    CONSTRAINT messages_backlog_while_queued CHECK (backlog_state IS NULL OR status = 'queued'),
    CONSTRAINT messages_held_in_doubt CHECK (NOT held OR status = 'in_doubt'),
    -- In the US and Canada "sent" is often the last report: such a message becomes
    -- final after a day without changing its status.
    CONSTRAINT messages_final CHECK (CASE
        WHEN status IN ('delivered', 'undelivered', 'failed', 'canceled') THEN final_at IS NOT NULL
        WHEN status IN ('submitted', 'sent') THEN true
        ELSE final_at IS NULL END),
    -- A person may decide that a message in doubt was sent, without its UUID.
    CONSTRAINT messages_uuid_once_submitted
        CHECK (status NOT IN ('submitted', 'sent', 'delivered', 'undelivered') OR plivo_uuid IS NOT NULL OR reason = 'decided_sent'),
    -- A message that Plivo is known to have is never sent again.
    CONSTRAINT messages_known_is_not_resent
        CHECK (plivo_uuid IS NULL OR status NOT IN ('scheduled', 'queued', 'sending', 'in_doubt'))
);
-- Each change of status adds an entry to every index of messages that is not
-- partial. Keep these few.
CREATE UNIQUE INDEX messages_plivo_uuid_key ON messages (plivo_uuid) WHERE plivo_uuid IS NOT NULL;
CREATE INDEX messages_of_user ON messages (user_id, id DESC);
CREATE INDEX messages_of_user_by_status ON messages (user_id, status, id DESC);
CREATE INDEX messages_task_check ON messages (task_check_at) WHERE task_check_at IS NOT NULL;
-- At most one message per pair of numbers is in flight or in doubt, so that a message
-- that Plivo lists for the pair can be identified. A held message does not count: it
-- waits for a person, and must not stop the pair.
CREATE UNIQUE INDEX messages_one_in_flight_per_pair ON messages (sender, recipient)
    WHERE status = 'sending' OR (status = 'in_doubt' AND NOT held);
CREATE INDEX messages_backlog ON messages (sender, priority, id) WHERE backlog_state = 'waiting';
CREATE INDEX messages_open ON messages (status) WHERE status IN ('queued', 'sending', 'in_doubt', 'submitted') AND final_at IS NULL;
CREATE INDEX messages_to_expire ON messages (expires_at) WHERE status = 'queued';
CREATE INDEX messages_unreported ON messages (poll_base_at) WHERE poll_base_at IS NOT NULL;
CREATE INDEX messages_scheduled ON messages (send_at) WHERE status = 'scheduled';
CREATE INDEX messages_of_pair ON messages (recipient, sender, created_at);
CREATE INDEX messages_of_batch ON messages (batch_id, status) WHERE batch_id IS NOT NULL;
CREATE INDEX messages_resend_of ON messages (resend_of) WHERE resend_of IS NOT NULL;

CREATE TABLE message_media (
    message_id uuid     NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
    position   smallint NOT NULL CHECK (position BETWEEN 1 AND 10),
    url        text     NOT NULL CHECK (length(url) BETWEEN 1 AND 2000),
    PRIMARY KEY (message_id, position)
);

-- The searchable parts of messages. In a table of their own because in messages each
-- change of status would add an entry to these indexes.
CREATE TABLE message_search (
    message_id uuid     PRIMARY KEY REFERENCES messages (id) ON DELETE CASCADE,
    words      tsvector NOT NULL,
    metadata   jsonb    NOT NULL
);
CREATE INDEX message_search_words ON message_search USING gin (words);
CREATE INDEX message_search_metadata ON message_search USING gin (metadata jsonb_path_ops) WHERE metadata <> '{}';

-- One row per call to Plivo, committed before the first byte is written.
CREATE TABLE attempts (
    message_id    uuid        NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
    ordinal       int         NOT NULL CHECK (ordinal >= 1),
    token         text        NOT NULL UNIQUE CHECK (length(token) >= 32), -- unguessable, part of the callback URL
    sender        text        NOT NULL,
    started_at    timestamptz NOT NULL DEFAULT now(),
    lease_until   timestamptz NOT NULL, -- after this the worker counts as dead and the outcome as unknown
    finished_at   timestamptz,
    outcome       text        CHECK (outcome IN ('accepted', 'transient_failure', 'permanent_failure', 'account_error', 'unknown')),
    http_status   int,                  -- NULL: no response was read
    plivo_uuid    text,
    api_id        text        NOT NULL DEFAULT '' CHECK (length(api_id) <= 100),
    detail        text        NOT NULL DEFAULT '' CHECK (length(detail) <= 2000), -- Plivo's or the network's error
    next_check_at timestamptz,          -- when the reconciler looks for evidence, while in doubt
    PRIMARY KEY (message_id, ordinal),
    CHECK ((outcome IS NULL) = (finished_at IS NULL)),
    CHECK (outcome IS DISTINCT FROM 'accepted' OR plivo_uuid IS NOT NULL)
);
CREATE UNIQUE INDEX attempts_plivo_uuid_key ON attempts (plivo_uuid) WHERE plivo_uuid IS NOT NULL;
CREATE UNIQUE INDEX attempts_one_open_per_message ON attempts (message_id) WHERE outcome IS NULL;
CREATE INDEX attempts_open_leases ON attempts (lease_until) WHERE outcome IS NULL;
CREATE INDEX attempts_next_check ON attempts (next_check_at) WHERE next_check_at IS NOT NULL;
-- For the number of attempts in a span of time, which decides how Plivo's list is
-- queried.
CREATE INDEX attempts_started ON attempts USING brin (started_at);

-- The history of each message. Append-only.
CREATE TABLE message_events (
    id         bigint      GENERATED ALWAYS AS IDENTITY,
    message_id uuid        NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    kind       text        NOT NULL,
    status     text        NOT NULL, -- of the message, after the event
    attempt    int,                  -- the ordinal of the attempt it belongs to, if any
    detail     text        NOT NULL DEFAULT '' CHECK (length(detail) <= 2000),
    PRIMARY KEY (message_id, id)
);

-- +goose StatementBegin
CREATE FUNCTION refuse_change_of_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'message_events is append-only';
END $$;
-- +goose StatementEnd
CREATE TRIGGER message_events_append_only BEFORE UPDATE ON message_events
    FOR EACH ROW EXECUTE FUNCTION refuse_change_of_event();

-- The message or batch created with a client's idempotency key, for 24 hours.
CREATE TABLE idempotency_keys (
    user_id     uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    key         text        NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    fingerprint bytea       NOT NULL CHECK (length(fingerprint) = 32), -- of the request
    message_id  uuid        REFERENCES messages (id) ON DELETE CASCADE,
    batch_id    uuid        REFERENCES batches (id) ON DELETE CASCADE,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, key),
    CONSTRAINT idempotency_keys_of_one CHECK (num_nonnulls(message_id, batch_id) = 1)
);
CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);
CREATE INDEX idempotency_keys_message ON idempotency_keys (message_id) WHERE message_id IS NOT NULL;
CREATE INDEX idempotency_keys_batch ON idempotency_keys (batch_id) WHERE batch_id IS NOT NULL;

-- How many messages a user or an API key created in a day, UTC: the sum over the
-- shards. Several shards keep concurrent requests from waiting for each other.
CREATE TABLE daily_counts (
    holder   uuid     NOT NULL,
    day      date     NOT NULL,
    shard    smallint NOT NULL,
    messages int      NOT NULL,
    PRIMARY KEY (holder, day, shard)
);

-- Rate limits over all processes (GCRA): of each sender number, and of our
-- queries to Plivo. A send may start at next_arrival_at, and moves it by one
-- interval, so that two never start within the interval.
CREATE TABLE rate_limits (
    name             text             PRIMARY KEY, -- a sender number, or plivo-list, plivo-get
    interval_seconds double precision NOT NULL CHECK (interval_seconds >= 0), -- 0: no limit
    next_arrival_at  timestamptz      NOT NULL,
    released_until   timestamptz      NOT NULL DEFAULT '-infinity' -- no other message is released before this, so that the released one can be claimed
);

-- Reasons why sending is paused. While there is a row, only probes and messages that
-- were released before are sent.
CREATE TABLE pauses (
    cause    text        PRIMARY KEY,
    detail   text        NOT NULL DEFAULT '', -- Plivo's error
    since    timestamptz NOT NULL DEFAULT now(),
    probe_at timestamptz NOT NULL -- when the next message probes whether sending works again
);

-- Jobs that only one process may run at a time. The lease of a killed or stopped
-- process expires.
CREATE TABLE leases (
    name       text        PRIMARY KEY,
    holder     uuid        NOT NULL,
    expires_at timestamptz NOT NULL
);

-- Pairs of numbers between which nothing is sent: Plivo reported that the recipient
-- opted out, the recipient texted STOP, or an admin added the pair.
CREATE TABLE suppressions (
    sender     text        NOT NULL CONSTRAINT suppressions_sender CHECK (sender ~ '^\+[1-9][0-9]{6,14}$'),
    recipient  text        NOT NULL CONSTRAINT suppressions_recipient CHECK (recipient ~ '^\+[1-9][0-9]{6,14}$'),
    reason     text        NOT NULL CONSTRAINT suppressions_reason CHECK (reason IN ('plivo', 'recipient', 'admin')),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (sender, recipient)
);

-- Messages sent to one of our numbers.
CREATE TABLE inbound_messages (
    id          uuid        PRIMARY KEY, -- UUIDv7
    plivo_uuid  text        NOT NULL UNIQUE CHECK (length(plivo_uuid) <= 100),
    from_number text        NOT NULL CHECK (from_number ~ '^\+?[0-9A-Za-z]{1,20}$'),
    to_number   text        NOT NULL CHECK (to_number ~ '^\+[1-9][0-9]{6,14}$'), -- ours
    text        text        NOT NULL CHECK (length(text) <= 10000),
    media       text[]      NOT NULL DEFAULT '{}',
    keyword     text        NOT NULL DEFAULT '' CHECK (keyword IN ('', 'stop', 'start', 'help')),
    received_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX inbound_of_pair ON inbound_messages (to_number, from_number, received_at);

-- Users' endpoints that receive an event for each change of a message's status.
CREATE TABLE webhooks (
    id               uuid        PRIMARY KEY, -- UUIDv7
    user_id          uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    url              text        NOT NULL CHECK (length(url) <= 2000),
    description      text        NOT NULL DEFAULT '' CHECK (length(description) <= 200),
    statuses         text[]      NOT NULL DEFAULT '{}', -- receives events of these; empty: of all
    secret           text        NOT NULL,              -- signs deliveries; stored in plain text because signing needs it
    old_secret       text,
    old_secret_until timestamptz,                       -- until then the old secret signs too
    failing_since    timestamptz,                       -- first failure after the last success
    disabled_at      timestamptz,
    disabled_reason  text        NOT NULL DEFAULT '' CHECK (disabled_reason IN ('', 'failing', 'gone')),
    created_at       timestamptz NOT NULL DEFAULT now(),
    CHECK ((disabled_at IS NULL) = (disabled_reason = '')),
    CHECK ((old_secret IS NULL) = (old_secret_until IS NULL))
);
CREATE INDEX webhooks_of_user ON webhooks (user_id);

-- Events, one row per webhook. Deleted after 30 days.
CREATE TABLE webhook_events (
    id            uuid        PRIMARY KEY DEFAULT gen_random_uuid(), -- the same for each delivery attempt, so that receivers can detect repeats
    sequence      bigint      GENERATED ALWAYS AS IDENTITY,
    webhook_id    uuid        NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    message_id    uuid        REFERENCES messages (id) ON DELETE CASCADE, -- NULL: a test
    status        text        NOT NULL DEFAULT '',
    version       bigint      NOT NULL DEFAULT 0, -- of the message, so that receivers can order events
    reason        text        NOT NULL DEFAULT '',
    plivo_code    text        NOT NULL DEFAULT '',
    occurred_at   timestamptz NOT NULL DEFAULT now(),
    state         text        NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'failed')),
    attempts      int         NOT NULL DEFAULT 0,
    generation    int         NOT NULL DEFAULT 0,     -- part of the task id
    due_at        timestamptz NOT NULL DEFAULT now(), -- when the next delivery is due
    task_check_at timestamptz NOT NULL DEFAULT now(), -- when the event relay checks that the event has its task
    attempted_at  timestamptz,
    http_status   int,
    error         text        NOT NULL DEFAULT '' CHECK (length(error) <= 500)
);
CREATE INDEX webhook_events_log ON webhook_events (webhook_id, sequence DESC);
CREATE INDEX webhook_events_pending ON webhook_events (task_check_at) WHERE state = 'pending';
CREATE INDEX webhook_events_of_message ON webhook_events (message_id);
CREATE INDEX webhook_events_age ON webhook_events (occurred_at);

-- A trigger, so that every statement that changes a status creates the webhook events
-- in the same transaction.
-- +goose StatementBegin
CREATE FUNCTION create_webhook_events() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO webhook_events (webhook_id, message_id, status, version, reason, plivo_code)
    SELECT w.id, NEW.id, NEW.status, NEW.version, NEW.reason, NEW.plivo_code FROM webhooks w
    WHERE w.user_id = NEW.user_id AND w.disabled_at IS NULL AND (w.statuses = '{}' OR NEW.status = ANY (w.statuses));
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER messages_webhook_events AFTER UPDATE OF status ON messages FOR EACH ROW
    WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION create_webhook_events();

-- Messages per UTC day, status and reason, so that an overview of many days reads few
-- rows. internal/postgres/stats.go describes the rollup.
CREATE TABLE stats_totals (
    user_id    uuid NOT NULL, -- 00000000-...: everyone
    day        date NOT NULL, -- UTC
    status     text NOT NULL,
    reason     text NOT NULL, -- '' unless the message failed or was undelivered; so is plivo_code
    plivo_code text NOT NULL,
    messages   int  NOT NULL,
    PRIMARY KEY (user_id, day, status, reason, plivo_code)
);
CREATE INDEX stats_totals_day ON stats_totals (day);

-- How much of each day is in stats_totals: the messages created before
-- counted_until. Those before planned_until are added next, once every transaction
-- older than planned_by has ended.
CREATE TABLE stats_days (
    day           date        PRIMARY KEY,
    counted_until timestamptz NOT NULL,
    planned_until timestamptz NOT NULL,
    planned_by    xid8        NOT NULL DEFAULT pg_current_xact_id()
);

-- Changes of messages of past hours that are not in stats_totals yet. Insert-only for
-- the statements that change messages, so that they never wait for each other.
CREATE TABLE stats_changes (
    user_id    uuid        NOT NULL,
    day        date        NOT NULL, -- UTC
    hour       timestamptz NOT NULL, -- in which the message was created
    status     text        NOT NULL,
    reason     text        NOT NULL, -- as in stats_totals
    plivo_code text        NOT NULL,
    messages   int         NOT NULL
);
CREATE INDEX stats_changes_hour ON stats_changes (day, hour);
CREATE INDEX stats_changes_of_user ON stats_changes (user_id, day, hour);

-- Not for DELETE: deleted messages stay in the statistics.
-- +goose StatementBegin
CREATE FUNCTION record_stats_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO stats_changes (user_id, day, hour, status, reason, plivo_code, messages)
    SELECT OLD.user_id, (OLD.created_at AT TIME ZONE 'UTC')::date, date_trunc('hour', OLD.created_at, 'UTC'), s.status,
        CASE WHEN s.status IN ('failed', 'undelivered') THEN s.reason ELSE '' END,
        CASE WHEN s.status IN ('failed', 'undelivered') THEN s.plivo_code ELSE '' END, s.messages
    FROM (VALUES (OLD.status, OLD.reason, OLD.plivo_code, -1), (NEW.status, NEW.reason, NEW.plivo_code, 1)) AS s (status, reason, plivo_code, messages);
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER messages_stats_change AFTER UPDATE OF status, reason, plivo_code ON messages FOR EACH ROW
    WHEN (OLD.created_at < date_trunc('hour', clock_timestamp(), 'UTC')
        AND (OLD.status <> NEW.status OR OLD.reason <> NEW.reason OR OLD.plivo_code <> NEW.plivo_code))
    EXECUTE FUNCTION record_stats_change();

-- +goose Down

DROP TABLE stats_changes, stats_days, stats_totals, webhook_events, webhooks, inbound_messages, suppressions, leases, pauses, rate_limits,
    daily_counts, idempotency_keys, message_events, attempts, message_search, message_media, messages, batch_errors, batches,
    api_keys, throttles, sessions, users;
DROP FUNCTION record_stats_change, create_webhook_events, refuse_change_of_event;
