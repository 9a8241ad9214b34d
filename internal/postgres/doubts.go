package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"postcard/internal/mms"
)

const openDoubts = `
SELECT t.message_id, t.number, t.sender, m.recipient, t.started_at, t.finished_at,
    extract(epoch FROM now() - t.finished_at) AS age,
    EXISTS (
        SELECT FROM messages o JOIN attempts a ON a.message_id = o.id
        WHERE o.sender = m.sender AND o.recipient = m.recipient AND o.id <> m.id
          AND a.outcome = 'unknown' AND a.plivo_uuid IS NULL AND a.started_at > t.started_at - interval '10 minutes'
    ) AS crowded, t.look_at <= now() AS due
FROM attempts t JOIN messages m ON m.id = t.message_id AND m.attempts = t.number AND m.status = 'in_doubt' AND NOT m.held
WHERE t.look_at IS NOT NULL ORDER BY t.started_at LIMIT $1`

type doubtRow struct {
	MessageID  uuid.UUID `db:"message_id"`
	Number     int       `db:"number"`
	Sender     string    `db:"sender"`
	Recipient  string    `db:"recipient"`
	StartedAt  time.Time `db:"started_at"`
	FinishedAt time.Time `db:"finished_at"`
	Age        float64   `db:"age"`
	Crowded    bool      `db:"crowded"`
	Due        bool      `db:"due"`
}

// OpenDoubts returns up to limit doubts, the oldest first.
func (s *Store) OpenDoubts(ctx context.Context, limit int) ([]mms.Doubt, error) {
	var rows []doubtRow
	if err := s.db.SelectContext(ctx, &rows, openDoubts, limit); err != nil {
		return nil, translate(err, "reading doubts")
	}
	doubts := make([]mms.Doubt, len(rows))
	for i, row := range rows {
		doubts[i] = mms.Doubt{
			AttemptRef: mms.AttemptRef{MessageID: row.MessageID, Number: row.Number},
			Sender:     mms.Number(row.Sender), Recipient: mms.Number(row.Recipient),
			Begun: row.StartedAt, Ended: row.FinishedAt, Age: seconds(row.Age), Crowded: row.Crowded, Due: row.Due,
		}
	}
	return doubts, nil
}

const countAttempts = `SELECT count(*) FROM attempts WHERE started_at BETWEEN $1 AND $2`

// AttemptsBetween counts the attempts begun in a span of time.
func (s *Store) AttemptsBetween(ctx context.Context, from, to time.Time) (int, error) {
	var n int
	err := s.db.GetContext(ctx, &n, countAttempts, from, to)
	return n, translate(err, "counting attempts")
}

const selectKnownUUIDs = `SELECT plivo_uuid FROM attempts WHERE plivo_uuid = ANY ($1)`

// KnownUUIDs returns those of the UUIDs that belong to attempts already.
func (s *Store) KnownUUIDs(ctx context.Context, among []string) ([]string, error) {
	var known []string
	err := s.db.SelectContext(ctx, &known, selectKnownUUIDs, pq.Array(among))
	return known, translate(err, "looking for known UUIDs")
}

// listGate paces our questions to Plivo's list: 20 a minute are allowed (Plivo
// docs, list all messages), and a second is left for clocks that differ.
const (
	listGate     = "plivo-list"
	listInterval = 3100 * time.Millisecond
)

// getGate paces our questions about single messages, far below the 300 requests
// in 5 seconds that an account may make (Plivo docs, account limits).
const (
	getGate     = "plivo-get"
	getInterval = 50 * time.Millisecond
)

const reserveCall = `
INSERT INTO gates (name, seconds, next_at) VALUES ($1, $2, clock_timestamp() + $2 * interval '1 second')
ON CONFLICT (name) DO UPDATE SET
    next_at = greatest(gates.next_at, clock_timestamp()) + EXCLUDED.seconds * interval '1 second'
RETURNING extract(epoch FROM next_at - clock_timestamp()) - seconds`

// ReserveListCall returns how long to wait before the next call of Plivo's
// list, for all workers together.
func (s *Store) ReserveListCall(ctx context.Context) (time.Duration, error) {
	return s.reserve(ctx, listGate, listInterval)
}

// ReserveGetCall is ReserveListCall for questions about single messages.
func (s *Store) ReserveGetCall(ctx context.Context) (time.Duration, error) {
	return s.reserve(ctx, getGate, getInterval)
}

func (s *Store) reserve(ctx context.Context, gate string, interval time.Duration) (time.Duration, error) {
	var wait float64
	err := s.db.GetContext(ctx, &wait, reserveCall, gate, interval.Seconds())
	return max(0, seconds(wait)), translate(err, "reserving a call of Plivo")
}

const lookLater = messageFirst + `, a AS (
    UPDATE attempts SET look_at = now() + $3 * interval '1 second'
    FROM locked WHERE message_id = locked.id AND number = $2 AND look_at IS NOT NULL RETURNING message_id, number
), m AS (
    UPDATE messages SET version = version + 1, updated_at = now()
    FROM a WHERE id = a.message_id AND status = 'in_doubt' AND $4 <> ''
    RETURNING id, status, attempts
)
INSERT INTO message_events (message_id, kind, status, attempt, detail)
SELECT id, 'looked', status, attempts, $4 FROM m
RETURNING message_id`

