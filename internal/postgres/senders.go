package postgres

import (
	"context"
	"slices"
	"time"

	"github.com/lib/pq"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/operator"
)

const selectSenderNumbers = `SELECT number, source = 'page' AS on_page, resting_since IS NOT NULL AS resting FROM senders ORDER BY number`

// SenderNumbers returns the senders that have a row, in the order of their numbers. Those
// that were not added on the page exist only for processes that have them in their
// environment.
func (s *Store) SenderNumbers(ctx context.Context) ([]operator.SenderNumber, error) {
	var rows []struct {
		Number  mms.PhoneNumber `db:"number"`
		OnPage  bool            `db:"on_page"`
		Resting bool            `db:"resting"`
	}
	if err := s.db.SelectContext(ctx, &rows, selectSenderNumbers); err != nil {
		return nil, wrapError(err, "reading senders")
	}
	list := make([]operator.SenderNumber, len(rows))
	for i, r := range rows {
		list[i] = operator.SenderNumber(r)
	}
	return list, nil
}

// selectSenders counts at most $2 messages in each backlog.
const selectSenders = `
WITH numbers AS MATERIALIZED (
    SELECT unnest($1::text[]) AS number UNION SELECT number FROM senders WHERE source = 'page'
)
SELECT n.number, coalesce(s.source = 'page', false) AS on_page, s.added_at, s.rate, s.resting_since,
    l.environment_seconds, l.interval_seconds, (SELECT count(*) FROM (
        SELECT FROM messages w WHERE w.sender = n.number AND w.backlog_state = 'waiting' LIMIT $2) waiting) AS waiting,
    greatest(0, coalesce(extract(epoch FROM l.next_arrival_at - now()), 0)) AS rate_limited,
    s.counted_at, coalesce(s.week_delivered, 0) AS week_delivered, coalesce(s.week_sent, 0) AS week_sent, coalesce(s.week_failed, 0) AS week_failed,
    s.checked_at, coalesce(s.problem, '') AS problem, coalesce(s.found, false) AS found, coalesce(s.number_type, '') AS number_type,
    coalesce(s.mms_enabled, false) AS mms_enabled, coalesce(s.tendlc, '') AS tendlc, coalesce(s.campaign, '') AS campaign,
    coalesce(s.toll_free, '') AS toll_free, coalesce(s.application, false) AS application, coalesce(s.message_url, '') AS message_url
FROM numbers n LEFT JOIN senders s ON s.number = n.number LEFT JOIN rate_limits l ON l.name = n.number
ORDER BY coalesce(array_position($1::text[], n.number), 1000000), n.number`

type senderRow struct {
	Number        mms.PhoneNumber `db:"number"`
	OnPage        bool            `db:"on_page"`
	AddedAt       *time.Time      `db:"added_at"`
	Rate          *float64        `db:"rate"`
	RestingSince  *time.Time      `db:"resting_since"`
	Environment   *float64        `db:"environment_seconds"`
	Interval      *float64        `db:"interval_seconds"`
	Waiting       int             `db:"waiting"`
	RateLimited   float64         `db:"rate_limited"`
	CountedAt     *time.Time      `db:"counted_at"`
	WeekDelivered int             `db:"week_delivered"`
	WeekSent      int             `db:"week_sent"`
	WeekFailed    int             `db:"week_failed"`
	CheckedAt     *time.Time      `db:"checked_at"`
	Problem       string          `db:"problem"`
	Found         bool            `db:"found"`
	Type          string          `db:"number_type"`
	MMS           bool            `db:"mms_enabled"`
	TenDLC        string          `db:"tendlc"`
	Campaign      string          `db:"campaign"`
	TollFree      string          `db:"toll_free"`
	Application   bool            `db:"application"`
	MessageURL    string          `db:"message_url"`
}

func (r senderRow) sender(environment []mms.PhoneNumber) operator.Sender {
	sender := operator.Sender{
		Number: r.Number, InEnvironment: slices.Contains(environment, r.Number), OnPage: r.OnPage, AddedAt: r.AddedAt,
		Environment: optionalSeconds(r.Environment), Rate: r.Rate, Interval: optionalSeconds(r.Interval), RestingSince: r.RestingSince,
		Waiting: r.Waiting, CountedAt: r.CountedAt, WeekDelivered: r.WeekDelivered, WeekSent: r.WeekSent, WeekFailed: r.WeekFailed,
		AtPlivo: operator.NumberState{
			Number: operator.Number{
				Found: r.Found, Type: r.Type, MMS: r.MMS, TenDLC: r.TenDLC, Campaign: r.Campaign, TollFree: r.TollFree,
				Application: r.Application, MessageURL: r.MessageURL,
			},
			CheckedAt: r.CheckedAt, Problem: r.Problem,
		},
	}
	if sender.Interval != nil && sender.Waiting > 0 {
		sender.Wait = seconds(r.RateLimited) + time.Duration(sender.Waiting)*(*sender.Interval)
	}
	return sender
}

