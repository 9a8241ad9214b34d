package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"postcard/internal/mms"
)

const selectTurn = `SELECT pg_try_advisory_xact_lock(hashtextextended($1::uuid || ' ' || $2::text, 0))`

const insertBatchKey = `
INSERT INTO idempotency_keys AS k (user_id, key, fingerprint, batch_id) VALUES ($1, $2, $3, $4)
ON CONFLICT (user_id, key) DO UPDATE SET fingerprint = EXCLUDED.fingerprint, message_id = NULL, batch_id = EXCLUDED.batch_id, created_at = now()
    WHERE k.created_at <= now() - interval '24 hours'
RETURNING batch_id`

const insertBatch = `INSERT INTO batches (id, user_id, api_key_id, name) VALUES ($1, $2, $3, $4)`

const finishBatch = `UPDATE batches SET accepted = $2, rejected = $3 WHERE id = $1`

const insertFaults = `
INSERT INTO batch_faults (batch_id, number, row, field, rule, message)
SELECT $1, u.number, u.row, u.field, u.rule, u.message
FROM unnest($2::int[], $3::text[], $4::text[], $5::text[]) WITH ORDINALITY AS u (row, field, rule, message, number)`

var countBatch = fmt.Sprintf(countDaily, "$1::int", "$2", "true")

// AcceptBatch stores a batch with all that fill inserts, or nothing at all. It
// returns mms.RowFaults where rows are not right and the order does not accept
// the good ones alone, or there are none, and errors as Accept does.
func (s *Store) AcceptBatch(ctx context.Context, o mms.BatchOrder, fill mms.Fill) (mms.TakenBatch, error) {
	batch, faults, err := s.acceptBatch(ctx, o, fill)
	if errors.Is(err, errKeyTaken) {
		return s.batchBefore(ctx, o)
	}
	if err != nil {
		return mms.TakenBatch{}, err
	}
	taken := mms.TakenBatch{Batch: batch, Faults: faults.Told()}
	return taken, nil
}

// errKeyTaken says that an idempotency key is in use, now or since before.
var errKeyTaken = errors.New("the idempotency key is taken")

func (s *Store) acceptBatch(ctx context.Context, o mms.BatchOrder, fill mms.Fill) (mms.Batch, mms.RowFaults, error) {
	const doing = "accepting a batch"
	var faults mms.RowFaults
	tx, err := s.db.BeginTxx(ctx, nil)
	if err != nil {
		return mms.Batch{}, faults, translate(err, doing)
	}
	defer tx.Rollback() //nolint:errcheck // after a commit there is nothing to take back
	if _, err := tx.ExecContext(ctx, insertBatch, o.ID, o.Owner, nullID(o.KeyID), o.Name); err != nil {
		return mms.Batch{}, faults, translate(err, doing)
	}
	if err := takeBatchKey(ctx, tx, o); err != nil {
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
	case faults.Rejected > 0 && (!o.AcceptGood || accepted == 0):
		return mms.Batch{}, faults, faults
	}
	if err := s.checkCaps(ctx, tx, o.Caps, accepted); err != nil {
		return mms.Batch{}, faults, err
	}
	holders, _ := capArrays(o.Caps)
	if _, err := tx.ExecContext(ctx, countBatch, accepted, holders); err != nil {
		return mms.Batch{}, faults, translate(err, doing)
	}
	if err := storeFaults(ctx, tx, o.ID, faults.Faults); err != nil {
		return mms.Batch{}, faults, err
	}
	if _, err := tx.ExecContext(ctx, finishBatch, o.ID, accepted, faults.Rejected); err != nil {
		return mms.Batch{}, faults, translate(err, doing)
	}
	batch, err := readBatch(ctx, tx, o.Owner, o.ID)
	if err != nil {
		return mms.Batch{}, faults, err
	}
	if err := tx.Commit(); err != nil {
		return mms.Batch{}, faults, translate(err, doing)
	}
	if one != uuid.Nil {
		s.changed(one)
	}
	return batch, faults, nil
}

