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

// The statistics rollup.
//
// An overview counts messages by the UTC day of their creation, their status, and
// the reason and Plivo code of failures. Counting months of messages for each
// request would be too slow, so the messages of past hours are added up once:
//
//   - stats_totals holds the totals of a day, per user and for everyone.
//   - stats_days holds how far a day is rolled up: stats_totals contains exactly its
//     messages created before counted_until. planned_until is how far the next
//     rollup goes, and planned_by is the transaction that planned it.
//   - stats_changes holds what changed later. When the status, reason or code of a
//     message from a past hour changes, a trigger inserts -1 for the old values and
//     +1 for the new ones.
//
// Overview adds the totals of a day, the changes to the rolled-up part of the day,
// and a count of the messages after counted_until.
//
// A maintenance job calls RollUpStats every minute, in one process at a time; two at
// once would still be correct. For each day it
//
//  1. plans to roll up the hours that are over (planRollups),
//  2. waits until every transaction older than the plan has ended: such a
//     transaction may have changed a message during its own hour, when the trigger
//     records nothing, and commit only now,
//  3. then, in one transaction with one snapshot, counts the messages of the planned
//     part into stats_totals, deletes the changes that this count already contains,
//     and advances counted_until (rollUpDay).
//
// Finally it moves changes of rolled-up hours from stats_changes to stats_totals.
//
// Deleting a message changes no statistics once its hour is rolled up. An operator
// who deletes a row of stats_days has that day counted again from the messages
// that exist.

// minIDAt returns the SQL for the smallest UUIDv7 of a time, as minID does in Go.
func minIDAt(moment string) string {
	return `(lpad(to_hex((extract(epoch FROM ` + moment + `) * 1000)::bigint), 12, '0') || '00000000000000000000')::uuid`
}

// startOf returns the SQL for the start of a UTC day.
func startOf(day string) string { return `((` + day + `)::timestamp AT TIME ZONE 'UTC')` }

// countPart returns a SELECT that counts the messages created in [part.begins,
// part.ends) by user, status, reason and code; condition may restrict them. The ids
// bound the scan. They are made by clocks of other processes, which may differ from
// the database's by up to margin.
func countPart(margin, condition string) string {
	return `
    SELECT m.workspace_id, m.status, c.reason, c.plivo_code, count(*)::int AS messages
    FROM messages m, LATERAL (SELECT
        CASE WHEN m.status IN ('failed', 'undelivered') THEN m.reason ELSE '' END AS reason,
        CASE WHEN m.status IN ('failed', 'undelivered') THEN m.plivo_code ELSE '' END AS plivo_code) c
    WHERE m.id >= ` + minIDAt(`part.begins - interval '`+margin+`'`) + ` AND m.id < ` + minIDAt(`part.ends + interval '`+margin+`'`) + `
      AND m.created_at >= part.begins AND m.created_at < part.ends` + condition + `
    GROUP BY m.workspace_id, m.status, c.reason, c.plivo_code`
}

// overviewQuery returns the statement of countOverview for one user, or for
// everyone when condition is empty. Parameters: $1 user, the nil UUID for everyone;
// $2 number of days, today included.
func overviewQuery(condition string) string {
	return `
WITH part AS (
    SELECT d.day, coalesce(c.counted_until, ` + startOf(`d.day`) + `) AS begins, ` + startOf(`d.day + 1`) + ` AS ends
    FROM (SELECT (now() AT TIME ZONE 'UTC')::date - n AS day FROM generate_series(0, $2::int - 1) AS n) d
    LEFT JOIN stats_days c ON c.day = d.day
)
SELECT part.day, coalesce(t.status, '') AS status, coalesce(t.reason, '') AS reason, coalesce(t.plivo_code, '') AS plivo_code, coalesce(sum(t.messages), 0) AS messages
FROM part LEFT JOIN LATERAL (
    SELECT status, reason, plivo_code, messages FROM stats_totals WHERE workspace_id = $1::uuid AND day = part.day AND part.begins > ` + startOf(`part.day`) + `
    UNION ALL
    SELECT status, reason, plivo_code, messages FROM stats_changes m WHERE day = part.day AND hour < part.begins` + condition + `
    UNION ALL
    SELECT status, reason, plivo_code, messages FROM (` + countPart(`1 hour`, condition+` AND part.begins < part.ends`) + `) m
) t ON true
GROUP BY part.day, t.status, t.reason, t.plivo_code
ORDER BY part.day`
}

