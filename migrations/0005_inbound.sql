-- What recipients answer, and who must not be sent to.

-- +goose Up

-- A pair is suppressed because Plivo said that the recipient opted out, because
-- the recipient texted STOP, or by an admin's word.
ALTER TABLE suppressions ADD CONSTRAINT suppressions_reason CHECK (reason IN ('plivo', 'recipient', 'admin')) NOT VALID;
UPDATE suppressions SET reason = 'plivo' WHERE reason NOT IN ('plivo', 'recipient', 'admin');
ALTER TABLE suppressions VALIDATE CONSTRAINT suppressions_reason;
ALTER TABLE suppressions
    ADD CONSTRAINT suppressions_sender CHECK (sender ~ '^\+[1-9][0-9]{6,14}$'),
    ADD CONSTRAINT suppressions_recipient CHECK (recipient ~ '^\+[1-9][0-9]{6,14}$');

CREATE TABLE inbound_messages (
    id          uuid        PRIMARY KEY, -- UUIDv7
    plivo_uuid  text        NOT NULL UNIQUE CHECK (length(plivo_uuid) <= 100),
    author      text        NOT NULL CHECK (author ~ '^\+?[0-9A-Za-z]{1,20}$'), -- who wrote it
    number      text        NOT NULL CHECK (number ~ '^\+[1-9][0-9]{6,14}$'),   -- the number of ours that it went to
    text        text        NOT NULL CHECK (length(text) <= 10000),
    media       text[]      NOT NULL DEFAULT '{}',
    keyword     text        NOT NULL DEFAULT '' CHECK (keyword IN ('', 'stop', 'start', 'help')),
    received_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX inbound_of_pair ON inbound_messages (number, author, received_at);
CREATE INDEX messages_of_pair ON messages (sender, recipient, created_at);

-- +goose Down

DROP INDEX messages_of_pair;
DROP TABLE inbound_messages;
ALTER TABLE suppressions
    DROP CONSTRAINT suppressions_recipient, DROP CONSTRAINT suppressions_sender, DROP CONSTRAINT suppressions_reason;