func takeBatchKey(ctx context.Context, tx *sqlx.Tx, o mms.BatchOrder) error {
	const doing = "taking a batch's idempotency key"
	if o.Idempotency.Key == "" {
		return nil
	}
	var mine bool
	if err := tx.GetContext(ctx, &mine, selectTurn, o.Owner, o.Idempotency.Key); err != nil {
		return translate(err, doing)
	}
	if !mine {
		return errKeyTaken
	}
	var id uuid.UUID
	err := tx.GetContext(ctx, &id, insertBatchKey, o.Owner, o.Idempotency.Key, o.Idempotency.Fingerprint[:], o.ID)
	if errors.Is(err, sql.ErrNoRows) {
		return errKeyTaken
	}
	return translate(err, doing)
}

// insertMany stores messages of a batch: in line from the start, and with no
// task until they are let out. Parameters: $1 ids, $2 senders, $3 recipients,
// $4 texts, $5 metadata, $6 rows, $7 user, $8 valid for seconds, $9 send at,
// $10 priority, $11 API key, $12 batch; of the media $13 messages, $14 positions, $15 URLs.
const insertMany = `
WITH gate AS (
    INSERT INTO gates (name, seconds, next_at) SELECT DISTINCT sender, 4, now() FROM unnest($2::text[]) AS sender ORDER BY sender ON CONFLICT DO NOTHING
), m AS (
    INSERT INTO messages (id, user_id, sender, recipient, text, metadata, batch_row, status, next_attempt_at, relay_at, line,
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
INSERT INTO message_events (message_id, kind, status) SELECT id, 'accepted', status FROM m`

func insertMessages(ctx context.Context, tx *sqlx.Tx, o mms.BatchOrder, messages []mms.Message) error {
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
	return translate(err, "storing messages of a batch")
}

func storeFaults(ctx context.Context, tx *sqlx.Tx, batch uuid.UUID, faults []mms.RowFault) error {
	if len(faults) == 0 {
		return nil
	}
	n := len(faults)
	rows, fields, rules, messages := make([]int64, n), make([]string, n), make([]string, n), make([]string, n)
	for i, f := range faults {
		rows[i], fields[i], rules[i], messages[i] = int64(f.Row), f.Name, f.Rule, f.Message
	}
	_, err := tx.ExecContext(ctx, insertFaults, batch, pq.Array(rows), pq.Array(fields), pq.Array(rules), pq.Array(messages))
	return translate(err, "storing the faults of a batch")
}

const selectBatchKey = `
SELECT fingerprint, batch_id FROM idempotency_keys
WHERE user_id = $1 AND key = $2 AND created_at > now() - interval '24 hours'`

// batchBefore returns the batch that was made under the order's idempotency key,
// as it was then.
func (s *Store) batchBefore(ctx context.Context, o mms.BatchOrder) (mms.TakenBatch, error) {
	var key struct {
		Fingerprint []byte        `db:"fingerprint"`
		BatchID     uuid.NullUUID `db:"batch_id"`
	}
	err := s.db.GetContext(ctx, &key, selectBatchKey, o.Owner, o.Idempotency.Key)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return mms.TakenBatch{}, mms.ErrInFlight
	case err != nil:
		return mms.TakenBatch{}, translate(err, "looking up a batch's idempotency key")
	case !key.BatchID.Valid || [32]byte(key.Fingerprint) != o.Idempotency.Fingerprint:
		return mms.TakenBatch{}, mms.ErrKeyReused
	}
	batch, err := readBatch(ctx, s.db, o.Owner, key.BatchID.UUID)
	if err != nil {
		return mms.TakenBatch{}, err
	}
	faults, _, err := s.BatchFaults(ctx, o.Owner, batch.ID, 0, mms.MaxPage)
	return mms.TakenBatch{Batch: batch, Faults: faults, Replayed: true}, err
}

const batchColumns = `b.id, b.user_id, b.api_key_id, b.name, b.state, b.accepted, b.rejected, b.created_at,
    coalesce((SELECT true FROM messages m WHERE m.batch_id = b.id AND m.status IN ('scheduled', 'queued', 'sending', 'in_doubt') LIMIT 1), false) AS left,
    coalesce((SELECT cause FROM pauses ORDER BY since LIMIT 1), '') AS paused`

