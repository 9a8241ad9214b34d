-- Fewer entries in indexes for each message.

-- +goose Up

-- What a message is called at Plivo is indexed once it is known: an entry for each
-- message and attempt that is not known there yet costs time, and looks to the
-- planner like a way to find them.

ALTER TABLE messages DROP CONSTRAINT messages_plivo_uuid_key;
CREATE UNIQUE INDEX messages_plivo_uuid_key ON messages (plivo_uuid) WHERE plivo_uuid IS NOT NULL;
ALTER TABLE attempts DROP CONSTRAINT attempts_plivo_uuid_key;
CREATE UNIQUE INDEX attempts_plivo_uuid_key ON attempts (plivo_uuid) WHERE plivo_uuid IS NOT NULL;

-- Events are only ever looked for by their message.
ALTER TABLE message_events DROP CONSTRAINT message_events_pkey;
DROP INDEX message_events_of_message;
ALTER TABLE message_events ADD PRIMARY KEY (message_id, id);

-- +goose Down

ALTER TABLE message_events DROP CONSTRAINT message_events_pkey;
ALTER TABLE message_events ADD PRIMARY KEY (id);
CREATE INDEX message_events_of_message ON message_events (message_id, id);

DROP INDEX attempts_plivo_uuid_key;
ALTER TABLE attempts ADD CONSTRAINT attempts_plivo_uuid_key UNIQUE (plivo_uuid);
DROP INDEX messages_plivo_uuid_key;
ALTER TABLE messages ADD CONSTRAINT messages_plivo_uuid_key UNIQUE (plivo_uuid);
