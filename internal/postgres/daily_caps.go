package postgres

import (
	"context"
	"database/sql"
	"errors"

	"github.com/lib/pq"

	"github.com/postcard-mms/postcard/internal/mms"
)

// today is the UTC day that daily caps apply to.
const today = `(now() AT TIME ZONE 'UTC')::date`

// createdToday is how many messages a holder c.holder has created today.
const createdToday = `(SELECT coalesce(sum(d.messages), 0) FROM daily_counts d WHERE d.holder = c.holder AND d.day = ` + today + `)`

// countDaily adds $2 messages to each holder's count of today. The shard is random, so
// that concurrent requests rarely wait for the same row.
const countDaily = `
INSERT INTO daily_counts AS d (holder, day, shard, messages)
SELECT holder, ` + today + `, (random() * 15)::smallint, $2::int FROM unnest($1::uuid[]) AS holder ORDER BY holder
ON CONFLICT (holder, day, shard) DO UPDATE SET messages = d.messages + EXCLUDED.messages`

const selectExceededCap = `
SELECT c.position - 1 AS index, greatest(0, c.cap - ` + createdToday + `) AS remaining,
    extract(epoch FROM date_trunc('day', now() AT TIME ZONE 'UTC') + interval '1 day' - now() AT TIME ZONE 'UTC') AS retry_after
FROM unnest($1::uuid[], $2::int[]) WITH ORDINALITY AS c (holder, cap, position)
WHERE ` + createdToday + ` + $3 > c.cap ORDER BY c.position LIMIT 1`

// getter is a connection pool or a transaction.
type getter interface {
	GetContext(ctx context.Context, dest any, query string, args ...any) error
}

// checkCaps returns mms.CapError when n more messages would exceed a cap.
func (s *Store) checkCaps(ctx context.Context, db getter, caps []mms.Cap, n int) error {
	if len(caps) == 0 {
		return nil
	}
	holders, limits := capColumns(caps)
	var row struct {
		Index      int     `db:"index"`
		Remaining  int     `db:"remaining"`
		RetryAfter float64 `db:"retry_after"`
	}
	err := db.GetContext(ctx, &row, selectExceededCap, holders, limits, n)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return wrapError(err, "checking daily caps")
	}
	return mms.CapError{Cap: caps[row.Index], Requested: n, Remaining: row.Remaining, RetryAfter: seconds(row.RetryAfter)}
}

func capColumns(caps []mms.Cap) (holders, limits any) {
	ids, messages := make([]string, len(caps)), make([]int64, len(caps))
	for i, c := range caps {
		ids[i], messages[i] = c.Holder.String(), int64(c.Messages)
	}
	return pq.Array(ids), pq.Array(messages)
}
