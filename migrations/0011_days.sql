-- What became of the messages of a day is counted once the day is over, and again
-- only when one of them changes: an overview of many days costs the same for a
-- thousand messages as for a million.

-- +goose Up

CREATE TABLE day_totals (
    user_id    uuid NOT NULL, -- 00000000-...: everyone
    day        date NOT NULL, -- UTC
    status     text NOT NULL,
    reason     text NOT NULL, -- '' unless it failed or was not delivered, like the code
    plivo_code text NOT NULL,
    messages   int  NOT NULL,
    PRIMARY KEY (user_id, day, status, reason, plivo_code)
);
CREATE INDEX day_totals_day ON day_totals (day);

-- The totals of a day count while it stands here, counted. From noted_at on, each
-- change takes it away.
CREATE TABLE days_counted (
    day      date        PRIMARY KEY,
    noted_at timestamptz NOT NULL DEFAULT now(),
    counted  boolean     NOT NULL DEFAULT false
);

-- +goose StatementBegin
CREATE FUNCTION recount_day() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM days_counted WHERE day = (NEW.created_at AT TIME ZONE 'UTC')::date;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER messages_recount_day AFTER UPDATE OF status, reason, plivo_code ON messages FOR EACH ROW
    WHEN (OLD.created_at < date_trunc('day', now(), 'UTC')
        AND (OLD.status <> NEW.status OR OLD.reason <> NEW.reason OR OLD.plivo_code <> NEW.plivo_code))
    EXECUTE FUNCTION recount_day();

-- +goose Down

DROP TRIGGER messages_recount_day ON messages;
DROP FUNCTION recount_day;
DROP TABLE days_counted, day_totals;
