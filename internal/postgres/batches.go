package postgres

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
)

const batchColumns = `b.id, b.user_id, b.api_key_id, b.name, b.state, b.created, b.rejected, b.created_at,
    coalesce((SELECT true FROM messages m WHERE m.batch_id = b.id AND m.status IN ('scheduled', 'queued', 'sending', 'in_doubt') LIMIT 1), false) AS left,
    ` + pauseCause + ` AS paused`

type batchRow struct {
	ID        uuid.UUID     `db:"id"`
	UserID    uuid.UUID     `db:"user_id"`
	KeyID     uuid.NullUUID `db:"api_key_id"`
	Name      string        `db:"name"`
	State     string        `db:"state"`
	Created   int           `db:"created"`
	Rejected  int           `db:"rejected"`
	CreatedAt time.Time     `db:"created_at"`
	HasUnsent bool          `db:"left"`
	Paused    string        `db:"paused"`
}

func (r batchRow) batch() mms.Batch {
	return mms.Batch{
		ID: r.ID, Owner: r.UserID, KeyID: r.KeyID.UUID, Name: r.Name, State: mms.BatchState(r.State),
		Created: r.Created, Rejected: r.Rejected, CreatedAt: r.CreatedAt,
		HasUnsent: r.HasUnsent, Paused: mms.Reason(r.Paused),
	}
}

const selectBatch = `SELECT ` + batchColumns + ` FROM batches b WHERE id = $1 AND user_id = $2`

func readBatch(ctx context.Context, db getter, owner, id uuid.UUID) (mms.Batch, error) {
	var row batchRow
	err := db.GetContext(ctx, &row, selectBatch, id, owner)
	if errors.Is(err, sql.ErrNoRows) {
		return mms.Batch{}, mms.ErrBatchNotFound
	}
	return row.batch(), wrapError(err, "reading a batch")
}

const countBatchMessages = `SELECT status, count(*) AS messages FROM messages WHERE batch_id = $1 GROUP BY status`

