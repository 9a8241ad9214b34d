-- Makes the statements that change a message's status write less.

-- +goose Up

-- 26 characters are 130 random bits.
ALTER TABLE attempts DROP CONSTRAINT attempts_token_check;
ALTER TABLE attempts ADD CONSTRAINT attempts_token_check CHECK (length(token) >= 26) NOT VALID;

-- attempts_plivo_uuid_key keeps Plivo's UUIDs unique. No statement looked for a message
-- by this index, and each change of a status added an entry.
DROP INDEX messages_plivo_uuid_key;

-- +goose Down

CREATE UNIQUE INDEX messages_plivo_uuid_key ON messages (plivo_uuid) WHERE plivo_uuid IS NOT NULL;
ALTER TABLE attempts DROP CONSTRAINT attempts_token_check;
ALTER TABLE attempts ADD CONSTRAINT attempts_token_check CHECK (length(token) >= 32) NOT VALID;
