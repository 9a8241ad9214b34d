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

	"github.com/postcard-mms/postcard/internal/groupcommit"
	"github.com/postcard-mms/postcard/internal/mms"
)

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

// creation is an order and what became of it.
type creation struct {
	request mms.CreateRequest
	result  mms.CreateResult
	err     error
}

// groupable reports whether the order is of the simple kind that groups are made
// of: sent at once, and not in place of another.
func groupable(o mms.CreateRequest) bool { return o.SendAt == nil && o.ResendOf == uuid.Nil }

// createInGroup stores a message together with others, unless one of them is under
// the same idempotency key: that one is to find what the other has stored.
func (s *Store) createInGroup(ctx context.Context, o mms.CreateRequest) (mms.CreateResult, bool, error) {
	key := o.Idempotency.Key
	if key != "" {
		key = o.Owner.String() + key
	}
	a, ok := s.creating.Do(ctx, creation{request: o}, key, s.storeGroup)
	return a.result, ok, a.err
}

// createMessages is acceptMessage for many. What it does not return is not stored.
// Parameters, one element for each message: $1 id, $2 user, $3 sender,
// $4 recipient, $5 text, $6 valid for seconds, $7 priority, $8 metadata, $9 API
// key, $10 idempotency key, $11 fingerprint. Of caps: $12 the message's number,
// $13 holder, $14 cap, $15 how many of the group count for it up to this one. Of
// pictures: $16 message, $17 position, $18 URL.
var createMessages = `
WITH i AS MATERIALIZED (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::float8[], $7::smallint[], $8::jsonb[], $9::uuid[], $10::text[], $11::bytea[])
        WITH ORDINALITY AS u (id, user_id, sender, recipient, text, valid_for, priority, metadata, api_key_id, key, fingerprint, n)
), caps AS MATERIALIZED (
    SELECT c.*, c.cap - ` + sentToday + ` AS room FROM unnest($12::int[], $13::uuid[], $14::int[], $15::int[]) AS c (n, holder, cap, rank)
), fit AS MATERIALIZED (
    SELECT i.* FROM i
    WHERE NOT EXISTS (SELECT FROM caps c WHERE c.n = i.n AND c.rank > c.room)
      AND (i.key = '' OR pg_try_advisory_xact_lock(hashtextextended(i.user_id || ' ' || i.key, 0)))
), keys AS (
    INSERT INTO idempotency_keys AS k (user_id, key, fingerprint, message_id)
    SELECT user_id, key, fingerprint, id FROM fit WHERE key <> ''
    ON CONFLICT (user_id, key) DO UPDATE SET fingerprint = EXCLUDED.fingerprint, message_id = EXCLUDED.message_id, batch_id = NULL, created_at = now()
        WHERE k.created_at <= now() - interval '24 hours'
    RETURNING message_id
), created AS (
    INSERT INTO messages (id, user_id, sender, recipient, text, status, next_attempt_at, task_check_at, expires_at, priority, metadata, api_key_id)
    SELECT id, user_id, sender, recipient, text, 'queued', now(), now() + ` + taskCheckGrace + `, now() + valid_for * interval '1 second', priority, metadata, api_key_id
    FROM fit WHERE key = '' OR id IN (SELECT message_id FROM keys)
    ON CONFLICT (id) DO NOTHING
    RETURNING id, created_at, expires_at, text, metadata
), search AS (` + insertSearch + `
), media AS (
    INSERT INTO message_media (message_id, position, url)
    SELECT u.id, u.position, u.url FROM unnest($16::uuid[], $17::smallint[], $18::text[]) AS u (id, position, url) JOIN created ON created.id = u.id
), event AS (
    INSERT INTO message_events (message_id, kind, status) SELECT id, 'created', 'queued' FROM created
), counted AS (
    INSERT INTO daily_counts AS d (holder, day, shard, messages)
    SELECT c.holder, ` + today + `, (random() * 15)::smallint, count(*) FROM created JOIN i ON i.id = created.id JOIN caps c ON c.n = i.n GROUP BY c.holder ORDER BY c.holder
    ON CONFLICT (holder, day, shard) DO UPDATE SET messages = d.messages + EXCLUDED.messages
)
SELECT id, created_at, expires_at FROM created`

