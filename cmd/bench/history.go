package main

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"
)

// insertHistory stores messages with the numbers above $1 and up to $2, one each 2.5
// seconds, so that the millionth is of now; those above $3 wait. Of the owners, $4, the
// first has every other message and the rest share the others. Of those that wait, the
// first's are the batch $7 and stand in line before the gate of the sender $8; the others
// have no task before tomorrow. $5 is the sender of the rest, and messages up to $6 are
// old. Rows stand in no order, as changes of status leave them.
const insertHistory = `
WITH i AS (
    SELECT i, i > $3 AS waits, i > $3 AND i % 2 = 0 AS in_line, now() - (1000000 - i) * interval '2.5 seconds' AS at,
        ($4::uuid[])[CASE WHEN i % 2 = 0 THEN 1 ELSE 2 + (i / 2) % (cardinality($4::uuid[]) - 1) END] AS owner
    FROM generate_series($1::int + 1, $2::int) AS i ORDER BY md5(i::text)
), m AS (
    INSERT INTO messages (id, user_id, sender, recipient, text, status, plivo_uuid, created_at, updated_at, final_at, next_attempt_at, task_check_at, expires_at, attempts, version, metadata, backlog_state, batch_id, batch_row)
    SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(md5(i::text), 1, 3) || '8' || substr(md5(i::text), 4, 15))::uuid,
        owner, CASE WHEN in_line THEN $8 ELSE $5 END, '+1416' || (2000000 + i),
        'Greetings from the coast, word' || (i % 50000)
            || CASE WHEN i % 2 = 1 THEN ' theirs' ELSE '' END
            || CASE WHEN i / 2 % 2 = 0 THEN ' morning' ELSE ' evening' END
            || CASE WHEN i <= $6 THEN ' old' ELSE '' END,
        CASE WHEN waits THEN 'queued' WHEN i % 49 = 0 THEN 'failed' ELSE 'delivered' END,
        CASE WHEN NOT waits AND i % 49 <> 0 THEN 'bench-' || i END, at, at, CASE WHEN NOT waits THEN at END,
        CASE WHEN waits THEN at END, CASE WHEN in_line THEN 'infinity' WHEN waits THEN now() + interval '1 day' END, now() + interval '2 days',
        CASE WHEN waits THEN 0 ELSE 1 END, CASE WHEN waits THEN 1 ELSE 4 END,
        CASE WHEN i % 5 = 0 THEN jsonb_build_object('order', (i / 5)::text) ELSE '{}' END,
        CASE WHEN in_line THEN 'waiting' END, CASE WHEN in_line THEN $7::uuid END, CASE WHEN in_line THEN i END
    FROM i RETURNING id, plivo_uuid, text, metadata, status, created_at AS at
), search AS (
    INSERT INTO message_search SELECT id, to_tsvector('simple', text), metadata FROM m
), media AS (
    INSERT INTO message_media (message_id, position, url) SELECT id, 1, 'https://example.com/picture.jpg' FROM m
), attempt AS (
    INSERT INTO attempts (message_id, ordinal, token, sender, started_at, lease_until, finished_at, outcome, plivo_uuid)
    SELECT id, 1, md5(id::text), $5, at, at, at, CASE WHEN plivo_uuid IS NULL THEN 'permanent_failure' ELSE 'accepted' END, plivo_uuid FROM m WHERE status <> 'queued'
)
INSERT INTO message_events (message_id, kind, status, at)
SELECT id, kind, CASE WHEN status = 'queued' THEN 'queued' ELSE 'submitted' END, at
FROM m, unnest(CASE WHEN status = 'queued' THEN ARRAY['created'] ELSE ARRAY['created', 'attempt_started', 'submitted', 'report'] END) AS kind`

// history adds messages to those that there are, until there are so many: a million are
// of the last 29 days. A fifth of what is added, the newest, waits, half of it in the
// batch; the rest is over.
func (s *stack) history(ctx context.Context, owners []uuid.UUID, batch uuid.UUID, from, to int) error {
	const some = 20_000
	waiting := to - (to-from)/5
	for ; from < to; from += some {
		_, err := s.db.ExecContext(ctx, insertHistory, from, min(to, from+some), waiting, pq.Array(owners), sender, to/4, batch, rateLimitedSender)
		if err != nil {
			return fmt.Errorf("storing messages: %w", err)
		}
	}
	if _, err := s.db.ExecContext(ctx, `VACUUM ANALYZE`); err != nil {
		return fmt.Errorf("analyzing: %w", err)
	}
	return s.rollUpStats(ctx)
}

// rollUpStats has a worker count the messages of hours that are over, as it does when it
// starts. Workers that were killed may have left the turn to do so taken.
func (s *stack) rollUpStats(ctx context.Context) error {
	if _, err := s.db.ExecContext(ctx, `TRUNCATE stats_days, turns`); err != nil {
		return fmt.Errorf("forgetting days: %w", err)
	}
	worker, err := s.worker(ctx)
	if err != nil {
		return err
	}
	defer worker.kill()
	for counted := false; !counted; {
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return err
		}
		if err := s.db.QueryRowContext(ctx, `SELECT count(*) >= 30 AND bool_and(counted_until = planned_until) FROM stats_days`).Scan(&counted); err != nil {
			return fmt.Errorf("looking at days: %w", err)
		}
	}
	return nil
}
