package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/plivosim"
)

// benchScale asks an api that has a million messages of 20 users, of which the asking
// one has half, while 200,000 of them wait, half of those in a batch that stands in one
// line, and has a worker send from there and others, and hear of them, meanwhile. It does
// the same with few messages before, and compares how much of the tables each statement
// touches: none may touch more because there are more.
func benchScale(ctx context.Context, s *stack, r *report) error {
	const few, many = 20_000, 1_000_000
	if err := s.prepare(ctx); err != nil {
		return err
	}
	api, key, cookie, err := s.apiWithKey(ctx)
	if err != nil {
		return err
	}
	asking, err := s.owner(ctx)
	if err != nil {
		return err
	}
	others, err := s.users(ctx, 19)
	if err != nil {
		return err
	}
	owners := []uuid.UUID{asking}
	for _, u := range others {
		owners = append(owners, u.id)
	}
	batch := uuid.New()
	if _, err := s.db.ExecContext(ctx, `INSERT INTO batches (id, user_id, name, accepted) VALUES ($1, $2, 'bench', 100000)`, batch, asking); err != nil {
		return fmt.Errorf("storing a batch: %w", err)
	}
	stored, before := 0, map[int64]touch{}
	for _, messages := range []int{few, many} {
		figures := r
		if messages == few {
			figures = &report{}
		}
		if err := s.store(ctx, figures, owners, batch, stored, messages); err != nil {
			return err
		}
		if err := s.read(ctx, figures, api, key, cookie, asking, batch); err != nil {
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
		stored, before = messages, touched
	}
	perSecond, _, err := load(ctx, 64, loadLength, poster(api.url, "/api/send-mms", bearer(key), sendBody, http.StatusAccepted))
	if err != nil {
		return err
	}
	r.add("accept, c=64", perSecond, "messages/s", "")
	return s.readHour(ctx, r, api, cookie)
}

// readHour asks for an overview with messages of the hour that is not counted yet, which
// it counts each time.
func (s *stack) readHour(ctx context.Context, r *report, api *process, cookie string) error {
	var hour float64
	if err := s.db.QueryRowContext(ctx, `SELECT count(*) FROM messages WHERE created_at >= (SELECT max(counted_until) FROM stats_days)`).Scan(&hour); err != nil {
		return fmt.Errorf("counting messages of the hour: %w", err)
	}
	took, _, err := ask(ctx, poster(api.url, "/overview", "Cookie: "+cookie+"\r\n", func(int64) string { return "" }, http.StatusOK))
	if err != nil {
		return err
	}
	r.add("messages that an overview counts", hour, "", "")
	r.add("the overview of a week with them, p95", took.at(0.95), "ms", "")
	return nil
}

// store makes the messages and forgets the statements that it took.
func (s *stack) store(ctx context.Context, r *report, owners []uuid.UUID, batch uuid.UUID, from, to int) error {
	begun := time.Now()
	if err := s.history(ctx, owners, batch, from, to); err != nil {
		return err
	}
	r.add("storing a million messages", time.Since(begun).Seconds(), "s", "")
	var size float64
	if err := s.db.QueryRowContext(ctx, `SELECT pg_database_size(current_database())`).Scan(&size); err != nil {
		return fmt.Errorf("asking for the database's size: %w", err)
	}
	r.add("a message on disk", size/float64(to), "bytes", "")
	if s.counted {
		if _, err := s.db.ExecContext(ctx, `SELECT pg_stat_statements_reset()`); err != nil {
			return fmt.Errorf("forgetting statements: %w", err)
		}
	}
	return nil
}

func bearer(key string) string { return "Authorization: Bearer " + key + "\r\n" }

// read asks for everything that can be looked at. The searches called hard find
// nothing, or nothing among the newest, by what is frequent otherwise.
func (s *stack) read(ctx context.Context, r *report, api *process, key, cookie string, asking, batch uuid.UUID) error {
	var id, last string
	if err := s.db.QueryRowContext(ctx, `SELECT id FROM messages WHERE user_id = $1 ORDER BY id OFFSET (SELECT count(*) / 4 FROM messages) LIMIT 1`, asking).Scan(&id); err != nil {
		return fmt.Errorf("choosing a message: %w", err)
	}
	if err := s.db.QueryRowContext(ctx, `SELECT id FROM messages WHERE sender = $1 AND backlog_state = 'waiting' ORDER BY priority DESC, id DESC LIMIT 1`, rateLimitedSender).Scan(&last); err != nil {
		return fmt.Errorf("choosing the last in line: %w", err)
	}
	for _, q := range []struct{ name, path, header, bar string }{
		{"status", "/api/messages/" + id, bearer(key), "≤ 5"},
		{"status of the last in line", "/api/messages/" + last, bearer(key), "≤ 5"},
		{"progress of a batch", "/api/batches/" + batch.String(), bearer(key), "≤ 20"},
		{"list", "/api/messages", bearer(key), "≤ 20"},
		{"list by status", "/api/messages?status=failed", bearer(key), "≤ 20"},
		{"list by a rare status", "/api/messages?status=in_doubt", bearer(key), "≤ 20"},
		{"list by recipient", "/api/messages?to=%2B14162500000", bearer(key), "≤ 20"},
		{"list by a rare word", "/api/messages?text=word778", bearer(key), "≤ 20"},
		{"list by a frequent word", "/api/messages?text=greetings", bearer(key), "≤ 20"},
		{"list by metadata", "/api/messages?metadata[order]=778", bearer(key), "≤ 20"},
		{"list of last week", fmt.Sprintf("/api/messages?since=%s", time.Now().AddDate(0, 0, -7).UTC().Format(time.RFC3339)), bearer(key), "≤ 20"},
		{"hard: a frequent word of others'", "/api/messages?text=theirs", bearer(key), "≤ 20"},
		{"hard: a word of the oldest quarter", "/api/messages?text=old", bearer(key), "≤ 20"},
		{"hard: two frequent words, never together", "/api/messages?text=morning+evening", bearer(key), "≤ 20"},
		{"hard: a number never sent from", "/api/messages?from=%2B14155550199", bearer(key), "≤ 20"},
		{"the page of messages", "/messages", "Cookie: " + cookie + "\r\n", "≤ 20"},
		{"the overview of a week", "/overview", "Cookie: " + cookie + "\r\n", "≤ 20"},
		{"the overview of 90 days", "/overview?days=90", "Cookie: " + cookie + "\r\n", "≤ 20"},
	} {
		took, refused, err := ask(ctx, poster(api.url, q.path, q.header, func(int64) string { return "" }, http.StatusOK))
		if err != nil {
			return fmt.Errorf("%s: %w", q.name, err)
		}
		r.add(q.name+", p50", took.at(0.5), "ms", "")
		r.add(q.name+", p95", took.at(0.95), "ms", q.bar)
		if refused > 0 {
			r.add(q.name+", answered with an error", float64(refused), "times", "0")
		}
	}
	return nil
}

// ask makes the same request for two seconds, and at least three times however long it
// takes, after a first one that warms up. Errors in answers are counted: an answer that
// was given up on took its time, too.
func ask(ctx context.Context, newCaller func() (caller, error)) (took latencies, refused int, err error) {
	const length, least = 2 * time.Second, 3
	call, err := newCaller()
	if err != nil {
		return nil, 0, err
	}
	for begun := time.Now(); len(took) <= least || time.Since(begun) < length; {
		if err := ctx.Err(); err != nil {
			return nil, 0, err
		}
		asked := time.Now()
		err := call(0)
		took = append(took, time.Since(asked))
		if _, ok := errors.AsType[unwelcome](err); ok {
			refused++
		} else if err != nil {
			return nil, 0, err
		}
	}
	return took[1:], refused, nil
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
	if _, err := s.db.ExecContext(ctx, `INSERT INTO rate_limits (name, seconds, next_arrival_at) VALUES ($1, 1, now()) ON CONFLICT (name) DO UPDATE SET next_arrival_at = now()`, rateLimitedSender); err != nil {
		return fmt.Errorf("opening a gate: %w", err)
	}
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
	if err := s.askFigures(ctx, r, worker); err != nil {
		return err
	}
	for left := 1; left > 0; { // until the doubts are settled, which takes some questions to Plivo
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
		if err := s.db.QueryRowContext(ctx, `SELECT count(*) FROM attempts WHERE next_check_at IS NOT NULL OR outcome IS NULL`).Scan(&left); err != nil {
			return fmt.Errorf("counting doubts: %w", err)
		}
	}
	return nil
}

// askFigures reports how long operators wait for a worker's figures.
func (s *stack) askFigures(ctx context.Context, r *report, worker *process) error {
	var took latencies
	for range 5 {
		asked := time.Now()
		if err := get(ctx, worker.metrics+"/metrics", io.Discard); err != nil {
			return err
		}
		took = append(took, time.Since(asked))
	}
	r.add("figures for operators, p50", took.at(0.5), "ms", "")
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
