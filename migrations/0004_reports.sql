-- What Plivo tells about a message after it took it.

-- +goose Up

ALTER TABLE messages
    ADD COLUMN check_at          timestamptz,    -- with nothing heard since, Plivo is asked some time after this; NULL: no need to
    ADD COLUMN units             int             CHECK (units >= 0),
    ADD COLUMN cost              numeric(12, 6)  CHECK (cost >= 0), -- in US dollars, as Plivo charged it
    ADD COLUMN carrier_sent_at   timestamptz,    -- when Plivo handed it to the carrier, by Plivo's clock
    ADD COLUMN carrier_report_at timestamptz;    -- when the carrier's receipt came, by Plivo's clock
CREATE INDEX messages_to_check ON messages (check_at) WHERE check_at IS NOT NULL;
UPDATE messages SET check_at = now() WHERE status IN ('submitted', 'sent') AND plivo_uuid IS NOT NULL;

-- In the US and Canada "sent" is often the last word: such a message is closed
-- after a while, with its status as it is.
ALTER TABLE messages DROP CONSTRAINT messages_check3;
ALTER TABLE messages ADD CONSTRAINT messages_final CHECK (CASE
    WHEN status IN ('delivered', 'undelivered', 'failed', 'canceled') THEN final_at IS NOT NULL
    WHEN status IN ('submitted', 'sent') THEN true
    ELSE final_at IS NULL END);

-- +goose Down

UPDATE messages SET final_at = NULL WHERE status IN ('submitted', 'sent');
ALTER TABLE messages DROP CONSTRAINT messages_final;
ALTER TABLE messages ADD CONSTRAINT messages_check3
    CHECK ((status IN ('delivered', 'undelivered', 'failed', 'canceled')) = (final_at IS NOT NULL));
DROP INDEX messages_to_check;
ALTER TABLE messages
    DROP COLUMN check_at, DROP COLUMN units, DROP COLUMN cost, DROP COLUMN carrier_sent_at, DROP COLUMN carrier_report_at;
