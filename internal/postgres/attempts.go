package postgres

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/postcard-mms/postcard/internal/mms"
)

// claimMessage lets a message pass when it is due, in time and wanted; when its
// sender's gate is open and nobody of its priority or a higher one waits before
// it; and when nothing pauses sending, nor its batch. Parameters: $1 message, $2 token, $3 lease in seconds. A gate of 0
// seconds is always open, and not written to, so that nobody waits for its row.
// A gate that does not exist is closed; StandInLine makes it. Who passes a little
// late, by a twentieth of the interval at most, does not delay the next; the pace
// has room for that (mms.PaceOf).
const claimMessage = `
WITH target AS (
    SELECT m.id, m.sender FROM messages m
    WHERE m.id = $1 AND m.status = 'queued' AND m.next_attempt_at <= now() AND m.expires_at > now()
      AND NOT EXISTS (SELECT FROM suppressions s WHERE s.sender = m.sender AND s.recipient = m.recipient)
      AND NOT EXISTS (SELECT FROM batches b WHERE b.id = m.batch_id AND b.state <> 'running')
      AND (m.backlog_state = 'released' OR (
          NOT EXISTS (SELECT FROM pauses)
          AND NOT EXISTS (SELECT FROM messages w WHERE w.sender = m.sender AND w.backlog_state = 'waiting' AND w.priority <= m.priority)))
    FOR UPDATE OF m
), rate_limit AS (
    UPDATE rate_limits SET released_until = '-infinity',
        next_arrival_at = greatest(next_arrival_at, clock_timestamp() - 0.05 * interval_seconds * interval '1 second') + interval_seconds * interval '1 second'
    FROM target WHERE rate_limits.name = target.sender AND interval_seconds > 0 AND rate_limits.next_arrival_at <= clock_timestamp()
    RETURNING clock_timestamp() AS passed
), m AS (
    UPDATE messages SET status = 'sending', reason = '', attempts = attempts + 1, backlog_state = NULL,
        next_attempt_at = NULL, task_check_at = NULL, version = version + 1, updated_at = now()
    FROM target WHERE messages.id = target.id AND (EXISTS (SELECT FROM rate_limit)
        OR EXISTS (SELECT FROM rate_limits WHERE name = target.sender AND interval_seconds = 0))
    RETURNING messages.*
), attempt AS (
    INSERT INTO attempts (message_id, ordinal, token, sender, started_at, lease_until)
    SELECT id, attempts, $2, sender, coalesce((SELECT passed FROM rate_limit), clock_timestamp()), clock_timestamp() + $3 * interval '1 second' FROM m
), event AS (
    INSERT INTO message_events (message_id, kind, status, attempt)
    SELECT id, 'attempt_started', status, attempts FROM m
)
SELECT ` + claimColumns + `
FROM m`

// claimColumns are read into a claimRow; the table is named m.
const claimColumns = `m.id, m.attempts, m.sender, m.recipient, m.text, ` + mediaOfMessage + `, ` + claimCounts

type claimRow struct {
	ID                uuid.UUID      `db:"id"`
	Attempts          int            `db:"attempts"`
	Sender            string         `db:"sender"`
	Recipient         string         `db:"recipient"`
	Text              string         `db:"text"`
	Media             pq.StringArray `db:"media"`
	TransientFailures int            `db:"transient_failures"`
	OwnAccountErrors  int            `db:"own_account_errors"`
}

func (r claimRow) claim() mms.Claim {
	return mms.Claim{
		AttemptRef: mms.AttemptRef{MessageID: r.ID, Ordinal: r.Attempts},
		Sender:     mms.PhoneNumber(r.Sender), Recipient: mms.PhoneNumber(r.Recipient),
		Text: r.Text, MediaURLs: r.Media, TransientFailures: r.TransientFailures, OwnAccountErrors: r.OwnAccountErrors,
	}
}

// claimCounts are what the retry policy goes by. A first attempt has nothing to
// count.
const claimCounts = `
    CASE WHEN m.attempts > 1 THEN (SELECT count(*) FROM attempts t
        WHERE t.message_id = m.id AND t.outcome = 'transient_failure' AND t.http_status IS NOT NULL) ELSE 0 END AS transient_failures,
    CASE WHEN m.attempts > 1 THEN (SELECT count(*) FROM attempts t
        WHERE t.message_id = m.id AND t.outcome = 'account_error' AND EXISTS (
            SELECT FROM attempts b WHERE b.outcome = 'accepted' AND b.started_at > t.started_at)) ELSE 0 END AS own_account_errors`

