package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// touch is what one call of a statement has touched, on average.
type touch struct {
	query string
	calls int
	pages float64 // of 8 KiB, each time it was looked at
	ms    float64
}

// name is what a statement is called in the report. Those of the way of a message and
// of its caretakers are known by name, others by what tells them from their like.
func (t touch) name() (name string, known bool) {
	for _, way := range []struct{ name, part string }{
		{"claim of one", "SELECT m.id, m.sender FROM messages m WHERE m.id = $1"},
		{"claim of several", "AS u (id, token)"},
		{"record of several answers", "AS u (id, number, uuid, http_status, api_id)"},
		{"relay", "UPDATE messages SET task_check_at = now() + least"},
		{"resolver", "AS crowded"},
		{"report poller", "SELECT id FROM messages WHERE unreported_since <= now()"},
		{"watch over leases", "a.lease_until < now() AND m.status = "},
		{"pacer", "WITH ready AS ( SELECT name, seconds, next_arrival_at FROM rate_limits"},
		{"watch over expiry", "AND expires_at <= now() ORDER BY expires_at"},
	} {
		if strings.Contains(t.query, way.part) {
			return way.name, true
		}
	}
	const length = 120
	if _, filters, ok := strings.Cut(t.query, "FROM messages m WHERE m.user_id = $1 AND "); ok {
		return "list by " + filters[:min(len(filters), length)], false
	}
	return t.query[:min(len(t.query), length)], false
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
// touch, how many statements could be compared and how many were seen too seldom, and
// those that touch more than they did when there was less. A tree of an index may have
// grown by a level or two, on each way through it.
func compare(r *report, before, after map[int64]touch) {
	const grown, few, often = 2, 10, 3
	compared, seldom := 0, 0
	inOrder := slices.SortedFunc(maps.Keys(after), func(a, b int64) int { return cmp.Compare(after[a].query, after[b].query) })
	for _, id := range inOrder {
		now, then := after[id], before[id]
		if min(now.calls, then.calls) < often {
			seldom++
			continue
		}
		compared++
		name, known := now.name()
		if known {
			r.add(name+", a call", now.ms, "ms", "")
			r.add(name+", with few messages", then.pages, "pages", "")
			r.add(name+", with a million", now.pages, "pages", "")
		}
		if now.pages > grown*then.pages && now.pages >= few {
			r.add("grown: "+name, now.pages/max(then.pages, 1), "times the pages", "")
		}
	}
	r.add("statements compared", float64(compared), "", "")
	r.add("statements seen less than 3 times, not compared", float64(seldom), "", "")
}
