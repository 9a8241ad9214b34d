package postgres

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
)

// minIDAt is leastID of a moment, in SQL.
func minIDAt(moment string) string {
	return `(lpad(to_hex((extract(epoch FROM ` + moment + `) * 1000)::bigint), 12, '0') || '00000000000000000000')::uuid`
}

// beginning is when a day begins, in UTC.
func beginning(day string) string { return `((` + day + `)::timestamp AT TIME ZONE 'UTC')` }

// countsOfPart counts the messages that were taken on from part.begins on and before
// part.ends by what became of them; more can be asked of them. The ids bound the search;
// they are of the api's clock, which may be off by the margin.
func countsOfPart(margin, more string) string {
	return `
    SELECT m.user_id, m.status, c.reason, c.plivo_code, count(*)::int AS messages
    FROM messages m, LATERAL (SELECT
        CASE WHEN m.status IN ('failed', 'undelivered') THEN m.reason ELSE '' END AS reason,
        CASE WHEN m.status IN ('failed', 'undelivered') THEN m.plivo_code ELSE '' END AS plivo_code) c
    WHERE m.id >= ` + minIDAt(`part.begins - interval '`+margin+`'`) + ` AND m.id < ` + minIDAt(`part.ends + interval '`+margin+`'`) + `
      AND m.created_at >= part.begins AND m.created_at < part.ends` + more + `
    GROUP BY m.user_id, m.status, c.reason, c.plivo_code`
}

// overviewOf reads the totals of the days as far as they are counted and what has
// changed since, and counts the parts that are not. Parameters: $1 owner, the nil UUID
// for everyone; $2 days, today included.
func overviewOf(ofOwner string) string {
	return `
WITH part AS (
    SELECT d.day, coalesce(c.counted_until, ` + beginning(`d.day`) + `) AS begins, ` + beginning(`d.day + 1`) + ` AS ends
    FROM (SELECT (now() AT TIME ZONE 'UTC')::date - n AS day FROM generate_series(0, $2::int - 1) AS n) d
    LEFT JOIN stats_days c ON c.day = d.day
)
SELECT part.day, coalesce(t.status, '') AS status, coalesce(t.reason, '') AS reason, coalesce(t.plivo_code, '') AS plivo_code, coalesce(sum(t.messages), 0) AS messages
FROM part LEFT JOIN LATERAL (
    SELECT status, reason, plivo_code, messages FROM stats_totals WHERE user_id = $1::uuid AND day = part.day AND part.begins > ` + beginning(`part.day`) + `
    UNION ALL
    SELECT status, reason, plivo_code, messages FROM stats_changes m WHERE day = part.day AND hour < part.begins` + ofOwner + `
    UNION ALL
    SELECT status, reason, plivo_code, messages FROM (` + countsOfPart(`1 hour`, ofOwner+` AND part.begins < part.ends`) + `) m
) t ON true
GROUP BY part.day, t.status, t.reason, t.plivo_code
ORDER BY part.day`
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
        WHERE m.id >= ` + minIDAt(`(date_trunc('day', now() AT TIME ZONE 'UTC') - ($1::int - 1) * interval '1 day') AT TIME ZONE 'UTC'`) + more + `
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
		return wrapError(err, "counting messages by day")
	}
	reasons := map[mms.ReasonCount]int{}
	for _, r := range rows {
		if n := len(o.Days); n == 0 || !o.Days[n-1].Date.Equal(r.Day) {
			o.Days = append(o.Days, mms.Day{Date: r.Day, Counts: map[mms.Status]int{}})
		}
		status := mms.Status(r.Status)
		if r.Messages == 0 {
			continue // of a day without messages
		}
		o.Days[len(o.Days)-1].Counts[status] += r.Messages
		o.Totals[status] += r.Messages
		if status == mms.Failed || status == mms.Undelivered {
			reasons[mms.ReasonCount{Reason: mms.Reason(r.Reason), PlivoCode: r.PlivoCode}] += r.Messages
		}
	}
	none := func(_ mms.Status, n int) bool { return n == 0 } // all that there were have changed
	for _, day := range o.Days {
		maps.DeleteFunc(day.Counts, none)
	}
	maps.DeleteFunc(o.Totals, none)
	for reason, n := range reasons {
		if n == 0 {
			continue
		}
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
		return wrapError(err, "taking medians")
	}
	for _, r := range rows {
		o.Medians = append(o.Medians, mms.Median{Status: mms.Status(r.Status), Took: seconds(r.Took), Messages: r.Messages})
	}
	order := mms.Statuses()
	slices.SortFunc(o.Medians, func(a, b mms.Median) int { return slices.Index(order, a.Status) - slices.Index(order, b.Status) })
	return nil
}

// statsDays is for how many days totals are kept: more than an overview shows.
const statsDays = 100

// planRollups notes the hours that are over, and have been for a while: nothing that
// began in them is still being stored. What is noted and waits for older transactions is
// not noted anew: it would wait for younger ones, too. Numbers of transactions begin
// anew in a database that was restored from a dump.
var planRollups = `
INSERT INTO stats_days AS c (day, counted_until, planned_until)
SELECT d.day, ` + beginning(`d.day`) + `, least(` + beginning(`d.day + 1`) + `, date_trunc('hour', d.settled, 'UTC'))
FROM (SELECT settled, (settled AT TIME ZONE 'UTC')::date - n AS day
    FROM (SELECT now() - interval '10 minutes' AS settled) s, generate_series(0, $1::int) AS n) d
WHERE NOT EXISTS (SELECT FROM stats_days o WHERE o.day = d.day AND o.counted_until = ` + beginning(`d.day + 1`) + `)
ON CONFLICT (day) DO UPDATE SET planned_until = EXCLUDED.planned_until, planned_by = EXCLUDED.planned_by
WHERE (c.counted_until = c.planned_until AND c.planned_until < EXCLUDED.planned_until) OR (c.counted_until < c.planned_until AND c.planned_by > EXCLUDED.planned_by)`

