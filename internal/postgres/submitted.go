package postgres

import (
	"context"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/postcard-mms/postcard/internal/groupcommit"
	"github.com/postcard-mms/postcard/internal/mms"
)

// recordSubmitted records evidence that Plivo accepted attempts. It moves a message that
// has no Plivo UUID to submitted, because a message that Plivo has must never be sent
// again; the status sent, which here is always a person's decision, is kept. If the message has another UUID, the
// evidence is recorded as a duplicate.
//
// That Plivo accepted an attempt that started during a pause shows that the account
// works, and ends the pause. When Plivo accepted an attempt that DOUBT_SILENCE treated as
// not accepted, the rule is refuted.
//
// Each join also has a condition "= ANY" on the table's key. Without it the planner might
// read the whole table first, which looks cheaper while it believes that the table is
// empty.
//
// Parameters, one element per attempt: $1 message, $2 ordinal, $3 Plivo UUID, $4 HTTP
// status, $5 API id, $6 event kind.
const recordSubmitted = `
WITH input AS MATERIALIZED (
    SELECT * FROM unnest((SELECT $1::uuid[]), $2::int[], $3::text[], $4::int[], $5::text[], $6::text[]) AS u (id, ordinal, uuid, http_status, api_id, kind)
), locked AS (
    SELECT input.* FROM messages m JOIN input ON input.id = m.id WHERE m.id = ANY ((SELECT $1::uuid[])::uuid[]) ORDER BY m.id FOR UPDATE OF m
), attempt AS (
    UPDATE attempts a SET outcome = 'accepted', plivo_uuid = locked.uuid, http_status = coalesce(nullif(locked.http_status, 0), a.http_status),
        api_id = CASE WHEN locked.api_id = '' THEN a.api_id ELSE locked.api_id END, detail = '', next_check_at = NULL,
        finished_at = coalesce(a.finished_at, clock_timestamp())
    FROM locked WHERE a.message_id = locked.id AND a.ordinal = locked.ordinal AND a.plivo_uuid IS NULL
      AND a.message_id = ANY (ARRAY(SELECT id FROM locked))
    RETURNING a.message_id, a.ordinal, locked.uuid, locked.kind
), changed AS (
    UPDATE messages SET version = version + 1, updated_at = now(), held = false, backlog_state = NULL, next_attempt_at = NULL, task_check_at = NULL,
        poll_base_at = CASE WHEN plivo_uuid IS NULL THEN now() ELSE poll_base_at END,
        plivo_uuid = coalesce(plivo_uuid, attempt.uuid),
        reason = CASE WHEN plivo_uuid IS NULL THEN '' ELSE reason END,
        status = CASE WHEN plivo_uuid IS NULL AND status <> 'sent' THEN 'submitted' ELSE status END,
        final_at = CASE WHEN plivo_uuid IS NULL THEN NULL ELSE final_at END
    FROM attempt WHERE id = attempt.message_id AND id = ANY (ARRAY(SELECT message_id FROM attempt))
    RETURNING id, status, plivo_uuid = attempt.uuid AS adopted, attempt.ordinal, attempt.uuid, attempt.kind
), ended AS (
    SELECT cause FROM pauses WHERE EXISTS (
        SELECT FROM attempts a JOIN input ON a.message_id = input.id AND a.ordinal = input.ordinal
        WHERE a.message_id = ANY ((SELECT $1::uuid[])::uuid[]) AND a.started_at >= pauses.since OFFSET 0)
    ORDER BY cause FOR UPDATE
), resumed AS (
    DELETE FROM pauses WHERE cause IN (SELECT cause FROM ended)
), refuted AS (
    UPDATE silence_retries r SET refuted_at = now() FROM attempt
    WHERE r.message_id = attempt.message_id AND r.ordinal = attempt.ordinal AND r.refuted_at IS NULL
      AND r.message_id = ANY (ARRAY(SELECT message_id FROM attempt))
), event AS (
    INSERT INTO message_events (message_id, kind, status, attempt, detail)
    SELECT id, CASE WHEN adopted THEN kind ELSE 'duplicate' END, status, ordinal,
        CASE WHEN adopted AND kind = 'submitted' THEN '' ELSE uuid END FROM changed
)
SELECT id, adopted FROM changed`

