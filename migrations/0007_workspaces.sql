-- Gives what belonged to a user to a workspace, which may have several members.

-- +goose Up

-- A user's first workspace has the user's id. So the ids that messages, keys, daily counts
-- and statistics have are already those of workspaces.
CREATE TABLE workspaces (
    id         uuid        PRIMARY KEY,
    name       text        NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    daily_cap  int         CHECK (daily_cap > 0), -- messages a day, UTC; NULL: DAILY_CAP
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE members (
    workspace_id uuid        NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    user_id      uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    permissions  text[]      NOT NULL CHECK (permissions <@ '{read,send,manage}' AND 'read' = ANY (permissions)),
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace_id, user_id)
);
CREATE INDEX members_of_user ON members (user_id);

-- Only the SHA-256 of an invitation's token is stored. The row goes when the invitation is
-- used or withdrawn, and a while after it has expired.
CREATE TABLE invitations (
    id           uuid        PRIMARY KEY,
    workspace_id uuid        NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    email        text        NOT NULL CHECK (email = lower(email) AND length(email) <= 254),
    permissions  text[]      NOT NULL CHECK (permissions <@ '{read,send,manage}' AND 'read' = ANY (permissions)),
    token_hash   bytea       NOT NULL UNIQUE CHECK (length(token_hash) = 32),
    created_by   uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz NOT NULL,
    CONSTRAINT invitations_one_per_email UNIQUE (workspace_id, email)
);

INSERT INTO workspaces (id, name, daily_cap, created_at)
SELECT id, left(split_part(email, '@', 1), 100), daily_cap, created_at FROM users;
INSERT INTO members (workspace_id, user_id, permissions, created_at)
SELECT id, id, '{read,send,manage}', created_at FROM users;
ALTER TABLE users DROP COLUMN daily_cap;

ALTER TABLE api_keys RENAME user_id TO workspace_id;
ALTER TABLE api_keys DROP CONSTRAINT api_keys_user_id_fkey;
ALTER TABLE api_keys ADD CONSTRAINT api_keys_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES workspaces (id) ON DELETE CASCADE;
ALTER TABLE api_keys ADD COLUMN created_by uuid REFERENCES users (id);
UPDATE api_keys SET created_by = workspace_id;
ALTER TABLE api_keys ALTER created_by SET NOT NULL;
ALTER INDEX api_keys_user RENAME TO api_keys_of_workspace;
CREATE INDEX api_keys_created_by ON api_keys (created_by);

-- created_by is the user who created a message or batch, also through an API key. NULL, of
-- rows from before this migration: the user with the workspace's id. It is no foreign key,
-- because the check would cost each new message a lock; users are never deleted.
ALTER TABLE messages RENAME user_id TO workspace_id;
ALTER TABLE messages DROP CONSTRAINT messages_user_id_fkey;
ALTER TABLE messages ADD CONSTRAINT messages_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES workspaces (id) NOT VALID;
ALTER TABLE messages ADD COLUMN created_by uuid;
ALTER INDEX messages_of_user RENAME TO messages_of_workspace;
ALTER INDEX messages_of_user_by_status RENAME TO messages_of_workspace_by_status;

ALTER TABLE batches RENAME user_id TO workspace_id;
ALTER TABLE batches DROP CONSTRAINT batches_user_id_fkey;
ALTER TABLE batches ADD CONSTRAINT batches_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES workspaces (id);
ALTER TABLE batches ADD COLUMN created_by uuid;
ALTER INDEX batches_of_user RENAME TO batches_of_workspace;

ALTER TABLE idempotency_keys RENAME user_id TO workspace_id;
ALTER TABLE idempotency_keys DROP CONSTRAINT idempotency_keys_user_id_fkey;
ALTER TABLE idempotency_keys ADD CONSTRAINT idempotency_keys_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES workspaces (id) ON DELETE CASCADE;

ALTER TABLE webhooks RENAME user_id TO workspace_id;
ALTER TABLE webhooks DROP CONSTRAINT webhooks_user_id_fkey;
ALTER TABLE webhooks ADD CONSTRAINT webhooks_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES workspaces (id) ON DELETE CASCADE;
ALTER INDEX webhooks_of_user RENAME TO webhooks_of_workspace;

ALTER TABLE media_uploads RENAME user_id TO workspace_id;
ALTER TABLE media_uploads DROP CONSTRAINT media_uploads_user_id_fkey;
ALTER TABLE media_uploads ADD CONSTRAINT media_uploads_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES workspaces (id) ON DELETE CASCADE;
ALTER INDEX media_uploads_of_user RENAME TO media_uploads_of_workspace;

ALTER TABLE stats_totals RENAME user_id TO workspace_id;
ALTER TABLE stats_changes RENAME user_id TO workspace_id;
ALTER INDEX stats_changes_of_user RENAME TO stats_changes_of_workspace;

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION create_webhook_events() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO webhook_events (webhook_id, message_id, status, version, reason, plivo_code)
    SELECT w.id, NEW.id, NEW.status, NEW.version, NEW.reason, NEW.plivo_code FROM webhooks w
    WHERE w.workspace_id = NEW.workspace_id AND w.disabled_at IS NULL AND (w.statuses = '{}' OR NEW.status = ANY (w.statuses))
    FOR KEY SHARE;
    RETURN NULL;
