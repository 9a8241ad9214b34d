package postgres

import (
	"context"
	"time"
)

const countHit = `
INSERT INTO throttles (key, hits, window_ends) VALUES ($1, 1, now() + $2 * interval '1 second')
ON CONFLICT (key) DO UPDATE SET
    hits        = CASE WHEN throttles.window_ends <= now() THEN 1 ELSE throttles.hits + 1 END,
    window_ends = CASE WHEN throttles.window_ends <= now() THEN EXCLUDED.window_ends ELSE throttles.window_ends END
RETURNING hits, extract(epoch FROM window_ends - clock_timestamp())`

// Throttle counts a hit under the key. It returns 0 when the current window has had at
// most limit hits, and otherwise the time until the window ends.
func (s *Store) Throttle(ctx context.Context, key [32]byte, limit int, window time.Duration) (time.Duration, error) {
	var hits int
	var wait float64
	ctx, cancel := s.db.withTimeout(ctx)
	defer cancel()
	err := s.db.QueryRowContext(ctx, countHit, key[:], window.Seconds()).Scan(&hits, &wait)
	if err != nil {
		return 0, wrapError(err, "counting a hit")
	}
	if hits <= limit {
		return 0, nil
	}
	return seconds(wait), nil
}

const deleteThrottle = `
DELETE FROM throttles WHERE key IN (
    SELECT key FROM throttles WHERE key = $1 OR window_ends < now() - interval '1 hour' ORDER BY key FOR UPDATE)`

// Unthrottle deletes the hits under the key, and those of windows that ended over an
// hour ago.
func (s *Store) Unthrottle(ctx context.Context, key [32]byte) error {
	_, err := s.db.ExecContext(ctx, deleteThrottle, key[:])
	return wrapError(err, "deleting hits")
}
