package postgres

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"postcard/internal/mms"
)

// The figures of an overview are of the messages taken on since the beginning of
// a day, $2 days ago, UTC. Ids are in the order of their times, so the least
// possible id of that moment bounds the search. $1 is the owner; NULL: everyone.
const overviewMessages = `
    SELECT * FROM messages WHERE ($1::uuid IS NULL OR user_id = $1) AND id >= lower_id.id`

const lowerID = `
WITH begin AS (SELECT (date_trunc('day', now() AT TIME ZONE 'UTC') - ($2 - 1) * interval '1 day') AT TIME ZONE 'UTC' AS at),
lower_id AS (
    SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '00000000000000000000')::uuid AS id FROM begin
)`

const overviewDays = lowerID + `
SELECT d.date, coalesce(m.status, '') AS status, count(m.id) AS messages
FROM begin, generate_series(begin.at AT TIME ZONE 'UTC', now() AT TIME ZONE 'UTC', interval '1 day') AS d (date)
LEFT JOIN (SELECT m.* FROM lower_id, LATERAL (` + overviewMessages + `) m) m
    ON date_trunc('day', m.created_at AT TIME ZONE 'UTC') = d.date
GROUP BY d.date, m.status ORDER BY d.date`

const overviewMedians = lowerID + `
SELECT status, count(*) AS messages, percentile_cont(0.5) WITHIN GROUP (ORDER BY took) AS took FROM (
    SELECT e.status, extract(epoch FROM min(e.at) - m.created_at) AS took
    FROM lower_id, LATERAL (` + overviewMessages + `) m JOIN message_events e ON e.message_id = m.id
    WHERE e.status IN ('sending', 'submitted', 'sent', 'delivered', 'undelivered', 'failed')
    GROUP BY m.id, m.created_at, e.status
) t GROUP BY status`

const overviewReasons = lowerID + `
SELECT m.reason, m.plivo_code, count(*) AS messages
FROM lower_id, LATERAL (` + overviewMessages + `) m WHERE m.status IN ('failed', 'undelivered')
GROUP BY m.reason, m.plivo_code ORDER BY messages DESC, m.reason, m.plivo_code LIMIT 5`

// Overview tells what became of the messages of the last days, today included:
// the owner's, or everyone's for uuid.Nil.
func (s *Store) Overview(ctx context.Context, owner uuid.UUID, days int) (mms.Overview, error) {
	who := uuid.NullUUID{UUID: owner, Valid: owner != uuid.Nil}
	o := mms.Overview{Totals: map[mms.Status]int{}}
	if err := s.overviewDays(ctx, &o, who, days); err != nil {
		return o, err
	}
	if err := s.overviewMedians(ctx, &o, who, days); err != nil {
		return o, err
	}
	var reasons []struct {
		Reason    string `db:"reason"`
		PlivoCode string `db:"plivo_code"`
		Messages  int    `db:"messages"`
	}
	if err := s.db.SelectContext(ctx, &reasons, overviewReasons, who, days); err != nil {
		return o, translate(err, "counting reasons")
	}
	for _, r := range reasons {
		o.Reasons = append(o.Reasons, mms.ReasonCount{Reason: mms.Reason(r.Reason), PlivoCode: r.PlivoCode, Messages: r.Messages})
	}
	return o, nil
}

func (s *Store) overviewDays(ctx context.Context, o *mms.Overview, who uuid.NullUUID, days int) error {
	var rows []struct {
		Date     time.Time `db:"date"`
		Status   string    `db:"status"`
		Messages int       `db:"messages"`
	}
	if err := s.db.SelectContext(ctx, &rows, overviewDays, who, days); err != nil {
		return translate(err, "counting messages by day")
	}
	for _, r := range rows {
		if n := len(o.Days); n == 0 || !o.Days[n-1].Date.Equal(r.Date) {
			o.Days = append(o.Days, mms.Day{Date: r.Date, Counts: map[mms.Status]int{}})
		}
		if r.Status != "" {
			o.Days[len(o.Days)-1].Counts[mms.Status(r.Status)] = r.Messages
			o.Totals[mms.Status(r.Status)] += r.Messages
		}
	}
	return nil
}

func (s *Store) overviewMedians(ctx context.Context, o *mms.Overview, who uuid.NullUUID, days int) error {
	var rows []struct {
		Status   string  `db:"status"`
		Messages int     `db:"messages"`
		Took     float64 `db:"took"`
	}
	if err := s.db.SelectContext(ctx, &rows, overviewMedians, who, days); err != nil {
		return translate(err, "taking medians")
	}
	for _, r := range rows {
		o.Medians = append(o.Medians, mms.Median{Status: mms.Status(r.Status), Took: seconds(r.Took), Messages: r.Messages})
	}
	order := mms.Statuses()
	slices.SortFunc(o.Medians, func(a, b mms.Median) int { return slices.Index(order, a.Status) - slices.Index(order, b.Status) })
	return nil
}