func optionalSeconds(n *float64) *time.Duration {
	if n == nil {
		return nil
	}
	d := seconds(*n)
	return &d
}

// Senders returns the senders of the environment, in its order, and then those that were
// added on the page.
func (s *Store) Senders(ctx context.Context, environment []mms.PhoneNumber) ([]operator.Sender, error) {
	var rows []senderRow
	if err := s.db.SelectContext(ctx, &rows, selectSenders, pq.Array(phoneNumbers(environment)), mms.MaxCounted); err != nil {
		return nil, wrapError(err, "reading senders")
	}
	senders := make([]operator.Sender, len(rows))
	for i, r := range rows {
		senders[i] = r.sender(environment)
	}
	return senders, nil
}

// addSender also takes over the row of a number that was in the environment before. $4 is
// the interval until a worker says what its environment has.
const addSender = `
WITH sender AS (
    INSERT INTO senders (number, source, rate, interval_seconds) VALUES ($1, 'page', $2, $3)
    ON CONFLICT (number) DO UPDATE SET source = 'page', rate = EXCLUDED.rate, interval_seconds = EXCLUDED.interval_seconds, resting_since = NULL, added_at = now()
        WHERE senders.source = 'env'
    RETURNING number
), limiter AS (
    INSERT INTO rate_limits (name, interval_seconds, next_arrival_at) SELECT number, coalesce($3, $4), now() FROM sender
    ON CONFLICT (name) DO UPDATE SET interval_seconds = EXCLUDED.interval_seconds, environment_seconds = NULL, resting = false
)
SELECT count(*) FROM sender`

// AddSender adds a sender with a rate in messages per minute; nil: the environment's. It
// reports false if the sender was added before.
func (s *Store) AddSender(ctx context.Context, sender mms.PhoneNumber, rate *float64) (bool, error) {
	var added int
	err := s.db.GetContext(ctx, &added, addSender, string(sender), rate, intervalOf(rate), sender.DefaultInterval().Seconds())
	return added == 1, wrapError(err, "adding a sender")
}

// intervalOf returns the interval of a rate in seconds, or nil if there is none.
func intervalOf(rate *float64) *float64 {
	if rate == nil {
		return nil
	}
	interval := mms.IntervalForRate(*rate).Seconds()
	return &interval
}

const setSenderRate = `
WITH sender AS (
    INSERT INTO senders (number, source, rate, interval_seconds) VALUES ($1, 'env', $2, $3)
    ON CONFLICT (number) DO UPDATE SET rate = EXCLUDED.rate, interval_seconds = EXCLUDED.interval_seconds
    RETURNING number
)
INSERT INTO rate_limits (name, interval_seconds, next_arrival_at) SELECT number, coalesce($3, $4), now() FROM sender
ON CONFLICT (name) DO UPDATE SET interval_seconds = coalesce($3, rate_limits.environment_seconds, $4),
    next_arrival_at = least(rate_limits.next_arrival_at, now() + coalesce($3, rate_limits.environment_seconds, $4) * interval '1 second')`

// SetSenderRate sets the rate of a sender, in messages per minute, which wins over the
// environment's; nil: the environment's again. It takes effect immediately in all workers.
func (s *Store) SetSenderRate(ctx context.Context, sender mms.PhoneNumber, rate *float64) error {
	_, err := s.db.ExecContext(ctx, setSenderRate, string(sender), rate, intervalOf(rate), sender.DefaultInterval().Seconds())
	return wrapError(err, "setting a sender's rate")
}

const restSender = `
WITH sender AS (
    INSERT INTO senders (number, source, resting_since) VALUES ($1, 'env', CASE WHEN $2 THEN now() END)
    ON CONFLICT (number) DO UPDATE SET resting_since = CASE WHEN $2 THEN coalesce(senders.resting_since, now()) END
    RETURNING number
)
INSERT INTO rate_limits (name, interval_seconds, resting, next_arrival_at) SELECT number, $3, $2, now() FROM sender
ON CONFLICT (name) DO UPDATE SET resting = EXCLUDED.resting`

// RestSender takes a sender out of use, or puts it back. It takes effect immediately in all
// workers: they claim and release no message of a resting sender.
func (s *Store) RestSender(ctx context.Context, sender mms.PhoneNumber, rest bool) error {
	_, err := s.db.ExecContext(ctx, restSender, string(sender), rest, sender.DefaultInterval().Seconds())
	return wrapError(err, "changing whether a sender rests")
}

