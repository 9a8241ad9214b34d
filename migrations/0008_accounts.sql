-- Profiles, disabled users, the list of sessions, and links that reset a password.

-- +goose Up

ALTER TABLE users
    ADD COLUMN name        text        NOT NULL DEFAULT '' CHECK (length(name) <= 100),
    ADD COLUMN time_zone   text        NOT NULL DEFAULT 'UTC' CHECK (length(time_zone) BETWEEN 1 AND 64), -- of the IANA database
    ADD COLUMN disabled_at timestamptz; -- the user cannot log in

-- One row per logged-in browser. A session counts only while its row exists, so deleting the
-- row ends it everywhere. The row of sessions cannot serve for that: a request that is still
-- running when it is deleted stores it again.
CREATE TABLE user_sessions (
    id           uuid        PRIMARY KEY, -- random; not secret
    user_id      uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    browser      text        NOT NULL CHECK (length(browser) <= 100), -- such as Firefox on Windows
    address      text        NOT NULL CHECK (length(address) <= 100), -- of the last use
    created_at   timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz NOT NULL DEFAULT now(), -- accurate to a minute
    expires_at   timestamptz NOT NULL
);
CREATE INDEX user_sessions_of_user ON user_sessions (user_id);
CREATE INDEX user_sessions_expire ON user_sessions (expires_at);

-- A link resets a password only while the user has the email and the password for which it
-- was made, so it works once.
CREATE TABLE password_resets (
    token_hash    bytea       PRIMARY KEY CHECK (length(token_hash) = 32), -- SHA-256 of the link's token
    user_id       uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    email         text        NOT NULL,
    password_hash bytea       NOT NULL CHECK (length(password_hash) = 32), -- SHA-256 of users.password_hash
    expires_at    timestamptz NOT NULL
);
CREATE INDEX password_resets_of_user ON password_resets (user_id);
CREATE INDEX password_resets_expire ON password_resets (expires_at);

-- +goose Down

DROP TABLE password_resets, user_sessions;
ALTER TABLE users DROP COLUMN name, DROP COLUMN time_zone, DROP COLUMN disabled_at;
