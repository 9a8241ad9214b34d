-- Messages that were taken on together. They wait in line from the beginning and
-- get their tasks as they are let out, so that a large batch fills no queue.

-- +goose Up

CREATE TABLE batches (
    id         uuid        PRIMARY KEY, -- UUIDv7
    user_id    uuid        NOT NULL REFERENCES users (id),
    api_key_id uuid        REFERENCES api_keys (id),
    name       text        NOT NULL CHECK (length(name) <= 100),
    state      text        NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'paused', 'canceled')),
    unsettled  boolean     NOT NULL DEFAULT false, -- its messages have yet to follow its state
    accepted   int         NOT NULL DEFAULT 0 CHECK (accepted >= 0),
    rejected   int         NOT NULL DEFAULT 0 CHECK (rejected >= 0),
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX batches_of_user ON batches (user_id, id DESC);
CREATE INDEX batches_unsettled ON batches (id) WHERE unsettled;

-- What was wrong with the rows that were not taken on.
CREATE TABLE batch_faults (
    batch_id uuid NOT NULL REFERENCES batches (id) ON DELETE CASCADE,
    number   int  NOT NULL, -- in the order they were found
    row      int  NOT NULL, -- from 1
    field    text NOT NULL CHECK (length(field) <= 200),
    rule     text NOT NULL,
    message  text NOT NULL CHECK (length(message) <= 500),
    PRIMARY KEY (batch_id, number)
);

ALTER TABLE messages
    ADD COLUMN batch_id  uuid REFERENCES batches (id),
    ADD COLUMN batch_row int, -- from 1
    DROP CONSTRAINT messages_line_check,
    ADD CONSTRAINT messages_line_check CHECK (line IN ('waiting', 'released', 'set_aside')); -- set aside: its batch is paused
CREATE INDEX messages_of_batch ON messages (batch_id, status) WHERE batch_id IS NOT NULL;

ALTER TABLE idempotency_keys
    ADD COLUMN batch_id uuid REFERENCES batches (id) ON DELETE CASCADE,
    ADD CONSTRAINT idempotency_keys_of_one CHECK (num_nonnulls(message_id, batch_id) = 1);

-- +goose Down

DELETE FROM idempotency_keys WHERE batch_id IS NOT NULL;
ALTER TABLE idempotency_keys DROP CONSTRAINT idempotency_keys_of_one, DROP COLUMN batch_id;
UPDATE messages SET line = 'waiting' WHERE line = 'set_aside';
ALTER TABLE messages
    DROP CONSTRAINT messages_line_check, ADD CONSTRAINT messages_line_check CHECK (line IN ('waiting', 'released')),
    DROP COLUMN batch_id, DROP COLUMN batch_row;
DROP TABLE batch_faults, batches;
