package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"github.com/postcard-mms/postcard/internal/mms"
)

const tryKeyLock = `SELECT pg_try_advisory_xact_lock(hashtextextended($1::uuid || ' ' || $2::text, 0))`

const insertBatchKey = `
INSERT INTO idempotency_keys AS k (user_id, key, fingerprint, batch_id) VALUES ($1, $2, $3, $4)
ON CONFLICT (user_id, key) DO UPDATE SET fingerprint = EXCLUDED.fingerprint, message_id = NULL, batch_id = EXCLUDED.batch_id, created_at = now()
    WHERE k.created_at <= now() - interval '24 hours'
RETURNING batch_id`

const insertBatch = `INSERT INTO batches (id, user_id, api_key_id, name) VALUES ($1, $2, $3, $4)`

const finishBatch = `UPDATE batches SET created = $2, rejected = $3 WHERE id = $1`

const insertBatchErrors = `
INSERT INTO batch_errors (batch_id, sequence, row, field, rule, message)
SELECT $1, u.sequence, u.row, u.field, u.rule, u.message
FROM unnest($2::int[], $3::text[], $4::text[], $5::text[]) WITH ORDINALITY AS u (row, field, rule, message, sequence)`

var countBatch = fmt.Sprintf(countDaily, "$1::int", "$2", "true")

// CreateBatch stores a batch with all that fill inserts, or nothing at all. It
// returns mms.RowFaults where rows are not right and the order does not accept
// the good ones alone, or there are none, and errors as Accept does.
func (s *Store) CreateBatch(ctx context.Context, o mms.BatchRequest, fill mms.Fill) (mms.BatchResult, error) {
	batch, faults, err := s.createBatch(ctx, o, fill)
	if errors.Is(err, errKeyTaken) {
		return s.replayBatch(ctx, o)
	}
	if err != nil {
		return mms.BatchResult{}, err
	}
	taken := mms.BatchResult{Batch: batch, Errors: faults.Shown()}
	return taken, nil
}

// errKeyTaken says that an idempotency key is in use, now or since before.
var errKeyTaken = errors.New("the idempotency key is taken")

func (s *Store) createBatch(ctx context.Context, o mms.BatchRequest, fill mms.Fill) (mms.Batch, mms.RowErrors, error) {
	const doing = "accepting a batch"
	var faults mms.RowErrors
	tx, err := s.db.BeginTxx(ctx, nil)
	if err != nil {
		return mms.Batch{}, faults, wrapError(err, doing)
	}
	defer tx.Rollback() //nolint:errcheck // after a commit there is nothing to take back
	if _, err := tx.ExecContext(ctx, insertBatch, o.ID, o.Owner, nullID(o.KeyID), o.Name); err != nil {
		return mms.Batch{}, faults, wrapError(err, doing)
	}
	if err := claimBatchKey(ctx, tx, o); err != nil {
		return mms.Batch{}, faults, err
	}
	one := uuid.Nil // of the messages, to announce: whoever watches their owner looks again
	accepted, faults, err := fill(ctx, func(ctx context.Context, messages []mms.Message) error {
		one = messages[0].ID
		return insertMessages(ctx, tx, o, messages)
	})
	switch {
	case err != nil:
		return mms.Batch{}, faults, err
	case faults.Rejected > 0 && (!o.CreateValid || accepted == 0):
		return mms.Batch{}, faults, faults
	}
	if err := s.checkCaps(ctx, tx, o.Caps, accepted); err != nil {
		return mms.Batch{}, faults, err
	}
	holders, _ := capColumns(o.Caps)
	if _, err := tx.ExecContext(ctx, countBatch, accepted, holders); err != nil {
		return mms.Batch{}, faults, wrapError(err, doing)
	}
	if err := storeBatchErrors(ctx, tx, o.ID, faults.Errors); err != nil {
		return mms.Batch{}, faults, err
	}
	if _, err := tx.ExecContext(ctx, finishBatch, o.ID, accepted, faults.Rejected); err != nil {
		return mms.Batch{}, faults, wrapError(err, doing)
	}
	batch, err := readBatch(ctx, tx, o.Owner, o.ID)
	if err != nil {
		return mms.Batch{}, faults, err
	}
	if err := tx.Commit(); err != nil {
		return mms.Batch{}, faults, wrapError(err, doing)
	}
	if one != uuid.Nil {
		s.noteChanged(one)
	}
	return batch, faults, nil
}

func claimBatchKey(ctx context.Context, tx *sqlx.Tx, o mms.BatchRequest) error {
	const doing = "taking a batch's idempotency key"
	if o.Idempotency.Key == "" {
		return nil
	}
	var mine bool
	if err := tx.GetContext(ctx, &mine, tryKeyLock, o.Owner, o.Idempotency.Key); err != nil {
		return wrapError(err, doing)
	}
	if !mine {
		return errKeyTaken
	}
	var id uuid.UUID
	err := tx.GetContext(ctx, &id, insertBatchKey, o.Owner, o.Idempotency.Key, o.Idempotency.Fingerprint[:], o.ID)
	if errors.Is(err, sql.ErrNoRows) {
		return errKeyTaken
	}
	return wrapError(err, doing)
}