type batchRow struct {
	ID        uuid.UUID     `db:"id"`
	UserID    uuid.UUID     `db:"user_id"`
	KeyID     uuid.NullUUID `db:"api_key_id"`
	Name      string        `db:"name"`
	State     string        `db:"state"`
	Accepted  int           `db:"accepted"`
	Rejected  int           `db:"rejected"`
	CreatedAt time.Time     `db:"created_at"`
	Left      bool          `db:"left"`
	Paused    string        `db:"paused"`
}

func (r batchRow) batch() mms.Batch {
	return mms.Batch{
		ID: r.ID, Owner: r.UserID, KeyID: r.KeyID.UUID, Name: r.Name, State: mms.BatchState(r.State),
		Accepted: r.Accepted, Rejected: r.Rejected, CreatedAt: r.CreatedAt,
		Left: r.Left, Paused: mms.Reason(r.Paused),
	}
}

const selectBatch = `SELECT ` + batchColumns + ` FROM batches b WHERE id = $1 AND user_id = $2`

func readBatch(ctx context.Context, db getter, owner, id uuid.UUID) (mms.Batch, error) {
	var row batchRow
	err := db.GetContext(ctx, &row, selectBatch, id, owner)
	if errors.Is(err, sql.ErrNoRows) {
		return mms.Batch{}, mms.ErrNoBatch
	}
	return row.batch(), translate(err, "reading a batch")
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
		return batch, translate(err, "counting a batch's messages")
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
		return nil, false, translate(err, "listing batches")
	}
	batches := make([]mms.Batch, min(len(rows), limit))
	for i := range batches {
		batches[i] = rows[i].batch()
	}
	return batches, len(rows) > limit, nil
}

const selectFaults = `
SELECT f.row, f.field, f.rule, f.message FROM batch_faults f JOIN batches b ON b.id = f.batch_id
WHERE b.id = $1 AND b.user_id = $2 AND f.number > $3 ORDER BY f.number LIMIT $4`

// BatchFaults returns faults of the rows of the owner's batch that were not
// taken on, from the one after number after on, and whether there are more.
func (s *Store) BatchFaults(ctx context.Context, owner, id uuid.UUID, after, limit int) ([]mms.RowFault, bool, error) {
	var rows []struct {
		Row     int    `db:"row"`
		Field   string `db:"field"`
		Rule    string `db:"rule"`
		Message string `db:"message"`
	}
	if err := s.db.SelectContext(ctx, &rows, selectFaults, id, owner, after, limit+1); err != nil {
		return nil, false, translate(err, "listing the faults of a batch")
	}
	faults := make([]mms.RowFault, min(len(rows), limit))
	for i := range faults {
		faults[i].Row, faults[i].Name, faults[i].Rule, faults[i].Message = rows[i].Row, rows[i].Field, rows[i].Rule, rows[i].Message
	}
	return faults, len(rows) > limit, nil
}

const setBatchState = `
UPDATE batches SET state = $3, unsettled = true WHERE id = $1 AND user_id = $2 AND state <> $3 AND state <> 'canceled' RETURNING id`

// SetBatchState pauses, resumes or cancels the owner's batch, which holds for
// every message of it that has not been claimed yet. That it is in that state
// already is fine; a canceled one stays so: mms.ErrBatchOver.
func (s *Store) SetBatchState(ctx context.Context, owner, id uuid.UUID, state mms.BatchState) error {
	var changed uuid.UUID
	err := s.db.GetContext(ctx, &changed, setBatchState, id, owner, string(state))
	if !errors.Is(err, sql.ErrNoRows) {
		return translate(err, "setting the state of a batch")
	}
	batch, err := readBatch(ctx, s.db, owner, id)
	if err == nil && batch.State != state {
		return mms.ErrBatchOver
	}
	return err
}

// takeUnsettled takes any: one whose messages are locked does not hold up the others.
const takeUnsettled = `SELECT id, state FROM batches WHERE unsettled ORDER BY random() LIMIT 1 FOR UPDATE SKIP LOCKED`

// unsettledOf are the messages of a batch that do not follow its state yet.
var unsettledOf = map[mms.BatchState]string{
	mms.BatchCanceled: `batch_id = $1 AND status IN ('scheduled', 'queued')`,
	mms.BatchPaused:   `batch_id = $1 AND status = 'queued' AND line = 'waiting'`,
	mms.BatchRunning:  `batch_id = $1 AND status = 'queued' AND line = 'set_aside'`,
}

