-- What the operator's pages show: processes, samples of the queue, ended pauses, what Plivo
-- says about the account and its numbers, senders that admins change, and runs of the audit.

-- +goose Up

-- The workers. The settings are a list of {name, value, set}, with secrets masked.
CREATE TABLE worker_processes (
    id         uuid        PRIMARY KEY,
    host       text        NOT NULL,
    version    text        NOT NULL,
    settings   jsonb       NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    beat_at    timestamptz NOT NULL DEFAULT now() -- the last heartbeat
);

ALTER TABLE api_processes
    ADD COLUMN host       text        NOT NULL DEFAULT '', -- empty: not described yet
    ADD COLUMN version    text        NOT NULL DEFAULT '',
    ADD COLUMN settings   jsonb       NOT NULL DEFAULT '[]',
    ADD COLUMN started_at timestamptz NOT NULL DEFAULT now();

-- How many messages were open, once a minute.
CREATE TABLE queue_samples (
    sampled_at timestamptz PRIMARY KEY DEFAULT now(),
    queued     int NOT NULL, -- with those that wait or are being prepared
    waiting    int NOT NULL,
    preparing  int NOT NULL,
    sending    int NOT NULL,
    in_doubt   int NOT NULL, -- with those that are held
    held       int NOT NULL,
    tasks      int           -- in Redis; NULL: it did not answer
);

CREATE TABLE ended_pauses (
    id       bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    cause    text        NOT NULL,
    detail   text        NOT NULL,
    since    timestamptz NOT NULL,
    ended_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ended_pauses_age ON ended_pauses (ended_at);

-- Pauses end in several statements, of this version and of the previous one.
-- +goose StatementBegin
CREATE FUNCTION keep_ended_pause() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ended_pauses (cause, detail, since) VALUES (OLD.cause, OLD.detail, OLD.since);
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER pauses_ended AFTER DELETE ON pauses FOR EACH ROW EXECUTE FUNCTION keep_ended_pause();

-- What Plivo said about an account when it was asked last, and when it called us last.
CREATE TABLE plivo_accounts (
    auth_id       text        PRIMARY KEY,
    checked_at    timestamptz,                   -- NULL: not asked yet
    reached_at    timestamptz,                   -- the last answer with the account
    problem       text        NOT NULL DEFAULT '', -- why the last answer was none
    account_type  text        NOT NULL DEFAULT '',
    billing_mode  text        NOT NULL DEFAULT '',
    auto_recharge boolean     NOT NULL DEFAULT false,
    credits       text        NOT NULL DEFAULT '', -- a decimal, US dollars, as Plivo writes it
    callback_at   timestamptz                    -- the last callback with a valid signature
);

-- The numbers to send from. Those of a process's environment exist for it whether they have a
-- row or not; those that were added on the page exist for every process.
CREATE TABLE senders (
    number           text        PRIMARY KEY CONSTRAINT senders_number CHECK (number ~ '^\+[1-9][0-9]{6,14}$'),
    source           text        NOT NULL CHECK (source IN ('env', 'page')),
    rate             double precision CHECK (rate >= 0),             -- messages per minute set on the page, 0: no limit; NULL: the environment's
    interval_seconds double precision CHECK (interval_seconds >= 0), -- of rate
    resting_since    timestamptz,                                    -- NULL: it is in use
    added_at         timestamptz NOT NULL DEFAULT now(),

    checked_at       timestamptz,                   -- when Plivo was asked about the number; NULL: not yet
    problem          text        NOT NULL DEFAULT '', -- why it gave no answer; the columns below are older then
    found            boolean     NOT NULL DEFAULT false, -- the account has the number
    number_type      text        NOT NULL DEFAULT '',
    mms_enabled      boolean     NOT NULL DEFAULT false,
    tendlc           text        NOT NULL DEFAULT '',
    campaign         text        NOT NULL DEFAULT '',
    toll_free        text        NOT NULL DEFAULT '',
    application      boolean     NOT NULL DEFAULT false,
    message_url      text        NOT NULL DEFAULT '',

    counted_at       timestamptz, -- when the messages of the last 7 days were counted; NULL: not yet
    week_delivered   int         NOT NULL DEFAULT 0,
    week_sent        int         NOT NULL DEFAULT 0, -- without a confirmed delivery
    week_failed      int         NOT NULL DEFAULT 0  -- or undelivered
);

ALTER TABLE rate_limits
    ADD COLUMN environment_seconds double precision,             -- what the workers' environment says; NULL: none has said yet
    ADD COLUMN resting             boolean NOT NULL DEFAULT false; -- nothing is sent from it: senders.resting_since

-- Runs of the audit, by "postcard verify" and by the job.
CREATE TABLE verifications (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source      text        NOT NULL CHECK (source IN ('job', 'cli')),
    started_at  timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    findings    jsonb       NOT NULL DEFAULT '[]',
    broken      int         NOT NULL DEFAULT 0, -- findings that must be 0 and are not
    problem     text        NOT NULL DEFAULT '' -- why it did not finish
);
CREATE INDEX verifications_age ON verifications (started_at);

-- +goose Down

DROP TABLE verifications;
ALTER TABLE rate_limits DROP COLUMN environment_seconds, DROP COLUMN resting;
DROP TABLE senders;
DROP TABLE plivo_accounts;
DROP TRIGGER pauses_ended ON pauses;
DROP FUNCTION keep_ended_pause;
DROP TABLE ended_pauses;
DROP TABLE queue_samples;
ALTER TABLE api_processes DROP COLUMN host, DROP COLUMN version, DROP COLUMN settings, DROP COLUMN started_at;
DROP TABLE worker_processes;
