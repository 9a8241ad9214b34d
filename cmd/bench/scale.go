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

// benchScale measures reads and sending with a million messages of 20 users. The user who
// reads owns half of them. 200,000 are queued, half of those as a batch in one sender's
// backlog. It does the same with few messages first and compares how many pages of the
// tables each statement touches: none should touch more because there are more messages.
func benchScale(ctx context.Context, s *stack, r *report) error {
	const few, many = 20_000, 1_000_000
	if err := s.prepare(ctx); err != nil {
		return err
	}
	api, key, cookie, err := s.apiWithKey(ctx)
	if err != nil {
		return err
	}
	reader, err := s.workspace(ctx)
	if err != nil {
		return err
	}
	others, err := s.users(ctx, 19)
	if err != nil {
		return err
	}
	workspaces := []uuid.UUID{reader}
	for _, u := range others {
		workspaces = append(workspaces, u.id)
	}
	batch := uuid.New()
	if _, err := s.db.ExecContext(ctx, `INSERT INTO batches (id, workspace_id, name, created) VALUES ($1, $2, 'bench', 100000)`, batch, reader); err != nil {
		return fmt.Errorf("inserting a batch: %w", err)
	}
	stored, before := 0, map[int64]statementStats{}
	for _, messages := range []int{few, many} {
		metrics := r
		if messages == few {
			metrics = &report{} // only the pages that statements touch matter
		}
		if err := s.fill(ctx, metrics, workspaces, batch, stored, messages); err != nil {
			return err
		}
		if err := s.read(ctx, metrics, api, key, cookie, reader, batch); err != nil {
			return err
		}
		if err := s.sendAndReceive(ctx, metrics, api, key); err != nil {
			return err
		}
		stats, err := s.statementStats(ctx)
		if err != nil {
			return err
		}
		if messages == many {
			compare(r, before, stats)
		}
		stored, before = messages, stats
	}
	perSecond, _, err := load(ctx, 64, loadLength, poster(api.url, "/api/send-mms", bearer(key), sendBody, http.StatusAccepted))
	if err != nil {
		return err
	}
	r.add("create, c=64", perSecond, "messages/s", "")
	return s.readCurrentHour(ctx, r, api, cookie)
}

// readCurrentHour requests an overview that has to count the messages of the hour that is
// not rolled up yet.
func (s *stack) readCurrentHour(ctx context.Context, r *report, api *process, cookie string) error {
	var counted float64
	if err := s.db.QueryRowContext(ctx, `SELECT count(*) FROM messages WHERE created_at >= (SELECT max(counted_until) FROM stats_days)`).Scan(&counted); err != nil {
		return fmt.Errorf("counting messages of the current hour: %w", err)
	}
	took, _, err := request(ctx, poster(api.url, "/overview", "Cookie: "+cookie+"\r\n", func(int64) string { return "" }, http.StatusOK))
	if err != nil {
		return err
	}
	r.add("messages counted by an overview", counted, "", "")
	r.add("overview of a week with them, p95", took.at(0.95), "ms", "")
	return nil
}

// fill inserts the messages and resets the statement statistics.
func (s *stack) fill(ctx context.Context, r *report, workspaces []uuid.UUID, batch uuid.UUID, from, to int) error {
	start := time.Now()
	if err := s.insertMessages(ctx, workspaces, batch, from, to); err != nil {
		return err
	}
	r.add("inserting a million messages", time.Since(start).Seconds(), "s", "")
	var size float64
	if err := s.db.QueryRowContext(ctx, `SELECT pg_database_size(current_database())`).Scan(&size); err != nil {
		return fmt.Errorf("reading the database's size: %w", err)
	}
	r.add("disk space per message", size/float64(to), "bytes", "")
	if s.counted {
		if _, err := s.db.ExecContext(ctx, `SELECT pg_stat_statements_reset()`); err != nil {
			return fmt.Errorf("resetting pg_stat_statements: %w", err)
		}
	}
	return nil
}

func bearer(key string) string { return "Authorization: Bearer " + key + "\r\n" }

