-- How many attempts lie in a span of time decides how Plivo is asked about the
-- doubtful ones among them.

-- +goose Up

CREATE INDEX attempts_begun ON attempts USING brin (started_at);

-- +goose Down

DROP INDEX attempts_begun;
