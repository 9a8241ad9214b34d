package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"postcard/internal/plivosim"
)

// benchScale asks an api that has a million messages, of which the asking user has
// all, and has a worker send and hear of them meanwhile. It does the same with few
// messages before, and compares how much of the tables each statement touches: none
// may touch more because there are more.
func benchScale(ctx context.Context, s *stack, r *report) error {
	const few, many = 20_000, 1_000_000
	api, key, cookie, err := s.apiWithKey(ctx)
	if err != nil {
		return err
	}
	before := map[int64]touch{}
	for _, messages := range []int{few, many} {
		begun := time.Now()
		if err := s.history(ctx, messages); err != nil {
			return err
		}
		if messages == many {
			r.add("storing a million messages", time.Since(begun).Seconds(), "s", "")
			var size float64
			if err := s.db.QueryRowContext(ctx, `SELECT pg_database_size(current_database())`).Scan(&size); err != nil {
				return fmt.Errorf("asking for the database's size: %w", err)
			}
			r.add("a message that is over, on disk", size/many, "bytes", "")
		}
		if s.counted {
			if _, err := s.db.ExecContext(ctx, `SELECT pg_stat_statements_reset()`); err != nil {
				return fmt.Errorf("forgetting statements: %w", err)
			}
		}
		figures := r
		if messages == few {
			figures = &report{}
		}
		if err := s.read(ctx, figures, api, key, cookie); err != nil {
			return err
		}
		if err := s.sendAndHear(ctx, figures, api, key); err != nil {
			return err
		}
		touched, err := s.touches(ctx)
		if err != nil {
			return err
		}
		if messages == many {
			compare(r, before, touched)
		}
		before = touched
	}
	perSecond, _, err := load(ctx, 64, loadLength, poster(api.url, "/api/send-mms", bearer(key), sendBody, http.StatusAccepted))
	if err != nil {
		return err
	}
	r.add("accept, c=64", perSecond, "messages/s", "")
	return nil
}

func bearer(key string) string { return "Authorization: Bearer " + key + "\r\n" }

// read asks for everything that can be looked at.
func (s *stack) read(ctx context.Context, r *report, api *process, key, cookie string) error {
	var id string
	if err := s.db.QueryRowContext(ctx, `SELECT id FROM messages ORDER BY id OFFSET (SELECT count(*) / 2 FROM messages) LIMIT 1`).Scan(&id); err != nil {
		return fmt.Errorf("choosing a message: %w", err)
	}
	for _, q := range []struct{ name, path, header, bar string }{
		{"status", "/api/messages/" + id, bearer(key), "≤ 5"},
		{"list", "/api/messages", bearer(key), "≤ 20"},
		{"list by status", "/api/messages?status=failed", bearer(key), "≤ 20"},
		{"list by a rare status", "/api/messages?status=in_doubt", bearer(key), "≤ 20"},
		{"list by recipient", "/api/messages?to=%2B14162500000", bearer(key), "≤ 20"},
		{"list by a rare word", "/api/messages?text=word777", bearer(key), "≤ 20"},
		{"list by a frequent word", "/api/messages?text=greetings", bearer(key), "≤ 20"},
		{"list by metadata", "/api/messages?metadata[order]=777", bearer(key), "≤ 20"},
		{"list of last week", fmt.Sprintf("/api/messages?since=%s", time.Now().AddDate(0, 0, -7).UTC().Format(time.RFC3339)), bearer(key), "≤ 20"},
		{"the page of messages", "/messages", "Cookie: " + cookie + "\r\n", "≤ 20"},
		{"the overview of a week", "/overview", "Cookie: " + cookie + "\r\n", "≤ 20"},
		{"the overview of 90 days", "/overview?days=90", "Cookie: " + cookie + "\r\n", "≤ 20"},
	} {
		_, took, err := load(ctx, 1, 2*time.Second, poster(api.url, q.path, q.header, func(int64) string { return "" }, http.StatusOK))
		if err != nil {
			return fmt.Errorf("%s: %w", q.name, err)
		}
		r.add(q.name+", p50", took.at(0.5), "ms", "")
		r.add(q.name+", p95", took.at(0.95), "ms", q.bar)
	}
	return nil
}