// read requests all pages and lists. The searches called hard match nothing, or nothing
// recent, although what they search for is frequent elsewhere.
func (s *stack) read(ctx context.Context, r *report, api *process, key, cookie string, reader, batch uuid.UUID) error {
	var id, last string
	if err := s.db.QueryRowContext(ctx, `SELECT id FROM messages WHERE workspace_id = $1 ORDER BY id OFFSET (SELECT count(*) / 4 FROM messages) LIMIT 1`, reader).Scan(&id); err != nil {
		return fmt.Errorf("choosing a message: %w", err)
	}
	if err := s.db.QueryRowContext(ctx, `SELECT id FROM messages WHERE sender = $1 AND backlog_state = 'waiting' ORDER BY priority DESC, id DESC LIMIT 1`, rateLimitedSender).Scan(&last); err != nil {
		return fmt.Errorf("choosing the last waiting message: %w", err)
	}
	for _, q := range []struct{ name, path, header, bar string }{
		{"status", "/api/messages/" + id, bearer(key), "≤ 5"},
		{"status of the last waiting message", "/api/messages/" + last, bearer(key), "≤ 5"},
		{"progress of a batch", "/api/batches/" + batch.String(), bearer(key), "≤ 20"},
		{"list", "/api/messages", bearer(key), "≤ 20"},
		{"list by status", "/api/messages?status=failed", bearer(key), "≤ 20"},
		{"list by a rare status", "/api/messages?status=in_doubt", bearer(key), "≤ 20"},
		{"list by recipient", "/api/messages?to=%2B14162500000", bearer(key), "≤ 20"},
		{"list by a rare word", "/api/messages?text=word778", bearer(key), "≤ 20"},
		{"list by a frequent word", "/api/messages?text=greetings", bearer(key), "≤ 20"},
		{"list by metadata", "/api/messages?metadata[order]=778", bearer(key), "≤ 20"},
		{"list of the last week", fmt.Sprintf("/api/messages?since=%s", time.Now().AddDate(0, 0, -7).UTC().Format(time.RFC3339)), bearer(key), "≤ 20"},
		{"hard: a frequent word of other users", "/api/messages?text=theirs", bearer(key), "≤ 20"},
		{"hard: a word of the oldest quarter", "/api/messages?text=old", bearer(key), "≤ 20"},
		{"hard: two frequent words, never together", "/api/messages?text=morning+evening", bearer(key), "≤ 20"},
		{"hard: an unused sender", "/api/messages?from=%2B14155550199", bearer(key), "≤ 20"},
		{"messages page", "/messages", "Cookie: " + cookie + "\r\n", "≤ 20"},
		{"overview of a week", "/overview", "Cookie: " + cookie + "\r\n", "≤ 20"},
		{"overview of 90 days", "/overview?days=90", "Cookie: " + cookie + "\r\n", "≤ 20"},
	} {
		took, errorResponses, err := request(ctx, poster(api.url, q.path, q.header, func(int64) string { return "" }, http.StatusOK))
		if err != nil {
			return fmt.Errorf("%s: %w", q.name, err)
		}
		r.add(q.name+", p50", took.at(0.5), "ms", "")
		r.add(q.name+", p95", took.at(0.95), "ms", q.bar)
		if errorResponses > 0 {
			r.add(q.name+", error responses", float64(errorResponses), "", "0")
		}
	}
	return nil
}

// request repeats a request for two seconds, and at least three times, after a first one
// to warm up. It counts error responses and includes their latencies: a request that timed
// out took that long.
func request(ctx context.Context, newCaller func() (caller, error)) (took latencies, errorResponses int, err error) {
	const length, minimum = 2 * time.Second, 3
	call, err := newCaller()
	if err != nil {
		return nil, 0, err
	}
	for start := time.Now(); len(took) <= minimum || time.Since(start) < length; {
		if err := ctx.Err(); err != nil {
			return nil, 0, err
		}
		sent := time.Now()
		err := call(0)
		took = append(took, time.Since(sent))
		if _, ok := errors.AsType[statusError](err); ok {
			errorResponses++
		} else if err != nil {
			return nil, 0, err
		}
	}
	return took[1:], errorResponses, nil
}