var (
	overviewOfWorkspace = overviewQuery(` AND m.workspace_id = $1`)
	overviewOfEveryone  = overviewQuery(``)
)

// mediansQuery returns the statement of readMedians. It reads only the newest
// messages of the period. The events are aggregated per message in a LATERAL
// subquery because Postgres may turn a plain join into a scan of all events.
// Parameters: $1 number of days, $2 number of messages; $3 user, if condition uses it.
func mediansQuery(condition string) string {
	return `
SELECT status, count(*) AS messages, percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM e.at - m.created_at)) AS took
FROM (
    SELECT m.id, m.created_at FROM messages m
    WHERE m.id >= ` + minIDAt(`(date_trunc('day', now() AT TIME ZONE 'UTC') - ($1::int - 1) * interval '1 day') AT TIME ZONE 'UTC'`) + condition + `
    ORDER BY m.id DESC LIMIT $2
) m, LATERAL (
    SELECT status, min(at) AS at FROM message_events
    WHERE message_id = m.id AND status IN ('sending', 'submitted', 'sent', 'delivered', 'undelivered', 'failed')
    GROUP BY status
) e
GROUP BY status`
}

var (
	mediansOfWorkspace = mediansQuery(` AND m.workspace_id = $3`)
	mediansOfEveryone  = mediansQuery(``)
)

// Overview counts the workspace's messages of the last days, today included, and how
// long they took to reach each status; everyone's messages for uuid.Nil.
func (s *Store) Overview(ctx context.Context, workspace uuid.UUID, days int) (mms.Overview, error) {
	counts, medians, userArgs := overviewOfWorkspace, mediansOfWorkspace, []any{workspace}
	if workspace == uuid.Nil {
		counts, medians, userArgs = overviewOfEveryone, mediansOfEveryone, nil
	}
	o := mms.Overview{Totals: map[mms.Status]int{}}
	if err := s.countOverview(ctx, &o, counts, workspace, days); err != nil {
		return o, err
	}
	return o, s.readMedians(ctx, &o, medians, append([]any{days, mms.MedianSample}, userArgs...)...)
}

// maxReasons is how many reasons of failures an overview lists.
const maxReasons = 5

func (s *Store) countOverview(ctx context.Context, o *mms.Overview, query string, workspace uuid.UUID, days int) error {
	var rows []struct {
		Day       time.Time `db:"day"`
		Status    string    `db:"status"`
		Reason    string    `db:"reason"`
		PlivoCode string    `db:"plivo_code"`
		Messages  int       `db:"messages"`
	}
	if err := s.db.SelectContext(ctx, &rows, query, workspace, days); err != nil {
		return wrapError(err, "counting messages by day")
	}
	reasons := map[mms.ReasonCount]int{}
	for _, r := range rows {
		if n := len(o.Days); n == 0 || !o.Days[n-1].Date.Equal(r.Day) {
			o.Days = append(o.Days, mms.Day{Date: r.Day, Counts: map[mms.Status]int{}})
		}
		status := mms.Status(r.Status)
		if r.Messages == 0 {
			continue // the row of a day without messages
		}
		o.Days[len(o.Days)-1].Counts[status] += r.Messages
		o.Totals[status] += r.Messages
		if status == mms.Failed || status == mms.Undelivered {
			reasons[mms.ReasonCount{Reason: mms.Reason(r.Reason), PlivoCode: mms.ErrorCode(r.PlivoCode)}] += r.Messages
		}
	}
	none := func(_ mms.Status, n int) bool { return n == 0 } // totals and changes may cancel out
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
	o.Reasons = o.Reasons[:min(len(o.Reasons), maxReasons)]
	return nil
}

