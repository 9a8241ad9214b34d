package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/postcard-mms/postcard/internal/mms"
)

const selectInDoubt = `
SELECT t.message_id, t.ordinal, t.sender, m.recipient, t.started_at, t.finished_at,
    extract(epoch FROM now() - t.finished_at) AS age,
    EXISTS (
        SELECT FROM messages o JOIN attempts a ON a.message_id = o.id
        WHERE o.sender = m.sender AND o.recipient = m.recipient AND o.id <> m.id
          AND a.outcome = 'unknown' AND a.plivo_uuid IS NULL AND a.started_at > t.started_at - interval '10 minutes'
    ) AS pair_ambiguous, t.next_check_at <= now() AS due, r.retried_at
FROM attempts t JOIN messages m ON m.id = t.message_id
LEFT JOIN silence_retries r ON r.message_id = t.message_id AND r.ordinal = t.ordinal
WHERE t.next_check_at IS NOT NULL AND t.outcome = 'unknown'
  AND (r.retried_at IS NOT NULL OR m.attempts = t.ordinal AND m.status = 'in_doubt' AND NOT m.held)
ORDER BY t.started_at LIMIT $1`

type doubtRow struct {
	MessageID     uuid.UUID `db:"message_id"`
	Ordinal       int       `db:"ordinal"`
	Sender        string    `db:"sender"`
	Recipient     string    `db:"recipient"`
	StartedAt     time.Time `db:"started_at"`
	FinishedAt    time.Time `db:"finished_at"`
	Age           float64   `db:"age"`
	PairAmbiguous bool      `db:"pair_ambiguous"`
	Due           bool      `db:"due"`

	RetriedAt *time.Time `db:"retried_at"`
}

// InDoubt returns up to limit attempts in doubt, the oldest first. It leaves out those of
// held messages, but includes superseded attempts, whatever their message's status is.
func (s *Store) InDoubt(ctx context.Context, limit int) ([]mms.Doubt, error) {
	var rows []doubtRow
	if err := s.db.SelectContext(ctx, &rows, selectInDoubt, limit); err != nil {
		return nil, wrapError(err, "reading messages in doubt")
	}
	doubts := make([]mms.Doubt, len(rows))
	for i, row := range rows {
		doubts[i] = mms.Doubt{
			AttemptRef: mms.AttemptRef{MessageID: row.MessageID, Ordinal: row.Ordinal},
			Sender:     mms.PhoneNumber(row.Sender), Recipient: mms.PhoneNumber(row.Recipient),
			StartedAt: row.StartedAt, FinishedAt: row.FinishedAt, Age: seconds(row.Age), PairAmbiguous: row.PairAmbiguous, Due: row.Due,
		}
		if row.RetriedAt != nil {
			doubts[i].RetriedAt = *row.RetriedAt
		}
	}
	return doubts, nil
}

const countAttempts = `SELECT count(*) FROM attempts WHERE started_at BETWEEN $1 AND $2`

// AttemptsBetween counts the attempts that started between two times, both included.
func (s *Store) AttemptsBetween(ctx context.Context, from, to time.Time) (int, error) {
	var n int
	err := s.db.GetContext(ctx, &n, countAttempts, from, to)
	return n, wrapError(err, "counting attempts")
}

const selectKnownUUIDs = `SELECT plivo_uuid FROM attempts WHERE plivo_uuid = ANY ($1)`

// KnownUUIDs returns those of the Plivo UUIDs that are recorded with an attempt.
func (s *Store) KnownUUIDs(ctx context.Context, uuids []string) ([]string, error) {
	var known []string
	err := s.db.SelectContext(ctx, &known, selectKnownUUIDs, pq.Array(uuids))
	return known, wrapError(err, "reading known UUIDs")
}

// scheduleChecks locks messages before attempts and in the order of their ids, as all
// statements do.
const scheduleChecks = `
WITH input AS MATERIALIZED (
    SELECT * FROM unnest((SELECT $1::uuid[]), $2::int[]) AS u (id, ordinal)
), locked AS (
    SELECT input.* FROM messages m JOIN input ON input.id = m.id ORDER BY m.id FOR UPDATE OF m
), attempt AS (
    UPDATE attempts a SET next_check_at = now() + $3 * interval '1 second'
    FROM locked WHERE a.message_id = locked.id AND a.ordinal = locked.ordinal AND a.next_check_at IS NOT NULL RETURNING a.message_id
), changed AS (
    UPDATE messages SET version = version + 1, updated_at = now()
    FROM attempt WHERE id = attempt.message_id AND status = 'in_doubt' AND $4 <> ''
    RETURNING id, status, attempts
)
INSERT INTO message_events (message_id, kind, status, attempt, detail)
SELECT id, 'evidence_searched', status, attempts, $4 FROM changed
RETURNING message_id`

// ScheduleChecks sets when the reconciler next checks attempts in doubt. With a note
// about the last check it also adds an event.
func (s *Store) ScheduleChecks(ctx context.Context, refs []mms.AttemptRef, wait time.Duration, note string) error {
	ids, ordinals := make([]string, len(refs)), make([]int64, len(refs))
	for i, ref := range refs {
		ids[i], ordinals[i] = ref.MessageID.String(), int64(ref.Ordinal)
	}
	_, err := s.exec(ctx, "scheduling checks", scheduleChecks, pq.Array(ids), pq.Array(ordinals), wait.Seconds(), note)
	return err
}

