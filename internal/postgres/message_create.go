package postgres

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
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

// createMessages creates messages, except those that exceed a daily cap or whose
// idempotency key is in use, and returns what it created. The advisory lock of a key
// tells a request that is in flight from one that is committed. A resend, which also
// changes the message it repeats, must be alone in its statement.
//
// Here and in the other statements for several messages, the first array is a scalar
// subquery, which hides the array's length from the planner. Knowing it, the planner
// may plan each execution anew instead of using a generic plan, and planning takes as
// long as recording a submitted message.
//
// Parameters, one element per message: $1 id, $2 workspace, $3 sender, $4 recipient,
// $5 text, $6 valid for in seconds, $7 send at, $8 priority, $9 metadata, $10 API key,
// $11 resend of, $12 idempotency key, $13 fingerprint. One element per cap: $14 the
// message's position, $15 holder, $16 cap, $17 how many messages of the statement
// count against it, up to and including this one. One element per medium:
// $18 message, $19 position, $20 URL, $23 upload, $24 its content, $25 fit, $26 whether the
// message has no other. Again per message: $21 whether it has candidates, $29 who creates it. As a whole: $22 the
// candidates, $27 the Plivo account, $28 whether media URLs are checked.
var createMessages = `
WITH input AS MATERIALIZED (
    SELECT * FROM unnest((SELECT $1::uuid[]), $2::uuid[], $3::text[], $4::text[], $5::text[], $6::float8[], $7::timestamptz[], $8::smallint[], $9::jsonb[], $10::uuid[], $11::uuid[], $12::text[], $13::bytea[], $21::boolean[], $29::uuid[])
        WITH ORDINALITY AS u (id, workspace_id, sender, recipient, text, valid_for, send_at, priority, metadata, api_key_id, resend_of, key, fingerprint, has_candidates, created_by, position)
), caps AS MATERIALIZED (
    SELECT c.*, c.cap - ` + createdToday + ` AS remaining FROM unnest($14::int[], $15::uuid[], $16::int[], $17::int[]) AS c (position, holder, cap, rank)
), allowed AS MATERIALIZED (
    SELECT input.* FROM input
    WHERE NOT EXISTS (SELECT FROM caps WHERE caps.position = input.position AND caps.rank > caps.remaining)
      AND (input.key = '' OR pg_try_advisory_xact_lock(hashtextextended(input.workspace_id || ' ' || input.key, 0)))
), keys AS (
    INSERT INTO idempotency_keys AS k (workspace_id, key, fingerprint, message_id)
    SELECT workspace_id, key, fingerprint, id FROM allowed WHERE key <> ''
    ON CONFLICT (workspace_id, key) DO UPDATE SET fingerprint = EXCLUDED.fingerprint, message_id = EXCLUDED.message_id, batch_id = NULL, created_at = now()
        WHERE k.created_at <= now() - interval '24 hours'
    RETURNING message_id
), attached AS MATERIALIZED (
    SELECT * FROM unnest((SELECT $18::uuid[]), $19::smallint[], $20::text[], $23::uuid[], $24::bytea[], $25::text[], $26::boolean[]) AS u (id, position, url, upload_id, content, fit, alone)
), unprepared AS MATERIALIZED (
    SELECT DISTINCT u.id FROM attached u WHERE ` + notReady("u", "u.alone", "$27", "$28") + `
), created AS (
    INSERT INTO messages (id, workspace_id, sender, recipient, text, status, next_attempt_at, task_check_at, backlog_state, prepare_at, expires_at, send_at, priority, metadata, api_key_id, created_by, resend_of)
    SELECT id, workspace_id, CASE WHEN has_candidates THEN coalesce(` + lastSender("allowed.recipient", "$22::text[]") + `, sender) ELSE sender END,
        recipient, text, CASE WHEN send_at IS NULL THEN 'queued' ELSE 'scheduled' END,
        CASE WHEN send_at IS NULL THEN now() END,
        CASE WHEN send_at IS NOT NULL THEN NULL WHEN ` + waits + ` THEN 'infinity' ELSE now() + ` + taskCheckGrace + ` END,
        CASE WHEN ` + waits + ` THEN 'preparing' END, CASE WHEN ` + waits + ` THEN now() END,
        coalesce(send_at, now()) + valid_for * interval '1 second', send_at, priority, metadata, api_key_id, created_by, resend_of
    FROM allowed WHERE key = '' OR id IN (SELECT message_id FROM keys)
    ON CONFLICT (id) DO NOTHING
    RETURNING id, sender, status, created_at, expires_at, send_at, text, metadata, resend_of, backlog_state
), search AS (` + insertSearch + `
), media AS (
    INSERT INTO message_media (message_id, position, url, upload_id, content, fit, preview)
    SELECT u.id, u.position, u.url, u.upload_id, u.content, u.fit, ` + knownPreview + ` FROM attached u JOIN created ON created.id = u.id
), event AS (
    INSERT INTO message_events (message_id, kind, status) SELECT id, 'created', status FROM created
), counted AS (
    INSERT INTO daily_counts AS d (holder, day, shard, messages)
    SELECT caps.holder, ` + today + `, (random() * 15)::smallint, count(*)
    FROM created JOIN input ON input.id = created.id JOIN caps ON caps.position = input.position GROUP BY caps.holder ORDER BY caps.holder
    ON CONFLICT (holder, day, shard) DO UPDATE SET messages = d.messages + EXCLUDED.messages
), resent AS (
    UPDATE messages SET version = messages.version + 1, updated_at = now() FROM created
    WHERE messages.id = created.resend_of RETURNING messages.id, messages.status, created.id AS new_id
), resent_event AS (
    INSERT INTO message_events (message_id, kind, status, detail) SELECT id, 'resent', status, new_id::text FROM resent
)
SELECT id, sender, created_at, expires_at, send_at, backlog_state IS NOT NULL AS preparing FROM created`

