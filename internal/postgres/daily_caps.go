package postgres

import (
	"context"
	"database/sql"
	"errors"

	"github.com/lib/pq"

	"github.com/postcard-mms/postcard/internal/mms"
)

// today is the day that caps count for.
const today = `(now() AT TIME ZONE 'UTC')::date`

// countDaily adds $n messages to what each holder has sent today. Several slots
// keep those who send at the same time from waiting for each other.
const countDaily = `
    INSERT INTO daily_counts AS d (holder, day, shard, messages)
    SELECT holder, ` + today + `, (random() * 15)::smallint, %[1]s FROM unnest(%[2]s::uuid[]) AS holder WHERE %[3]s ORDER BY holder
    ON CONFLICT (holder, day, shard) DO UPDATE SET messages = d.messages + EXCLUDED.messages`

// sentToday is how many messages the holder c has sent today.
const sentToday = `(SELECT coalesce(sum(d.messages), 0) FROM daily_counts d WHERE d.holder = c.holder AND d.day = ` + today + `)`

const selectCapReached = `
SELECT c.number - 1 AS number, greatest(0, c.cap - ` + sentToday + `) AS left, extract(epoch FROM date_trunc('day', now() AT TIME ZONE 'UTC') + interval '1 day' - now() AT TIME ZONE 'UTC') AS again
FROM unnest($1::uuid[], $2::int[]) WITH ORDINALITY AS c (holder, cap, number)
WHERE ` + sentToday + ` + $3 > c.cap ORDER BY c.number LIMIT 1`

// getter is a pool or a transaction.
type getter interface {
	GetContext(ctx context.Context, dest any, query string, args ...any) error
}

// checkCaps returns mms.CapError where a cap leaves no room for n messages.
func (s *Store) checkCaps(ctx context.Context, db getter, caps []mms.Cap, n int) error {
	if len(caps) == 0 {
		return nil
	}
	holders, limits := capColumns(caps)
	var row struct {
		Number int     `db:"number"`
		Left   int     `db:"left"`
		Again  float64 `db:"again"`
	}
	err := db.GetContext(ctx, &row, selectCapReached, holders, limits, n)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return wrapError(err, "looking up a daily cap")
	}
	return mms.CapError{Cap: caps[row.Number], Requested: n, Remaining: row.Left, RetryAfter: seconds(row.Again)}
}

func capColumns(caps []mms.Cap) (holders, limits any) {
	ids, numbers := make([]string, len(caps)), make([]int64, len(caps))
	for i, c := range caps {
		ids[i], numbers[i] = c.Holder.String(), int64(c.Messages)
	}
	return pq.Array(ids), pq.Array(numbers)
}
