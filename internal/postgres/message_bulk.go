package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/postcard-mms/postcard/internal/groupcommit"
	"github.com/postcard-mms/postcard/internal/mms"
)

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

// claimCall is a wish to claim a message, and the claim.
type claimCall struct {
	id    uuid.UUID
	token string
	lease time.Duration

	claim   mms.Claim
	claimed bool
	err     error
}

// claimGroup is claimMessage for many whose senders have no pace: who has to pass a
// gate passes it alone. So does the second between two numbers, and who has one under
// way there: it would fail the whole group. Parameters: $1 messages, $2 tokens,
// $3 lease in seconds.
const claimGroup = `
WITH i AS MATERIALIZED (
    SELECT * FROM unnest($1::uuid[], $2::text[]) AS u (id, token)
), target AS (
    SELECT m.id, m.sender, m.recipient FROM i JOIN messages m ON m.id = i.id JOIN rate_limits g ON g.name = m.sender
    WHERE m.status = 'queued' AND m.next_attempt_at <= now() AND m.expires_at > now() AND g.interval_seconds = 0
      AND NOT EXISTS (SELECT FROM suppressions s WHERE s.sender = m.sender AND s.recipient = m.recipient)
      AND NOT EXISTS (SELECT FROM batches b WHERE b.id = m.batch_id AND b.state <> 'running')
      AND (m.backlog_state = 'released' OR (
          NOT EXISTS (SELECT FROM pauses)
          AND NOT EXISTS (SELECT FROM messages w WHERE w.sender = m.sender AND w.backlog_state = 'waiting' AND w.priority <= m.priority)))
      AND NOT ` + pairInFlight + `
    ORDER BY m.id FOR UPDATE OF m SKIP LOCKED
), first AS (
    SELECT DISTINCT ON (sender, recipient) id FROM target ORDER BY sender, recipient, id
), m AS (
    UPDATE messages SET status = 'sending', reason = '', attempts = attempts + 1, backlog_state = NULL,
        next_attempt_at = NULL, task_check_at = NULL, version = version + 1, updated_at = now()
    FROM first WHERE messages.id = first.id
    RETURNING messages.*
), attempt AS (
    INSERT INTO attempts (message_id, ordinal, token, sender, started_at, lease_until)
    SELECT m.id, m.attempts, i.token, m.sender, clock_timestamp(), clock_timestamp() + $3 * interval '1 second' FROM m JOIN i ON i.id = m.id
), event AS (
    INSERT INTO message_events (message_id, kind, status, attempt)
    SELECT id, 'attempt_started', status, attempts FROM m
)
SELECT ` + claimColumns + `
FROM m`

// claimInGroup claims a message together with others.
func (s *Store) claimInGroup(ctx context.Context, id uuid.UUID, token string, lease time.Duration) (c claimCall, ok bool) {
	return s.claiming.Do(ctx, claimCall{id: id, token: token, lease: lease}, id.String(), s.claimGroup)
}

func (s *Store) claimGroup(ctx context.Context, group []*groupcommit.Item[claimCall]) {
	if p := group[0]; len(group) == 1 {
		p.Value.claim, p.Value.claimed, p.Value.err = s.claimOne(ctx, p.Value.id, p.Value.token, p.Value.lease)
		p.OK = true
		return
	}
	ids, tokens := make([]string, len(group)), make([]string, len(group))
	byID := make(map[uuid.UUID]*groupcommit.Item[claimCall], len(group))
	lease := group[0].Value.lease
	for i, p := range group {
		ids[i], tokens[i] = p.Value.id.String(), p.Value.token
		byID[p.Value.id] = p
		lease = min(lease, p.Value.lease)
	}
	var rows []claimRow
	if err := s.db.SelectContext(ctx, &rows, claimGroup, pq.Array(ids), pq.Array(tokens), lease.Seconds()); err != nil {
		return // each will learn the cause alone
	}
	for _, row := range rows {
		p := byID[row.ID]
		p.Value.claim, p.Value.claimed, p.OK = row.claim(), true, true
		s.noteChanged(row.ID)
	}
}

// submission is that Plivo accepted an attempt, and what that means for its message.
type submission struct {
	ref     mms.AttemptRef
	verdict mms.Verdict
	result  mms.SubmitResult
	err     error
}

