package postgres

import (
	"context"
	"database/sql"
	"errors"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/postcard-mms/postcard/internal/groupcommit"
	"github.com/postcard-mms/postcard/internal/mms"
)

// recordSubmitted takes any proof that Plivo has accepted an attempt. Unless the
// message is known to be there already it becomes that message, wherever it
// stands: better to adopt late than to send again. A second acceptance is
// recorded as the duplicate it is. A 202 to what was begun during a pause shows that
// the account works, also when the message was known to be there already by a report.
const recordSubmitted = lockMessage + `, a AS (
    UPDATE attempts SET outcome = 'accepted', plivo_uuid = $3, http_status = coalesce(nullif($4, 0), http_status),
        api_id = CASE WHEN $5 = '' THEN api_id ELSE $5 END, detail = '', next_check_at = NULL,
        finished_at = coalesce(finished_at, clock_timestamp())
    FROM locked WHERE message_id = locked.id AND ordinal = $2 AND plivo_uuid IS NULL
    RETURNING message_id
), m AS (
    UPDATE messages SET version = version + 1, updated_at = now(), held = false, backlog_state = NULL, next_attempt_at = NULL, task_check_at = NULL,
        unreported_since = CASE WHEN plivo_uuid IS NULL THEN now() ELSE unreported_since END,
        plivo_uuid = coalesce(plivo_uuid, $3),
        reason = CASE WHEN plivo_uuid IS NULL THEN '' ELSE reason END,
        status = CASE WHEN plivo_uuid IS NULL AND status <> 'sent' THEN 'submitted' ELSE status END,
        final_at = CASE WHEN plivo_uuid IS NULL THEN NULL ELSE final_at END
    FROM a WHERE id = a.message_id
    RETURNING id, status, plivo_uuid = $3 AS adopted
), resumed AS (
    DELETE FROM pauses USING attempts t
    WHERE $4 / 100 = 2 AND t.message_id = $1 AND t.ordinal = $2 AND t.started_at >= pauses.since
), event AS (
    INSERT INTO message_events (message_id, kind, status, attempt, detail)
    SELECT id, CASE WHEN adopted THEN $6 ELSE 'duplicate' END, status, $2,
        CASE WHEN adopted AND $6 = 'submitted' THEN '' ELSE $3 END FROM m
)
SELECT adopted FROM m`

// recordLateAnswer adds Plivo's answer to an attempt that a report was quicker to prove.
// Nothing happens to the message by it: its version stays.
const recordLateAnswer = `
UPDATE attempts SET http_status = $4, api_id = CASE WHEN $5 = '' THEN api_id ELSE $5 END
WHERE message_id = $1 AND ordinal = $2 AND plivo_uuid = $3 AND http_status IS NULL`

// RecordSubmitted records the proof v that Plivo accepted an attempt, as an event of
// the given kind.
func (s *Store) RecordSubmitted(ctx context.Context, ref mms.AttemptRef, v mms.Verdict, kind mms.EventKind) (mms.SubmitResult, error) {
	if kind == mms.EventSubmitted {
		if got, ok, err := s.recordSubmittedInGroup(ctx, ref, v); ok {
			return got, err
		}
	}
	return s.recordSubmittedOne(ctx, ref, v, kind)
}

func (s *Store) recordSubmittedOne(ctx context.Context, ref mms.AttemptRef, v mms.Verdict, kind mms.EventKind) (mms.SubmitResult, error) {
	var adopted bool
	err := s.db.GetContext(ctx, &adopted, recordSubmitted, ref.MessageID, ref.Ordinal, v.PlivoUUID, v.HTTPStatus, v.APIID, string(kind))
	switch {
	case errors.Is(err, sql.ErrNoRows) && v.HTTPStatus != 0:
		_, err := s.db.ExecContext(ctx, recordLateAnswer, ref.MessageID, ref.Ordinal, v.PlivoUUID, v.HTTPStatus, v.APIID)
		return mms.AlreadyKnown, wrapError(err, "recording an answer after its report")
	case errors.Is(err, sql.ErrNoRows) || violates(err, "attempts_plivo_uuid_key"):
		return mms.AlreadyKnown, nil
	case err != nil:
		return mms.AlreadyKnown, wrapError(err, "recording an accepted attempt")
	}
	s.noteChanged(ref.MessageID)
	if adopted {
		return mms.Adopted, nil
	}
	return mms.Duplicate, nil
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
