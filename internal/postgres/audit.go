package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/postcard-mms/postcard/internal/audit"
	"github.com/postcard-mms/postcard/internal/mms"
)

// check counts what an invariant forbids, or, as a figure, what is good to know.
type check struct {
	invariant, what, query string
	figure                 bool
}

var checks = []check{
	{"I1", "messages accepted", `SELECT count(*) FROM messages`, true},
	{"I1", "messages in a final status", `SELECT count(*) FROM messages WHERE final_at IS NOT NULL`, true},
	{"I1", "messages held for a person", `SELECT count(*) FROM messages WHERE held`, true},
	{"I1", "queued messages that nobody looks after", `
		SELECT count(*) FROM messages WHERE status = 'queued' AND backlog_state IS DISTINCT FROM 'waiting' AND task_check_at < now() - interval '5 minutes'`, false},
	{"I1", "scheduled messages whose time is long past", `
		SELECT count(*) FROM messages WHERE status = 'scheduled' AND send_at < now() - interval '5 minutes'`, false},
	{"I1", "messages set aside although their batch goes on", `
		SELECT count(*) FROM messages m JOIN batches b ON b.id = m.batch_id
		WHERE m.backlog_state = 'parked' AND b.state = 'running' AND NOT b.sync_pending`, false},
	{"I1", "messages of canceled batches that are still to be sent", `
		SELECT count(*) FROM messages m JOIN batches b ON b.id = m.batch_id
		WHERE b.state = 'canceled' AND NOT b.sync_pending AND m.status IN ('scheduled', 'queued') AND m.updated_at < now() - interval '5 minutes'`, false},
	{"I1", "events that a webhook waits for and nobody looks after", `
		SELECT count(*) FROM webhook_events WHERE state = 'pending' AND task_check_at < now() - interval '15 minutes'`, false},
	{"I1", "messages being sent by nobody", `
		SELECT count(*) FROM messages m WHERE m.status = 'sending' AND NOT EXISTS (
			SELECT FROM attempts a WHERE a.message_id = m.id AND a.ordinal = m.attempts
			AND a.outcome IS NULL AND a.lease_until > now() - interval '1 minute')`, false},
	{"I1", "doubtful messages that nobody looks after", `
		SELECT count(*) FROM messages m WHERE m.status = 'in_doubt' AND NOT m.held AND NOT EXISTS (
			SELECT FROM attempts a WHERE a.message_id = m.id AND a.ordinal = m.attempts
			AND a.next_check_at > now() - interval '5 minutes')`, false},
	{"I2", "messages known to be at Plivo more than once", `SELECT count(*) FROM (` + acceptedTwice + `) t`, true},
	{"I2", "of these, without a full wait or a person's word in the events", `
		SELECT count(*) FROM (` + acceptedTwice + `) t WHERE NOT EXISTS (
			SELECT FROM message_events e WHERE e.message_id = t.message_id
			AND (e.kind = 'no_evidence' OR (e.kind = 'decided' AND e.detail = 'decided_resend')))`, false},
	{"I4", "messages whose last event does not tell their status", `
		SELECT count(*) FROM messages m WHERE m.status IS DISTINCT FROM (
			SELECT e.status FROM message_events e WHERE e.message_id = m.id ORDER BY e.id DESC LIMIT 1)`, false},
	{"I4", "messages whose events are not complete", `
		SELECT count(*) FROM messages m WHERE m.version <> (SELECT count(*) FROM message_events e WHERE e.message_id = m.id)`, false},
	{"I7", "attempts that came too soon after another of their sender", `
		SELECT count(*) FROM (
			SELECT sender, started_at - lag(started_at) OVER (PARTITION BY sender ORDER BY started_at) AS gap FROM attempts
		) a JOIN rate_limits g ON g.name = a.sender WHERE a.gap < (g.interval_seconds * 0.94) * interval '1 second'`, false},
}

const selectStats = `
SELECT status, count(*) AS messages, count(*) FILTER (WHERE backlog_state = 'waiting') AS waiting, count(*) FILTER (WHERE held) AS held
FROM messages WHERE status IN ('queued', 'sending', 'in_doubt', 'submitted') GROUP BY status`

