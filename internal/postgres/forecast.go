package postgres

import (
	"context"
	"time"

	"github.com/lib/pq"

	"github.com/postcard-mms/postcard/internal/mms"
)

// forecast reads what a message that is not stored would wait for and cost. Parameters:
// $1 sender, $2 recipient, $3 priority, $4 user, $5 how many messages are counted at
// most, $6 whether an opt-out holds for every sender, $7 the candidates for the sender.
var forecast = `
WITH m AS MATERIALIZED (
    SELECT CASE WHEN cardinality($7::text[]) > 0 THEN coalesce(` + lastSender("$2", "$7::text[]") + `, $1) ELSE $1 END AS sender, $2::text AS recipient
)
SELECT m.sender, coalesce(rate_limits.interval_seconds, 0) AS interval_seconds, now() AS now,
    greatest(0, coalesce(extract(epoch FROM rate_limits.next_arrival_at - now()), 0)) AS rate_limited,
    (SELECT count(*) FROM (
        SELECT FROM messages w WHERE w.sender = m.sender AND w.backlog_state = 'waiting' AND w.priority <= $3 LIMIT $5) waiting) AS ahead,
    ` + suppressed("m", "$6") + ` AS suppressed,
    ` + pauseColumns + `,
    coalesce((SELECT round(avg(recent.cost), 6)::text FROM (
        SELECT cost FROM messages WHERE workspace_id = $4 AND sender = m.sender ORDER BY id DESC LIMIT 200) recent WHERE recent.cost > 0), '') AS cost
FROM m LEFT JOIN rate_limits ON rate_limits.name = m.sender`

// Forecast predicts when a message would be sent, by which of the candidates for its sender,
// and what it would cost. It does not store the message.
func (s *Store) Forecast(ctx context.Context, m mms.Message, candidates []mms.PhoneNumber) (mms.Forecast, error) {
	var row struct {
		Sender      string    `db:"sender"`
		Interval    float64   `db:"interval_seconds"`
		Now         time.Time `db:"now"`
		RateLimited float64   `db:"rate_limited"`
		Ahead       int       `db:"ahead"`
		Suppressed  bool      `db:"suppressed"`
		pauseRow
		Cost string `db:"cost"`
	}
	err := s.db.GetContext(ctx, &row, forecast, string(m.Sender), string(m.Recipient), m.Priority, m.Workspace, mms.MaxCounted, s.optOutsOfEverySender, pq.Array(phoneNumbers(candidates)))
	if err != nil {
		return mms.Forecast{}, wrapError(err, "forecasting a message")
	}
	m.Sender = mms.PhoneNumber(row.Sender)
	f := mms.Forecast{
		Message: m, Interval: seconds(row.Interval), Ahead: row.Ahead,
		Suppressed: row.Suppressed, Pause: row.pause(), Cost: row.Cost,
	}
	if f.Cost == "" {
		f.Cost = mms.ListPrice
	}
	f.SendAt = row.Now.Add(seconds(row.RateLimited) + time.Duration(row.Ahead)*f.Interval)
	if m.SendAt != nil && m.SendAt.After(f.SendAt) {
		f.SendAt = *m.SendAt
	}
	return f, nil
}