// recordSubmittedMany is acceptAttempt for many answers of Plivo's. Parameters, one
// element for each: $1 message, $2 attempt number, $3 UUID, $4 HTTP status,
// $5 API id.
const recordSubmittedMany = `
WITH i AS MATERIALIZED (
    SELECT * FROM unnest($1::uuid[], $2::int[], $3::text[], $4::int[], $5::text[]) AS u (id, ordinal, uuid, http_status, api_id)
), locked AS (
    SELECT i.* FROM messages m JOIN i ON i.id = m.id ORDER BY m.id FOR UPDATE OF m
), a AS (
    UPDATE attempts SET outcome = 'accepted', plivo_uuid = i.uuid, http_status = coalesce(nullif(i.http_status, 0), attempts.http_status),
        api_id = CASE WHEN i.api_id = '' THEN attempts.api_id ELSE i.api_id END, detail = '', next_check_at = NULL,
        finished_at = coalesce(finished_at, clock_timestamp())
    FROM locked i WHERE attempts.message_id = i.id AND attempts.ordinal = i.ordinal AND plivo_uuid IS NULL
    RETURNING message_id, attempts.ordinal, started_at, plivo_uuid AS uuid, i.http_status
), m AS (
    UPDATE messages SET version = version + 1, updated_at = now(), held = false, backlog_state = NULL, next_attempt_at = NULL, task_check_at = NULL,
        unreported_since = CASE WHEN plivo_uuid IS NULL THEN now() ELSE unreported_since END,
        plivo_uuid = coalesce(plivo_uuid, a.uuid),
        reason = CASE WHEN plivo_uuid IS NULL THEN '' ELSE reason END,
        status = CASE WHEN plivo_uuid IS NULL AND status <> 'sent' THEN 'submitted' ELSE status END,
        final_at = CASE WHEN plivo_uuid IS NULL THEN NULL ELSE final_at END
    FROM a WHERE id = a.message_id
    RETURNING id, status, plivo_uuid = a.uuid AS adopted, a.ordinal, a.uuid
), resumed AS (
    DELETE FROM pauses USING a WHERE a.http_status / 100 = 2 AND a.started_at >= pauses.since
), event AS (
    INSERT INTO message_events (message_id, kind, status, attempt, detail)
    SELECT id, CASE WHEN adopted THEN 'submitted' ELSE 'duplicate' END, status, ordinal, CASE WHEN adopted THEN '' ELSE uuid END FROM m
)
SELECT id, adopted FROM m`

// recordSubmittedInGroup records an answer of Plivo's together with others.
func (s *Store) recordSubmittedInGroup(ctx context.Context, ref mms.AttemptRef, v mms.Verdict) (mms.SubmitResult, bool, error) {
	p, ok := s.submitting.Do(ctx, submission{ref: ref, verdict: v}, ref.MessageID.String(), s.recordSubmittedGroup)
	return p.result, ok, p.err
}

func (s *Store) recordSubmittedGroup(ctx context.Context, group []*groupcommit.Item[submission]) {
	if p := group[0]; len(group) == 1 {
		p.Value.result, p.Value.err = s.recordSubmittedOne(ctx, p.Value.ref, p.Value.verdict, mms.EventSubmitted)
		p.OK = true
		return
	}
	n := len(group)
	ids, uuids, apiIDs := make([]string, n), make([]string, n), make([]string, n)
	numbers, statuses := make([]int64, n), make([]int64, n)
	byID := make(map[uuid.UUID]*groupcommit.Item[submission], n)
	for i, p := range group {
		ref, v := p.Value.ref, p.Value.verdict
		ids[i], numbers[i], uuids[i], statuses[i], apiIDs[i] = ref.MessageID.String(), int64(ref.Ordinal), v.PlivoUUID, int64(v.HTTPStatus), v.APIID
		byID[ref.MessageID] = p
	}
	var rows []struct {
		ID      uuid.UUID `db:"id"`
		Adopted bool      `db:"adopted"`
	}
	err := s.db.SelectContext(ctx, &rows, recordSubmittedMany, pq.Array(ids), pq.Array(numbers), pq.Array(uuids), pq.Array(statuses), pq.Array(apiIDs))
	if err != nil {
		for _, p := range group {
			p.Value.err, p.OK = sharedError(err, "recording answers")
		}
		return
	}
	for _, row := range rows {
		p := byID[row.ID]
		p.Value.result, p.OK = mms.Duplicate, true
		if row.Adopted {
			p.Value.result = mms.Adopted
		}
		s.noteChanged(row.ID)
	}
}

// sharedError wraps the error of a batch's statement. It reports true when every item
// of the batch would meet the same error by itself, because the database is
// unavailable; otherwise the items have to be retried one by one.
func sharedError(err error, doing string) (error, bool) {
	return wrapError(err, doing), isUnavailable(err)
}
