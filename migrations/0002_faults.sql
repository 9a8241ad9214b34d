-- What sending needs to go right when things go wrong: expiry, a line per
-- sender, pauses for the account's trouble, and the resolving of doubt.

-- +goose Up

ALTER TABLE messages
    ADD COLUMN expires_at timestamptz NOT NULL DEFAULT now() + interval '3 hours', -- not sent later than this
    ADD COLUMN line       text        CHECK (line IN ('waiting', 'released')),     -- its place before the sender's gate
    ADD COLUMN held       boolean     NOT NULL DEFAULT false,                      -- in doubt, and a person has to decide
    ADD CONSTRAINT messages_line_while_queued CHECK (line IS NULL OR status = 'queued'),
    ADD CONSTRAINT messages_held_in_doubt CHECK (NOT held OR status = 'in_doubt');

-- At most one message per sender and recipient whose whereabouts are open: one
-- that Plivo lists in that time can then only be that message.
CREATE UNIQUE INDEX messages_one_unsettled_per_pair ON messages (sender, recipient)
    WHERE status = 'sending' OR (status = 'in_doubt' AND NOT held);
CREATE INDEX messages_in_line ON messages (sender, id) WHERE line = 'waiting';
CREATE INDEX messages_open ON messages (status) WHERE status IN ('queued', 'sending', 'in_doubt', 'submitted');
CREATE INDEX messages_to_expire ON messages (expires_at) WHERE status = 'queued';

-- A person may say that a doubtful message was sent, without knowing its UUID.
ALTER TABLE messages DROP CONSTRAINT messages_uuid_once_submitted;
ALTER TABLE messages ADD CONSTRAINT messages_uuid_once_submitted
    CHECK (status NOT IN ('submitted', 'sent', 'delivered', 'undelivered') OR plivo_uuid IS NOT NULL OR reason = 'decided_sent');

ALTER TABLE attempts ADD COLUMN look_at timestamptz; -- when the resolver looks for evidence again, while in doubt
CREATE INDEX attempts_to_resolve ON attempts (look_at) WHERE look_at IS NOT NULL;

-- The pace of each sender, and of our own questions to Plivo. A gate opens at
-- next_at; whoever passes sets it anew, so no two pass within the interval,
-- over all workers and whatever becomes of Redis.
CREATE TABLE gates (
    name           text             PRIMARY KEY,
    seconds        double precision NOT NULL CHECK (seconds >= 0), -- between two passages
    next_at        timestamptz      NOT NULL,
    released_until timestamptz      NOT NULL DEFAULT '-infinity'   -- until then somebody from the line is on the way
);

-- Why nothing is sent at present. One row pauses all sending.
CREATE TABLE pauses (
    cause    text        PRIMARY KEY,
    detail   text        NOT NULL DEFAULT '',
    since    timestamptz NOT NULL DEFAULT now(),
    probe_at timestamptz NOT NULL -- when one message is let through to see whether it works again
);

-- +goose Down

DROP TABLE pauses, gates;
ALTER TABLE attempts DROP COLUMN look_at;
ALTER TABLE messages DROP CONSTRAINT messages_uuid_once_submitted;
ALTER TABLE messages
    DROP COLUMN expires_at, DROP COLUMN line, DROP COLUMN held;
ALTER TABLE messages ADD CONSTRAINT messages_uuid_once_submitted
    CHECK (status NOT IN ('submitted', 'sent', 'delivered', 'undelivered') OR plivo_uuid IS NOT NULL);
