package main

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"
)

// insertHistory inserts the messages with ordinals above $1 and up to $2, created 2.5
// seconds apart so that the millionth is created now. Those above $3 are queued, the
// others final. The first of the workspaces $4 has every second message, the rest share the
// others. Queued messages of the first workspace form the batch $7 and wait in the backlog of
// the sender $8; other queued messages have no task until tomorrow. $5 is the sender of
// all other messages, and messages up to $6 contain the word "old". Rows are inserted in
// random order, similar to what updates leave behind.
const insertHistory = `
WITH i AS (
    SELECT i, i > $3 AS queued, i > $3 AND i % 2 = 0 AS in_backlog, now() - (1000000 - i) * interval '2.5 seconds' AS at,
        ($4::uuid[])[CASE WHEN i % 2 = 0 THEN 1 ELSE 2 + (i / 2) % (cardinality($4::uuid[]) - 1) END] AS workspace
    FROM generate_series($1::int + 1, $2::int) AS i ORDER BY md5(i::text)
), m AS (
    INSERT INTO messages (id, workspace_id, sender, recipient, text, status, plivo_uuid, created_at, updated_at, final_at, next_attempt_at, task_check_at, expires_at, attempts, version, metadata, backlog_state, batch_id, batch_row)
    SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(md5(i::text), 1, 3) || '8' || substr(md5(i::text), 4, 15))::uuid,
        workspace, CASE WHEN in_backlog THEN $8 ELSE $5 END, '+1416' || (2000000 + i),
        'Greetings from the coast, word' || (i % 50000)
            || CASE WHEN i % 2 = 1 THEN ' theirs' ELSE '' END
            || CASE WHEN i / 2 % 2 = 0 THEN ' morning' ELSE ' evening' END
            || CASE WHEN i <= $6 THEN ' old' ELSE '' END,
        CASE WHEN queued THEN 'queued' WHEN i % 49 = 0 THEN 'failed' ELSE 'delivered' END,
        CASE WHEN NOT queued AND i % 49 <> 0 THEN 'bench-' || i END, at, at, CASE WHEN NOT queued THEN at END,
        CASE WHEN queued THEN at END, CASE WHEN in_backlog THEN 'infinity' WHEN queued THEN now() + interval '1 day' END, now() + interval '2 days',
        CASE WHEN queued THEN 0 ELSE 1 END, CASE WHEN queued THEN 1 ELSE 4 END,
        CASE WHEN i % 5 = 0 THEN jsonb_build_object('order', (i / 5)::text) ELSE '{}' END,
        CASE WHEN in_backlog THEN 'waiting' END, CASE WHEN in_backlog THEN $7::uuid END, CASE WHEN in_backlog THEN i END
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

// insertMessages raises the number of messages from `from` to `to`. Each is created 2.5 s
// after the one before, so that a million span 29 days. Of the added messages, the last
// fifth is queued, half of it in the batch; the others are final.
func (s *stack) insertMessages(ctx context.Context, workspaces []uuid.UUID, batch uuid.UUID, from, to int) error {
	const chunk = 20_000
	final := to - (to-from)/5
	for ; from < to; from += chunk {
		_, err := s.db.ExecContext(ctx, insertHistory, from, min(to, from+chunk), final, pq.Array(workspaces), sender, to/4, batch, rateLimitedSender)
		if err != nil {
			return fmt.Errorf("inserting messages: %w", err)
		}
	}
	if _, err := s.db.ExecContext(ctx, `VACUUM ANALYZE`); err != nil {
		return fmt.Errorf("analyzing: %w", err)
	}
	return s.rollUpStats(ctx)
}

// rollUpStats lets a worker add all past hours to the daily totals. A killed worker may
// have left the lease of the stats rollup behind, so all leases are deleted.
func (s *stack) rollUpStats(ctx context.Context) error {
	if _, err := s.db.ExecContext(ctx, `TRUNCATE stats_days, leases`); err != nil {
		return fmt.Errorf("resetting the stats: %w", err)
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
			return fmt.Errorf("reading the progress of the stats rollup: %w", err)
		}
	}
	return nil
}