// sendAndHear accepts 100 messages a second, which a worker sends. Plivo reports on
// each up to three times, and keeps the answer to some to itself, so that they are in
// doubt until it is asked.
func (s *stack) sendAndHear(ctx context.Context, r *report, api *process, key string) error {
	const rate, length = 100, 12 * time.Second
	s.sim.ClearFaults()
	if err := s.sim.SetFault(plivosim.Fault{Scenario: plivosim.AcceptThenDrop, Probability: 0.01}); err != nil {
		return err
	}
	worker, err := s.worker(ctx, "WORKER_CONCURRENCY=100", "PUBLIC_URL="+api.url)
	if err != nil {
		return err
	}
	defer worker.kill()
	known := len(s.sim.Ledger())
	before, err := handled(ctx, api)
	if err != nil {
		return err
	}
	perSecond, took, err := openLoop(ctx, rate, length, poster(api.url, "/api/send-mms", bearer(key), sendBody, http.StatusAccepted))
	if err != nil {
		return err
	}
	heard := s.heard(known)
	after, err := handled(ctx, api)
	if err != nil {
		return err
	}
	r.add("requests made at 100/s", perSecond, "requests/s", "≥ 99")
	r.add("accept p99 at 100/s, sending and hearing", took.at(0.99), "ms", "< 25")
	r.add("reports heard meanwhile", heard/length.Seconds(), "reports/s", "≥ 200")
	r.add("a report at the api, mean", 1000*(after.seconds-before.seconds)/max(1, after.requests-before.requests), "ms", "")
	if err := get(ctx, worker.metrics+"/metrics", io.Discard); err != nil { // its figures are statements, too
		return err
	}
	for left := 1; left > 0; { // until the doubts are settled, which takes some questions to Plivo
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
		if err := s.db.QueryRowContext(ctx, `SELECT count(*) FROM attempts WHERE look_at IS NOT NULL OR outcome IS NULL`).Scan(&left); err != nil {
			return fmt.Errorf("counting doubts: %w", err)
		}
	}
	return nil
}

// heard counts the reports on the messages from the known ones on that the api took:
// those that it answered with 2xx.
func (s *stack) heard(known int) (reports float64) {
	for _, e := range s.sim.Ledger()[known:] {
		for _, c := range e.Callbacks {
			if c.HTTPStatus/100 == 2 {
				reports++
			}
		}
	}
	return reports
}

// handling is how many requests there have been, and how long all of them took.
type handling struct{ requests, seconds float64 }

// handled asks an api for its handling of Plivo's reports.
func handled(ctx context.Context, api *process) (h handling, err error) {
	var text strings.Builder
	if err := get(ctx, api.metrics+"/metrics", &text); err != nil {
		return h, err
	}
	const duration, route = "postcard_http_request_duration_seconds", `{method="POST",route="/webhooks/plivo/status/{token}"} `
	for line := range strings.Lines(text.String()) {
		for figure, value := range map[string]*float64{duration + "_count" + route: &h.requests, duration + "_sum" + route: &h.seconds} {
			if number, ok := strings.CutPrefix(line, figure); ok {
				if *value, err = strconv.ParseFloat(strings.TrimSpace(number), 64); err != nil {
					return h, fmt.Errorf("reading metrics: %w", err)
				}
			}
		}
	}
	return h, nil
}

func get(ctx context.Context, url string, into io.Writer) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("asking: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("asking: %w", err)
	}
	defer response.Body.Close()
	if _, err := io.Copy(into, response.Body); err != nil {
		return fmt.Errorf("reading an answer: %w", err)
	}
	return nil
}

// touch is what one call of a statement has touched, on average.
type touch struct {
	query string
	calls int
	pages float64 // of 8 KiB, each time it was looked at
	ms    float64
}

// name is what a statement is called in the report.
func (t touch) name() string {
	for _, known := range []struct{ name, part string }{
		{"claim of one", "SELECT m.id, m.sender FROM messages m WHERE m.id = $1"},
		{"claim of several", "AS u (id, token)"},
		{"record of several answers", "AS u (id, number, uuid, http_status, api_id)"},
		{"relay", "UPDATE messages SET relay_at = now() + least"},
		{"resolver", "AS crowded"},
		{"report poller", "SELECT id FROM messages WHERE check_at <= now()"},
		{"watch over leases", "a.lease_until < now() AND m.status = "},
		{"pacer", "WITH ready AS ( SELECT name, seconds, next_at FROM gates"},
		{"watch over expiry", "AND expires_at <= now() ORDER BY expires_at"},
	} {
		if strings.Contains(t.query, known.part) {
			return known.name
		}
	}
	return t.query[:min(len(t.query), 90)]
}

