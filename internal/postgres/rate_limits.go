package postgres

import (
	"context"
	"time"

	"github.com/postcard-mms/postcard/internal/mms"
)

const setRateLimit = `
INSERT INTO rate_limits (name, interval_seconds, next_arrival_at) VALUES ($1, $2, now())
ON CONFLICT (name) DO UPDATE SET interval_seconds = EXCLUDED.interval_seconds,
    next_arrival_at = least(rate_limits.next_arrival_at, now() + EXCLUDED.interval_seconds * interval '1 second')`

// SetRateLimit sets the least time between two messages of a sender; 0 for none.
func (s *Store) SetRateLimit(ctx context.Context, sender mms.PhoneNumber, pace time.Duration) error {
	_, err := s.db.ExecContext(ctx, setRateLimit, string(sender), pace.Seconds())
	return wrapError(err, "setting a sender's pace")
}

// listRateLimit paces our questions to Plivo's list: 20 a minute are allowed (Plivo
// docs, list all messages), and a second is left for clocks that differ.
const (
	listRateLimit = "plivo-list"
	listInterval  = 3100 * time.Millisecond
)

// getRateLimit paces our questions about single messages, far below the 300 requests
// in 5 seconds that an account may make (Plivo docs, account limits).
const (
	getRateLimit = "plivo-get"
	getInterval  = 50 * time.Millisecond
)

const reserveCall = `
INSERT INTO rate_limits (name, interval_seconds, next_arrival_at) VALUES ($1, $2, clock_timestamp() + $2 * interval '1 second')
ON CONFLICT (name) DO UPDATE SET
    next_arrival_at = greatest(rate_limits.next_arrival_at, clock_timestamp()) + EXCLUDED.interval_seconds * interval '1 second'
RETURNING extract(epoch FROM next_arrival_at - clock_timestamp()) - interval_seconds`

// ReserveListCall returns how long to wait before the next call of Plivo's
// list, for all workers together.
func (s *Store) ReserveListCall(ctx context.Context) (time.Duration, error) {
	return s.reserve(ctx, listRateLimit, listInterval)
}

// ReserveGetCall is ReserveListCall for questions about single messages.
func (s *Store) ReserveGetCall(ctx context.Context) (time.Duration, error) {
	return s.reserve(ctx, getRateLimit, getInterval)
}

func (s *Store) reserve(ctx context.Context, gate string, interval time.Duration) (time.Duration, error) {
	var wait float64
	err := s.db.GetContext(ctx, &wait, reserveCall, gate, interval.Seconds())
	return max(0, seconds(wait)), wrapError(err, "reserving a call of Plivo")
}
