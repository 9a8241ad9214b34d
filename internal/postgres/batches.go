package postgres

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
)

// batchColumns are the columns of a batchRow. The table must be aliased as b.
const batchColumns = `b.id, b.workspace_id, b.api_key_id, coalesce(b.created_by, b.workspace_id) AS created_by, b.name, b.state, b.created, b.rejected, b.created_at,
    coalesce((SELECT true FROM messages m WHERE m.batch_id = b.id AND m.status IN ('scheduled', 'queued', 'sending', 'in_doubt') LIMIT 1), false) AS has_unsent,
    ` + pauseColumns

type batchRow struct {
	ID          uuid.UUID     `db:"id"`
	WorkspaceID uuid.UUID     `db:"workspace_id"`
	KeyID       uuid.NullUUID `db:"api_key_id"`
	CreatedBy   uuid.UUID     `db:"created_by"`
	Name        string        `db:"name"`
	State       string        `db:"state"`
	Created     int           `db:"created"`
	Rejected    int           `db:"rejected"`
	CreatedAt   time.Time     `db:"created_at"`
	HasUnsent   bool          `db:"has_unsent"`
	pauseRow
}

func (r batchRow) batch() mms.Batch {
	return mms.Batch{
		ID: r.ID, Workspace: r.WorkspaceID, KeyID: r.KeyID.UUID, CreatedBy: r.CreatedBy, Name: r.Name, State: mms.BatchState(r.State),
		Created: r.Created, Rejected: r.Rejected, CreatedAt: r.CreatedAt,
		HasUnsent: r.HasUnsent, Pause: r.pause(),
	}
}

const selectBatch = `SELECT ` + batchColumns + ` FROM batches b WHERE id = $1 AND workspace_id = $2`

func readBatch(ctx context.Context, db getter, workspace, id uuid.UUID) (mms.Batch, error) {
	var row batchRow
	err := db.GetContext(ctx, &row, selectBatch, id, workspace)
	if errors.Is(err, sql.ErrNoRows) {
		return mms.Batch{}, mms.ErrBatchNotFound
	}
	return row.batch(), wrapError(err, "reading a batch")
}

const countBatchMessages = `SELECT status, count(*) AS messages FROM messages WHERE batch_id = $1 GROUP BY status`

// Batch returns the workspace's batch with its messages counted by status, or
// mms.ErrBatchNotFound.
func (s *Store) Batch(ctx context.Context, workspace, id uuid.UUID) (mms.Batch, error) {
	batch, err := readBatch(ctx, s.db, workspace, id)
	if err != nil {
		return batch, err
	}
	var rows []struct {
		Status   string `db:"status"`
		Messages int    `db:"messages"`
	}
	if err := s.db.SelectContext(ctx, &rows, countBatchMessages, id); err != nil {
		return batch, wrapError(err, "counting a batch's messages")
	}
	batch.Counts = map[mms.Status]int{}
	for _, row := range rows {
		batch.Counts[mms.Status(row.Status)] = row.Messages
	}
	return batch, nil
}

const selectBatches = `
SELECT ` + batchColumns + ` FROM batches b WHERE workspace_id = $1 AND ($2::uuid IS NULL OR id < $2) ORDER BY id DESC LIMIT $3`

// Batches returns a page of the workspace's batches, newest first, without the counts,
// and true when older ones follow.
func (s *Store) Batches(ctx context.Context, workspace, before uuid.UUID, limit int) ([]mms.Batch, bool, error) {
	var rows []batchRow
	if err := s.db.SelectContext(ctx, &rows, selectBatches, workspace, nullID(before), limit+1); err != nil {
		return nil, false, wrapError(err, "listing batches")
	}
	batches := make([]mms.Batch, min(len(rows), limit))
	for i := range batches {
		batches[i] = rows[i].batch()
	}
	return batches, len(rows) > limit, nil
}

const selectBatchErrors = `
SELECT e.row, e.field, e.rule, e.message FROM batch_errors e JOIN batches b ON b.id = e.batch_id
WHERE b.id = $1 AND b.workspace_id = $2 AND e.sequence > $3 ORDER BY e.sequence LIMIT $4`

// BatchErrors returns a page of the errors in rejected rows of the workspace's batch,
// those with a sequence number greater than after, and true when more follow.
func (s *Store) BatchErrors(ctx context.Context, workspace, id uuid.UUID, after, limit int) ([]mms.RowError, bool, error) {
	var rows []struct {
		Row     int    `db:"row"`
		Field   string `db:"field"`
		Rule    string `db:"rule"`
		Message string `db:"message"`
	}
	if err := s.db.SelectContext(ctx, &rows, selectBatchErrors, id, workspace, after, limit+1); err != nil {
		return nil, false, wrapError(err, "listing the errors of a batch")
	}
	errs := make([]mms.RowError, min(len(rows), limit))
	for i := range errs {
		errs[i].Row, errs[i].Name, errs[i].Rule, errs[i].Message = rows[i].Row, rows[i].Field, rows[i].Rule, rows[i].Message
	}
	return errs, len(rows) > limit, nil
}

const setBatchState = `
UPDATE batches SET state = $3, sync_pending = true WHERE id = $1 AND workspace_id = $2 AND state <> $3 AND state <> 'canceled' RETURNING id`

// SetBatchState pauses, resumes or cancels the workspace's batch. It affects every
// message of the batch that has not been claimed yet, as soon as it returns: claims
// check the batch. Setting the current state again does nothing. It returns
// mms.ErrBatchCanceled for another state of a canceled batch, and
// mms.ErrBatchNotFound.
func (s *Store) SetBatchState(ctx context.Context, workspace, id uuid.UUID, state mms.BatchState) error {
	var changed uuid.UUID
	err := s.db.GetContext(ctx, &changed, setBatchState, id, workspace, string(state))
	if !errors.Is(err, sql.ErrNoRows) {
		return wrapError(err, "setting the state of a batch")
	}
	batch, err := readBatch(ctx, s.db, workspace, id)
	if err == nil && batch.State != state {
		return mms.ErrBatchCanceled
	}
	return err
}