// settle has up to $2 messages of a batch follow its state.
func settle(state mms.BatchState) string {
	picked := `SELECT id FROM messages WHERE ` + unsettledOf[state] + ` LIMIT $2 FOR UPDATE SKIP LOCKED`
	switch state {
	case mms.BatchCanceled:
		return `
WITH picked AS (
    ` + picked + `
), m AS (
    UPDATE messages SET status = 'canceled', reason = '', next_attempt_at = NULL, relay_at = NULL, line = NULL,
        version = version + 1, updated_at = now(), final_at = now()
    FROM picked WHERE messages.id = picked.id RETURNING messages.id, messages.status
), event AS (
    INSERT INTO message_events (message_id, kind, status, detail) SELECT id, 'canceled', status, 'batch' FROM m
)
SELECT id FROM m`
	case mms.BatchPaused:
		return `UPDATE messages SET line = 'set_aside' WHERE id IN (` + picked + `) RETURNING id`
	default:
		return `UPDATE messages SET line = 'waiting' WHERE id IN (` + picked + `) RETURNING id`
	}
}

// settled leaves a batch unsettled of which somebody has locked a message.
func settled(state mms.BatchState) string {
	return `UPDATE batches SET unsettled = false WHERE id = $1 AND NOT EXISTS (SELECT FROM messages WHERE ` + unsettledOf[state] + `)`
}

// SettleBatch has up to limit messages of one batch follow its state. It reports
// false when nothing more can be done at present.
func (s *Store) SettleBatch(ctx context.Context, limit int) (bool, error) {
	const doing = "settling a batch"
	tx, err := s.db.BeginTxx(ctx, nil)
	if err != nil {
		return false, translate(err, doing)
	}
	defer tx.Rollback() //nolint:errcheck // after a commit there is nothing to take back
	var batch struct {
		ID    uuid.UUID      `db:"id"`
		State mms.BatchState `db:"state"`
	}
	err = tx.GetContext(ctx, &batch, takeUnsettled)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, translate(err, doing)
	}
	var ids []uuid.UUID
	if err := tx.SelectContext(ctx, &ids, settle(batch.State), batch.ID, limit); err != nil {
		return false, translate(err, doing)
	}
	over := false
	if len(ids) == 0 {
		result, err := tx.ExecContext(ctx, settled(batch.State), batch.ID)
		if err != nil {
			return false, translate(err, doing)
		}
		n, err := result.RowsAffected()
		if err != nil {
			return false, translate(err, doing)
		}
		over = n == 1
	}
	if err := tx.Commit(); err != nil {
		return false, translate(err, doing)
	}
	s.changed(ids...)
	return over || len(ids) > 0, nil
}

// setAside keeps a message whose batch is not running from being sent, for as
// long as that lasts. It holds on to the batch's row, so that a batch which goes
// on at that moment finds the message set aside, or this finds the batch going on.
const setAside = `
WITH b AS (
    SELECT b.id, b.state = 'canceled' AS over FROM batches b
    WHERE b.id = (SELECT batch_id FROM messages WHERE id = $1) AND b.state <> 'running' FOR SHARE
), m AS (
    UPDATE messages SET status = CASE WHEN over THEN 'canceled' ELSE status END,
        reason = CASE WHEN over THEN '' ELSE reason END,
        next_attempt_at = CASE WHEN NOT over THEN next_attempt_at END,
        relay_at = CASE WHEN NOT over THEN 'infinity'::timestamptz END,
        line = CASE WHEN NOT over THEN 'set_aside' END,
        final_at = CASE WHEN over THEN now() END,
        version = version + over::int, updated_at = now()
    FROM b WHERE messages.id = $1 AND messages.status = 'queued'
    RETURNING messages.id, messages.status, over
), event AS (
    INSERT INTO message_events (message_id, kind, status, detail) SELECT id, 'canceled', status, 'batch' FROM m WHERE over
)
SELECT id FROM m`

// SetAside sets a message aside whose batch is paused, and cancels one whose
// batch is canceled. It reports false when its batch is running.
func (s *Store) SetAside(ctx context.Context, id uuid.UUID) (bool, error) {
	changed, err := s.change(ctx, "setting a message aside", setAside, id)
	return changed == 1, err
}
