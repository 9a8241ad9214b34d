package postgres

import "context"

const deleteOldIdempotencyKeys = `
DELETE FROM idempotency_keys WHERE (user_id, key) IN (
    SELECT user_id, key FROM idempotency_keys WHERE created_at < now() - interval '25 hours' LIMIT $1 FOR UPDATE SKIP LOCKED)`

const deleteOldCounts = `
DELETE FROM daily_counts WHERE (holder, day, shard) IN (
    SELECT holder, day, shard FROM daily_counts WHERE day < ` + today + ` - 7 LIMIT $1 FOR UPDATE SKIP LOCKED)`

// deleteBatchSize is how many rows one statement deletes.
const deleteBatchSize = 10_000

// DeleteExpired deletes idempotency keys, daily counts, webhook events and ended api
// processes that are past their retention.
func (s *Store) DeleteExpired(ctx context.Context) error {
	const doing = "deleting expired rows"
	for _, statement := range []string{deleteOldIdempotencyKeys, deleteOldCounts, deleteOldEvents, deleteOldProcesses} {
		for deleted := int64(deleteBatchSize); deleted == deleteBatchSize; {
			result, err := s.db.ExecContext(ctx, statement, deleteBatchSize)
			if err != nil {
				return wrapError(err, doing)
			}
			if deleted, err = result.RowsAffected(); err != nil {
				return wrapError(err, doing)
			}
		}
	}
	return nil
}