// LookLater sets when a doubt is looked at again, with a note of what this look
// brought; no note, no event.
func (s *Store) LookLater(ctx context.Context, ref mms.AttemptRef, wait time.Duration, note string) error {
	_, err := s.change(ctx, "noting a look for evidence", lookLater, ref.MessageID, ref.Number, wait.Seconds(), note)
	return err
}

const holdDoubt = `
WITH m AS (
    UPDATE messages SET held = true, reason = $3, version = version + 1, updated_at = now()
    WHERE id = $1 AND attempts = $2 AND status = 'in_doubt' AND NOT held
    RETURNING id, status, attempts
), attempt AS (
    UPDATE attempts a SET look_at = NULL FROM m WHERE a.message_id = m.id AND a.number = m.attempts
), event AS (
    INSERT INTO message_events (message_id, kind, status, attempt, detail)
    SELECT id, 'held', status, attempts, $3 FROM m
)
SELECT id FROM m`

// HoldDoubt leaves a doubt to a person.
func (s *Store) HoldDoubt(ctx context.Context, ref mms.AttemptRef, reason mms.Reason) (bool, error) {
	changed, err := s.change(ctx, "holding a doubt", holdDoubt, ref.MessageID, ref.Number, string(reason))
	return changed == 1, err
}

// requeueDoubt takes a doubtful message back into the queue; the attempt stays
// unknown for ever.
const requeueDoubt = `
WITH m AS (
    UPDATE messages SET status = 'queued', reason = 'not_found', held = false, next_attempt_at = now(), relay_at = now(),
        task_generation = task_generation + 1, version = version + 1, updated_at = now()
    WHERE id = $1 AND attempts = $2 AND status = 'in_doubt' AND NOT held
    RETURNING id, status, attempts
), attempt AS (
    UPDATE attempts a SET look_at = NULL FROM m WHERE a.message_id = m.id AND a.number = m.attempts
), event AS (
    INSERT INTO message_events (message_id, kind, status, attempt, detail)
    SELECT id, 'not_found', status, attempts, 'not_found' FROM m
)
SELECT id FROM m, pg_notify('relay', '')`

// ResendDoubt queues a message again that Plivo is shown not to have, as far as
// can be known.
func (s *Store) ResendDoubt(ctx context.Context, ref mms.AttemptRef) (bool, error) {
	changed, err := s.change(ctx, "queueing a doubtful message again", requeueDoubt, ref.MessageID, ref.Number)
	return changed == 1, err
}

// AdoptListed settles a doubt with the one message of Plivo's that it can be,
// and takes over the state that Plivo lists for it.
func (s *Store) AdoptListed(ctx context.Context, ref mms.AttemptRef, found mms.Listed) (bool, error) {
	got, err := s.Accepted(ctx, ref, mms.Verdict{PlivoUUID: found.PlivoUUID}, mms.EventFound)
	if err != nil || got != mms.Adopted {
		return false, err
	}
	_, err = s.ApplyReport(ctx, ref, found.Report(), mms.EventAsked)
	return true, err
}

const closeDoubt = `
WITH m AS (
    UPDATE messages SET status = $3, reason = $4, held = false, version = version + 1, updated_at = now(),
        final_at = now()
    WHERE id = $1 AND user_id = $2 AND status = 'in_doubt' AND held
    RETURNING id, status, attempts
), event AS (
    INSERT INTO message_events (message_id, kind, status, attempt, detail)
    SELECT id, 'decided', status, attempts, $4 FROM m
)
SELECT id FROM m`

const resendByPerson = `
WITH m AS (
    UPDATE messages SET status = 'queued', reason = 'decided_again', held = false, next_attempt_at = now(), relay_at = now(),
        expires_at = greatest(expires_at, now() + interval '3 hours'),
        task_generation = task_generation + 1, version = version + 1, updated_at = now()
    WHERE id = $1 AND user_id = $2 AND status = 'in_doubt' AND held
    RETURNING id, status, attempts
), event AS (
    INSERT INTO message_events (message_id, kind, status, attempt, detail)
    SELECT id, 'decided', status, attempts, 'decided_again' FROM m
)
SELECT id FROM m, pg_notify('relay', '')`

// Decide carries out the owner's decision about a held message. It returns
// mms.ErrNotHeld when there is nothing to decide (any more), and
// mms.ErrNotFound for another's message.
func (s *Store) Decide(ctx context.Context, owner, id uuid.UUID, d mms.Decision) error {
	const doing = "carrying out a decision"
	var changed int
	var err error
	switch d {
	case mms.WasSent:
		changed, err = s.change(ctx, doing, closeDoubt, id, owner, string(mms.Sent), string(mms.ReasonDecidedSent))
	case mms.GiveUp:
		changed, err = s.change(ctx, doing, closeDoubt, id, owner, string(mms.Failed), string(mms.ReasonDecidedGiveUp))
	default:
		changed, err = s.change(ctx, doing, resendByPerson, id, owner)
	}
	if err != nil {
		return err
	}
	if changed == 1 {
		return nil
	}
	if _, err := s.Version(ctx, owner, id); err != nil {
		return err
	}
	return mms.ErrNotHeld
}