// touches asks for all statements since the last reset, by their ids.
func (s *stack) touches(ctx context.Context) (map[int64]touch, error) {
	all := map[int64]touch{}
	if !s.counted {
		return all, nil
	}
	rows, err := s.db.QueryContext(ctx, `SELECT queryid, regexp_replace(query, '\s+', ' ', 'g'), calls, (shared_blks_hit + shared_blks_read)::float8 / calls, mean_exec_time
		FROM pg_stat_statements WHERE toplevel AND query ~* '(FROM|UPDATE|INTO) '`)
	if err != nil {
		return nil, fmt.Errorf("asking Postgres for its statements: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var id int64
		var t touch
		if err := rows.Scan(&id, &t.query, &t.calls, &t.pages, &t.ms); err != nil {
			return nil, fmt.Errorf("reading statements: %w", err)
		}
		all[id] = t
	}
	return all, rows.Err()
}

// compare reports what the statements of the way of a message and of its caretakers
// touch, how many statements there were both times, and those that touch more than
// they did when there was less. A tree of an index may have grown by a level or two,
// on each way through it.
func compare(r *report, before, after map[int64]touch) {
	const grown = 2
	compared := 0
	for id, now := range after {
		then, ok := before[id]
		if !ok || now.calls < 3 || then.calls < 3 {
			continue
		}
		compared++
		name := now.name()
		if !strings.HasPrefix(now.query, name) {
			r.add(name+", a call", now.ms, "ms", "")
			r.add(name+", with few messages", then.pages, "pages", "")
			r.add(name+", with a million", now.pages, "pages", "")
		}
		if now.pages > grown*then.pages && now.pages > 100 {
			r.add("grown: "+name, now.pages/max(then.pages, 1), "times the pages", "")
		}
	}
	r.add("statements compared", float64(compared), "", "")
}

// history has the database have so many messages that are over, of the days from the
// thirtieth to the first before this.
func (s *stack) history(ctx context.Context, messages int) error {
	const at = 20_000
	var from int
	if err := s.db.QueryRowContext(ctx, `SELECT count(*) FROM messages WHERE plivo_uuid LIKE 'bench-%' OR status = 'failed'`).Scan(&from); err != nil {
		return fmt.Errorf("counting messages: %w", err)
	}
	for ; from < messages; from += at {
		_, err := s.db.ExecContext(ctx, `
WITH i AS (
    SELECT i, now() - interval '30 days' + i * interval '2.5 seconds' AS at FROM generate_series($1::int + 1, $1 + $2::int) AS i
), m AS (
    INSERT INTO messages (id, user_id, sender, recipient, text, status, plivo_uuid, created_at, updated_at, final_at, attempts, version, metadata)
    SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(md5(i::text), 1, 3) || '8' || substr(md5(i::text), 4, 15))::uuid,
        (SELECT id FROM users LIMIT 1), $3, '+1416' || (2000000 + i), 'Greetings from the coast, word' || (i % 50000),
        CASE WHEN i % 50 = 0 THEN 'failed' ELSE 'delivered' END, CASE WHEN i % 50 <> 0 THEN 'bench-' || i END, at, at, at, 1, 4,
        CASE WHEN i % 10 = 0 THEN jsonb_build_object('order', (i / 10)::text) ELSE '{}' END
    FROM i RETURNING id, plivo_uuid, text, metadata, created_at AS at
), search AS (
    INSERT INTO message_search SELECT id, to_tsvector('simple', text), metadata FROM m
), media AS (
    INSERT INTO message_media (message_id, position, url) SELECT id, 1, 'https://example.com/picture.jpg' FROM m
), attempt AS (
    INSERT INTO attempts (message_id, number, token, sender, started_at, lease_until, finished_at, outcome, plivo_uuid)
    SELECT id, 1, md5(id::text), $3, at, at, at, CASE WHEN plivo_uuid IS NULL THEN 'refused' ELSE 'accepted' END, plivo_uuid FROM m
)
INSERT INTO message_events (message_id, kind, status, at) SELECT id, kind, 'submitted', at FROM m, unnest(ARRAY['accepted', 'attempt_started', 'submitted', 'report']) AS kind`, from, at, sender)
		if err != nil {
			return fmt.Errorf("storing messages: %w", err)
		}
	}
	if _, err := s.db.ExecContext(ctx, `VACUUM ANALYZE`); err != nil {
		return fmt.Errorf("analyzing: %w", err)
	}
	return s.countDays(ctx)
}

// countDays has a worker count the messages of past days, without the minute that it
// leaves between noting and counting them.
func (s *stack) countDays(ctx context.Context) error {
	if _, err := s.db.ExecContext(ctx, `TRUNCATE days_counted`); err != nil {
		return fmt.Errorf("forgetting days: %w", err)
	}
	for _, until := range []string{`SELECT count(*) > 0 FROM days_counted`, `SELECT bool_and(counted) FROM days_counted`} {
		worker, err := s.worker(ctx)
		if err != nil {
			return err
		}
		for done := false; !done; {
			if err := pause(ctx, 10*time.Millisecond); err != nil {
				return err
			}
			if err := s.db.QueryRowContext(ctx, until).Scan(&done); err != nil {
				return fmt.Errorf("looking at days: %w", err)
			}
		}
		worker.kill()
		if _, err := s.db.ExecContext(ctx, `UPDATE days_counted SET noted_at = noted_at - interval '1 hour'`); err != nil {
			return fmt.Errorf("looking at days: %w", err)
		}
	}
	return nil
}