// storeGroup stores what can be stored of a group.
func (s *Store) storeGroup(ctx context.Context, group []*groupcommit.Item[creation]) {
	if p := group[0]; len(group) == 1 {
		p.Value.result, p.Value.err = s.createOne(ctx, p.Value.request)
		p.OK = true
		return
	}
	args, err := groupArgs(group)
	if err != nil {
		return
	}
	var rows []struct {
		ID        uuid.UUID `db:"id"`
		CreatedAt time.Time `db:"created_at"`
		ExpiresAt time.Time `db:"expires_at"`
	}
	if err := s.db.SelectContext(ctx, &rows, createMessages, args...); err != nil {
		for _, p := range group {
			p.Value.err, p.OK = sharedError(err, "accepting messages")
		}
		return
	}
	byID := make(map[uuid.UUID]*groupcommit.Item[creation], len(group))
	for _, p := range group {
		byID[p.Value.request.ID] = p
	}
	for _, row := range rows {
		p := byID[row.ID]
		m := p.Value.request.Message
		m.CreatedAt, m.ExpiresAt = row.CreatedAt, row.ExpiresAt
		p.Value.result, p.OK = mms.CreateResult{Message: m.AsCreated()}, true
		s.noteChanged(row.ID)
	}
}

func groupArgs(group []*groupcommit.Item[creation]) ([]any, error) {
	n := len(group)
	ids, users, senders, recipients, texts := make([]string, n), make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	objects, keys, valid, priorities := make([]string, n), make([]string, n), make([]float64, n), make([]int64, n)
	apiKeys, fingerprints := make([]uuid.NullUUID, n), make([][]byte, n)
	var capOf, capSizes, ranks, positions []int64
	var holders, pictured, urls []string
	counts := map[uuid.UUID]int64{}
	for i, p := range group {
		o := p.Value.request
		var err error
		if objects[i], err = metadataJSON(o.Metadata); err != nil {
			return nil, err
		}
		ids[i], users[i], senders[i], recipients[i], texts[i] = o.ID.String(), o.Owner.String(), string(o.Sender), string(o.Recipient), o.Text
		valid[i], priorities[i], keys[i] = o.ValidFor.Seconds(), int64(o.Priority), o.Idempotency.Key
		apiKeys[i], fingerprints[i] = nullID(o.KeyID), o.Idempotency.Fingerprint[:]
		for _, c := range o.Caps {
			counts[c.Holder]++
			capOf, holders = append(capOf, int64(i+1)), append(holders, c.Holder.String())
			capSizes, ranks = append(capSizes, int64(c.Messages)), append(ranks, counts[c.Holder])
		}
		for position, url := range o.MediaURLs {
			pictured, positions, urls = append(pictured, ids[i]), append(positions, int64(position+1)), append(urls, url)
		}
	}
	return []any{
		pq.Array(ids), pq.Array(users), pq.Array(senders), pq.Array(recipients), pq.Array(texts), pq.Array(valid), pq.Array(priorities),
		pq.Array(objects), pq.Array(apiKeys), pq.Array(keys), pq.ByteaArray(fingerprints),
		pq.Array(capOf), pq.Array(holders), pq.Array(capSizes), pq.Array(ranks), pq.Array(pictured), pq.Array(positions), pq.Array(urls),
	}, nil
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

// sharedError wraps the error of a batch's statement. It reports true when every item
// of the batch would meet the same error by itself, because the database is
// unavailable; otherwise the items have to be retried one by one.
func sharedError(err error, doing string) (error, bool) {
	return wrapError(err, doing), isUnavailable(err)
}
