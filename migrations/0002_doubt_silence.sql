-- The rule DOUBT_SILENCE: see docs/decisions/0007-silence-as-evidence.md.

-- +goose Up

-- When Plivo's first report about the attempt arrived at the callback.
ALTER TABLE attempts ADD COLUMN first_report_at timestamptz;

-- The api processes, which receive Plivo's callbacks.
CREATE TABLE api_processes (
    id        uuid        PRIMARY KEY,
    beat_at   timestamptz NOT NULL DEFAULT now(), -- the last heartbeat
    broken_at timestamptz NOT NULL DEFAULT now()  -- the last start, late heartbeat, or callback that was not answered with 2xx
);

-- Attempts in doubt whose message was queued again because no report arrived.
CREATE TABLE silence_retries (
    message_id uuid        PRIMARY KEY REFERENCES messages (id) ON DELETE CASCADE,
    ordinal    int         NOT NULL,
    retried_at timestamptz NOT NULL DEFAULT now(),
    refuted_at timestamptz -- when evidence showed that Plivo had accepted the attempt after all
);
CREATE INDEX silence_retries_retried ON silence_retries (retried_at);
CREATE INDEX silence_retries_refuted ON silence_retries (refuted_at) WHERE refuted_at IS NOT NULL;

-- +goose Down

DROP TABLE silence_retries;
DROP TABLE api_processes;
ALTER TABLE attempts DROP COLUMN first_report_at;