const stopChecking = `UPDATE attempts SET next_check_at = NULL WHERE message_id = $1 AND ordinal = $2`

// StopChecking ends the checks of a superseded attempt. Its outcome stays unknown.
func (s *Store) StopChecking(ctx context.Context, ref mms.AttemptRef) error {
	_, err := s.db.ExecContext(ctx, stopChecking, ref.MessageID, ref.Ordinal)
	return wrapError(err, "ending the checks of an attempt")
}

const hold = `
WITH changed AS (
    UPDATE messages SET held = true, reason = $3, version = version + 1, updated_at = now()
    WHERE id = $1 AND attempts = $2 AND status = 'in_doubt' AND NOT held
    RETURNING id, status, attempts
), attempt AS (
    UPDATE attempts a SET next_check_at = NULL FROM changed WHERE a.message_id = changed.id AND a.ordinal = changed.attempts
), event AS (
    INSERT INTO message_events (message_id, kind, status, attempt, detail)
    SELECT id, 'held', status, attempts, $3 FROM changed
)
SELECT id FROM changed`

// Hold leaves a message in doubt to a person's decision. It reports false when the
// message is not in doubt any more, or held already.
func (s *Store) Hold(ctx context.Context, ref mms.AttemptRef, reason mms.Reason) (bool, error) {
	changed, err := s.exec(ctx, "holding a message", hold, ref.MessageID, ref.Ordinal, string(reason))
	return changed == 1, err
}

// retryInDoubt queues a message again. The outcome of the attempt stays unknown.
const retryInDoubt = `
WITH changed AS (
    UPDATE messages SET status = 'queued', reason = 'not_found', held = false, next_attempt_at = now(), task_check_at = ` + noTask + `,
        task_generation = task_generation + 1, version = version + 1, updated_at = now()
    WHERE id = $1 AND attempts = $2 AND status = 'in_doubt' AND NOT held
    RETURNING id, status, attempts
), attempt AS (
    UPDATE attempts a SET next_check_at = NULL FROM changed WHERE a.message_id = changed.id AND a.ordinal = changed.attempts
), event AS (
    INSERT INTO message_events (message_id, kind, status, attempt, detail)
    SELECT id, 'no_evidence', status, attempts, 'not_found' FROM changed
)
SELECT id FROM changed, pg_notify('task_check', '')`

// RetryInDoubt queues a message again after no evidence was found that Plivo has it. It
// reports false when the message is not in doubt any more, or held.
func (s *Store) RetryInDoubt(ctx context.Context, ref mms.AttemptRef) (bool, error) {
	changed, err := s.exec(ctx, "requeueing a message in doubt", retryInDoubt, ref.MessageID, ref.Ordinal)
	return changed == 1, err
}

// AdoptListed records as evidence that the listed message is the attempt's, and applies the
// state that Plivo lists for it.
func (s *Store) AdoptListed(ctx context.Context, ref mms.AttemptRef, found mms.Listed) (mms.SubmitResult, error) {
	result, err := s.RecordSubmitted(ctx, ref, mms.Verdict{PlivoUUID: found.PlivoUUID}, mms.EventEvidenceFound)
	if err != nil || result != mms.Adopted {
		return result, err
	}
	_, err = s.ApplyReport(ctx, ref, found.Report(), mms.EventStatusPolled)
	return result, err
}

const decideFinal = `
WITH changed AS (
    UPDATE messages SET status = $3, reason = $4, held = false, version = version + 1, updated_at = now(),
        final_at = now()
    WHERE id = $1 AND workspace_id = $2 AND status = 'in_doubt' AND held
    RETURNING id, status, attempts
), event AS (
    INSERT INTO message_events (message_id, kind, status, attempt, detail)
    SELECT id, 'decided', status, attempts, $4 FROM changed
)
SELECT id FROM changed`

const decideRetry = `
WITH changed AS (
    UPDATE messages SET status = 'queued', reason = 'decided_retry', held = false, next_attempt_at = now(), task_check_at = ` + noTask + `,
        expires_at = greatest(expires_at, now() + interval '3 hours'),
        task_generation = task_generation + 1, version = version + 1, updated_at = now()
    WHERE id = $1 AND workspace_id = $2 AND status = 'in_doubt' AND held
    RETURNING id, status, attempts
), event AS (
    INSERT INTO message_events (message_id, kind, status, attempt, detail)
    SELECT id, 'decided', status, attempts, 'decided_retry' FROM changed
)
SELECT id FROM changed, pg_notify('task_check', '')`

// Decide applies the workspace's decision about a held message. It returns mms.ErrNotHeld
// when the message is not held, and mms.ErrNotFound when the workspace has no such message.
func (s *Store) Decide(ctx context.Context, workspace, id uuid.UUID, d mms.Decision) error {
	const doing = "applying a decision"
	var changed int
	var err error
	switch d {
	case mms.DecideSent:
		changed, err = s.exec(ctx, doing, decideFinal, id, workspace, string(mms.Sent), string(mms.ReasonDecidedSent))
	case mms.DecideGiveUp:
		changed, err = s.exec(ctx, doing, decideFinal, id, workspace, string(mms.Failed), string(mms.ReasonDecidedGiveUp))
	default:
		changed, err = s.exec(ctx, doing, decideRetry, id, workspace)
	}
	if err != nil {
		return err
	}
	if changed == 1 {
		return nil
	}
	if _, err := s.Version(ctx, workspace, id); err != nil {
		return err
	}
	return mms.ErrNotHeld
}
