package postgres

import (
	"context"
	"time"

	"github.com/lib/pq"

	"github.com/postcard-mms/postcard/internal/mms"
)

// next_arrival_at is the earliest time of a sender's next message (the theoretical
// arrival time of GCRA). claimMessage enforces the limit; release works ahead of it.
//
// setRateLimit locks the sender first, so that a change on the page is not overwritten.
const setRateLimit = `
WITH sender AS (
    INSERT INTO senders (number, source) VALUES ($1, 'env')
    ON CONFLICT (number) DO UPDATE SET number = EXCLUDED.number
    RETURNING number, interval_seconds, resting_since
)
INSERT INTO rate_limits (name, interval_seconds, environment_seconds, resting, next_arrival_at)
SELECT number, coalesce(interval_seconds, $2), $2, resting_since IS NOT NULL, now() FROM sender
ON CONFLICT (name) DO UPDATE SET interval_seconds = EXCLUDED.interval_seconds, environment_seconds = EXCLUDED.environment_seconds, resting = EXCLUDED.resting,
    next_arrival_at = least(rate_limits.next_arrival_at, now() + EXCLUDED.interval_seconds * interval '1 second')`

// SetRateLimit sets the least interval between two messages of a sender that the
// environment gives it; 0 means unlimited. An interval that was set on the page wins. A
// shorter interval takes effect immediately.
func (s *Store) SetRateLimit(ctx context.Context, sender mms.PhoneNumber, interval time.Duration) error {
	_, err := s.db.ExecContext(ctx, setRateLimit, string(sender), interval.Seconds())
	return wrapError(err, "setting a sender's rate limit")
}

const senderIntervals = `SELECT name, interval_seconds FROM rate_limits WHERE name = ANY($1)`

// SenderIntervals returns the least interval between two messages of each sender; 0 means
// unlimited. It leaves out senders for which no worker has set one yet.
func (s *Store) SenderIntervals(ctx context.Context, senders []mms.PhoneNumber) (map[mms.PhoneNumber]time.Duration, error) {
	var rows []struct {
		Name            mms.PhoneNumber `db:"name"`
		IntervalSeconds float64         `db:"interval_seconds"`
	}
	if err := s.db.SelectContext(ctx, &rows, senderIntervals, pq.Array(phoneNumbers(senders))); err != nil {
		return nil, wrapError(err, "reading the rate limits of senders")
	}
	intervals := make(map[mms.PhoneNumber]time.Duration, len(rows))
	for _, row := range rows {
		intervals[row.Name] = seconds(row.IntervalSeconds)
	}
	return intervals, nil
}

// listRateLimit limits queries of Plivo's message list. Plivo allows 20 a minute (Plivo
// docs, list all messages), one every 3 s; the rest allows for clocks that differ.
const (
	listRateLimit = "plivo-list"
	listInterval  = 3100 * time.Millisecond
)

// getRateLimit limits queries of single messages. It stays far below the 300 requests
// in 5 s that an account may make (Plivo docs, account limits).
const (
	getRateLimit = "plivo-get"
	getInterval  = 50 * time.Millisecond
)

const reserveCall = `
INSERT INTO rate_limits (name, interval_seconds, next_arrival_at) VALUES ($1, $2, clock_timestamp() + $2 * interval '1 second')
ON CONFLICT (name) DO UPDATE SET
    next_arrival_at = greatest(rate_limits.next_arrival_at, clock_timestamp()) + EXCLUDED.interval_seconds * interval '1 second'
RETURNING extract(epoch FROM next_arrival_at - clock_timestamp()) - interval_seconds`

// ReserveListCall reserves a query of Plivo's message list and returns how long to wait
// before making it. The limit holds over all workers.
func (s *Store) ReserveListCall(ctx context.Context) (time.Duration, error) {
	return s.reserve(ctx, listRateLimit, listInterval)
}

// ReserveGetCall is ReserveListCall for queries of single messages.
func (s *Store) ReserveGetCall(ctx context.Context) (time.Duration, error) {
	return s.reserve(ctx, getRateLimit, getInterval)
}

func (s *Store) reserve(ctx context.Context, name string, interval time.Duration) (time.Duration, error) {
	var wait float64
	err := s.db.GetContext(ctx, &wait, reserveCall, name, interval.Seconds())
	return max(0, seconds(wait)), wrapError(err, "reserving a call to Plivo")
}
