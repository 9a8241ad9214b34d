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
      AND (m.line = 'released' OR (
          NOT EXISTS (SELECT FROM pauses)
          AND NOT EXISTS (SELECT FROM messages w WHERE w.sender = m.sender AND w.line = 'waiting' AND w.priority <= m.priority)))
    FOR UPDATE OF m
), gate AS (
    UPDATE gates SET released_until = '-infinity',
        next_at = greatest(next_at, clock_timestamp() - 0.05 * seconds * interval '1 second') + seconds * interval '1 second'
    FROM target WHERE gates.name = target.sender AND seconds > 0 AND gates.next_at <= clock_timestamp()
    RETURNING clock_timestamp() AS passed
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
SELECT ` + claimColumns + `
FROM m`

// claimColumns are read into a claimRow; the table is named m.
const claimColumns = `m.id, m.attempts, m.sender, m.recipient, m.text, ` + mediaOfMessage + `, ` + claimCounts

type claimRow struct {
	ID        uuid.UUID      `db:"id"`
	Attempts  int            `db:"attempts"`
	Sender    string         `db:"sender"`
	Recipient string         `db:"recipient"`
	Text      string         `db:"text"`
	Media     pq.StringArray `db:"media"`
	Refusals  int            `db:"refusals"`
	Troubles  int            `db:"own_troubles"`
}

func (r claimRow) claim() mms.Claim {
	return mms.Claim{
		AttemptRef: mms.AttemptRef{MessageID: r.ID, Number: r.Attempts},
		Sender:     mms.Number(r.Sender), Recipient: mms.Number(r.Recipient),
		Text: r.Text, MediaURLs: r.Media, Refusals: r.Refusals, OwnTroubles: r.Troubles,
	}
}

// claimCounts are what the retry policy goes by. A first attempt has nothing to
// count.
const claimCounts = `
    CASE WHEN m.attempts > 1 THEN (SELECT count(*) FROM attempts t
        WHERE t.message_id = m.id AND t.outcome = 'refused_for_now' AND t.http_status IS NOT NULL) ELSE 0 END AS refusals,
    CASE WHEN m.attempts > 1 THEN (SELECT count(*) FROM attempts t
        WHERE t.message_id = m.id AND t.outcome = 'account_trouble' AND EXISTS (
            SELECT FROM attempts b WHERE b.outcome = 'accepted' AND b.started_at > t.started_at)) ELSE 0 END AS own_troubles`

// selectClaim finds the claim that was begun with our token.
const selectClaim = `
SELECT ` + claimColumns + `
FROM messages m JOIN attempts a ON a.message_id = m.id AND a.number = m.attempts
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
	if errors.Is(err, sql.ErrNoRows) || violates(err, "messages_one_unsettled_per_pair") {
		return mms.Claim{}, false, nil
	}
	if err == nil {
		s.changed(id)
	}
	return row.claim(), err == nil, translate(err, "claiming a message")
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
        look_at = CASE WHEN $3 = 'unknown' THEN now() + interval '5 seconds' END
    FROM m WHERE a.message_id = m.id AND a.number = $2
), event AS (
    INSERT INTO message_events (message_id, kind, status, attempt, detail)
    SELECT id, $7, status, $2, $8 FROM m
)
SELECT id FROM m`
)

// messageFirst begins statements that change an attempt before its message. All
// take the message's lock before the attempt's, so that none waits for another in
// a circle.
const messageFirst = `
WITH locked AS (
    SELECT id FROM messages WHERE id = $1 FOR UPDATE
)`

// closeAttempt finishes an attempt that decides nothing about its message any
// more, because evidence about another was quicker.
const closeAttempt = messageFirst + `, attempt AS (
    UPDATE attempts SET outcome = $3, http_status = nullif($4, 0), api_id = $5, detail = $6, finished_at = clock_timestamp()
    FROM locked WHERE message_id = locked.id AND number = $2 AND outcome IS NULL RETURNING message_id
), m AS (
    UPDATE messages SET version = version + 1, updated_at = now()
    FROM attempt WHERE id = attempt.message_id RETURNING id, status
), event AS (
    INSERT INTO message_events (message_id, kind, status, attempt, detail)
    SELECT id, $7, status, $2, $8 FROM m
)
SELECT id FROM m`

// acceptAttempt takes any proof that Plivo has accepted an attempt. Unless the
// message is known to be there already it becomes that message, wherever it
// stands: better to adopt late than to send again. A second acceptance is
// recorded as the duplicate it is. A 202 to what was begun during a pause shows that
// the account works, also when the message was known to be there already by a report.
const acceptAttempt = messageFirst + `, a AS (
    UPDATE attempts SET outcome = 'accepted', plivo_uuid = $3, http_status = coalesce(nullif($4, 0), http_status),
        api_id = CASE WHEN $5 = '' THEN api_id ELSE $5 END, detail = '', look_at = NULL,
        finished_at = coalesce(finished_at, clock_timestamp())
    FROM locked WHERE message_id = locked.id AND number = $2 AND plivo_uuid IS NULL
    RETURNING message_id
), m AS (
    UPDATE messages SET version = version + 1, updated_at = now(), held = false, line = NULL, next_attempt_at = NULL, relay_at = NULL,
        check_at = CASE WHEN plivo_uuid IS NULL THEN now() ELSE check_at END,
        plivo_uuid = coalesce(plivo_uuid, $3),
        reason = CASE WHEN plivo_uuid IS NULL THEN '' ELSE reason END,
        status = CASE WHEN plivo_uuid IS NULL AND status <> 'sent' THEN 'submitted' ELSE status END,
        final_at = CASE WHEN plivo_uuid IS NULL THEN NULL ELSE final_at END
    FROM a WHERE id = a.message_id
    RETURNING id, status, plivo_uuid = $3 AS adopted
), resumed AS (
    DELETE FROM pauses USING attempts t
    WHERE $4 / 100 = 2 AND t.message_id = $1 AND t.number = $2 AND t.started_at >= pauses.since
), event AS (
    INSERT INTO message_events (message_id, kind, status, attempt, detail)
    SELECT id, CASE WHEN adopted THEN $6 ELSE 'duplicate' END, status, $2,
        CASE WHEN adopted AND $6 = 'submitted' THEN '' ELSE $3 END FROM m
)
SELECT adopted FROM m`

// answeredLate adds Plivo's answer to an attempt that a report was quicker to prove.
// Nothing happens to the message by it: its version stays.
const answeredLate = `
UPDATE attempts SET http_status = $4, api_id = CASE WHEN $5 = '' THEN api_id ELSE $5 END
WHERE message_id = $1 AND number = $2 AND plivo_uuid = $3 AND http_status IS NULL`

// Accepted records the proof v that Plivo accepted an attempt, as an event of
// the given kind.
func (s *Store) Accepted(ctx context.Context, ref mms.AttemptRef, v mms.Verdict, kind mms.EventKind) (mms.Acceptance, error) {
	if kind == mms.EventSubmitted {
		if got, ok, err := s.acceptedInGroup(ctx, ref, v); ok {
			return got, err
		}
	}
	return s.acceptedOne(ctx, ref, v, kind)
}

func (s *Store) acceptedOne(ctx context.Context, ref mms.AttemptRef, v mms.Verdict, kind mms.EventKind) (mms.Acceptance, error) {
	var adopted bool
	err := s.db.GetContext(ctx, &adopted, acceptAttempt, ref.MessageID, ref.Number, v.PlivoUUID, v.HTTPStatus, v.APIID, string(kind))
	switch {
	case errors.Is(err, sql.ErrNoRows) && v.HTTPStatus != 0:
		_, err := s.db.ExecContext(ctx, answeredLate, ref.MessageID, ref.Number, v.PlivoUUID, v.HTTPStatus, v.APIID)
		return mms.NothingNew, translate(err, "recording an answer after its report")
	case errors.Is(err, sql.ErrNoRows) || violates(err, "attempts_plivo_uuid_key"):
		return mms.NothingNew, nil
	case err != nil:
		return mms.NothingNew, translate(err, "recording an accepted attempt")
	}
	s.changed(ref.MessageID)
	if adopted {
		return mms.Adopted, nil
	}
	return mms.Duplicate, nil
}

const requeueMessage = `
WITH m AS (
    UPDATE messages SET status = 'queued', reason = $9, held = false, version = version + 1, updated_at = now(),
        next_attempt_at = now() + $10 * interval '1 second',
        relay_at = now() + $10 * interval '1 second' + ` + relayGrace +
	guardAttempt + finishAttempt

// Requeue records that Plivo did not take the message this time, and when it
// is due again. It reports false when the attempt is not the message's open one
// any more, because evidence was quicker; its outcome is recorded all the same.
func (s *Store) Requeue(ctx context.Context, ref mms.AttemptRef, v mms.Verdict, step mms.Step) (bool, error) {
	return s.finish(ctx, "recording a refusal for now", requeueMessage, ref, v, mms.EventRefusedForNow, string(step.Reason), string(step.Reason), step.Wait.Seconds())
}

const pauseSending = `
WITH m AS (
    UPDATE messages SET status = 'queued', reason = $9, held = false, version = version + 1, updated_at = now(),
        next_attempt_at = now(), relay_at = 'infinity', line = 'waiting'` +
	guardAttempt + `, pause AS (
    INSERT INTO pauses (cause, detail, probe_at) SELECT $9, $6, now() + interval '10 seconds' FROM m
    ON CONFLICT (cause) DO NOTHING
)` + finishAttempt

// Pause records that the account cannot send, puts the message back in line and
// pauses all sending for that cause. It reports false as Requeue does.
func (s *Store) Pause(ctx context.Context, ref mms.AttemptRef, v mms.Verdict) (bool, error) {
	return s.finish(ctx, "recording account trouble", pauseSending, ref, v, mms.EventAccountTrouble, string(v.Reason), string(v.Reason))
}

const failMessage = `
WITH m AS (
    UPDATE messages SET status = 'failed', reason = $9, held = false, version = version + 1, updated_at = now(), final_at = now()` +
	guardAttempt + finishAttempt

// Fail records that the message will not be sent. It reports false as Requeue
// does.
func (s *Store) Fail(ctx context.Context, ref mms.AttemptRef, v mms.Verdict, reason mms.Reason) (bool, error) {
	return s.finish(ctx, "recording a failure", failMessage, ref, v, mms.EventRefused, string(reason), string(reason))
}

const doubtMessage = `
WITH m AS (
    UPDATE messages SET status = 'in_doubt', reason = $9, version = version + 1, updated_at = now()
    WHERE id = $1 AND attempts = $2 AND status = 'sending'
    RETURNING *
)` + finishAttempt

// Doubt records that it is not known whether Plivo has the message. It reports
// false as Requeue does.
func (s *Store) Doubt(ctx context.Context, ref mms.AttemptRef, v mms.Verdict) (bool, error) {
	return s.finish(ctx, "recording a doubt", doubtMessage, ref, v, mms.EventInDoubt, string(v.Reason), string(v.Reason))
}

func (s *Store) finish(ctx context.Context, doing, query string, ref mms.AttemptRef, v mms.Verdict, kind mms.EventKind, detail string, more ...any) (bool, error) {
	args := []any{ref.MessageID, ref.Number, string(v.Outcome), v.HTTPStatus, v.APIID, v.Detail, string(kind), detail}
	changed, err := s.change(ctx, doing, query, append(args, more...)...)
	if err != nil || changed > 0 {
		return changed > 0, err
	}
	_, err = s.change(ctx, doing, closeAttempt, args...)
	return false, err
}

// change runs a statement that returns the ids of the messages it changed, and
// counts them.
func (s *Store) change(ctx context.Context, doing, query string, args ...any) (int, error) {
	var ids []uuid.UUID
	err := s.db.SelectContext(ctx, &ids, query, args...)
	s.changed(ids...)
	return len(ids), translate(err, doing)
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
SELECT id FROM m`

// closeLapsed finishes lost attempts of messages that are not being sent any
// more, because evidence about another attempt was quicker.
const closeLapsed = `
UPDATE attempts a SET outcome = 'unknown', finished_at = now() FROM messages m
WHERE m.id = a.message_id AND a.outcome IS NULL AND a.lease_until < now() AND (m.status <> 'sending' OR m.attempts <> a.number)`

// DoubtLapsed puts up to limit messages in doubt whose worker was lost in the
// middle of an attempt, and returns how many.
func (s *Store) DoubtLapsed(ctx context.Context, limit int) (int, error) {
	if _, err := s.db.ExecContext(ctx, closeLapsed); err != nil {
		return 0, translate(err, "closing lost attempts")
	}
	return s.change(ctx, "looking for lost attempts", doubtLapsed, limit)
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
	return renewed, translate(err, "renewing leases")
}
