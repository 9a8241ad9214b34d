-- What a sender may ask for beside the message itself, and what keeps a client
-- from sending twice or without end.

-- +goose Up

ALTER TABLE messages
    ADD COLUMN priority   smallint NOT NULL DEFAULT 2 CHECK (priority BETWEEN 1 AND 3), -- 1 high, 2 normal, 3 bulk
    ADD COLUMN send_at    timestamptz,                                                  -- not before this; NULL: at once
    ADD COLUMN metadata   jsonb    NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
    ADD COLUMN api_key_id uuid     REFERENCES api_keys (id), -- the key it was sent with; NULL: by a person
    ADD COLUMN again_of   uuid     REFERENCES messages (id), -- the message that this one sends again
    ADD CONSTRAINT messages_scheduled_at CHECK (status <> 'scheduled' OR send_at IS NOT NULL);
CREATE INDEX messages_scheduled ON messages (send_at) WHERE status = 'scheduled';

-- The recipient comes first, to find all messages to somebody by the same index.
DROP INDEX messages_of_pair;
CREATE INDEX messages_of_pair ON messages (recipient, sender, created_at);

-- What messages are searched by. It never changes, and stands apart: each change
-- of a message's status would cost an entry in every index of its table.
CREATE TABLE message_search (
    message_id uuid     PRIMARY KEY REFERENCES messages (id) ON DELETE CASCADE,
    words      tsvector NOT NULL,
    metadata   jsonb    NOT NULL
);
CREATE INDEX message_search_words ON message_search USING gin (words);
CREATE INDEX message_search_metadata ON message_search USING gin (metadata jsonb_path_ops) WHERE metadata <> '{}';
INSERT INTO message_search SELECT id, to_tsvector('simple', text), metadata FROM messages WHERE text <> '';

-- Who waits in line is let out by priority first.
DROP INDEX messages_in_line;
CREATE INDEX messages_in_line ON messages (sender, priority, id) WHERE line = 'waiting';

-- What was made under a client's idempotency key, for 24 hours.
CREATE TABLE idempotency_keys (
    user_id     uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    key         text        NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    fingerprint bytea       NOT NULL CHECK (length(fingerprint) = 32), -- of what was asked for
    message_id  uuid        REFERENCES messages (id) ON DELETE CASCADE,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, key)
);
CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);

-- How many messages a user or an API key has sent in a day, UTC: the sum over
-- the slots, which are several so that senders need not wait for each other.
CREATE TABLE daily_counts (
    holder   uuid     NOT NULL,
    day      date     NOT NULL,
    slot     smallint NOT NULL,
    messages int      NOT NULL,
    PRIMARY KEY (holder, day, slot)
);

-- +goose Down

DROP TABLE daily_counts, idempotency_keys, message_search;
DROP INDEX messages_in_line;
CREATE INDEX messages_in_line ON messages (sender, id) WHERE line = 'waiting';
DROP INDEX messages_scheduled, messages_of_pair;
CREATE INDEX messages_of_pair ON messages (sender, recipient, created_at);
ALTER TABLE messages DROP CONSTRAINT messages_scheduled_at,
    DROP COLUMN priority, DROP COLUMN send_at, DROP COLUMN metadata, DROP COLUMN api_key_id, DROP COLUMN again_of;
