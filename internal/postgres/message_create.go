package postgres

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/postcard-mms/postcard/internal/mms"
)

// taskCheckGrace is how long a message may be due before the relay looks whether
// it still has its task. An idle worker needs milliseconds.
const taskCheckGrace = "interval '10 seconds'"

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

// insertSearch indexes the text and metadata of the messages in the CTE created.
const insertSearch = `
    INSERT INTO message_search (message_id, words, metadata)
    SELECT id, to_tsvector('simple', text), metadata FROM created WHERE text <> '' OR metadata <> '{}'`

// createMessage stores a message unless a cap is reached, or its idempotency key
// has been used or is being used at this moment. Parameters: $1 id, $2 user,
// $3 sender, $4 recipient, $5 text, $6 media, $7 valid for seconds, $8 send at,
// $9 priority, $10 metadata, $11 API key, $12 again of, $13 idempotency key,
// $14 fingerprint, $15 holders of caps, $16 caps.
var createMessage = `
WITH turn AS MATERIALIZED (
    SELECT $13 = '' OR pg_try_advisory_xact_lock(hashtextextended($2::uuid || ' ' || $13::text, 0)) AS mine
), room AS MATERIALIZED (
    SELECT NOT EXISTS (SELECT FROM unnest($15::uuid[], $16::int[]) AS c (holder, cap) WHERE ` + sentToday + ` >= c.cap) AS left
), key AS (
    INSERT INTO idempotency_keys AS k (user_id, key, fingerprint, message_id)
    SELECT $2::uuid, $13::text, $14::bytea, $1::uuid FROM turn, room WHERE turn.mine AND room.left AND $13 <> ''
    ON CONFLICT (user_id, key) DO UPDATE SET fingerprint = EXCLUDED.fingerprint, message_id = EXCLUDED.message_id, batch_id = NULL, created_at = now()
        WHERE k.created_at <= now() - interval '24 hours'
    RETURNING key
), created AS (
    INSERT INTO messages (id, user_id, sender, recipient, text, status, next_attempt_at, task_check_at, expires_at, send_at, priority, metadata, api_key_id, resend_of)
    SELECT $1::uuid, $2::uuid, $3::text, $4::text, $5::text, CASE WHEN $8::timestamptz IS NULL THEN 'queued' ELSE 'scheduled' END,
        CASE WHEN $8::timestamptz IS NULL THEN now() END, CASE WHEN $8::timestamptz IS NULL THEN now() + ` + taskCheckGrace + ` END,
        coalesce($8, now()) + $7::float8 * interval '1 second', $8, $9::smallint, $10::jsonb, $11::uuid, $12::uuid
    FROM turn, room WHERE room.left AND ($13 = '' OR EXISTS (SELECT FROM key))
    ON CONFLICT (id) DO NOTHING
    RETURNING *
), media AS (
    INSERT INTO message_media (message_id, position, url)
    SELECT created.id, u.position, u.url FROM created, unnest($6::text[]) WITH ORDINALITY AS u (url, position)
), event AS (
    INSERT INTO message_events (message_id, kind, status) SELECT id, 'created', status FROM created
), search AS (` + insertSearch + `
), counted AS (` + fmt.Sprintf(countDaily, "1", "$15", "EXISTS (SELECT FROM created)") + `
), older AS (
    UPDATE messages SET version = messages.version + 1, updated_at = now() FROM created
    WHERE messages.id = created.resend_of RETURNING messages.id, messages.status
), older_event AS (
    INSERT INTO message_events (message_id, kind, status, detail) SELECT id, 'resent', status, $1::uuid::text FROM older
)
SELECT ` + messageColumns + `, $6::text[] AS media FROM created m`

// CreateMessage stores a message. When it returns without an error the message is on
// disk. It may be called again for the same message: the answer of the first
// call may have been lost, and database/sql itself repeats a statement whose
// connection broke. It returns mms.CapError, mms.ErrKeyReused or
// mms.ErrInFlight where that keeps the message from being stored.
//
// Messages that come at the same time are stored together; one that was not
// stored that way is tried alone, which tells why.
func (s *Store) CreateMessage(ctx context.Context, o mms.CreateRequest) (mms.CreateResult, error) {
	if groupable(o) {
		if taken, ok, err := s.createInGroup(ctx, o); ok {
			return taken, err
		}
	}
	return s.createOne(ctx, o)
}

