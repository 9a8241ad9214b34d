-- Second factors: authenticator apps, recovery codes and passkeys.

-- +goose Up

-- The authenticator app of a user, whose codes are time-based (TOTP, RFC 6238).
CREATE TABLE totp_factors (
    user_id      uuid        PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    secret       bytea       NOT NULL, -- encrypted with SECRET_KEY
    created_at   timestamptz NOT NULL DEFAULT now(),
    confirmed_at timestamptz, -- NULL: the user has not entered a code yet
    last_step    bigint      NOT NULL DEFAULT 0 -- the time step of the last code; no code of it or of an earlier one is accepted
);

-- Codes for a user who has lost the device. Each works once.
CREATE TABLE recovery_codes (
    user_id uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    hash    bytea       NOT NULL CHECK (length(hash) = 32), -- keyed with SECRET_KEY
    used_at timestamptz,
    PRIMARY KEY (user_id, hash)
);

CREATE TABLE passkeys (
    id            uuid        PRIMARY KEY, -- UUIDv7
    user_id       uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    credential_id bytea       NOT NULL, -- chosen by the authenticator
    credential    jsonb       NOT NULL, -- public key, signature counter and flags, as package auth encodes them
    name          text        NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    last_used_at  timestamptz
);
CREATE UNIQUE INDEX passkeys_credential ON passkeys (credential_id);
CREATE INDEX passkeys_of_user ON passkeys (user_id);

-- +goose Down

DROP TABLE passkeys;
DROP TABLE recovery_codes;
DROP TABLE totp_factors;