// waits is true in createMessages for a message whose media have to be prepared.
const waits = `(send_at IS NULL AND id IN (SELECT id FROM unprepared))`

// createCall is one call of CreateMessage.
type createCall struct {
	request mms.CreateRequest
	result  mms.CreateResult
	err     error

	mayBeStored bool // by an execution of the shared statement whose answer was lost
}

// CreateMessage stores a message. When it returns without an error, the message is on
// disk. It is idempotent by the message's id: intake repeats a call whose answer was
// lost, and database/sql repeats a statement whose connection broke. It returns
// mms.CapError, mms.ErrKeyReused or mms.ErrInFlight when the request must not create
// a message, and mms.OutcomeUnknownError when the message may be stored all the same.
// After any other error it is not stored.
//
// Concurrent calls share a statement. A message that the shared statement did not
// create is tried alone, which also finds out the reason. When ctx ends, the shared
// statement goes on for the other calls, so its outcome is unknown to this one.
func (s *Store) CreateMessage(ctx context.Context, request mms.CreateRequest) (mms.CreateResult, error) {
	if request.ResendOf == uuid.Nil {
		key := request.Idempotency.Key
		if key != "" {
			key = request.Workspace.String() + key
		}
		call, ok, running := s.creating.Do(ctx, createCall{request: request}, key, s.createTogether)
		if running {
			return mms.CreateResult{}, mms.OutcomeUnknownError{ID: request.ID, Err: fmt.Errorf("waiting for a shared statement: %w", ctx.Err())}
		}
		return s.afterShared(ctx, call, ok)
	}
	return s.createAlone(ctx, request)
}

// afterShared returns the result of a call that was in a shared statement, or tries it
// alone.
func (s *Store) afterShared(ctx context.Context, call createCall, ok bool) (mms.CreateResult, error) {
	if ok {
		return call.result, call.err
	}
	result, err := s.createAlone(ctx, call.request)
	if err != nil && call.mayBeStored {
		return mms.CreateResult{}, mms.OutcomeUnknownError{ID: call.request.ID, Err: err}
	}
	return result, err
}

func (s *Store) createTogether(ctx context.Context, batch []*groupcommit.Item[createCall]) {
	if len(batch) == 1 {
		call := &batch[0].Value
		call.result, call.err = s.createAlone(ctx, call.request)
		batch[0].OK = true
		return
	}
	requests := make([]mms.CreateRequest, len(batch))
	for i, item := range batch {
		requests[i] = item.Value.request
	}
	created, repeated, err := s.createMessages(ctx, requests)
	for _, item := range batch {
		if err != nil {
			item.Value.err = outcomeOf(item.Value.request.ID, err)
			item.OK = errors.Is(item.Value.err, mms.ErrUnavailable)
			continue
		}
		item.Value.result.Message, item.OK = created[item.Value.request.ID]
		item.Value.mayBeStored = repeated
	}
}

func (s *Store) createAlone(ctx context.Context, request mms.CreateRequest) (mms.CreateResult, error) {
	created, repeated, err := s.createMessages(ctx, []mms.CreateRequest{request})
	if err != nil {
		return mms.CreateResult{}, outcomeOf(request.ID, err)
	}
	if m, ok := created[request.ID]; ok {
		return mms.CreateResult{Message: m}, nil
	}
	result, err := s.explainNotCreated(ctx, request)
	if err != nil && repeated { // an execution whose answer was lost may have stored it
		return mms.CreateResult{}, mms.OutcomeUnknownError{ID: request.ID, Err: err}
	}
	return result, err
}