func (s *Store) createOne(ctx context.Context, o mms.CreateRequest) (mms.CreateResult, error) {
	const doing = "accepting a message"
	m := o.Message
	holders, caps := capColumns(o.Caps)
	metadata, err := metadataJSON(m.Metadata)
	if err != nil {
		return mms.CreateResult{}, err
	}
	var row messageRow
	err = s.db.GetContext(ctx, &row, createMessage,
		m.ID, m.Owner, string(m.Sender), string(m.Recipient), m.Text, pq.Array(m.MediaURLs), m.ValidFor.Seconds(),
		m.SendAt, m.Priority, metadata, nullID(m.KeyID), nullID(m.ResendOf), o.Idempotency.Key, o.Idempotency.Fingerprint[:], holders, caps)
	if errors.Is(err, sql.ErrNoRows) {
		return s.explainNotCreated(ctx, o)
	}
	if err != nil {
		return mms.CreateResult{}, wrapError(err, doing)
	}
	s.noteChanged(row.ID)
	if m.ResendOf != uuid.Nil {
		s.noteChanged(m.ResendOf)
	}
	return mms.CreateResult{Message: row.message()}, nil
}

// explainNotCreated finds out why nothing was stored: it had been before, under the
// same idempotency key or by a call whose answer was lost, or it must not be.
func (s *Store) explainNotCreated(ctx context.Context, o mms.CreateRequest) (mms.CreateResult, error) {
	const doing = "looking for a message that was accepted before"
	id := o.ID
	earlier, found, err := s.createdUnder(ctx, o.Owner, o.Idempotency)
	switch {
	case err != nil:
		return mms.CreateResult{}, err
	case found && !earlier.MessageID.Valid:
		return mms.CreateResult{}, mms.ErrKeyReused
	case found:
		id = earlier.MessageID.UUID
	}
	var row messageRow
	err = s.db.GetContext(ctx, &row, selectMessage, id, o.Owner)
	switch {
	case err == nil:
		return mms.CreateResult{Message: row.message().AsCreated(), Replayed: id != o.ID}, nil
	case !errors.Is(err, sql.ErrNoRows):
		return mms.CreateResult{}, wrapError(err, doing)
	}
	if err := s.checkCaps(ctx, s.db, o.Caps, 1); err != nil {
		return mms.CreateResult{}, err
	}
	if o.Idempotency.Key != "" {
		return mms.CreateResult{}, mms.ErrInFlight
	}
	return mms.CreateResult{}, fmt.Errorf("%s: there is none", doing)
}

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

// mediaColumns are rows of message_media.
type mediaColumns struct {
	messages, urls []string
	positions      []int64
}

func (c *mediaColumns) add(m mms.Message) {
	for i, url := range m.MediaURLs {
		c.messages, c.positions, c.urls = append(c.messages, m.ID.String()), append(c.positions, int64(i+1)), append(c.urls, url)
	}
}

func metadataJSON(metadata map[string]string) (string, error) {
	if metadata == nil {
		return "{}", nil
	}
	text, err := json.Marshal(metadata)
	if err != nil {
		return "", fmt.Errorf("writing metadata: %w", err)
	}
	return string(text), nil
}

func nullID(id uuid.UUID) uuid.NullUUID { return uuid.NullUUID{UUID: id, Valid: id != uuid.Nil} }

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

const cancelMessage = `
WITH m AS (
    UPDATE messages SET status = 'canceled', reason = '', next_attempt_at = NULL, task_check_at = NULL, backlog_state = NULL,
        version = version + 1, updated_at = now(), final_at = now()
    WHERE id = $1 AND user_id = $2 AND status IN ('scheduled', 'queued')
    RETURNING id, status
), event AS (
    INSERT INTO message_events (message_id, kind, status) SELECT id, 'canceled', status FROM m
)
SELECT id FROM m`

// Cancel takes the owner's message back before it is handed to Plivo. That it is
// canceled already is fine; otherwise it returns mms.ErrTooLate.
func (s *Store) Cancel(ctx context.Context, owner, id uuid.UUID) error {
	changed, err := s.exec(ctx, "canceling a message", cancelMessage, id, owner)
	if err != nil || changed == 1 {
		return err
	}
	var row messageRow
	err = s.db.GetContext(ctx, &row, selectMessage, id, owner)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return mms.ErrNotFound
	case err != nil:
		return wrapError(err, "looking why a message cannot be canceled")
	case row.Status != string(mms.Canceled):
		return mms.ErrTooLate
	}
	return nil
}

