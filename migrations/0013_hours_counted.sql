-- Of a day that goes on, the hours that are over are counted, too: late in a busy day
-- an overview costs no more than early.

-- +goose Up

DROP TRIGGER messages_change_day ON messages;
DROP TRIGGER messages_leave_day ON messages;

-- Totals hold the messages of a day that were taken on before counted_until. Those
-- before noted_until are counted next.
ALTER TABLE days_counted ADD COLUMN counted_until timestamptz, ADD COLUMN noted_until timestamptz;
UPDATE days_counted SET counted_until = (CASE WHEN counted THEN day + 1 ELSE day END)::timestamp AT TIME ZONE 'UTC',
    noted_until = (day + 1)::timestamp AT TIME ZONE 'UTC';
ALTER TABLE days_counted ALTER COLUMN counted_until SET NOT NULL, ALTER COLUMN noted_until SET NOT NULL, DROP COLUMN counted;

-- The hour in which the changed message was taken on: which part of its day it is of.
ALTER TABLE day_changes ADD COLUMN hour timestamptz;
UPDATE day_changes SET hour = day::timestamp AT TIME ZONE 'UTC';
ALTER TABLE day_changes ALTER COLUMN hour SET NOT NULL;
DROP INDEX day_changes_day;
CREATE INDEX day_changes_hour ON day_changes (day, hour);
CREATE INDEX day_changes_of_user ON day_changes (user_id, day, hour);

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION note_day_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO day_changes (user_id, day, hour, status, reason, plivo_code, messages)
    SELECT OLD.user_id, (OLD.created_at AT TIME ZONE 'UTC')::date, date_trunc('hour', OLD.created_at, 'UTC'), s.status,
        CASE WHEN s.status IN ('failed', 'undelivered') THEN s.reason ELSE '' END,
        CASE WHEN s.status IN ('failed', 'undelivered') THEN s.plivo_code ELSE '' END, s.messages
    FROM (VALUES (OLD.status, OLD.reason, OLD.plivo_code, -1), (NEW.status, NEW.reason, NEW.plivo_code, 1)) AS s (status, reason, plivo_code, messages)
    WHERE s.status IS NOT NULL;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER messages_change_hour AFTER UPDATE OF status, reason, plivo_code ON messages FOR EACH ROW
    WHEN (OLD.created_at < date_trunc('hour', clock_timestamp(), 'UTC')
        AND (OLD.status <> NEW.status OR OLD.reason <> NEW.reason OR OLD.plivo_code <> NEW.plivo_code))
    EXECUTE FUNCTION note_day_change();
CREATE TRIGGER messages_leave_hour AFTER DELETE ON messages FOR EACH ROW
    WHEN (OLD.created_at < date_trunc('hour', clock_timestamp(), 'UTC'))
    EXECUTE FUNCTION note_day_change();

-- +goose Down

DROP TRIGGER messages_change_hour ON messages;
DROP TRIGGER messages_leave_hour ON messages;
DELETE FROM days_counted; -- days are counted anew, as wholes
DELETE FROM day_totals;
DELETE FROM day_changes;
ALTER TABLE days_counted DROP COLUMN counted_until, DROP COLUMN noted_until, ADD COLUMN counted boolean NOT NULL DEFAULT false;
DROP INDEX day_changes_hour, day_changes_of_user;
ALTER TABLE day_changes DROP COLUMN hour;
CREATE INDEX day_changes_day ON day_changes (day);

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION note_day_change() RETURNS trigger LANGUAGE plpgsql AS $$
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
