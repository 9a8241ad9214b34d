package postgres

import (
	"context"
)

const deleteOldIdempotencyKeys = `
DELETE FROM idempotency_keys WHERE (user_id, key) IN (
    SELECT user_id, key FROM idempotency_keys WHERE created_at < now() - interval '25 hours' LIMIT $1)`

const deleteOldCounts = `
DELETE FROM daily_counts WHERE (holder, day, shard) IN (
    SELECT holder, day, shard FROM daily_counts WHERE day < ` + today + ` - 7 LIMIT $1)`

// DeleteExpired removes idempotency keys, counts and events of webhooks that nobody asks
// for any more.
func (s *Store) DeleteExpired(ctx context.Context) error {
	for _, statement := range []string{deleteOldIdempotencyKeys, deleteOldCounts, deleteOldEvents} {
		for deleted := int64(deleteBatchSize); deleted == deleteBatchSize; {
			result, err := s.db.ExecContext(ctx, statement, deleteBatchSize)
			if err != nil {
				return wrapError(err, "forgetting what is over")
			}
			if deleted, err = result.RowsAffected(); err != nil {
				return wrapError(err, "forgetting what is over")
			}
		}
	}
	return nil
}

// deleteBatchSize is how many rows one statement removes.
const deleteBatchSize = 10_000