// Stats counts the messages that are not with a carrier yet.
func (s *Store) Stats(ctx context.Context) (mms.Stats, error) {
	var rows []struct {
		Status   string `db:"status"`
		Messages int    `db:"messages"`
		InLine   int    `db:"waiting"`
		Held     int    `db:"held"`
	}
	if err := s.db.SelectContext(ctx, &rows, selectStats); err != nil {
		return mms.Stats{}, wrapError(err, "counting messages")
	}
	figures := mms.Stats{Messages: map[mms.Status]int{mms.Queued: 0, mms.Sending: 0, mms.InDoubt: 0, mms.Submitted: 0}}
	for _, row := range rows {
		figures.Messages[mms.Status(row.Status)] = row.Messages
		figures.Waiting += row.InLine
		figures.Held += row.Held
	}
	return figures, nil
}

const acceptedTwice = `SELECT message_id FROM attempts WHERE outcome = 'accepted' GROUP BY message_id HAVING count(*) > 1`

// illegalTransitions counts consecutive events between whose statuses no transition
// leads; $1 lists the legal ones as "from>to".
const illegalTransitions = `
SELECT count(*) FROM (
    SELECT status, lag(status) OVER (PARTITION BY message_id ORDER BY id) AS before FROM message_events
) e WHERE before IS NOT NULL AND before <> status AND NOT before || '>' || status = ANY ($1)`

// Audit checks the invariants as far as our own records go.
func (s *Store) Audit(ctx context.Context) ([]audit.Finding, error) {
	var findings []audit.Finding
	for _, c := range checks {
		var count int
		if err := s.db.GetContext(ctx, &count, c.query); err != nil {
			return nil, wrapError(err, "counting "+c.what)
		}
		findings = append(findings, audit.Finding{Invariant: c.invariant, What: c.what, Count: count, Broken: !c.figure && count > 0})
	}
	var legal []string
	for _, from := range mms.Statuses() {
		for _, to := range mms.Statuses() {
			if from.CanBecome(to) {
				legal = append(legal, string(from)+">"+string(to))
			}
		}
	}
	var illegal int
	if err := s.db.GetContext(ctx, &illegal, illegalTransitions, pq.Array(legal)); err != nil {
		return nil, wrapError(err, "counting illegal steps")
	}
	return append(findings, audit.Finding{Invariant: "I4", What: "events that step back", Count: illegal, Broken: illegal > 0}), nil
}

const selectAttemptRecords = `
SELECT a.token, a.message_id, a.ordinal, a.started_at, coalesce(a.plivo_uuid, '') AS plivo_uuid, coalesce(a.outcome, '') AS outcome, m.status,
    (SELECT count(*) FROM message_events e WHERE e.message_id = m.id
     AND (e.kind = 'no_evidence' OR (e.kind = 'decided' AND e.detail = 'decided_resend'))) AS resent
FROM attempts a JOIN messages m ON m.id = a.message_id`

// AttemptRecords returns all attempts by their tokens, for the comparison with
// the provider's side.
func (s *Store) AttemptRecords(ctx context.Context) (map[string]audit.AttemptRecord, error) {
	var rows []struct {
		Token     string    `db:"token"`
		MessageID uuid.UUID `db:"message_id"`
		Number    int       `db:"ordinal"`
		StartedAt time.Time `db:"started_at"`
		PlivoUUID string    `db:"plivo_uuid"`
		Outcome   string    `db:"outcome"`
		Status    string    `db:"status"`
		Resent    int       `db:"resent"`
	}
	if err := s.db.SelectContext(ctx, &rows, selectAttemptRecords); err != nil {
		return nil, wrapError(err, "reading attempts for an audit")
	}
	records := make(map[string]audit.AttemptRecord, len(rows))
	for _, r := range rows {
		records[r.Token] = audit.AttemptRecord{
			MessageID: r.MessageID, Ordinal: r.Number, StartedAt: r.StartedAt, PlivoUUID: r.PlivoUUID,
			Outcome: mms.Outcome(r.Outcome), Status: mms.Status(r.Status), Resends: r.Resent,
		}
	}
	return records, nil
}
