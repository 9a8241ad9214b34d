package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

func size(dir, program string) float64 {
	info, err := os.Stat(filepath.Join(dir, program))
	if err != nil {
		return 0
	}
	return float64(info.Size()) / 1e6
}

// benchRedis fills the queue, and asks what a message takes there, and what the
// processes keep with 100,000 queued and 2,000 open pages.
func benchRedis(ctx context.Context, s *stack, r *report) error {
	const queued, pages = 100_000, 2_000
	api, key, _, err := s.apiWithKey(ctx)
	if err != nil {
		return err
	}
	if err := s.fill(ctx, queued, ""); err != nil {
		return err
	}
	before, err := s.redisFigure(ctx, "used_memory")
	if err != nil {
		return err
	}
	if err := s.enqueue(ctx); err != nil {
		return err
	}
	after, err := s.redisFigure(ctx, "used_memory")
	if err != nil {
		return err
	}
	r.add("Redis for a queued message", (after-before)/queued, "bytes", "≤ 1000")
	for range pages {
		conn, err := net.Dial("tcp", strings.TrimPrefix(api.url, "http://"))
		if err != nil {
			return fmt.Errorf("opening a page: %w", err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "GET /api/messages/stream HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer %s\r\n\r\n", key)
		if _, err := bufio.NewReader(conn).ReadString('\n'); err != nil {
			return fmt.Errorf("opening a page: %w", err)
		}
	}
	s.slow = 50 * time.Millisecond
	worker, err := s.worker(ctx)
	if err != nil {
		return err
	}
	time.Sleep(5 * time.Second)
	r.add("api with 2,000 pages open, sending", memory(api.command.Process.Pid), "MiB", "≤ 80")
	r.add("worker with 100,000 queued", memory(worker.command.Process.Pid), "MiB", "≤ 80")
	return nil
}

// benchScale asks an api that has a million messages, of which the asking user
// has most.
func benchScale(ctx context.Context, s *stack, r *report) error {
	const messages = 1_000_000
	api, key, _, err := s.apiWithKey(ctx)
	if err != nil {
		return err
	}
	begun := time.Now()
	if err := s.history(ctx, messages); err != nil {
		return err
	}
	r.add("storing a million messages", time.Since(begun).Seconds(), "s", "")
	var id string
	if err := s.db.QueryRowContext(ctx, `SELECT id FROM messages ORDER BY id OFFSET 500000 LIMIT 1`).Scan(&id); err != nil {
		return fmt.Errorf("choosing a message: %w", err)
	}
	header := "Authorization: Bearer " + key + "\r\n"
	for _, q := range []struct{ name, path, bar string }{
		{"status", "/api/messages/" + id, "≤ 5"},
		{"list", "/api/messages", "≤ 20"},
		{"list by status", "/api/messages?status=failed", "≤ 20"},
		{"list by a rare status", "/api/messages?status=in_doubt", "≤ 20"},
		{"list by recipient", "/api/messages?to=%2B14162500000", "≤ 20"},
		{"list by a rare word", "/api/messages?text=word777", "≤ 20"},
		{"list by a frequent word", "/api/messages?text=greetings", "≤ 20"},
		{"list by metadata", "/api/messages?metadata[order]=777", "≤ 20"},
		{"list of last week", "/api/messages?since=2026-01-01T00:00:00Z&until=2099-01-01T00:00:00Z", "≤ 20"},
	} {
		_, took, err := load(ctx, 1, 2*time.Second, poster(api.url, q.path, header, func(int64) string { return "" }, http.StatusOK))
		if err != nil {
			return fmt.Errorf("%s: %w", q.name, err)
		}
		r.add(q.name+", p50", took.at(0.5), "ms", "")
		r.add(q.name+", p95", took.at(0.95), "ms", q.bar)
	}
	perSecond, _, err := load(ctx, 64, loadLength, poster(api.url, "/api/send-mms", header, sendBody, http.StatusAccepted))
	if err != nil {
		return err
	}
	r.add("accept, c=64", perSecond, "messages/s", "")
	return s.explainAll(ctx, r)
}

// history stores messages that are over, most of them.
func (s *stack) history(ctx context.Context, messages int) error {
	const at = 50_000
	for from := 0; from < messages; from += at {
		_, err := s.db.ExecContext(ctx, `
WITH m AS (
    INSERT INTO messages (id, user_id, sender, recipient, text, status, plivo_uuid, final_at, attempts, version, metadata)
    SELECT (lpad(to_hex((extract(epoch FROM now() - interval '30 days') * 1000)::bigint + i * 2000), 12, '0') || '7' || substr(md5(i::text), 1, 3) || '8' || substr(md5(i::text), 4, 15))::uuid,
        (SELECT id FROM users LIMIT 1), $3, '+1416' || (2000000 + i), 'Greetings from the coast, word' || (i % 50000),
        CASE WHEN i % 50 = 0 THEN 'failed' ELSE 'delivered' END, CASE WHEN i % 50 <> 0 THEN 'bench-' || i END, now(), 1, 4,
        CASE WHEN i % 10 = 0 THEN jsonb_build_object('order', (i / 10)::text) ELSE '{}' END
    FROM generate_series($1::int + 1, $1 + $2::int) AS i RETURNING id, plivo_uuid, text, metadata
), search AS (
    INSERT INTO message_search SELECT id, to_tsvector('simple', text), metadata FROM m
), media AS (
    INSERT INTO message_media (message_id, position, url) SELECT id, 1, 'https://example.com/picture.jpg' FROM m
), attempt AS (
    INSERT INTO attempts (message_id, number, token, sender, lease_until, finished_at, outcome, plivo_uuid)
    SELECT id, 1, md5(id::text), $3, now(), now(), CASE WHEN plivo_uuid IS NULL THEN 'refused' ELSE 'accepted' END, plivo_uuid FROM m
)
INSERT INTO message_events (message_id, kind, status) SELECT id, kind, 'queued' FROM m, unnest(ARRAY['accepted', 'attempt_started', 'submitted', 'report']) AS kind`, from, at, sender)
		if err != nil {
			return fmt.Errorf("storing messages: %w", err)
		}
	}
	if _, err := s.db.ExecContext(ctx, `VACUUM ANALYZE`); err != nil {
		return fmt.Errorf("analyzing: %w", err)
	}
	return nil
}

// explainAll has a worker send beside the million, and reports how fast it is and
// which statements keep the database busy.
func (s *stack) explainAll(ctx context.Context, r *report) error {
	if _, err := s.worker(ctx, "WORKER_CONCURRENCY=100"); err != nil {
		return err
	}
	busy := map[string]int{}
	const samples = 250
	for range samples {
		rows, err := s.db.QueryContext(ctx, `SELECT substr(regexp_replace(query, '\s+', ' ', 'g'), 1, 70) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() AND backend_type = 'client backend'`)
		if err != nil {
			return fmt.Errorf("looking at statements: %w", err)
		}
		for rows.Next() {
			var query string
			if err := rows.Scan(&query); err != nil {
				return fmt.Errorf("looking at statements: %w", err)
			}
			busy[query]++
		}
		rows.Close()
		time.Sleep(20 * time.Millisecond)
	}
	for query, n := range busy {
		if n > samples/10 {
			r.add("connections busy with: "+query, float64(n)/samples, "", "")
		}
	}
	perSecond, err := s.attemptsPerSecond(ctx)
	if err != nil {
		return err
	}
	r.add("sent by one worker meanwhile", perSecond, "messages/s", "")
	return nil
}

func (s *stack) attemptsPerSecond(ctx context.Context) (n float64, err error) {
	err = s.db.QueryRowContext(ctx, `SELECT count(*) / 3.0 FROM attempts WHERE finished_at > clock_timestamp() - interval '3 seconds'`).Scan(&n)
	return n, err
}
