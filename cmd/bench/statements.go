package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// statementStats are averages per call of one statement.
type statementStats struct {
	query string
	calls int
	pages float64 // of 8 KiB, counted at each access
	ms    float64
}

// name returns the name of a statement in the report. known reports whether it is one of
// the statements of the dispatcher and the maintenance jobs; others are named by a part
// of their text.
func (t statementStats) name() (name string, known bool) {
	for _, statement := range []struct{ name, part string }{
		{"claim one message", "SELECT m.id, m.sender FROM messages m WHERE m.id = $1"},
		{"claim messages", "AS u (id, token)"},
		{"record submitted messages", "AS u (id, ordinal, uuid, http_status, api_id)"},
		{"task relay", "UPDATE messages SET task_check_at = now() + least"},
		{"reconciler", "AS pair_ambiguous"},
		{"report poller", "SELECT id FROM messages WHERE poll_base_at <= now()"},
		{"lease reaper", "a.lease_until < now() AND m.status = "},
		{"releaser", "WITH ready AS ( SELECT name, interval_seconds, next_arrival_at FROM rate_limits"},
		{"expirer", "AND expires_at <= now() ORDER BY expires_at"},
	} {
		if strings.Contains(t.query, statement.part) {
			return statement.name, true
		}
	}
	const length = 120
	if _, filters, ok := strings.Cut(t.query, "FROM messages m WHERE m.workspace_id = $1 AND "); ok {
		return "list by " + filters[:min(len(filters), length)], false
	}
	return t.query[:min(len(t.query), length)], false
}

// statementStats returns the statistics of all statements since the last reset, by their
// query ids.
func (s *stack) statementStats(ctx context.Context) (map[int64]statementStats, error) {
	all := map[int64]statementStats{}
	if !s.counted {
		return all, nil
	}
	rows, err := s.db.QueryContext(ctx, `SELECT queryid, regexp_replace(query, '\s+', ' ', 'g'), calls, (shared_blks_hit + shared_blks_read)::float8 / calls, mean_exec_time
		FROM pg_stat_statements WHERE toplevel AND query ~* '(FROM|UPDATE|INTO) '`)
	if err != nil {
		return nil, fmt.Errorf("reading pg_stat_statements: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var id int64
		var t statementStats
		if err := rows.Scan(&id, &t.query, &t.calls, &t.pages, &t.ms); err != nil {
			return nil, fmt.Errorf("reading pg_stat_statements: %w", err)
		}
		all[id] = t
	}
	return all, rows.Err()
}

// compare reports the pages that the statements of the dispatcher and the maintenance jobs
// touch, and any statement that touches more than twice as many as before. Fewer than
// minPages are ignored, because an index may have grown by a level or two, and so are
// statements that ran less than minCalls times.
func compare(r *report, before, after map[int64]statementStats) {
	const maxGrowth, minPages, minCalls = 2, 10, 3
	compared, rare := 0, 0
	inOrder := slices.SortedFunc(maps.Keys(after), func(a, b int64) int { return cmp.Compare(after[a].query, after[b].query) })
	for _, id := range inOrder {
		now, then := after[id], before[id]
		if min(now.calls, then.calls) < minCalls {
			rare++
			continue
		}
		compared++
		name, known := now.name()
		if known {
			r.add(name+", per call", now.ms, "ms", "")
			r.add(name+", with few messages", then.pages, "pages", "")
			r.add(name+", with a million", now.pages, "pages", "")
		}
		if now.pages > maxGrowth*then.pages && now.pages >= minPages {
			r.add("more pages: "+name, now.pages/max(then.pages, 1), "times", "")
		}
	}
	r.add("statements compared", float64(compared), "", "")
	r.add("statements not compared, called less than 3 times", float64(rare), "", "")
}