// takeUnsynced picks a batch at random, so that one with locked messages does not
// block the others.
const takeUnsynced = `SELECT id, state FROM batches WHERE sync_pending ORDER BY random() LIMIT 1 FOR UPDATE SKIP LOCKED`

// unsyncedMessages are the conditions for messages of batch $1 that do not match the
// batch's state yet.
var unsyncedMessages = map[mms.BatchState]string{
	mms.BatchCanceled: `batch_id = $1 AND status IN ('scheduled', 'queued')`,
	mms.BatchPaused:   `batch_id = $1 AND status = 'queued' AND backlog_state = 'waiting'`,
	mms.BatchRunning:  `batch_id = $1 AND status = 'queued' AND backlog_state = 'parked'`,
}

// syncBatch returns the statement that makes up to $2 messages of batch $1 match its
// state.
func syncBatch(state mms.BatchState) string {
	picked := `SELECT id FROM messages WHERE ` + unsyncedMessages[state] + ` LIMIT $2 FOR UPDATE SKIP LOCKED`
	switch state {
	case mms.BatchCanceled:
		return `
WITH picked AS (
    ` + picked + `
), m AS (
    UPDATE messages SET status = 'canceled', reason = '', next_attempt_at = NULL, task_check_at = NULL, backlog_state = NULL,
        version = version + 1, updated_at = now(), final_at = now()
    FROM picked WHERE messages.id = picked.id RETURNING messages.id, messages.status
), event AS (
    INSERT INTO message_events (message_id, kind, status, detail) SELECT id, 'canceled', status, 'batch' FROM m
)
SELECT id FROM m`
	case mms.BatchPaused:
		return `UPDATE messages SET backlog_state = 'parked' WHERE id IN (` + picked + `) RETURNING id`
	default:
		return `UPDATE messages SET backlog_state = 'waiting' WHERE id IN (` + picked + `) RETURNING id`
	}
}

// batchSynced returns the statement that marks batch $1 as synced, unless messages are
// left that another transaction has locked.
func batchSynced(state mms.BatchState) string {
	return `UPDATE batches SET sync_pending = false WHERE id = $1 AND NOT EXISTS (SELECT FROM messages WHERE ` + unsyncedMessages[state] + `)`
}

// SyncBatch makes up to limit messages of one batch match the batch's state. It
// returns false when there is nothing to do, or only locked messages are left.
func (s *Store) SyncBatch(ctx context.Context, limit int) (bool, error) {
	const doing = "syncing a batch"
	tx, err := s.db.BeginTxx(ctx, nil)
	if err != nil {
		return false, wrapError(err, doing)
	}
	defer tx.Rollback() //nolint:errcheck // a no-op after the commit
	var batch struct {
		ID    uuid.UUID      `db:"id"`
		State mms.BatchState `db:"state"`
	}
	err = tx.GetContext(ctx, &batch, takeUnsynced)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, wrapError(err, doing)
	}
	var ids []uuid.UUID
	if err := tx.SelectContext(ctx, &ids, syncBatch(batch.State), batch.ID, limit); err != nil {
		return false, wrapError(err, doing)
	}
	done := false
	if len(ids) == 0 {
		result, err := tx.ExecContext(ctx, batchSynced(batch.State), batch.ID)
		if err != nil {
			return false, wrapError(err, doing)
		}
		n, err := result.RowsAffected()
		if err != nil {
			return false, wrapError(err, doing)
		}
		done = n == 1
	}
	if err := tx.Commit(); err != nil {
		return false, wrapError(err, doing)
	}
	s.noteChanged(ids...)
	return done || len(ids) > 0, nil
}

// park locks the batch's row, so that resuming the batch waits for it: either
// SyncBatch finds the message parked, or park finds the batch running. A message that is
// being prepared stays so: parked, it would be sent without its preparation.
const park = `
WITH b AS (
    SELECT b.id, b.state = 'canceled' AS canceled FROM batches b
    WHERE b.id = (SELECT batch_id FROM messages WHERE id = $1) AND b.state <> 'running' FOR SHARE
), m AS (
    UPDATE messages SET status = CASE WHEN canceled THEN 'canceled' ELSE status END,
        reason = CASE WHEN canceled THEN '' ELSE reason END,
        next_attempt_at = CASE WHEN NOT canceled THEN next_attempt_at END,
        task_check_at = CASE WHEN NOT canceled THEN 'infinity'::timestamptz END,
        backlog_state = CASE WHEN NOT canceled THEN 'parked' END,
        final_at = CASE WHEN canceled THEN now() END,
        version = version + canceled::int, updated_at = now()
    FROM b WHERE messages.id = $1 AND messages.status = 'queued' AND (canceled OR messages.backlog_state IS DISTINCT FROM 'preparing')
    RETURNING messages.id, messages.status, canceled
), event AS (
    INSERT INTO message_events (message_id, kind, status, detail) SELECT id, 'canceled', status, 'batch' FROM m WHERE canceled
)
SELECT id FROM m`

// Park parks a queued message whose batch is paused, and cancels one whose batch is
// canceled. It returns false when the batch is running, and for a message that is preparing.
func (s *Store) Park(ctx context.Context, id uuid.UUID) (bool, error) {
	changed, err := s.exec(ctx, "parking a message", park, id)
	return changed == 1, err
}
