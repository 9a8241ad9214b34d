-- Evidence that Plivo has a message wins over everything we believed before.

-- +goose Up

-- How many attempts lie in a span of time decides how Plivo is asked about the
-- doubtful ones among them.
CREATE INDEX attempts_begun ON attempts USING brin (started_at);

-- What Plivo is known to have cannot be sent again.
ALTER TABLE messages ADD CONSTRAINT messages_known_is_not_sent_again
    CHECK (plivo_uuid IS NULL OR status NOT IN ('scheduled', 'queued', 'sending', 'in_doubt'));

-- Work that one process at a time shall do. Its turn ends by itself when the
-- process is killed or stopped.
CREATE TABLE turns (
    name   text        PRIMARY KEY,
    holder uuid        NOT NULL,
    until  timestamptz NOT NULL
);

-- +goose Down

DROP TABLE turns;
ALTER TABLE messages DROP CONSTRAINT messages_known_is_not_sent_again;
DROP INDEX attempts_begun;
