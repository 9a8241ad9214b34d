package postgres

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"postcard/internal/mms"
)

// claimMessage lets a message pass when it is due, in time and wanted; when its
// sender's gate is open and nobody waits before it; and when nothing pauses
// sending. Parameters: $1 message, $2 token, $3 lease in seconds. A gate of 0
// seconds is always open, and not written to, so that nobody waits for its row.
// A gate that does not exist is closed; StandInLine makes it.
const claimMessage = `
WITH target AS (
    SELECT m.id, m.sender FROM messages m
    WHERE m.id = $1 AND m.status = 'queued' AND m.next_attempt_at <= now() AND m.expires_at > now()
      AND (m.line = 'released' OR (
          NOT EXISTS (SELECT FROM pauses)
          AND NOT EXISTS (SELECT FROM messages w WHERE w.sender = m.sender AND w.line = 'waiting')))
    FOR UPDATE OF m
), gate AS (
    UPDATE gates SET released_until = '-infinity', next_at = clock_timestamp() + seconds * interval '1 second'
    FROM target WHERE gates.name = target.sender AND seconds > 0 AND gates.next_at <= clock_timestamp()
    RETURNING gates.next_at - seconds * interval '1 second' AS passed
), m AS (
    UPDATE messages SET status = 'sending', reason = '', attempts = attempts + 1, line = NULL,
        next_attempt_at = NULL, relay_at = NULL, version = version + 1, updated_at = now()
    FROM target WHERE messages.id = target.id AND (EXISTS (SELECT FROM gate)
        OR EXISTS (SELECT FROM gates WHERE name = target.sender AND seconds = 0))
    RETURNING messages.*
), attempt AS (
    INSERT INTO attempts (message_id, number, token, sender, started_at, lease_until)
    SELECT id, attempts, $2, sender, coalesce((SELECT passed FROM gate), clock_timestamp()), clock_timestamp() + $3 * interval '1 second' FROM m
), event AS (
    INSERT INTO message_events (message_id, kind, status, attempt)
    SELECT id, 'attempt_started', status, attempts FROM m
)
SELECT m.attempts, m.sender, m.recipient, m.text, ` + mediaOfMessage + `,
    (SELECT count(*) FROM attempts a WHERE a.message_id = m.id AND a.outcome = 'refused_for_now') AS refusals
FROM m`

// Claim takes a queued message to status sending and begins an attempt with the
// given token, which counts as lost after lease. It reports false when the
// message cannot be claimed now; Obstacle says why.
func (s *Store) Claim(ctx context.Context, id uuid.UUID, token string, lease time.Duration) (mms.Claim, bool, error) {
	var row struct {
		Attempts  int            `db:"attempts"`
		Sender    string         `db:"sender"`
		Recipient string         `db:"recipient"`
		Text      string         `db:"text"`
		Media     pq.StringArray `db:"media"`
		Refusals  int            `db:"refusals"`
	}
	err := s.db.GetContext(ctx, &row, claimMessage, id, token, lease.Seconds())
	if errors.Is(err, sql.ErrNoRows) || violates(err, "messages_one_unsettled_per_pair") {
		return mms.Claim{}, false, nil
	}
	return mms.Claim{
		AttemptRef: mms.AttemptRef{MessageID: id, Number: row.Attempts},
		Sender:     mms.Number(row.Sender), Recipient: mms.Number(row.Recipient),
		Text: row.Text, MediaURLs: row.Media, Refusals: row.Refusals,
	}, err == nil, translate(err, "claiming a message")
}