// recordLateResponse adds Plivo's response to an attempt that a delivery report has
// already shown to be accepted. The message does not change, so its version stays.
const recordLateResponse = `
UPDATE attempts SET http_status = $4, api_id = CASE WHEN $5 = '' THEN api_id ELSE $5 END
WHERE message_id = $1 AND ordinal = $2 AND plivo_uuid = $3 AND http_status IS NULL`

// submitCall is one call of RecordSubmitted.
type submitCall struct {
	ref     mms.AttemptRef
	verdict mms.Verdict
	kind    mms.EventKind
	result  mms.SubmitResult
	err     error
}

// RecordSubmitted records the evidence v that Plivo accepted an attempt, with an event of
// the given kind. Concurrent calls share a statement; what the shared statement did
// not change is tried alone.
func (s *Store) RecordSubmitted(ctx context.Context, ref mms.AttemptRef, v mms.Verdict, kind mms.EventKind) (mms.SubmitResult, error) {
	call := submitCall{ref: ref, verdict: v, kind: kind}
	if call, ok, _ := s.submitting.Do(ctx, call, ref.MessageID.String(), s.submitTogether); ok {
		return call.result, call.err
	}
	return s.submitAlone(ctx, call)
}

func (s *Store) submitTogether(ctx context.Context, batch []*groupcommit.Item[submitCall]) {
	if len(batch) == 1 {
		call := &batch[0].Value
		call.result, call.err = s.submitAlone(ctx, *call)
		batch[0].OK = true
		return
	}
	calls := make([]submitCall, len(batch))
	for i, item := range batch {
		calls[i] = item.Value
	}
	results, err := s.recordSubmitted(ctx, calls)
	for _, item := range batch {
		if err != nil {
			item.Value.err, item.OK = wrapError(err, "recording submitted messages"), isUnavailable(err)
			continue
		}
		item.Value.result, item.OK = results[item.Value.ref.MessageID]
	}
}

func (s *Store) submitAlone(ctx context.Context, call submitCall) (mms.SubmitResult, error) {
	results, err := s.recordSubmitted(ctx, []submitCall{call})
	if violates(err, "attempts_plivo_uuid_key") {
		return mms.AlreadyKnown, nil
	}
	if err != nil {
		return mms.AlreadyKnown, wrapError(err, "recording a submitted message")
	}
	if result, ok := results[call.ref.MessageID]; ok {
		return result, nil
	}
	if v := call.verdict; v.HTTPStatus != 0 {
		_, err = s.db.ExecContext(ctx, recordLateResponse, call.ref.MessageID, call.ref.Ordinal, v.PlivoUUID, v.HTTPStatus, v.APIID)
	}
	return mms.AlreadyKnown, wrapError(err, "recording a late response")
}

// recordSubmitted runs the statement of that name and returns the results of changed
// messages by id.
func (s *Store) recordSubmitted(ctx context.Context, calls []submitCall) (map[uuid.UUID]mms.SubmitResult, error) {
	n := len(calls)
	ids, ordinals, uuids, statuses, apiIDs, kinds := make([]string, n), make([]int64, n), make([]string, n), make([]int64, n), make([]string, n), make([]string, n)
	for i, call := range calls {
		ids[i], ordinals[i], kinds[i] = call.ref.MessageID.String(), int64(call.ref.Ordinal), string(call.kind)
		uuids[i], statuses[i], apiIDs[i] = call.verdict.PlivoUUID, int64(call.verdict.HTTPStatus), call.verdict.APIID
	}
	var rows []struct {
		ID      uuid.UUID `db:"id"`
		Adopted bool      `db:"adopted"`
	}
	if err := s.db.SelectContext(ctx, &rows, recordSubmitted,
		pq.Array(ids), pq.Array(ordinals), pq.Array(uuids), pq.Array(statuses), pq.Array(apiIDs), pq.Array(kinds)); err != nil {
		return nil, err
	}
	results := make(map[uuid.UUID]mms.SubmitResult, len(rows))
	for _, row := range rows {
		results[row.ID] = mms.Duplicate
		if row.Adopted {
			results[row.ID] = mms.Adopted
		}
		s.noteChanged(row.ID)
	}
	return results, nil
}