// selectClaim finds the claim that was begun with our token.
const selectClaim = `
SELECT ` + claimColumns + `
FROM messages m JOIN attempts a ON a.message_id = m.id AND a.ordinal = m.attempts
WHERE m.id = $1 AND a.token = $2 AND a.outcome IS NULL AND m.status = 'sending'`

// Claim takes a queued message to status sending and begins an attempt with the
// given token, which counts as lost after lease. It reports false when the
// message cannot be claimed now; Obstacle says why.
//
// It does not give up when ctx ends: a claim that nobody waits for would leave the
// message in doubt.
func (s *Store) Claim(ctx context.Context, id uuid.UUID, token string, lease time.Duration) (mms.Claim, bool, error) {
	ctx = context.WithoutCancel(ctx)
	if c, ok := s.claimInGroup(ctx, id, token, lease); ok {
		return c.claim, c.claimed, c.err
	}
	return s.claimOne(ctx, id, token, lease)
}

func (s *Store) claimOne(ctx context.Context, id uuid.UUID, token string, lease time.Duration) (mms.Claim, bool, error) {
	var row claimRow
	err := s.db.GetContext(ctx, &row, claimMessage, id, token, lease.Seconds())
	if errors.Is(err, sql.ErrNoRows) {
		// database/sql repeats a statement whose connection broke: the claim may
		// be ours already.
		err = s.db.GetContext(ctx, &row, selectClaim, id, token)
	}
	if errors.Is(err, sql.ErrNoRows) || violates(err, "messages_one_in_flight_per_pair") {
		return mms.Claim{}, false, nil
	}
	if err == nil {
		s.noteChanged(id)
	}
	return row.claim(), err == nil, wrapError(err, "claiming a message")
}

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

const reapLeases = `
WITH lapsed AS (
    SELECT m.id FROM messages m JOIN attempts a ON a.message_id = m.id AND a.ordinal = m.attempts
    WHERE a.outcome IS NULL AND a.lease_until < now() AND m.status = 'sending'
    ORDER BY a.lease_until LIMIT $1 FOR UPDATE OF m SKIP LOCKED
), m AS (
    UPDATE messages SET status = 'in_doubt', reason = 'worker_lost', version = version + 1, updated_at = now()
    FROM lapsed WHERE messages.id = lapsed.id
    RETURNING messages.id, messages.attempts, messages.status
), attempt AS (
    UPDATE attempts a SET outcome = 'unknown', finished_at = now(), next_check_at = now() + interval '5 seconds'
    FROM m WHERE a.message_id = m.id AND a.ordinal = m.attempts
), event AS (
    INSERT INTO message_events (message_id, kind, status, attempt, detail)
    SELECT id, 'in_doubt', status, attempts, 'worker_lost' FROM m
)
SELECT id FROM m`

// closeReaped finishes lost attempts of messages that are not being sent any
// more, because evidence about another attempt was quicker.
const closeReaped = `
UPDATE attempts a SET outcome = 'unknown', finished_at = now() FROM messages m
WHERE m.id = a.message_id AND a.outcome IS NULL AND a.lease_until < now() AND (m.status <> 'sending' OR m.attempts <> a.ordinal)`

// ReapLeases puts up to limit messages in doubt whose worker was lost in the
// middle of an attempt, and returns how many.
func (s *Store) ReapLeases(ctx context.Context, limit int) (int, error) {
	if _, err := s.db.ExecContext(ctx, closeReaped); err != nil {
		return 0, wrapError(err, "closing lost attempts")
	}
	return s.exec(ctx, "looking for lost attempts", reapLeases, limit)
}

// renewLeases waits for nobody: whose outcome is being recorded needs no lease any
// more, and two statements that lock many attempts would wait for each other.
const renewLeases = `
WITH held AS (
    SELECT token FROM attempts WHERE token = ANY ($1) AND outcome IS NULL AND lease_until > now()
    FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE attempts SET lease_until = now() + $2 * interval '1 second'
FROM held WHERE attempts.token = held.token
RETURNING attempts.token`

// RenewLeases extends the leases of the open attempts with these tokens, except
// those that are over, and returns the tokens of those it extended.
func (s *Store) RenewLeases(ctx context.Context, tokens []string, length time.Duration) ([]string, error) {
	var renewed []string
	err := s.db.SelectContext(ctx, &renewed, renewLeases, pq.Array(tokens), length.Seconds())
	return renewed, wrapError(err, "renewing leases")
}
