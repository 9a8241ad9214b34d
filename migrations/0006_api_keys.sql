-- What an API key may do, and how much.

-- +goose Up

ALTER TABLE api_keys
    ADD COLUMN hint      text   NOT NULL DEFAULT '' CHECK (length(hint) <= 12), -- how it begins, to know it again by
    ADD COLUMN scopes    text[] NOT NULL DEFAULT '{send,read}' CHECK (scopes <@ '{send,read}' AND cardinality(scopes) > 0),
    ADD COLUMN daily_cap int    CHECK (daily_cap > 0); -- messages a day, UTC; NULL: its user's cap alone
ALTER TABLE users ADD COLUMN daily_cap int CHECK (daily_cap > 0); -- NULL: the installation's

-- +goose Down

ALTER TABLE users DROP COLUMN daily_cap;
ALTER TABLE api_keys DROP COLUMN hint, DROP COLUMN scopes, DROP COLUMN daily_cap;
