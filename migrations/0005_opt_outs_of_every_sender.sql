-- Finds a recipient's opt-outs whatever sender they name, and lets one name every sender.

-- +goose Up

-- The claim of a message looks for opt-outs of its recipient. With the primary key, which
-- begins with the sender, it would read the whole table.
CREATE INDEX suppressions_of_recipient ON suppressions (recipient, sender);

-- An empty sender means every sender, also those that are added to the configuration later.
ALTER TABLE suppressions DROP CONSTRAINT suppressions_sender;
ALTER TABLE suppressions ADD CONSTRAINT suppressions_sender CHECK (sender ~ '^(\+[1-9][0-9]{6,14})?$') NOT VALID;

-- +goose Down

-- The workers give every configured sender a rate limit.
INSERT INTO suppressions (sender, recipient, reason, created_at)
SELECT l.name, s.recipient, s.reason, s.created_at FROM suppressions s JOIN rate_limits l ON l.name LIKE '+%'
WHERE s.sender = '' ON CONFLICT DO NOTHING;
DELETE FROM suppressions WHERE sender = '';
ALTER TABLE suppressions DROP CONSTRAINT suppressions_sender;
ALTER TABLE suppressions ADD CONSTRAINT suppressions_sender CHECK (sender ~ '^\+[1-9][0-9]{6,14}$') NOT VALID;
DROP INDEX suppressions_of_recipient;
