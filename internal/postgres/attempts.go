package postgres

import (
	"context"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
)

// The transitions that end an attempt share their two ends: finishAttempt
// follows a statement that changed the message and returned it as m, and
// writes what the attempt came to and the event. Its parameters: $1 message,
// $2 attempt number, $3 outcome, $4 HTTP status, $5 API id, $6 detail, $7 event,
// $8 the event's detail.
//
// An attempt whose outcome is unknown may still be settled: the answer came
// late, but it is evidence.
const (
	guardAttempt = `
    WHERE id = $1 AND attempts = $2 AND status IN ('sending', 'in_doubt')
    RETURNING *
)`

	finishAttempt = `, attempt AS (
    UPDATE attempts a SET outcome = $3, http_status = nullif($4, 0), api_id = $5, detail = $6,
        finished_at = coalesce(a.finished_at, clock_timestamp()),
        next_check_at = CASE WHEN $3 = 'unknown' THEN now() + interval '5 seconds' END
    FROM m WHERE a.message_id = m.id AND a.ordinal = $2
), event AS (
    INSERT INTO message_events (message_id, kind, status, attempt, detail)
    SELECT id, $7, status, $2, $8 FROM m
)
SELECT id FROM m`
)

// lockMessage begins statements that change an attempt before its message. All
// take the message's lock before the attempt's, so that none waits for another in
// a circle.
const lockMessage = `
WITH locked AS (
    SELECT id FROM messages WHERE id = $1 FOR UPDATE
)`

// closeAttempt finishes an attempt that decides nothing about its message any
// more, because evidence about another was quicker.
const closeAttempt = lockMessage + `, attempt AS (
    UPDATE attempts SET outcome = $3, http_status = nullif($4, 0), api_id = $5, detail = $6, finished_at = clock_timestamp()
    FROM locked WHERE message_id = locked.id AND ordinal = $2 AND outcome IS NULL RETURNING message_id
), m AS (
    UPDATE messages SET version = version + 1, updated_at = now()
    FROM attempt WHERE id = attempt.message_id RETURNING id, status
), event AS (
    INSERT INTO message_events (message_id, kind, status, attempt, detail)
    SELECT id, $7, status, $2, $8 FROM m
)
SELECT id FROM m`

const recordTransientFailure = `
WITH m AS (
    UPDATE messages SET status = 'queued', reason = $9, held = false, version = version + 1, updated_at = now(),
        next_attempt_at = now() + $10 * interval '1 second',
        task_check_at = now() + $10 * interval '1 second' + ` + taskCheckGrace +
	guardAttempt + finishAttempt

// RecordTransientFailure records that Plivo did not take the message this time, and when it
// is due again. It reports false when the attempt is not the message's open one
// any more, because evidence was quicker; its outcome is recorded all the same.
func (s *Store) RecordTransientFailure(ctx context.Context, ref mms.AttemptRef, v mms.Verdict, step mms.Transition) (bool, error) {
	return s.recordOutcome(ctx, "recording a refusal for now", recordTransientFailure, ref, v, mms.EventTransientFailure, string(step.Reason), string(step.Reason), step.Wait.Seconds())
}

const recordAccountError = `
WITH m AS (
    UPDATE messages SET status = 'queued', reason = $9, held = false, version = version + 1, updated_at = now(),
        next_attempt_at = now(), task_check_at = 'infinity', backlog_state = 'waiting'` +
	guardAttempt + `, pause AS (
    INSERT INTO pauses (cause, detail, probe_at) SELECT $9, $6, now() + interval '10 seconds' FROM m
    ON CONFLICT (cause) DO NOTHING
)` + finishAttempt

// RecordAccountError records that the account cannot send, puts the message back in line and
// pauses all sending for that cause. It reports false as Requeue does.
func (s *Store) RecordAccountError(ctx context.Context, ref mms.AttemptRef, v mms.Verdict) (bool, error) {
	return s.recordOutcome(ctx, "recording account trouble", recordAccountError, ref, v, mms.EventAccountError, string(v.Reason), string(v.Reason))
}

const recordPermanentFailure = `
WITH m AS (
    UPDATE messages SET status = 'failed', reason = $9, held = false, version = version + 1, updated_at = now(), final_at = now()` +
	guardAttempt + finishAttempt

// RecordPermanentFailure records that the message will not be sent. It reports false as Requeue
// does.
func (s *Store) RecordPermanentFailure(ctx context.Context, ref mms.AttemptRef, v mms.Verdict, reason mms.Reason) (bool, error) {
	return s.recordOutcome(ctx, "recording a failure", recordPermanentFailure, ref, v, mms.EventPermanentFailure, string(reason), string(reason))
}

const recordInDoubt = `
WITH m AS (
    UPDATE messages SET status = 'in_doubt', reason = $9, version = version + 1, updated_at = now()
    WHERE id = $1 AND attempts = $2 AND status = 'sending'
    RETURNING *
)` + finishAttempt

// RecordInDoubt records that it is not known whether Plivo has the message. It reports
// false as Requeue does.
func (s *Store) RecordInDoubt(ctx context.Context, ref mms.AttemptRef, v mms.Verdict) (bool, error) {
	return s.recordOutcome(ctx, "recording a doubt", recordInDoubt, ref, v, mms.EventInDoubt, string(v.Reason), string(v.Reason))
}

func (s *Store) recordOutcome(ctx context.Context, doing, query string, ref mms.AttemptRef, v mms.Verdict, kind mms.EventKind, detail string, more ...any) (bool, error) {
	args := []any{ref.MessageID, ref.Ordinal, string(v.Outcome), v.HTTPStatus, v.APIID, v.Detail, string(kind), detail}
	changed, err := s.exec(ctx, doing, query, append(args, more...)...)
	if err != nil || changed > 0 {
		return changed > 0, err
	}
	_, err = s.exec(ctx, doing, closeAttempt, args...)
	return false, err
}

// exec runs a statement that returns the ids of the messages it changed, and
// counts them.
func (s *Store) exec(ctx context.Context, doing, query string, args ...any) (int, error) {
	var ids []uuid.UUID
	err := s.db.SelectContext(ctx, &ids, query, args...)
	s.noteChanged(ids...)
	return len(ids), wrapError(err, doing)
}
