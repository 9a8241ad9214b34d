package postgres

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"postcard/internal/mms"
)

// leastIDAt is leastID of a moment, in SQL.
func leastIDAt(moment string) string {
	return `(lpad(to_hex((extract(epoch FROM ` + moment + `) * 1000)::bigint), 12, '0') || '00000000000000000000')::uuid`
}

// Days are of UTC, and named days.day.
const (
	dayBegins = `(days.day::timestamp AT TIME ZONE 'UTC')`
	dayEnds   = `((days.day + 1)::timestamp AT TIME ZONE 'UTC')`
)

// countsOfDay counts the messages of a day by what became of them; more can be asked
// of them. The ids bound the search as in pageQuery (clockMargin).
func countsOfDay(more string) string {
	return `
    SELECT m.user_id, m.status, c.reason, c.plivo_code, count(*)::int AS messages
    FROM messages m, LATERAL (SELECT
        CASE WHEN m.status IN ('failed', 'undelivered') THEN m.reason ELSE '' END AS reason,
        CASE WHEN m.status IN ('failed', 'undelivered') THEN m.plivo_code ELSE '' END AS plivo_code) c
    WHERE m.id >= ` + leastIDAt(dayBegins+` - interval '10 minutes'`) + ` AND m.id < ` + leastIDAt(dayEnds+` + interval '10 minutes'`) + `
      AND m.created_at >= ` + dayBegins + ` AND m.created_at < ` + dayEnds + more + `
    GROUP BY m.user_id, m.status, c.reason, c.plivo_code`
}

// overviewOf reads the totals of the days that are counted, and counts the others.
// Parameters: $1 owner, the nil UUID for everyone; $2 days, today included.
func overviewOf(more string) string {
	return `
WITH days AS (
    SELECT d.day, EXISTS (SELECT FROM days_counted c WHERE c.day = d.day AND c.counted) AS counted
    FROM (SELECT (now() AT TIME ZONE 'UTC')::date - n AS day FROM generate_series(0, $2::int - 1) AS n) d
)
SELECT days.day, coalesce(t.status, '') AS status, coalesce(t.reason, '') AS reason, coalesce(t.plivo_code, '') AS plivo_code, coalesce(t.messages, 0) AS messages
FROM days LEFT JOIN LATERAL (
    SELECT status, reason, plivo_code, messages FROM day_totals WHERE days.counted AND user_id = $1::uuid AND day = days.day
    UNION ALL
    SELECT status, reason, plivo_code, messages FROM (` + countsOfDay(more+` AND NOT days.counted`) + `) m
) t ON true
ORDER BY days.day`
}

var (
	overviewOfOwner    = overviewOf(` AND m.user_id = $1`)
	overviewOfEveryone = overviewOf(``)
)

// mediansOf looks at the newest messages of the last days alone. Parameters: $1 days,
// $2 how many; $3 owner.
func mediansOf(more string) string {
	return `
SELECT status, count(*) AS messages, percentile_cont(0.5) WITHIN GROUP (ORDER BY took) AS took FROM (
    SELECT e.status, extract(epoch FROM min(e.at) - m.created_at) AS took
    FROM (
        SELECT m.id, m.created_at FROM messages m
        WHERE m.id >= ` + leastIDAt(`(date_trunc('day', now() AT TIME ZONE 'UTC') - ($1::int - 1) * interval '1 day') AT TIME ZONE 'UTC'`) + more + `
        ORDER BY m.id DESC LIMIT $2
    ) m JOIN message_events e ON e.message_id = m.id
    WHERE e.status IN ('sending', 'submitted', 'sent', 'delivered', 'undelivered', 'failed')
    GROUP BY m.id, m.created_at, e.status
) t GROUP BY status`
}

var (
	mediansOfOwner    = mediansOf(` AND m.user_id = $3`)
	mediansOfEveryone = mediansOf(``)
)

// Overview tells what became of the messages of the last days, today included:
// the owner's, or everyone's for uuid.Nil.
func (s *Store) Overview(ctx context.Context, owner uuid.UUID, days int) (mms.Overview, error) {
	counts, medians, who := overviewOfOwner, mediansOfOwner, []any{owner}
	if owner == uuid.Nil {
		counts, medians, who = overviewOfEveryone, mediansOfEveryone, nil
	}
	o := mms.Overview{Totals: map[mms.Status]int{}}
	if err := s.countOverview(ctx, &o, counts, owner, days); err != nil {
		return o, err
	}
	return o, s.takeMedians(ctx, &o, medians, append([]any{days, mms.MedianSample}, who...)...)
}

// reasonsShown is how many reasons an overview has.
const reasonsShown = 5