END $$;
CREATE OR REPLACE FUNCTION record_stats_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO stats_changes (workspace_id, day, hour, status, reason, plivo_code, messages)
    SELECT OLD.workspace_id, (OLD.created_at AT TIME ZONE 'UTC')::date, date_trunc('hour', OLD.created_at, 'UTC'), s.status,
        CASE WHEN s.status IN ('failed', 'undelivered') THEN s.reason ELSE '' END,
        CASE WHEN s.status IN ('failed', 'undelivered') THEN s.plivo_code ELSE '' END, s.messages
    FROM (VALUES (OLD.status, OLD.reason, OLD.plivo_code, -1), (NEW.status, NEW.reason, NEW.plivo_code, 1)) AS s (status, reason, plivo_code, messages);
    RETURN NULL;
END $$;
-- +goose StatementEnd

-- +goose Down

-- Workspaces other than the first of a user have no owner in the old schema. Their data
-- would be lost, so they must be removed before.
-- +goose StatementBegin
DO $$ BEGIN
    IF EXISTS (SELECT FROM workspaces w WHERE NOT EXISTS (SELECT FROM users u WHERE u.id = w.id)) THEN
        RAISE EXCEPTION 'there are workspaces that do not belong to one user';
    END IF;
END $$;
CREATE OR REPLACE FUNCTION record_stats_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO stats_changes (user_id, day, hour, status, reason, plivo_code, messages)
    SELECT OLD.user_id, (OLD.created_at AT TIME ZONE 'UTC')::date, date_trunc('hour', OLD.created_at, 'UTC'), s.status,
        CASE WHEN s.status IN ('failed', 'undelivered') THEN s.reason ELSE '' END,
        CASE WHEN s.status IN ('failed', 'undelivered') THEN s.plivo_code ELSE '' END, s.messages
    FROM (VALUES (OLD.status, OLD.reason, OLD.plivo_code, -1), (NEW.status, NEW.reason, NEW.plivo_code, 1)) AS s (status, reason, plivo_code, messages);
    RETURN NULL;
END $$;
CREATE OR REPLACE FUNCTION create_webhook_events() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO webhook_events (webhook_id, message_id, status, version, reason, plivo_code)
    SELECT w.id, NEW.id, NEW.status, NEW.version, NEW.reason, NEW.plivo_code FROM webhooks w
    WHERE w.user_id = NEW.user_id AND w.disabled_at IS NULL AND (w.statuses = '{}' OR NEW.status = ANY (w.statuses))
    FOR KEY SHARE;
    RETURN NULL;
END $$;
-- +goose StatementEnd

ALTER INDEX stats_changes_of_workspace RENAME TO stats_changes_of_user;
ALTER TABLE stats_changes RENAME workspace_id TO user_id;
ALTER TABLE stats_totals RENAME workspace_id TO user_id;

ALTER INDEX media_uploads_of_workspace RENAME TO media_uploads_of_user;
ALTER TABLE media_uploads DROP CONSTRAINT media_uploads_workspace_id_fkey;
ALTER TABLE media_uploads RENAME workspace_id TO user_id;
ALTER TABLE media_uploads ADD CONSTRAINT media_uploads_user_id_fkey FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE;

ALTER INDEX webhooks_of_workspace RENAME TO webhooks_of_user;
ALTER TABLE webhooks DROP CONSTRAINT webhooks_workspace_id_fkey;
ALTER TABLE webhooks RENAME workspace_id TO user_id;
ALTER TABLE webhooks ADD CONSTRAINT webhooks_user_id_fkey FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE;

ALTER TABLE idempotency_keys DROP CONSTRAINT idempotency_keys_workspace_id_fkey;
ALTER TABLE idempotency_keys RENAME workspace_id TO user_id;
ALTER TABLE idempotency_keys ADD CONSTRAINT idempotency_keys_user_id_fkey FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE;

ALTER INDEX batches_of_workspace RENAME TO batches_of_user;
ALTER TABLE batches DROP COLUMN created_by;
ALTER TABLE batches DROP CONSTRAINT batches_workspace_id_fkey;
ALTER TABLE batches RENAME workspace_id TO user_id;
ALTER TABLE batches ADD CONSTRAINT batches_user_id_fkey FOREIGN KEY (user_id) REFERENCES users (id);

ALTER INDEX messages_of_workspace_by_status RENAME TO messages_of_user_by_status;
ALTER INDEX messages_of_workspace RENAME TO messages_of_user;
ALTER TABLE messages DROP COLUMN created_by;
ALTER TABLE messages DROP CONSTRAINT messages_workspace_id_fkey;
ALTER TABLE messages RENAME workspace_id TO user_id;
ALTER TABLE messages ADD CONSTRAINT messages_user_id_fkey FOREIGN KEY (user_id) REFERENCES users (id) NOT VALID;

DROP INDEX api_keys_created_by;
ALTER INDEX api_keys_of_workspace RENAME TO api_keys_user;
ALTER TABLE api_keys DROP COLUMN created_by;
ALTER TABLE api_keys DROP CONSTRAINT api_keys_workspace_id_fkey;
ALTER TABLE api_keys RENAME workspace_id TO user_id;
ALTER TABLE api_keys ADD CONSTRAINT api_keys_user_id_fkey FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE;

ALTER TABLE users ADD COLUMN daily_cap int CHECK (daily_cap > 0);
UPDATE users u SET daily_cap = w.daily_cap FROM workspaces w WHERE w.id = u.id;
DROP TABLE invitations, members, workspaces;