// The transitions that end an attempt share their two ends: finishAttempt
// follows a statement that changed the message and returned it as m, and
// writes what the attempt came to and the event. Its parameters: $1 message,
// $2 attempt number, $3 outcome, $4 HTTP status, $5 API id, $6 detail, $7 UUID.
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
        plivo_uuid = nullif($7, ''), finished_at = coalesce(a.finished_at, clock_timestamp()),
        look_at = CASE WHEN $3 = 'unknown' THEN now() + interval '5 seconds' END
    FROM m WHERE a.message_id = m.id AND a.number = m.attempts
), event AS (
    INSERT INTO message_events (message_id, kind, status, attempt, detail)
    SELECT id, $8, status, attempts, $9 FROM m
)
SELECT count(*) FROM m`
)

// submitMessage takes evidence even for an attempt that was given up on, as
// long as the next one has not begun: better to adopt than to send again. That
// Plivo accepts messages ends any pause.
const submitMessage = `
WITH m AS (
    UPDATE messages SET status = 'submitted', reason = '', plivo_uuid = $7, held = false, line = NULL,
        next_attempt_at = NULL, relay_at = NULL, version = version + 1, updated_at = now()
    WHERE id = $1 AND attempts = $2 AND (status IN ('sending', 'in_doubt') OR (status = 'queued' AND EXISTS (
        SELECT FROM attempts WHERE message_id = $1 AND number = $2 AND outcome = 'unknown')))
    RETURNING *
), resumed AS (
    DELETE FROM pauses
)` + finishAttempt

// Submit records that Plivo accepted the attempt. It reports false when the
// attempt is not the message's open one any more, e.g. because a delivery
// report was quicker than the answer.
func (s *Store) Submit(ctx context.Context, ref mms.AttemptRef, v mms.Verdict) (bool, error) {
	return s.finish(ctx, "recording an accepted attempt", submitMessage, ref, v, mms.EventSubmitted, "")
}

const requeueMessage = `
WITH m AS (
    UPDATE messages SET status = 'queued', reason = $10, held = false, version = version + 1, updated_at = now(),
        next_attempt_at = now() + $11 * interval '1 second',
        relay_at = now() + $11 * interval '1 second' + ` + relayGrace +
	guardAttempt + finishAttempt

// Requeue records that Plivo did not take the message this time, and when it
// is due again. It reports false as Submit does.
func (s *Store) Requeue(ctx context.Context, ref mms.AttemptRef, v mms.Verdict, step mms.Step) (bool, error) {
	return s.finish(ctx, "recording a refusal for now", requeueMessage, ref, v, mms.EventRefusedForNow, string(step.Reason), string(step.Reason), step.Wait.Seconds())
}

const pauseSending = `
WITH m AS (
    UPDATE messages SET status = 'queued', reason = $10, held = false, version = version + 1, updated_at = now(),
        next_attempt_at = now(), relay_at = 'infinity', line = 'waiting'` +
	guardAttempt + `, pause AS (
    INSERT INTO pauses (cause, detail, probe_at) SELECT $10, $6, now() + interval '10 seconds' FROM m
    ON CONFLICT (cause) DO NOTHING
)` + finishAttempt

// Pause records that the account cannot send, puts the message back in line and
// pauses all sending for that cause. It reports false as Submit does.
func (s *Store) Pause(ctx context.Context, ref mms.AttemptRef, v mms.Verdict) (bool, error) {
	return s.finish(ctx, "recording account trouble", pauseSending, ref, v, mms.EventAccountTrouble, string(v.Reason), string(v.Reason))
}

const failMessage = `
WITH m AS (
    UPDATE messages SET status = 'failed', reason = $10, held = false, version = version + 1, updated_at = now(), final_at = now()` +
	guardAttempt + finishAttempt

// Fail records that the message will not be sent. It reports false as Submit
// does.
func (s *Store) Fail(ctx context.Context, ref mms.AttemptRef, v mms.Verdict, reason mms.Reason) (bool, error) {
	return s.finish(ctx, "recording a failure", failMessage, ref, v, mms.EventRefused, string(reason), string(reason))
}

const doubtMessage = `
WITH m AS (
    UPDATE messages SET status = 'in_doubt', reason = $10, version = version + 1, updated_at = now()
    WHERE id = $1 AND attempts = $2 AND status = 'sending'
    RETURNING *
)` + finishAttempt

// Doubt records that it is not known whether Plivo has the message. It reports
// false as Submit does.
func (s *Store) Doubt(ctx context.Context, ref mms.AttemptRef, v mms.Verdict) (bool, error) {
	return s.finish(ctx, "recording a doubt", doubtMessage, ref, v, mms.EventInDoubt, string(v.Reason), string(v.Reason))
}

func (s *Store) finish(ctx context.Context, doing, query string, ref mms.AttemptRef, v mms.Verdict, kind mms.EventKind, detail string, more ...any) (bool, error) {
	args := append([]any{ref.MessageID, ref.Number, string(v.Outcome), v.HTTPStatus, v.APIID, v.Detail, v.PlivoUUID, string(kind), detail}, more...)
	var changed int
	err := s.db.GetContext(ctx, &changed, query, args...)
	return changed == 1, translate(err, doing)
}

const doubtLapsed = `
WITH lapsed AS (
    SELECT m.id FROM messages m JOIN attempts a ON a.message_id = m.id AND a.number = m.attempts
    WHERE a.outcome IS NULL AND a.lease_until < now() AND m.status = 'sending'
    ORDER BY a.lease_until LIMIT $1 FOR UPDATE OF m SKIP LOCKED
), m AS (
    UPDATE messages SET status = 'in_doubt', reason = 'worker_lost', version = version + 1, updated_at = now()
    FROM lapsed WHERE messages.id = lapsed.id
    RETURNING messages.id, messages.attempts, messages.status
), attempt AS (
    UPDATE attempts a SET outcome = 'unknown', finished_at = now(), look_at = now() + interval '5 seconds'
    FROM m WHERE a.message_id = m.id AND a.number = m.attempts
), event AS (
    INSERT INTO message_events (message_id, kind, status, attempt, detail)
    SELECT id, 'in_doubt', status, attempts, 'worker_lost' FROM m
)
SELECT count(*) FROM m`

// DoubtLapsed puts up to limit messages in doubt whose worker was lost in the
// middle of an attempt, and returns how many.
func (s *Store) DoubtLapsed(ctx context.Context, limit int) (int, error) {
	var changed int
	err := s.db.GetContext(ctx, &changed, doubtLapsed, limit)
	return changed, translate(err, "looking for lost attempts")
}

const renewLeases = `
UPDATE attempts SET lease_until = now() + $2 * interval '1 second'
WHERE token = ANY ($1) AND outcome IS NULL AND lease_until > now()
RETURNING token`

// RenewLeases extends the leases of the open attempts with these tokens, except
// those that are over, and returns the tokens of those it extended.
func (s *Store) RenewLeases(ctx context.Context, tokens []string, length time.Duration) ([]string, error) {
	var renewed []string
	err := s.db.SelectContext(ctx, &renewed, renewLeases, pq.Array(tokens), length.Seconds())
	return renewed, translate(err, "renewing leases")
}