// readyToRollUp is true of a day with a part to be counted, of which every transaction that
// began before it was noted has ended. What changes its messages from then on says so
// in day_changes.
const readyToRollUp = `counted_until < planned_until AND planned_by < pg_snapshot_xmin(pg_current_snapshot())`

const selectDaysToRollUp = `SELECT day::text FROM stats_days WHERE ` + readyToRollUp + ` ORDER BY day DESC`

// claimRollup comes first: another process that is at the same day waits for its end.
const claimRollup = `
WITH part AS (
    SELECT day, counted_until AS begins, planned_until AS ends FROM stats_days WHERE day = $1 AND ` + readyToRollUp + ` FOR UPDATE
)
UPDATE stats_days SET counted_until = part.ends FROM part WHERE stats_days.day = part.day
RETURNING part.begins, part.ends`

// deleteRolledUpChanges are those that countPart sees.
const deleteRolledUpChanges = `DELETE FROM stats_changes WHERE day = $1 AND hour >= $2 AND hour < $3`

// rollUpPart has a wide margin: what it misses is missing for good.
var rollUpPart = `
WITH part AS (SELECT $2::timestamptz AS begins, $3::timestamptz AS ends), m AS MATERIALIZED (SELECT c.* FROM part, LATERAL (` + countsOfPart(`1 day`, ``) + `) c)
INSERT INTO stats_totals AS t (user_id, day, status, reason, plivo_code, messages)
SELECT user_id, $1::date, status, reason, plivo_code, messages FROM m
UNION ALL
SELECT '00000000-0000-0000-0000-000000000000', $1::date, status, reason, plivo_code, sum(messages) FROM m GROUP BY status, reason, plivo_code
ORDER BY user_id, status, reason, plivo_code
ON CONFLICT (user_id, day, status, reason, plivo_code) DO UPDATE SET messages = t.messages + EXCLUDED.messages`

// deleteTotals makes room where a day is counted anew, from its beginning on: because
// somebody has removed its row of days_counted.
var deleteTotals = `DELETE FROM stats_totals WHERE day = $1 AND $2 = ` + beginning(`$1::date`)

// changesBatchSize bounds how many changes are added with one statement, so that it ends in
// time however many there are.
const changesBatchSize = 100_000

// addStatsChanges adds what has changed to the totals of what is counted.
const addStatsChanges = `
WITH m AS (
    DELETE FROM stats_changes WHERE ctid = ANY (ARRAY(
        SELECT c.ctid FROM stats_changes c JOIN stats_days d ON d.day = c.day WHERE c.hour < d.counted_until LIMIT $1))
    RETURNING *
), added AS (
    INSERT INTO stats_totals AS t (user_id, day, status, reason, plivo_code, messages)
    SELECT who, day, status, reason, plivo_code, sum(messages)
    FROM m, unnest(ARRAY[user_id, '00000000-0000-0000-0000-000000000000']) AS who
    GROUP BY who, day, status, reason, plivo_code
    ORDER BY who, day, status, reason, plivo_code
    ON CONFLICT (user_id, day, status, reason, plivo_code) DO UPDATE SET messages = t.messages + EXCLUDED.messages
)
SELECT count(*) FROM m`

const deleteOldStats = `
WITH forgotten AS (SELECT (now() AT TIME ZONE 'UTC')::date - $1::int AS before),
    days AS (DELETE FROM stats_days USING forgotten WHERE day < before),
    changes AS (DELETE FROM stats_changes USING forgotten WHERE day < before)
DELETE FROM stats_totals USING forgotten WHERE day < before`

// RollUpStats counts the messages of the hours that are over, once for each, and adds
// to the totals what has changed since.
func (s *Store) RollUpStats(ctx context.Context) error {
	for _, statement := range []string{planRollups, deleteOldStats} {
		if _, err := s.db.ExecContext(ctx, statement, statsDays); err != nil {
			return wrapError(err, "noting days")
		}
	}
	var days []string
	if err := s.db.SelectContext(ctx, &days, selectDaysToRollUp); err != nil {
		return wrapError(err, "looking for days to count")
	}
	var errs []error
	for _, day := range days { // one that cannot be counted does not keep the others from it
		errs = append(errs, wrapError(s.rollUpDay(ctx, day), "counting the messages of "+day))
	}
	for added := changesBatchSize; added == changesBatchSize; {
		if err := s.db.GetContext(ctx, &added, addStatsChanges, changesBatchSize); err != nil {
			errs = append(errs, wrapError(err, "adding changes to past days"))
			break
		}
	}
	return errors.Join(errs...)
}

// rollUpDay counts the part of a day that is noted, in one transaction that sees one
// state of the database: what changes meanwhile is added later.
func (s *Store) rollUpDay(ctx context.Context, day string) error {
	tx, err := s.db.BeginTxx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after a commit there is nothing to take back
	var begins, ends time.Time
	err = tx.QueryRowContext(ctx, claimRollup, day).Scan(&begins, &ends)
	if errors.Is(err, sql.ErrNoRows) { // another process was quicker
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, deleteTotals, day, begins); err != nil {
		return err
	}
	for _, statement := range []string{deleteRolledUpChanges, rollUpPart} {
		if _, err := tx.ExecContext(ctx, statement, day, begins, ends); err != nil {
			return err
		}
	}
	return tx.Commit()
}