func (s *Store) readMedians(ctx context.Context, o *mms.Overview, query string, args ...any) error {
	var rows []struct {
		Status   string  `db:"status"`
		Messages int     `db:"messages"`
		Took     float64 `db:"took"`
	}
	if err := s.db.SelectContext(ctx, &rows, query, args...); err != nil {
		return wrapError(err, "reading medians")
	}
	for _, r := range rows {
		o.Medians = append(o.Medians, mms.Median{Status: mms.Status(r.Status), Took: seconds(r.Took), Messages: r.Messages})
	}
	order := mms.Statuses()
	slices.SortFunc(o.Medians, func(a, b mms.Median) int { return slices.Index(order, a.Status) - slices.Index(order, b.Status) })
	return nil
}

// statsDays is for how many days statistics are kept. An overview shows fewer.
const statsDays = 100

// planRollups plans to roll up the hours that ended at least 10 minutes ago. By then
// no statement that began within the hour is still storing a message: each has a
// shorter timeout. A plan that waits for older transactions is left alone, because a
// new plan would wait for younger ones too; except when planned_by is in the future,
// as in a database restored from a dump, where transaction ids start again.
// Parameter: $1 number of days.
var planRollups = `
INSERT INTO stats_days AS c (day, counted_until, planned_until)
SELECT d.day, ` + startOf(`d.day`) + `, least(` + startOf(`d.day + 1`) + `, date_trunc('hour', d.cutoff, 'UTC'))
FROM (SELECT cutoff, (cutoff AT TIME ZONE 'UTC')::date - n AS day
    FROM (SELECT now() - interval '10 minutes' AS cutoff) s, generate_series(0, $1::int) AS n) d
WHERE NOT EXISTS (SELECT FROM stats_days o WHERE o.day = d.day AND o.counted_until = ` + startOf(`d.day + 1`) + `)
ORDER BY d.day
ON CONFLICT (day) DO UPDATE SET planned_until = EXCLUDED.planned_until, planned_by = EXCLUDED.planned_by
WHERE (c.counted_until = c.planned_until AND c.planned_until < EXCLUDED.planned_until) OR (c.counted_until < c.planned_until AND c.planned_by > EXCLUDED.planned_by)`

// readyToRollUp is true for a row of stats_days with a planned part, when every
// transaction older than the plan has ended.
const readyToRollUp = `counted_until < planned_until AND planned_by < pg_snapshot_xmin(pg_current_snapshot())`

const selectDaysToRollUp = `SELECT day::text FROM stats_days WHERE ` + readyToRollUp + ` ORDER BY day DESC`

// claimRollup runs first: a second process that rolls up the same day waits here
// until the first has committed.
const claimRollup = `
WITH part AS (
    SELECT day, counted_until AS begins, planned_until AS ends FROM stats_days WHERE day = $1 AND ` + readyToRollUp + ` FOR UPDATE
)
UPDATE stats_days SET counted_until = part.ends FROM part WHERE stats_days.day = part.day
RETURNING part.begins, part.ends`

// deleteRolledUpChanges deletes the changes to the part that rollUpPart counts: the
// messages it sees have changed already.
const deleteRolledUpChanges = `DELETE FROM stats_changes WHERE day = $1 AND hour >= $2 AND hour < $3`

// rollUpPart adds the messages of a part to the totals. Its margin is wide because a
// message that it misses is never counted.
var rollUpPart = `
WITH part AS (SELECT $2::timestamptz AS begins, $3::timestamptz AS ends), m AS MATERIALIZED (SELECT c.* FROM part, LATERAL (` + countPart(`1 day`, ``) + `) c)
INSERT INTO stats_totals AS t (workspace_id, day, status, reason, plivo_code, messages)
SELECT workspace_id, $1::date, status, reason, plivo_code, messages FROM m
UNION ALL
SELECT '00000000-0000-0000-0000-000000000000', $1::date, status, reason, plivo_code, sum(messages) FROM m GROUP BY status, reason, plivo_code
ORDER BY workspace_id, status, reason, plivo_code
ON CONFLICT (workspace_id, day, status, reason, plivo_code) DO UPDATE SET messages = t.messages + EXCLUDED.messages`