// createTimeout bounds one execution of createMessages. A request has time for two:
// a statement that waits for a lock is rolled back in time for a clear answer.
const createTimeout = 3 * time.Second

// createMessages runs the statement of that name and returns the created messages by
// id. Its error wraps errMayHaveCommitted when they may have been created. repeated
// reports that database/sql sent it more than once: an execution whose answer was lost may
// have created the others.
func (s *Store) createMessages(ctx context.Context, requests []mms.CreateRequest) (created map[uuid.UUID]mms.Message, repeated bool, err error) {
	args, err := s.createArgs(requests)
	if err != nil {
		return nil, false, err
	}
	var rows []struct {
		ID        uuid.UUID  `db:"id"`
		Sender    string     `db:"sender"`
		CreatedAt time.Time  `db:"created_at"`
		ExpiresAt time.Time  `db:"expires_at"`
		SendAt    *time.Time `db:"send_at"`
		Preparing bool       `db:"preparing"`
	}
	ctx, cancel := context.WithTimeout(ctx, createTimeout)
	defer cancel()
	var sends sends
	args[0] = sends.argument(args[0].(driver.Valuer))
	if err := s.db.SelectContext(ctx, &rows, createMessages, args...); err != nil {
		return nil, false, sends.outcome(wrapError(err, "creating messages"))
	}
	byID := make(map[uuid.UUID]mms.Message, len(requests))
	for _, request := range requests {
		byID[request.ID] = request.Message
	}
	created = make(map[uuid.UUID]mms.Message, len(rows))
	for _, row := range rows {
		m := byID[row.ID]
		m.Sender, m.CreatedAt, m.ExpiresAt, m.SendAt = mms.PhoneNumber(row.Sender), row.CreatedAt, row.ExpiresAt, row.SendAt
		if len(m.Metadata) == 0 {
			m.Metadata = nil // as it is read back
		}
		m = m.AsCreated()
		m.Fit, m.Preparing, m.Copies = cmp.Or(m.Fit, mms.FitAuto), row.Preparing, copiesOf(m)
		created[row.ID] = m
		s.noteChanged(row.ID)
		if m.ResendOf != uuid.Nil {
			s.noteChanged(m.ResendOf)
		}
	}
	return created, sends.n.Load() > 1, nil
}

func (s *Store) createArgs(requests []mms.CreateRequest) ([]any, error) {
	n := len(requests)
	ids, workspaces, senders, recipients, texts := make([]string, n), make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	validFor, sendAt, priorities, metadata := make([]float64, n), make([]sql.NullString, n), make([]int64, n), make([]string, n)
	apiKeys, creators, resendOf, keys, fingerprints := make([]uuid.NullUUID, n), make([]uuid.NullUUID, n), make([]uuid.NullUUID, n), make([]string, n), make([][]byte, n)
	var capPositions, caps, ranks []int64
	var holders []string
	hasCandidates, candidates := make([]bool, n), []string{}
	var media mediaColumns
	counts := map[uuid.UUID]int64{} // messages by holder of a cap
	for i, request := range requests {
		m := request.Message
		var err error
		if metadata[i], err = metadataJSON(m.Metadata); err != nil {
			return nil, err
		}
		ids[i], workspaces[i], senders[i], recipients[i], texts[i] = m.ID.String(), m.Workspace.String(), string(m.Sender), string(m.Recipient), m.Text
		validFor[i], priorities[i] = m.ValidFor.Seconds(), int64(m.Priority)
		apiKeys[i], creators[i], resendOf[i] = nullID(m.KeyID), nullID(m.CreatedBy), nullID(m.ResendOf)
		if m.SendAt != nil {
			sendAt[i] = sql.NullString{String: m.SendAt.Format(time.RFC3339Nano), Valid: true}
		}
		keys[i], fingerprints[i] = request.Idempotency.Key, request.Idempotency.Fingerprint[:]
		if len(request.Candidates) > 0 {
			hasCandidates[i], candidates = true, phoneNumbers(request.Candidates)
		}
		for _, c := range request.Caps {
			counts[c.Holder]++
			capPositions, holders = append(capPositions, int64(i+1)), append(holders, c.Holder.String())
			caps, ranks = append(caps, int64(c.Messages)), append(ranks, counts[c.Holder])
		}
		media.add(m)
	}
	return []any{
		pq.Array(ids), pq.Array(workspaces), pq.Array(senders), pq.Array(recipients), pq.Array(texts), pq.Array(validFor), pq.Array(sendAt), pq.Array(priorities),
		pq.Array(metadata), pq.Array(apiKeys), pq.Array(resendOf), pq.Array(keys), pq.ByteaArray(fingerprints),
		pq.Array(capPositions), pq.Array(holders), pq.Array(caps), pq.Array(ranks), pq.Array(media.messages), pq.Array(media.positions), pq.Array(media.urls),
		pq.Array(hasCandidates), pq.Array(candidates),
		pq.Array(media.uploads), pq.Array(media.contents), pq.Array(media.fits), pq.Array(media.alone), s.plivoAccount, s.checksMedia, pq.Array(creators),
	}, nil
}