// Batch returns the owner's batch and where its messages stand, or
// mms.ErrNoBatch.
func (s *Store) Batch(ctx context.Context, owner, id uuid.UUID) (mms.Batch, error) {
	batch, err := readBatch(ctx, s.db, owner, id)
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
SELECT ` + batchColumns + ` FROM batches b WHERE user_id = $1 AND ($2::uuid IS NULL OR id < $2) ORDER BY id DESC LIMIT $3`

// Batches returns the owner's batches, newest first, without where their
// messages stand, and whether there are more behind.
func (s *Store) Batches(ctx context.Context, owner, before uuid.UUID, limit int) ([]mms.Batch, bool, error) {
	var rows []batchRow
	if err := s.db.SelectContext(ctx, &rows, selectBatches, owner, nullID(before), limit+1); err != nil {
		return nil, false, wrapError(err, "listing batches")
	}
	batches := make([]mms.Batch, min(len(rows), limit))
	for i := range batches {
		batches[i] = rows[i].batch()
	}
	return batches, len(rows) > limit, nil
}

const selectBatchErrors = `
SELECT f.row, f.field, f.rule, f.message FROM batch_errors f JOIN batches b ON b.id = f.batch_id
WHERE b.id = $1 AND b.user_id = $2 AND f.sequence > $3 ORDER BY f.sequence LIMIT $4`

// BatchErrors returns faults of the rows of the owner's batch that were not
// taken on, from the one after number after on, and whether there are more.
func (s *Store) BatchErrors(ctx context.Context, owner, id uuid.UUID, after, limit int) ([]mms.RowError, bool, error) {
	var rows []struct {
		Row     int    `db:"row"`
		Field   string `db:"field"`
		Rule    string `db:"rule"`
		Message string `db:"message"`
	}
	if err := s.db.SelectContext(ctx, &rows, selectBatchErrors, id, owner, after, limit+1); err != nil {
		return nil, false, wrapError(err, "listing the faults of a batch")
	}
	faults := make([]mms.RowError, min(len(rows), limit))
	for i := range faults {
		faults[i].Row, faults[i].Name, faults[i].Rule, faults[i].Message = rows[i].Row, rows[i].Field, rows[i].Rule, rows[i].Message
	}
	return faults, len(rows) > limit, nil
}

const setBatchState = `
UPDATE batches SET state = $3, sync_pending = true WHERE id = $1 AND user_id = $2 AND state <> $3 AND state <> 'canceled' RETURNING id`

// SetBatchState pauses, resumes or cancels the owner's batch, which holds for
// every message of it that has not been claimed yet. That it is in that state
// already is fine; a canceled one stays so: mms.ErrBatchOver.
func (s *Store) SetBatchState(ctx context.Context, owner, id uuid.UUID, state mms.BatchState) error {
	var changed uuid.UUID
	err := s.db.GetContext(ctx, &changed, setBatchState, id, owner, string(state))
	if !errors.Is(err, sql.ErrNoRows) {
		return wrapError(err, "setting the state of a batch")
	}
	batch, err := readBatch(ctx, s.db, owner, id)
	if err == nil && batch.State != state {
		return mms.ErrBatchCanceled
	}
	return err
}

// takeUnsynced takes any: one whose messages are locked does not hold up the others.
const takeUnsynced = `SELECT id, state FROM batches WHERE sync_pending ORDER BY random() LIMIT 1 FOR UPDATE SKIP LOCKED`

// unsyncedMessages are the messages of a batch that do not follow its state yet.
var unsyncedMessages = map[mms.BatchState]string{
	mms.BatchCanceled: `batch_id = $1 AND status IN ('scheduled', 'queued')`,
	mms.BatchPaused:   `batch_id = $1 AND status = 'queued' AND backlog_state = 'waiting'`,
	mms.BatchRunning:  `batch_id = $1 AND status = 'queued' AND backlog_state = 'parked'`,
}

// syncBatch has up to $2 messages of a batch follow its state.
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

// batchSynced leaves a batch unsettled of which somebody has locked a message.
func batchSynced(state mms.BatchState) string {
	return `UPDATE batches SET sync_pending = false WHERE id = $1 AND NOT EXISTS (SELECT FROM messages WHERE ` + unsyncedMessages[state] + `)`
}

// SyncBatch has up to limit messages of one batch follow its state. It reports
// false when nothing more can be done at present.
func (s *Store) SyncBatch(ctx context.Context, limit int) (bool, error) {
	const doing = "settling a batch"
	tx, err := s.db.BeginTxx(ctx, nil)
	if err != nil {
		return false, wrapError(err, doing)
	}
	defer tx.Rollback() //nolint:errcheck // after a commit there is nothing to take back
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
	over := false
	if len(ids) == 0 {
		result, err := tx.ExecContext(ctx, batchSynced(batch.State), batch.ID)
		if err != nil {
			return false, wrapError(err, doing)
		}
		n, err := result.RowsAffected()
		if err != nil {
			return false, wrapError(err, doing)
		}
		over = n == 1
	}
	if err := tx.Commit(); err != nil {
		return false, wrapError(err, doing)
	}
	s.noteChanged(ids...)
	return over || len(ids) > 0, nil
}

// park keeps a message whose batch is not running from being sent, for as
// long as that lasts. It holds on to the batch's row, so that a batch which goes
// on at that moment finds the message set aside, or this finds the batch going on.
const park = `
WITH b AS (
    SELECT b.id, b.state = 'canceled' AS over FROM batches b
    WHERE b.id = (SELECT batch_id FROM messages WHERE id = $1) AND b.state <> 'running' FOR SHARE
), m AS (
    UPDATE messages SET status = CASE WHEN over THEN 'canceled' ELSE status END,
        reason = CASE WHEN over THEN '' ELSE reason END,
        next_attempt_at = CASE WHEN NOT over THEN next_attempt_at END,
        task_check_at = CASE WHEN NOT over THEN 'infinity'::timestamptz END,
        backlog_state = CASE WHEN NOT over THEN 'parked' END,
        final_at = CASE WHEN over THEN now() END,
        version = version + over::int, updated_at = now()
    FROM b WHERE messages.id = $1 AND messages.status = 'queued'
    RETURNING messages.id, messages.status, over
), event AS (
    INSERT INTO message_events (message_id, kind, status, detail) SELECT id, 'canceled', status, 'batch' FROM m WHERE over
)
SELECT id FROM m`

// Park sets a message aside whose batch is paused, and cancels one whose
// batch is canceled. It reports false when its batch is running.
func (s *Store) Park(ctx context.Context, id uuid.UUID) (bool, error) {
	changed, err := s.exec(ctx, "setting a message aside", park, id)
	return changed == 1, err
}