const removeSender = `
WITH gone AS (
    DELETE FROM senders WHERE number = $1 AND source = 'page' RETURNING number
)
UPDATE rate_limits SET resting = false, interval_seconds = ` + unconfiguredInterval + `, environment_seconds = NULL FROM gone WHERE name = gone.number`

// RemoveSender removes a sender that was added on the page. Messages that wait for it are
// still sent, like those of every sender that is not configured any more.
func (s *Store) RemoveSender(ctx context.Context, sender mms.PhoneNumber) error {
	_, err := s.db.ExecContext(ctx, removeSender, string(sender))
	return wrapError(err, "removing a sender")
}

const selectWithoutEnvironmentRate = `
SELECT s.number FROM senders s JOIN rate_limits l ON l.name = s.number WHERE s.source = 'page' AND l.environment_seconds IS NULL ORDER BY s.number`

// SendersWithoutEnvironmentRate returns the added senders for which no worker has set the
// rate of its environment.
func (s *Store) SendersWithoutEnvironmentRate(ctx context.Context) ([]mms.PhoneNumber, error) {
	var numbers []mms.PhoneNumber
	err := s.db.SelectContext(ctx, &numbers, selectWithoutEnvironmentRate)
	return numbers, wrapError(err, "reading new senders")
}

const saveNumber = `
UPDATE senders SET checked_at = now(), problem = '', found = $2, number_type = $3, mms_enabled = $4, tendlc = $5, campaign = $6, toll_free = $7,
    application = $8, message_url = $9 WHERE number = $1`

// SaveNumber stores what Plivo said about a sender.
func (s *Store) SaveNumber(ctx context.Context, sender mms.PhoneNumber, n operator.Number) error {
	_, err := s.db.ExecContext(ctx, saveNumber, string(sender), n.Found, n.Type, n.MMS, n.TenDLC, n.Campaign, n.TollFree, n.Application, n.MessageURL)
	return wrapError(err, "storing what Plivo said about a sender")
}

const saveNumberProblem = `UPDATE senders SET checked_at = now(), problem = $2 WHERE number = $1`

// SaveNumberProblem stores why Plivo said nothing about a sender. What it said before stays.
func (s *Store) SaveNumberProblem(ctx context.Context, sender mms.PhoneNumber, problem string) error {
	_, err := s.db.ExecContext(ctx, saveNumberProblem, string(sender), problem)
	return wrapError(err, "storing why Plivo said nothing about a sender")
}

// countWeek may take seconds, so it locks nothing.
var countWeek = `
SELECT m.sender, count(*) FILTER (WHERE m.status = 'delivered') AS delivered, count(*) FILTER (WHERE m.status = 'sent') AS sent,
    count(*) FILTER (WHERE m.status IN ('failed', 'undelivered')) AS failed
FROM messages m WHERE m.id >= ` + minIDAt(`now() - interval '7 days'`) + ` GROUP BY m.sender`

const saveWeek = `
WITH locked AS MATERIALIZED (
    SELECT number FROM senders ORDER BY number FOR UPDATE
), counts AS MATERIALIZED (
    SELECT * FROM unnest($1::text[], $2::int[], $3::int[], $4::int[]) AS c (sender, delivered, sent, failed)
)
UPDATE senders SET counted_at = now(), week_delivered = coalesce(counts.delivered, 0), week_sent = coalesce(counts.sent, 0), week_failed = coalesce(counts.failed, 0)
FROM locked LEFT JOIN counts ON counts.sender = locked.number WHERE senders.number = locked.number`

// CountSenderWeek counts the messages of the last 7 days for each sender.
func (s *Store) CountSenderWeek(ctx context.Context) error {
	var rows []struct {
		Sender    string `db:"sender"`
		Delivered int64  `db:"delivered"`
		Sent      int64  `db:"sent"`
		Failed    int64  `db:"failed"`
	}
	if err := s.db.SelectContext(ctx, &rows, countWeek); err != nil {
		return wrapError(err, "counting the messages of senders")
	}
	var senders []string
	var delivered, sent, failed []int64
	for _, r := range rows {
		senders, delivered, sent, failed = append(senders, r.Sender), append(delivered, r.Delivered), append(sent, r.Sent), append(failed, r.Failed)
	}
	_, err := s.db.ExecContext(ctx, saveWeek, pq.Array(senders), pq.Array(delivered), pq.Array(sent), pq.Array(failed))
	return wrapError(err, "storing the counts of senders")
}
