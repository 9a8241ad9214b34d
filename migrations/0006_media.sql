-- Uploaded pictures, checks of media URLs, and messages that wait for either.

-- +goose Up

-- One row per content. message_media refers to it without a foreign key: a batch of
-- 100,000 messages would lock its row as often. A content is deleted a day after nothing
-- refers to it any more.
CREATE TABLE media_contents (
    hash       bytea       PRIMARY KEY CHECK (length(hash) = 32), -- SHA-256 of data
    type       text        NOT NULL,
    bytes      int         NOT NULL CHECK (bytes > 0),
    width      int         NOT NULL CHECK (width > 0),
    height     int         NOT NULL CHECK (height > 0),
    data       bytea       NOT NULL CHECK (length(data) = bytes),
    preview    bytea       REFERENCES media_contents (hash), -- a small version for lists
    touched_at timestamptz NOT NULL DEFAULT now() -- when it was stored last
);
ALTER TABLE media_contents ALTER data SET STORAGE EXTERNAL; -- pictures are compressed already
CREATE INDEX media_contents_touched ON media_contents (touched_at);
CREATE INDEX media_contents_preview ON media_contents (preview) WHERE preview IS NOT NULL;

CREATE TABLE media_uploads (
    id         uuid        PRIMARY KEY, -- UUIDv7
    user_id    uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    type       text        NOT NULL, -- of the file as it came, and so on
    bytes      int         NOT NULL CHECK (bytes > 0),
    width      int         NOT NULL CHECK (width > 0),
    height     int         NOT NULL CHECK (height > 0),
    sent       bytea       NOT NULL REFERENCES media_contents (hash),
    original   bytea       REFERENCES media_contents (hash), -- without metadata; NULL: too large to be sent
    changed    text[]      NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL -- no new message can use it after this; the row goes a day later
);
CREATE INDEX media_uploads_of_user ON media_uploads (user_id);
CREATE INDEX media_uploads_expire ON media_uploads (expires_at);
CREATE INDEX media_uploads_sent ON media_uploads (sent);
CREATE INDEX media_uploads_original ON media_uploads (original) WHERE original IS NOT NULL;

-- A smaller version of a content, for a message with several pictures.
CREATE TABLE media_fitted (
    content bytea NOT NULL REFERENCES media_contents (hash) ON DELETE CASCADE,
    budget  int   NOT NULL, -- bytes
    fitted  bytea NOT NULL REFERENCES media_contents (hash) ON DELETE CASCADE,
    PRIMARY KEY (content, budget)
);
CREATE INDEX media_fitted_fitted ON media_fitted (fitted);

-- The id under which Plivo has a content.
CREATE TABLE plivo_media (
    content      bytea       NOT NULL REFERENCES media_contents (hash) ON DELETE CASCADE,
    account      text        NOT NULL, -- the auth id
    media_id     text        NOT NULL,
    uploaded_at  timestamptz NOT NULL DEFAULT now(),
    used         boolean     NOT NULL DEFAULT false, -- Plivo has accepted a message with it, and keeps it for longer
    usable_until timestamptz NOT NULL, -- uploaded again after this
    PRIMARY KEY (content, account)
);

-- What was found behind media URLs.
CREATE TABLE media_checks (
    url_hash   bytea       PRIMARY KEY CHECK (length(url_hash) = 32), -- SHA-256 of the URL
    checked_at timestamptz NOT NULL DEFAULT now(),
    result     text        NOT NULL CHECK (result IN ('passed', 'failed', 'retry')),
    reason     text        NOT NULL DEFAULT '',
    detail     text        NOT NULL DEFAULT '' CHECK (length(detail) <= 500),
    type       text        NOT NULL DEFAULT '',
    bytes      int         NOT NULL DEFAULT 0,
    width      int         NOT NULL DEFAULT 0,
    height     int         NOT NULL DEFAULT 0,
    redirected boolean     NOT NULL DEFAULT false,
    fits       boolean     NOT NULL DEFAULT false, -- can be sent as it is
    copy       bytea       REFERENCES media_contents (hash), -- without metadata, made to fit
    preview    bytea       REFERENCES media_contents (hash)
);
CREATE INDEX media_checks_age ON media_checks (checked_at);
CREATE INDEX media_checks_copy ON media_checks (copy) WHERE copy IS NOT NULL;
CREATE INDEX media_checks_preview ON media_checks (preview) WHERE preview IS NOT NULL;

-- An attachment is a URL, an upload, or a URL whose picture was copied (both url and
-- content).
ALTER TABLE message_media ALTER url DROP NOT NULL;
ALTER TABLE message_media ADD upload_id uuid;  -- the media id of the API; the upload itself may be gone
ALTER TABLE message_media ADD content   bytea; -- sent in place of the URL
ALTER TABLE message_media ADD preview   bytea; -- of the picture behind the URL
ALTER TABLE message_media ADD fit       text   NOT NULL DEFAULT 'auto';
ALTER TABLE message_media ADD CONSTRAINT message_media_source CHECK (url IS NOT NULL OR content IS NOT NULL) NOT VALID;
ALTER TABLE message_media ADD CONSTRAINT message_media_fit CHECK (fit IN ('auto', 'always', 'never')) NOT VALID;
CREATE INDEX message_media_content ON message_media (content) WHERE content IS NOT NULL;
CREATE INDEX message_media_preview ON message_media (preview) WHERE preview IS NOT NULL;

-- preparing: its media URLs are not checked, or Plivo does not have its uploads. It has no
-- task until they are.
ALTER TABLE messages DROP CONSTRAINT messages_backlog_state_check;
ALTER TABLE messages ADD CONSTRAINT messages_backlog_state_check CHECK (backlog_state IN ('waiting', 'released', 'parked', 'preparing')) NOT VALID;
ALTER TABLE messages ADD prepare_at timestamptz; -- when its media are looked at, while preparing
ALTER TABLE messages ADD CONSTRAINT messages_preparing CHECK (backlog_state <> 'preparing' OR prepare_at IS NOT NULL) NOT VALID;
CREATE INDEX messages_preparing_at ON messages (batch_id, prepare_at) WHERE backlog_state = 'preparing';
-- Plivo's code for too large media, which is rare.
CREATE INDEX messages_too_large ON messages (id) WHERE status = 'failed' AND plivo_code = '120';

-- +goose Down

DELETE FROM messages WHERE id IN (SELECT message_id FROM message_media WHERE url IS NULL);
DROP INDEX messages_too_large;
DROP INDEX messages_preparing_at;
ALTER TABLE messages DROP CONSTRAINT messages_preparing;
UPDATE messages SET backlog_state = 'waiting' WHERE backlog_state = 'preparing';
ALTER TABLE messages DROP prepare_at;
ALTER TABLE messages DROP CONSTRAINT messages_backlog_state_check;
ALTER TABLE messages ADD CONSTRAINT messages_backlog_state_check CHECK (backlog_state IN ('waiting', 'released', 'parked')) NOT VALID;
DROP INDEX message_media_preview;
DROP INDEX message_media_content;
ALTER TABLE message_media DROP CONSTRAINT message_media_fit, DROP CONSTRAINT message_media_source,
    DROP fit, DROP preview, DROP content, DROP upload_id;
ALTER TABLE message_media ALTER url SET NOT NULL;
DROP TABLE media_checks;
DROP TABLE plivo_media;
DROP TABLE media_fitted;
DROP TABLE media_uploads;
DROP TABLE media_contents;