func (s *Store) countOverview(ctx context.Context, o *mms.Overview, query string, owner uuid.UUID, days int) error {
	var rows []struct {
		Day       time.Time `db:"day"`
		Status    string    `db:"status"`
		Reason    string    `db:"reason"`
		PlivoCode string    `db:"plivo_code"`
		Messages  int       `db:"messages"`
	}
	if err := s.db.SelectContext(ctx, &rows, query, owner, days); err != nil {
		return translate(err, "counting messages by day")
	}
	reasons := map[mms.ReasonCount]int{}
	for _, r := range rows {
		if n := len(o.Days); n == 0 || !o.Days[n-1].Date.Equal(r.Day) {
			o.Days = append(o.Days, mms.Day{Date: r.Day, Counts: map[mms.Status]int{}})
		}
		status := mms.Status(r.Status)
		if r.Messages == 0 {
			continue
		}
		o.Days[len(o.Days)-1].Counts[status] += r.Messages
		o.Totals[status] += r.Messages
		if status == mms.Failed || status == mms.Undelivered {
			reasons[mms.ReasonCount{Reason: mms.Reason(r.Reason), PlivoCode: r.PlivoCode}] += r.Messages
		}
	}
	for reason, n := range reasons {
		reason.Messages = n
		o.Reasons = append(o.Reasons, reason)
	}
	slices.SortFunc(o.Reasons, func(a, b mms.ReasonCount) int {
		return cmp.Or(cmp.Compare(b.Messages, a.Messages), cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.PlivoCode, b.PlivoCode))
	})
	o.Reasons = o.Reasons[:min(len(o.Reasons), reasonsShown)]
	return nil
}

func (s *Store) takeMedians(ctx context.Context, o *mms.Overview, query string, args ...any) error {
	var rows []struct {
		Status   string  `db:"status"`
		Messages int     `db:"messages"`
		Took     float64 `db:"took"`
	}
	if err := s.db.SelectContext(ctx, &rows, query, args...); err != nil {
		return translate(err, "taking medians")
	}
	for _, r := range rows {
		o.Medians = append(o.Medians, mms.Median{Status: mms.Status(r.Status), Took: seconds(r.Took), Messages: r.Messages})
	}
	order := mms.Statuses()
	slices.SortFunc(o.Medians, func(a, b mms.Median) int { return slices.Index(order, a.Status) - slices.Index(order, b.Status) })
	return nil
}

// daysKept is for how many days totals are kept: more than an overview shows.
const daysKept = 100

// noteDays notes the days that are over, and have been for a while: nothing that
// began in them is still being stored.
const noteDays = `
INSERT INTO days_counted (day)
SELECT day::date FROM generate_series((now() AT TIME ZONE 'UTC')::date - $1::int, (now() AT TIME ZONE 'UTC' - interval '10 minutes')::date - 1, interval '1 day') AS day
ON CONFLICT DO NOTHING`

// daysToCount are those that were noted a while ago: every change that did not take
// its day away, because it did not see it there, has ended, and will be counted.
const daysToCount = `
SELECT day::text FROM days_counted WHERE NOT counted AND noted_at < now() - interval '1 minute' ORDER BY day DESC`

const forgetTotals = `DELETE FROM day_totals WHERE day = $1`

var countDay = `
WITH days AS (SELECT $1::date AS day), m AS MATERIALIZED (SELECT c.* FROM days, LATERAL (` + countsOfDay(``) + `) c)
INSERT INTO day_totals (user_id, day, status, reason, plivo_code, messages)
SELECT user_id, $1::date, status, reason, plivo_code, messages FROM m
UNION ALL
SELECT '00000000-0000-0000-0000-000000000000', $1::date, status, reason, plivo_code, sum(messages) FROM m GROUP BY status, reason, plivo_code`

// dayCounted finds nothing if something has changed meanwhile.
const dayCounted = `UPDATE days_counted SET counted = true WHERE day = $1 AND NOT counted`

const forgetDays = `
WITH gone AS (DELETE FROM days_counted WHERE day < (now() AT TIME ZONE 'UTC')::date - $1::int RETURNING day)
DELETE FROM day_totals WHERE day < (now() AT TIME ZONE 'UTC')::date - $1::int`

// CountDays counts the messages of the days that are over and have not been counted
// since the last change. A day is noted first and counted by a later call.
func (s *Store) CountDays(ctx context.Context) error {
	for _, statement := range []string{noteDays, forgetDays} {
		if _, err := s.db.ExecContext(ctx, statement, daysKept); err != nil {
			return translate(err, "noting days")
		}
	}
	var days []string
	if err := s.db.SelectContext(ctx, &days, daysToCount); err != nil {
		return translate(err, "looking for days to count")
	}
	for _, day := range days {
		if err := s.countDay(ctx, day); err != nil {
			return translate(err, "counting the messages of a day")
		}
	}
	return nil
}

func (s *Store) countDay(ctx context.Context, day string) error {
	tx, err := s.db.BeginTxx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after a commit there is nothing to take back
	for _, statement := range []string{forgetTotals, countDay} {
		if _, err := tx.ExecContext(ctx, statement, day); err != nil {
			return err
		}
	}
	result, err := tx.ExecContext(ctx, dayCounted, day)
	if err != nil {
		return err
	}
	n, err := result.RowsAffected()
	if err != nil || n == 0 {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("committing: %w", err)
	}
	return nil
}