const queueScheduled = `
WITH due AS (
    SELECT id FROM messages WHERE status = 'scheduled' AND send_at <= now() ORDER BY send_at LIMIT $1 FOR UPDATE SKIP LOCKED
), m AS (
    UPDATE messages SET status = 'queued', next_attempt_at = now(), version = version + 1, updated_at = now(),
        task_check_at = CASE WHEN batch_id IS NULL THEN now() + ` + taskCheckGrace + ` ELSE 'infinity' END,
        backlog_state = CASE WHEN batch_id IS NOT NULL THEN 'waiting' END
    FROM due WHERE messages.id = due.id
    RETURNING messages.id, messages.status, messages.task_generation, messages.priority, messages.backlog_state
), event AS (
    INSERT INTO message_events (message_id, kind, status) SELECT id, 'due', status FROM m
)
SELECT id, task_generation, priority, backlog_state IS NOT NULL AS in_backlog FROM m`

// QueueScheduled queues up to limit scheduled messages whose time has come. It returns
// how many, and the tasks to be enqueued: those of batches stand in line.
func (s *Store) QueueScheduled(ctx context.Context, limit int) (int, []mms.Task, error) {
	var rows []struct {
		taskRow
		InLine bool `db:"in_backlog"`
	}
	if err := s.db.SelectContext(ctx, &rows, queueScheduled, limit); err != nil {
		return 0, nil, wrapError(err, "queueing messages whose time has come")
	}
	var tasks []mms.Task
	for _, row := range rows {
		s.noteChanged(row.ID)
		if !row.InLine {
			tasks = append(tasks, row.task())
		}
	}
	return len(rows), tasks, nil
}

// forecast tells what a message between two numbers would meet. $1 sender,
// $2 recipient, $3 priority, $4 user, $5 how many messages are counted at most.
const forecast = `
SELECT coalesce(g.interval_seconds, 0) AS interval_seconds, now() AS now,
    greatest(0, coalesce(extract(epoch FROM g.next_arrival_at - now()), 0)) AS rate_limit,
    (SELECT count(*) FROM (
        SELECT FROM messages w WHERE w.sender = $1 AND w.backlog_state = 'waiting' AND w.priority <= $3 LIMIT $5) before) AS ahead,
    EXISTS (SELECT FROM suppressions WHERE sender = $1 AND recipient = $2) AS suppressed,
    ` + pauseCause + ` AS paused,
    coalesce((SELECT round(avg(r.cost), 6)::text FROM (
        SELECT cost FROM messages WHERE user_id = $4 AND sender = $1 ORDER BY id DESC LIMIT 200) r WHERE r.cost > 0), '') AS cost
FROM (SELECT) one LEFT JOIN rate_limits g ON g.name = $1`

// Forecast says what would become of a message that is not stored.
func (s *Store) Forecast(ctx context.Context, m mms.Message) (mms.Forecast, error) {
	var row struct {
		Seconds    float64   `db:"interval_seconds"`
		Now        time.Time `db:"now"`
		Gate       float64   `db:"rate_limit"`
		Ahead      int       `db:"ahead"`
		Suppressed bool      `db:"suppressed"`
		Paused     string    `db:"paused"`
		Cost       string    `db:"cost"`
	}
	err := s.db.GetContext(ctx, &row, forecast, string(m.Sender), string(m.Recipient), m.Priority, m.Owner, mms.MaxCounted)
	if err != nil {
		return mms.Forecast{}, wrapError(err, "forecasting a message")
	}
	f := mms.Forecast{Message: m, Interval: seconds(row.Seconds), Ahead: row.Ahead, Suppressed: row.Suppressed, Paused: mms.Reason(row.Paused), Cost: row.Cost}
	if f.Cost == "" {
		f.Cost = mms.ListPrice
	}
	f.SendAt = row.Now.Add(seconds(row.Gate) + time.Duration(row.Ahead)*f.Interval)
	if m.SendAt != nil && m.SendAt.After(f.SendAt) {
		f.SendAt = *m.SendAt
	}
	return f, nil
}