// deleteTotals deletes the totals of a day that is rolled up from its start, because
// an operator deleted its row of stats_days.
var deleteTotals = `DELETE FROM stats_totals WHERE day = $1 AND $2 = ` + startOf(`$1::date`)

// changesBatchSize bounds the changes per statement, so that none runs into the
// statement timeout.
const changesBatchSize = 20_000

// addStatsChanges moves changes of rolled-up hours to the totals.
const addStatsChanges = `
WITH picked AS MATERIALIZED (
    SELECT c.ctid FROM stats_changes c JOIN stats_days d ON d.day = c.day WHERE c.hour < d.counted_until LIMIT $1 FOR UPDATE OF c SKIP LOCKED
), changes AS (
    DELETE FROM stats_changes c USING picked WHERE c.ctid = picked.ctid
    RETURNING c.*
), added AS (
    INSERT INTO stats_totals AS t (workspace_id, day, status, reason, plivo_code, messages)
    SELECT holder, day, status, reason, plivo_code, sum(messages)
    FROM changes, unnest(ARRAY[workspace_id, '00000000-0000-0000-0000-000000000000']) AS holder
    GROUP BY holder, day, status, reason, plivo_code
    ORDER BY holder, day, status, reason, plivo_code
    ON CONFLICT (workspace_id, day, status, reason, plivo_code) DO UPDATE SET messages = t.messages + EXCLUDED.messages
)
SELECT count(*) FROM changes`

const deleteOldStats = `
WITH cutoff AS (SELECT (now() AT TIME ZONE 'UTC')::date - $1::int AS oldest_day),
    days AS (DELETE FROM stats_days USING cutoff WHERE day < oldest_day),
    changes AS (DELETE FROM stats_changes USING cutoff WHERE day < oldest_day)
DELETE FROM stats_totals USING cutoff WHERE day < oldest_day`

// RollUpStats rolls up the hours that are over, and moves later changes to the totals.
func (s *Store) RollUpStats(ctx context.Context) error {
	for _, statement := range []string{planRollups, deleteOldStats} {
		if _, err := s.db.ExecContext(ctx, statement, statsDays); err != nil {
			return wrapError(err, "planning the statistics rollup")
		}
	}
	var days []string
	if err := s.db.SelectContext(ctx, &days, selectDaysToRollUp); err != nil {
		return wrapError(err, "selecting days to roll up")
	}
	var errs []error
	for _, day := range days { // a failure of one day must not stop the others
		errs = append(errs, wrapError(s.rollUpDay(ctx, day), "rolling up "+day))
	}
	for added := changesBatchSize; added == changesBatchSize; {
		if err := s.db.GetContext(ctx, &added, addStatsChanges, changesBatchSize); err != nil {
			errs = append(errs, wrapError(err, "adding changes to the statistics"))
			break
		}
	}
	return errors.Join(errs...)
}

// rollUpDay rolls up the planned part of a day. All statements see the snapshot of
// the first, so a change committed meanwhile stays in stats_changes.
func (s *Store) rollUpDay(ctx context.Context, day string) error {
	tx, err := s.db.BeginTxx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // a no-op after the commit
	var begins, ends time.Time
	err = tx.QueryRowContext(ctx, claimRollup, day).Scan(&begins, &ends)
	if errors.Is(err, sql.ErrNoRows) { // another process has rolled it up
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, deleteRolledUpChanges, day, begins, ends); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, deleteTotals, day, begins); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, rollUpPart, day, begins, ends); err != nil {
		return err
	}
	return tx.Commit()
}
