package postgres

import "context"

const deleteOldIdempotencyKeys = `
DELETE FROM idempotency_keys WHERE (workspace_id, key) IN (
    SELECT workspace_id, key FROM idempotency_keys WHERE created_at < now() - interval '25 hours' LIMIT $1 FOR UPDATE SKIP LOCKED)`

const deleteOldCounts = `
DELETE FROM daily_counts WHERE (holder, day, shard) IN (
    SELECT holder, day, shard FROM daily_counts WHERE day < ` + today + ` - 7 LIMIT $1 FOR UPDATE SKIP LOCKED)`

// deleteOldUploads leaves an upload for a day after it has expired: a request that found it
// may still be creating a message.
const deleteOldUploads = `
DELETE FROM media_uploads WHERE id IN (
    SELECT id FROM media_uploads WHERE expires_at < now() - interval '1 day' LIMIT $1 FOR UPDATE SKIP LOCKED)`

const deleteOldMediaChecks = `
DELETE FROM media_checks WHERE url_hash IN (
    SELECT url_hash FROM media_checks WHERE checked_at < now() - interval '1 day' LIMIT $1 FOR UPDATE SKIP LOCKED)`

// deleteUnusedContents checks contents that nobody has touched for a day. It deletes those
// that nothing refers to, and checks the others again in a day. Whatever begins to refer to
// a content stores it at that moment or finds it through something that refers to it and
// stays for a day: so none is deleted that is about to be used.
const deleteUnusedContents = `
WITH old AS MATERIALIZED (
    SELECT c.hash, EXISTS (SELECT FROM media_uploads u WHERE u.sent = c.hash OFFSET 0) OR EXISTS (SELECT FROM media_uploads u WHERE u.original = c.hash OFFSET 0)
        OR EXISTS (SELECT FROM media_fitted f WHERE f.fitted = c.hash OFFSET 0) OR EXISTS (SELECT FROM media_contents o WHERE o.preview = c.hash OFFSET 0)
        OR EXISTS (SELECT FROM media_checks k WHERE k.copy = c.hash OFFSET 0) OR EXISTS (SELECT FROM media_checks k WHERE k.preview = c.hash OFFSET 0)
        OR EXISTS (SELECT FROM message_media mm WHERE mm.content = c.hash OFFSET 0) OR EXISTS (SELECT FROM message_media mm WHERE mm.preview = c.hash OFFSET 0) AS used
    FROM media_contents c WHERE c.touched_at < now() - interval '1 day' ORDER BY c.touched_at LIMIT $1 FOR UPDATE SKIP LOCKED
), kept AS (
    UPDATE media_contents SET touched_at = now() WHERE hash IN (SELECT hash FROM old WHERE used) RETURNING hash
), gone AS (
    DELETE FROM media_contents WHERE hash IN (SELECT hash FROM old WHERE NOT used) RETURNING hash
)
SELECT hash FROM old`

// How many rows one statement deletes. A picture is stored in about a thousand parts.
const (
	deleteBatchSize     = 10_000
	deleteContentsBatch = 100
)

// DeleteExpired deletes idempotency keys, daily counts, webhook events, ended processes,
// uploads, media checks, invitations, samples of the queue, ended pauses, audits and pictures
// that are past their retention.
func (s *Store) DeleteExpired(ctx context.Context) error {
	const doing = "deleting expired rows"
	for _, statement := range []string{deleteOldIdempotencyKeys, deleteOldCounts, deleteOldEvents, deleteOldProcesses, deleteOldUploads, deleteOldMediaChecks,
		deleteOldInvitations, deleteOldWorkers, deleteOldSamples, deleteOldPauses, deleteOldVerifications} {
		if err := s.deleteAll(ctx, statement, deleteBatchSize); err != nil {
			return wrapError(err, doing)
		}
	}
	return wrapError(s.deleteAll(ctx, deleteUnusedContents, deleteContentsBatch), doing)
}

// deleteAll runs a statement that affects up to $1 rows until it affects fewer.
func (s *Store) deleteAll(ctx context.Context, statement string, limit int64) error {
	for deleted := limit; deleted == limit; {
		result, err := s.db.ExecContext(ctx, statement, limit)
		if err != nil {
			return err
		}
		if deleted, err = result.RowsAffected(); err != nil {
			return err
		}
	}
	return nil
}