// sendAndReceive creates 100 messages per second, which a worker sends. The simulator
// sends up to three delivery reports for each, and drops the response to some, so that
// they are in doubt until the reconciler resolves them.
func (s *stack) sendAndReceive(ctx context.Context, r *report, api *process, key string) error {
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
	if _, err := s.db.ExecContext(ctx, `INSERT INTO rate_limits (name, interval_seconds, next_arrival_at) VALUES ($1, 1, now()) ON CONFLICT (name) DO UPDATE SET next_arrival_at = now()`, rateLimitedSender); err != nil {
		return fmt.Errorf("setting a rate limit: %w", err)
	}
	known := len(s.sim.Ledger())
	before, err := callbackTime(ctx, api)
	if err != nil {
		return err
	}
	perSecond, took, err := openLoop(ctx, rate, length, poster(api.url, "/api/send-mms", bearer(key), sendBody, http.StatusAccepted))
	if err != nil {
		return err
	}
	received := s.reportsReceived(known)
	after, err := callbackTime(ctx, api)
	if err != nil {
		return err
	}
	r.add("requests made at 100/s", perSecond, "requests/s", "≥ 99")
	r.add("create p99 at 100/s, while sending and receiving reports", took.at(0.99), "ms", "< 25")
	r.add("reports received meanwhile", received/length.Seconds(), "reports/s", "≥ 200")
	r.add("time to handle a report, mean", 1000*(after.seconds-before.seconds)/max(1, after.requests-before.requests), "ms", "")
	if err := s.measureMetrics(ctx, r, worker); err != nil {
		return err
	}
	for left := 1; left > 0; { // until the reconciler has resolved all doubts
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
		if err := s.db.QueryRowContext(ctx, `SELECT count(*) FROM attempts WHERE next_check_at IS NOT NULL OR outcome IS NULL`).Scan(&left); err != nil {
			return fmt.Errorf("counting messages in doubt: %w", err)
		}
	}
	return nil
}

// measureMetrics reports how long a worker takes to answer /metrics.
func (s *stack) measureMetrics(ctx context.Context, r *report, worker *process) error {
	var took latencies
	for range 5 {
		start := time.Now()
		if err := get(ctx, worker.metrics+"/metrics", io.Discard); err != nil {
			return err
		}
		took = append(took, time.Since(start))
	}
	r.add("/metrics of a worker, p50", took.at(0.5), "ms", "")
	return nil
}

// reportsReceived counts the delivery reports that the api answered with 2xx, without
// those of the first known messages of the ledger.
func (s *stack) reportsReceived(known int) (reports float64) {
	for _, e := range s.sim.Ledger()[known:] {
		for _, c := range e.Callbacks {
			if c.HTTPStatus/100 == 2 {
				reports++
			}
		}
	}
	return reports
}

// requestTime is a number of requests and their total duration.
type requestTime struct{ requests, seconds float64 }

// callbackTime reads from an api's metrics how long it took to handle delivery reports.
func callbackTime(ctx context.Context, api *process) (h requestTime, err error) {
	var text strings.Builder
	if err := get(ctx, api.metrics+"/metrics", &text); err != nil {
		return h, err
	}
	const duration, route = "postcard_http_request_duration_seconds", `{method="POST",route="/callbacks/plivo/status/{token}"} `
	for line := range strings.Lines(text.String()) {
		for name, value := range map[string]*float64{duration + "_count" + route: &h.requests, duration + "_sum" + route: &h.seconds} {
			if number, ok := strings.CutPrefix(line, name); ok {
				if *value, err = strconv.ParseFloat(strings.TrimSpace(number), 64); err != nil {
					return h, fmt.Errorf("parsing the api's metrics: %w", err)
				}
			}
		}
	}
	return h, nil
}

func get(ctx context.Context, url string, into io.Writer) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("requesting metrics: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("requesting metrics: %w", err)
	}
	defer response.Body.Close()
	if _, err := io.Copy(into, response.Body); err != nil {
		return fmt.Errorf("reading metrics: %w", err)
	}
	return nil
}
