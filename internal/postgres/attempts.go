package postgres

import (
	"context"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
)

// Statements that end an attempt change the message in a CTE named changed and end in
// finishAttempt, which records the outcome and the event. Parameters: $1 message,
// $2 ordinal, $3 outcome, $4 HTTP status, $5 API id, $6 detail, $7 event kind, $8 the
// event's detail.
//
// guardAttempt lets them change only a message whose newest attempt this is. An attempt
// in doubt may still be ended: a late response is evidence, too.
const (
	guardAttempt = `
    WHERE id = $1 AND attempts = $2 AND status IN ('sending', 'in_doubt')
    RETURNING *
)`

	finishAttempt = `, attempt AS (
    UPDATE attempts a SET outcome = $3, http_status = nullif($4, 0), api_id = $5, detail = $6,
        finished_at = coalesce(a.finished_at, clock_timestamp()),
        next_check_at = CASE WHEN $3 = 'unknown' THEN now() + interval '5 seconds' END
    FROM changed WHERE a.message_id = changed.id AND a.ordinal = $2
), event AS (
    INSERT INTO message_events (message_id, kind, status, attempt, detail)
    SELECT id, $7, status, $2, $8 FROM changed
)
SELECT id FROM changed`
)

// lockMessage begins statements that change an attempt before its message. All
// statements lock a message before its attempts, so that they cannot deadlock.
const lockMessage = `
WITH locked AS (
    SELECT id FROM messages WHERE id = $1 FOR UPDATE
)`

// finishSuperseded finishes an attempt whose message has moved on without it, because
// evidence about another attempt came first. Only the attempt's outcome is recorded.
const finishSuperseded = lockMessage + `, attempt AS (
    UPDATE attempts SET outcome = $3, http_status = nullif($4, 0), api_id = $5, detail = $6, finished_at = clock_timestamp()
    FROM locked WHERE message_id = locked.id AND ordinal = $2 AND outcome IS NULL RETURNING message_id
), changed AS (
    UPDATE messages SET version = version + 1, updated_at = now()
    FROM attempt WHERE id = attempt.message_id RETURNING id, status
), event AS (
    INSERT INTO message_events (message_id, kind, status, attempt, detail)
    SELECT id, $7, status, $2, $8 FROM changed
)
SELECT id FROM changed`

const recordTransientFailure = `
WITH changed AS (
    UPDATE messages SET status = 'queued', reason = $9, held = false, version = version + 1, updated_at = now(),
        next_attempt_at = now() + $10 * interval '1 second',
        task_check_at = now() + $10 * interval '1 second' + ` + taskCheckGrace +
	guardAttempt + finishAttempt

// RecordTransientFailure requeues a message that Plivo did not take this time, and sets
// when it is due again. Like the functions below, it reports false when the attempt is
// not the message's newest open one any more, because evidence came first; the
// attempt's outcome is recorded in any case.
func (s *Store) RecordTransientFailure(ctx context.Context, ref mms.AttemptRef, v mms.Verdict, transition mms.Transition) (bool, error) {
	return s.recordOutcome(ctx, "recording a transient failure", recordTransientFailure, ref, v, mms.EventTransientFailure,
		string(transition.Reason), string(transition.Reason), transition.Wait.Seconds())
}

const recordAccountError = `
WITH changed AS (
    UPDATE messages SET status = 'queued', reason = $9, held = false, version = version + 1, updated_at = now(),
        next_attempt_at = now(), task_check_at = 'infinity', backlog_state = 'waiting'` +
	guardAttempt + `, pause AS (
    INSERT INTO pauses (cause, detail, probe_at) SELECT $9, $6, now() + interval '10 seconds' FROM changed
    ON CONFLICT (cause) DO NOTHING
)` + finishAttempt

// RecordAccountError pauses all sending, because the account cannot send, and returns
// the message to the backlog.
func (s *Store) RecordAccountError(ctx context.Context, ref mms.AttemptRef, v mms.Verdict) (bool, error) {
	return s.recordOutcome(ctx, "recording an account error", recordAccountError, ref, v, mms.EventAccountError, string(v.Reason), string(v.Reason))
}

const recordPermanentFailure = `
WITH changed AS (
    UPDATE messages SET status = 'failed', reason = $9, held = false, version = version + 1, updated_at = now(), final_at = now()` +
	guardAttempt + finishAttempt

// RecordPermanentFailure fails the message.
func (s *Store) RecordPermanentFailure(ctx context.Context, ref mms.AttemptRef, v mms.Verdict, reason mms.Reason) (bool, error) {
	return s.recordOutcome(ctx, "recording a permanent failure", recordPermanentFailure, ref, v, mms.EventPermanentFailure, string(reason), string(reason))
}

const recordInDoubt = `
WITH changed AS (
    UPDATE messages SET status = 'in_doubt', reason = $9, version = version + 1, updated_at = now()
    WHERE id = $1 AND attempts = $2 AND status = 'sending'
    RETURNING *
)` + finishAttempt

// RecordInDoubt puts the message in doubt, because Plivo may or may not have it.
func (s *Store) RecordInDoubt(ctx context.Context, ref mms.AttemptRef, v mms.Verdict) (bool, error) {
	return s.recordOutcome(ctx, "recording an unknown outcome", recordInDoubt, ref, v, mms.EventInDoubt, string(v.Reason), string(v.Reason))
}

func (s *Store) recordOutcome(ctx context.Context, doing, query string, ref mms.AttemptRef, v mms.Verdict, kind mms.EventKind, detail string, more ...any) (bool, error) {
	args := []any{ref.MessageID, ref.Ordinal, string(v.Outcome), v.HTTPStatus, v.APIID, v.Detail, string(kind), detail}
	changed, err := s.exec(ctx, doing, query, append(args, more...)...)
	if err != nil || changed > 0 {
		return changed > 0, err
	}
	_, err = s.exec(ctx, doing, finishSuperseded, args...)
	return false, err
}

// exec runs a statement that returns the ids of the messages it changed, and returns
// their number.
func (s *Store) exec(ctx context.Context, doing, query string, args ...any) (int, error) {
	var ids []uuid.UUID
	err := s.db.SelectContext(ctx, &ids, query, args...)
	s.noteChanged(ids...)
	return len(ids), wrapError(err, doing)
}