// explainNotCreated returns the message if it has been created before, under the same
// idempotency key or by an earlier call for the same id, and otherwise the reason why
// it must not be created.
func (s *Store) explainNotCreated(ctx context.Context, request mms.CreateRequest) (mms.CreateResult, error) {
	id := request.ID
	earlier, found, err := s.createdUnder(ctx, request.Workspace, request.Idempotency)
	switch {
	case err != nil:
		return mms.CreateResult{}, err
	case found && !earlier.MessageID.Valid:
		return mms.CreateResult{}, mms.ErrKeyReused
	case found:
		id = earlier.MessageID.UUID
	}
	var row messageRow
	err = s.db.GetContext(ctx, &row, selectMessage, id, request.Workspace)
	switch {
	case err == nil:
		m := row.message().AsCreated()
		m.Copies = copiesOf(m)
		m.Preparing = row.Preparing && id == request.ID // which gets no task; a replay gets none anyway
		return mms.CreateResult{Message: m, Replayed: id != request.ID}, nil
	case !errors.Is(err, sql.ErrNoRows):
		return mms.CreateResult{}, wrapError(err, "reading a message that was created earlier")
	}
	if err := s.checkCaps(ctx, s.db, request.Caps, 1); err != nil {
		return mms.CreateResult{}, err
	}
	if request.Idempotency.Key != "" {
		return mms.CreateResult{}, mms.ErrInFlight
	}
	return mms.CreateResult{}, fmt.Errorf("creating message %s: no row was inserted", request.ID)
}

// copiesOf returns the Copies of a message that was just created: of its uploads.
func copiesOf(m mms.Message) []bool {
	if len(m.Uploads) == 0 {
		return nil
	}
	return append(make([]bool, len(m.MediaURLs)), slices.Repeat([]bool{true}, len(m.Uploads))...)
}

// phoneNumbers returns the numbers as strings, an empty slice for none.
func phoneNumbers(numbers []mms.PhoneNumber) []string {
	list := make([]string, len(numbers))
	for i, n := range numbers {
		list[i] = string(n)
	}
	return list
}

// mediaColumns are rows of message_media.
type mediaColumns struct {
	messages, fits []string
	urls           []sql.NullString
	uploads        []uuid.NullUUID
	contents       []sql.NullString // bytea in hexadecimal, since pq.ByteaArray has no NULL
	positions      []int64
	alone          []bool // the message has no other medium
}

func (c *mediaColumns) add(m mms.Message) {
	for _, url := range m.MediaURLs {
		c.addOne(m, sql.NullString{String: url, Valid: true}, mms.MessageUpload{})
	}
	for _, upload := range m.Uploads {
		c.addOne(m, sql.NullString{}, upload)
	}
}

func (c *mediaColumns) addOne(m mms.Message, url sql.NullString, upload mms.MessageUpload) {
	position := int64(1)
	if n := len(c.messages); n > 0 && c.messages[n-1] == m.ID.String() {
		position = c.positions[n-1] + 1
	}
	c.messages, c.positions, c.urls = append(c.messages, m.ID.String()), append(c.positions, position), append(c.urls, url)
	c.uploads, c.contents = append(c.uploads, nullID(upload.ID)), append(c.contents, hexColumn(upload.Content))
	c.fits = append(c.fits, string(cmp.Or(m.Fit, mms.FitAuto)))
	c.alone = append(c.alone, len(m.MediaURLs)+len(m.Uploads) == 1)
}

func metadataJSON(metadata map[string]string) (string, error) {
	if metadata == nil {
		return "{}", nil
	}
	text, err := json.Marshal(metadata)
	if err != nil {
		return "", fmt.Errorf("encoding metadata: %w", err)
	}
	return string(text), nil
}

func nullID(id uuid.UUID) uuid.NullUUID { return uuid.NullUUID{UUID: id, Valid: id != uuid.Nil} }
