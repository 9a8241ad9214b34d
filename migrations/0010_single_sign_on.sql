-- Accounts at an OpenID provider, linked to users, and users without a password.

-- +goose Up

-- NULL: the user logs in through single sign-on only. The previous version cannot read such
-- a user; there are none before single sign-on is configured, which needs this version.
ALTER TABLE users ALTER password_hash DROP NOT NULL;

CREATE TABLE identities (
    issuer        text        NOT NULL, -- the provider's, as in OIDC_ISSUER
    subject       text        NOT NULL CHECK (length(subject) BETWEEN 1 AND 255), -- the provider's id of the account
    user_id       uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    email         text        NOT NULL, -- when it was linked; shown, never matched
    created_at    timestamptz NOT NULL DEFAULT now(),
    last_login_at timestamptz,
    PRIMARY KEY (issuer, subject),
    CONSTRAINT identities_one_per_issuer UNIQUE (user_id, issuer)
);

-- +goose Down

DROP TABLE identities;
-- The hash of a random password that nobody knows.
UPDATE users SET password_hash = '$2a$10$ZMJSnGA2enRNL5X/e29RgewvtMay56buxYCj0.H8LspW745ZatUJy' WHERE password_hash IS NULL;
ALTER TABLE users ALTER password_hash SET NOT NULL;