// insertMany stores messages of a batch: in line from the start, and with no
// task until they are let out. Parameters: $1 ids, $2 senders, $3 recipients,
// $4 texts, $5 metadata, $6 rows, $7 user, $8 valid for seconds, $9 send at,
// $10 priority, $11 API key, $12 batch; of the media $13 messages, $14 positions, $15 URLs.
const insertMany = `
WITH rate_limit AS (
    INSERT INTO rate_limits (name, interval_seconds, next_arrival_at) SELECT DISTINCT sender, 4, now() FROM unnest($2::text[]) AS sender ORDER BY sender ON CONFLICT DO NOTHING
), m AS (
    INSERT INTO messages (id, user_id, sender, recipient, text, metadata, batch_row, status, next_attempt_at, task_check_at, backlog_state,
        expires_at, send_at, priority, api_key_id, batch_id)
    SELECT u.id, $7::uuid, u.sender, u.recipient, u.text, u.metadata, u.row, CASE WHEN $9::timestamptz IS NULL THEN 'queued' ELSE 'scheduled' END,
        CASE WHEN $9::timestamptz IS NULL THEN now() END, CASE WHEN $9::timestamptz IS NULL THEN 'infinity'::timestamptz END,
        CASE WHEN $9::timestamptz IS NULL THEN 'waiting' END,
        coalesce($9, now()) + $8::float8 * interval '1 second', $9, $10::smallint, $11::uuid, $12::uuid
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::jsonb[], $6::int[]) AS u (id, sender, recipient, text, metadata, row)
    RETURNING id, status, text, metadata
), search AS (` + intoSearch + `
), media AS (
    INSERT INTO message_media (message_id, position, url)
    SELECT u.id, u.position, u.url FROM unnest($13::uuid[], $14::smallint[], $15::text[]) AS u (id, position, url)
)
INSERT INTO message_events (message_id, kind, status) SELECT id, 'created', status FROM m`

func insertMessages(ctx context.Context, tx *sqlx.Tx, o mms.BatchRequest, messages []mms.Message) error {
	n := len(messages)
	ids, senders, recipients, texts, objects := make([]string, n), make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	rows := make([]int64, n)
	var media struct {
		ids, urls []string
		positions []int64
	}
	for i, m := range messages {
		var err error
		if objects[i], err = metadataJSON(m.Metadata); err != nil {
			return err
		}
		ids[i], senders[i], recipients[i], texts[i], rows[i] = m.ID.String(), string(m.Sender), string(m.Recipient), m.Text, int64(m.BatchRow)
		for position, url := range m.MediaURLs {
			media.ids, media.urls, media.positions = append(media.ids, ids[i]), append(media.urls, url), append(media.positions, int64(position+1))
		}
	}
	first := messages[0]
	_, err := tx.ExecContext(ctx, insertMany,
		pq.Array(ids), pq.Array(senders), pq.Array(recipients), pq.Array(texts), pq.Array(objects), pq.Array(rows),
		o.Owner, first.ValidFor.Seconds(), first.SendAt, first.Priority, nullID(o.KeyID), o.ID,
		pq.Array(media.ids), pq.Array(media.positions), pq.Array(media.urls))
	return wrapError(err, "storing messages of a batch")
}

func storeBatchErrors(ctx context.Context, tx *sqlx.Tx, batch uuid.UUID, faults []mms.RowError) error {
	if len(faults) == 0 {
		return nil
	}
	n := len(faults)
	rows, fields, rules, messages := make([]int64, n), make([]string, n), make([]string, n), make([]string, n)
	for i, f := range faults {
		rows[i], fields[i], rules[i], messages[i] = int64(f.Row), f.Name, f.Rule, f.Message
	}
	_, err := tx.ExecContext(ctx, insertBatchErrors, batch, pq.Array(rows), pq.Array(fields), pq.Array(rules), pq.Array(messages))
	return wrapError(err, "storing the faults of a batch")
}

const selectBatchKey = `
SELECT fingerprint, batch_id FROM idempotency_keys
WHERE user_id = $1 AND key = $2 AND created_at > now() - interval '24 hours'`

// replayBatch returns the batch that was made under the order's idempotency key,
// as it was then.
func (s *Store) replayBatch(ctx context.Context, o mms.BatchRequest) (mms.BatchResult, error) {
	var key struct {
		Fingerprint []byte        `db:"fingerprint"`
		BatchID     uuid.NullUUID `db:"batch_id"`
	}
	err := s.db.GetContext(ctx, &key, selectBatchKey, o.Owner, o.Idempotency.Key)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return mms.BatchResult{}, mms.ErrInFlight
	case err != nil:
		return mms.BatchResult{}, wrapError(err, "looking up a batch's idempotency key")
	case !key.BatchID.Valid || [32]byte(key.Fingerprint) != o.Idempotency.Fingerprint:
		return mms.BatchResult{}, mms.ErrKeyReused
	}
	batch, err := readBatch(ctx, s.db, o.Owner, key.BatchID.UUID)
	if err != nil {
		return mms.BatchResult{}, err
	}
	faults, _, err := s.BatchErrors(ctx, o.Owner, batch.ID, 0, mms.MaxPage)
	return mms.BatchResult{Batch: batch, Errors: faults, Replayed: true}, err
}
