-- Changes of messages of past days are added to what was counted, and make nobody
-- wait. Before, each took its day's row away: whoever had changed one message of a day
-- in a transaction held up all who changed others of that day, until its end.

-- +goose Up

DROP TRIGGER messages_recount_day ON messages;
DROP FUNCTION recount_day;
DELETE FROM days_counted; -- they may have been counted beside a change
DELETE FROM day_totals;

-- A day is counted when every transaction that began before it was noted has ended:
-- those may have changed its messages before midnight, when changes are not noted.
ALTER TABLE days_counted DROP COLUMN noted_at;
ALTER TABLE days_counted ADD COLUMN noted_by xid8 NOT NULL DEFAULT pg_current_xact_id();

-- What is to be added to the totals of past days. Rows are only ever added, by those
-- who change messages, and removed by who adds them up.
CREATE TABLE day_changes (
    user_id    uuid NOT NULL,
    day        date NOT NULL, -- UTC
    status     text NOT NULL,
    reason     text NOT NULL, -- as in day_totals
    plivo_code text NOT NULL,
    messages   int  NOT NULL
);
CREATE INDEX day_changes_day ON day_changes (day);

-- +goose StatementBegin
CREATE FUNCTION note_day_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO day_changes (user_id, day, status, reason, plivo_code, messages)
    SELECT OLD.user_id, (OLD.created_at AT TIME ZONE 'UTC')::date, s.status,
        CASE WHEN s.status IN ('failed', 'undelivered') THEN s.reason ELSE '' END,
        CASE WHEN s.status IN ('failed', 'undelivered') THEN s.plivo_code ELSE '' END, s.messages
    FROM (VALUES (OLD.status, OLD.reason, OLD.plivo_code, -1), (NEW.status, NEW.reason, NEW.plivo_code, 1)) AS s (status, reason, plivo_code, messages)
    WHERE s.status IS NOT NULL;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER messages_change_day AFTER UPDATE OF status, reason, plivo_code ON messages FOR EACH ROW
    WHEN (OLD.created_at < date_trunc('day', clock_timestamp(), 'UTC')
        AND (OLD.status <> NEW.status OR OLD.reason <> NEW.reason OR OLD.plivo_code <> NEW.plivo_code))
    EXECUTE FUNCTION note_day_change();
CREATE TRIGGER messages_leave_day AFTER DELETE ON messages FOR EACH ROW
    WHEN (OLD.created_at < date_trunc('day', clock_timestamp(), 'UTC'))
    EXECUTE FUNCTION note_day_change();

-- +goose Down

DROP TRIGGER messages_leave_day ON messages;
DROP TRIGGER messages_change_day ON messages;
DROP FUNCTION note_day_change;
DROP TABLE day_changes;
DELETE FROM days_counted;
DELETE FROM day_totals;
ALTER TABLE days_counted DROP COLUMN noted_by;
ALTER TABLE days_counted ADD COLUMN noted_at timestamptz NOT NULL DEFAULT now();

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
