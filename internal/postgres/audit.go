package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/postcard-mms/postcard/internal/audit"
	"github.com/postcard-mms/postcard/internal/mms"
)

// check is a query that counts rows. An invariant is broken when its count is not 0;
// the count of an informational check is never a violation.
type check struct {
	invariant, description, query string
	informational                 bool
}

// isResend says whether the message event e explains a second message at Plivo.
const isResend = `(e.kind IN ('no_evidence', 'no_report') OR (e.kind = 'decided' AND e.detail = 'decided_retry'))`

var checks = []check{
	{"I1", "messages", `SELECT count(*) FROM messages`, true},
	{"I1", "messages in a final status", `SELECT count(*) FROM messages WHERE final_at IS NOT NULL`, true},
	{"I1", "messages held for a decision", `SELECT count(*) FROM messages WHERE held`, true},
	{"I1", "queued messages whose task check is overdue", `
		SELECT count(*) FROM messages WHERE status = 'queued' AND backlog_state IS DISTINCT FROM 'waiting' AND task_check_at < now() - interval '15 minutes'
		AND (task_check_at > '-infinity' OR updated_at < now() - interval '5 minutes')`, false},
	{"I1", "messages whose media nobody prepares", countNotPrepared, false},
	{"I1", "scheduled messages that are overdue", `
		SELECT count(*) FROM messages WHERE status = 'scheduled' AND send_at < now() - interval '5 minutes'`, false},
	{"I1", "parked messages of running batches", `
		SELECT count(*) FROM messages m JOIN batches b ON b.id = m.batch_id
		WHERE m.backlog_state = 'parked' AND b.state = 'running' AND NOT b.sync_pending`, false},
	{"I1", "queued or scheduled messages of canceled batches", `
		SELECT count(*) FROM messages m JOIN batches b ON b.id = m.batch_id
		WHERE b.state = 'canceled' AND NOT b.sync_pending AND m.status IN ('scheduled', 'queued') AND m.updated_at < now() - interval '5 minutes'`, false},
	{"I1", "webhooks with events that are overdue although nothing holds them up", `
		SELECT count(*) FROM webhooks w WHERE w.disabled_at IS NULL AND w.next_call_at < now() - interval '5 minutes' AND NOT EXISTS (
			SELECT FROM webhook_events e WHERE e.webhook_id = w.id AND e.state = 'pending' AND e.task_check_at > now() - interval '5 minutes')
		AND EXISTS (
			SELECT FROM webhook_events e WHERE e.webhook_id = w.id AND e.state = 'pending' AND e.due_at < now() - interval '15 minutes')`, false},
	{"I1", "messages in status sending without a current lease", `
		SELECT count(*) FROM messages m WHERE m.status = 'sending' AND NOT EXISTS (
			SELECT FROM attempts a WHERE a.message_id = m.id AND a.ordinal = m.attempts
			AND a.outcome IS NULL AND a.lease_until > now() - interval '1 minute')`, false},
	{"I1", "messages in doubt whose next check is overdue", `
		SELECT count(*) FROM messages m WHERE m.status = 'in_doubt' AND NOT m.held AND NOT EXISTS (
			SELECT FROM attempts a WHERE a.message_id = m.id AND a.ordinal = m.attempts
			AND a.next_check_at > now() - interval '5 minutes')`, false},
	{"I2", "messages that Plivo accepted more than once", `SELECT count(*) FROM (` + acceptedTwice + `) t`, true},
	{"I2", "messages queued again by DOUBT_SILENCE", `SELECT count(*) FROM silence_retries`, true},
	{"I2", "messages queued again by DOUBT_SILENCE that Plivo had accepted", countSilencesRefuted, true},
	{"I2", "messages accepted more than once because of DOUBT_SILENCE", `
		SELECT count(*) FROM silence_retries r WHERE EXISTS (
			SELECT FROM attempts a WHERE a.message_id = r.message_id AND a.ordinal = r.ordinal AND a.outcome = 'accepted')
		AND EXISTS (SELECT FROM attempts a WHERE a.message_id = r.message_id AND a.ordinal <> r.ordinal AND a.outcome = 'accepted')`, true},
	{"I2", "messages accepted more than once without a resend in their events", `
		SELECT count(*) FROM (` + acceptedTwice + `) t WHERE NOT EXISTS (
			SELECT FROM message_events e WHERE e.message_id = t.message_id
			AND ` + isResend + `)`, false},
	{"I4", "messages whose status differs from their last event's", `
		SELECT count(*) FROM messages m WHERE m.status IS DISTINCT FROM (
			SELECT e.status FROM message_events e WHERE e.message_id = m.id ORDER BY e.id DESC LIMIT 1)`, false},
	{"I4", "messages with missing events", `
		SELECT count(*) FROM messages m WHERE m.version <> (SELECT count(*) FROM message_events e WHERE e.message_id = m.id)`, false},
	{"I7", "attempts that exceeded their sender's rate limit", `
		SELECT count(*) FROM (
			SELECT sender, started_at - lag(started_at) OVER (PARTITION BY sender ORDER BY started_at) AS gap FROM attempts
		) a JOIN rate_limits r ON r.name = a.sender WHERE a.gap < (r.interval_seconds * 0.94) * interval '1 second'`, false},
}

// countNotPrepared counts messages that have been due to be prepared for long. A large batch
// takes longer, so its messages count only when none of them has changed meanwhile.
const countNotPrepared = `
SELECT coalesce(sum(late.messages), 0) FROM (
    SELECT batch_id, count(*) AS messages FROM messages
    WHERE backlog_state = 'preparing' AND prepare_at < now() - interval '15 minutes' AND expires_at > now() GROUP BY batch_id
) late WHERE late.batch_id IS NULL OR NOT EXISTS (
    SELECT FROM messages m WHERE m.batch_id = late.batch_id AND m.updated_at > now() - interval '15 minutes')`

// countWithoutProgress counts queued messages that a claim would take and that no worker has
// tried to send, while workers sent later messages of their priority, or none at all. $1
// says whether an opt-out holds for every sender, $2 is the Plivo account.
var countWithoutProgress = `
WITH recent AS MATERIALIZED (
    SELECT o.priority, max(o.created_at) AS created_at
    FROM attempts a JOIN messages o ON o.id = a.message_id
    WHERE a.started_at > now() - ` + overtakenAfter + ` GROUP BY o.priority
)
SELECT count(*) FROM messages m WHERE m.status = 'queued' AND ` + runnableSince + ` < now() - ` + overtakenAfter + `
AND NOT EXISTS (SELECT FROM recent r WHERE r.priority = m.priority AND r.created_at <= ` + runnableSince + ` + ` + overtakenAfter + `)
AND ` + wouldBeClaimed("$1", "$2")

// someWithoutProgress is true if countWithoutProgress would count some of the messages that
// expire next. It reads few rows, because health checks run it often. $1 is as there.
var someWithoutProgress = `
WITH ` + inFlight + `, m AS MATERIALIZED (
    SELECT * FROM messages WHERE status = 'queued' ORDER BY expires_at LIMIT 200
)
SELECT EXISTS (
    SELECT FROM m WHERE ` + runnableSince + ` < now() - ` + overtakenAfter + `
    AND (NOT EXISTS (SELECT FROM attempts WHERE started_at > now() - ` + overtakenAfter + `)
        OR ` + runnableSince + ` + ` + overtakenAfter + ` < (SELECT f.created_at FROM in_flight f WHERE f.priority = m.priority))
    AND ` + wouldBeClaimed("$1", "$2") + `
)`

// WithoutProgress reports whether the queue has messages that could be sent and that no
// worker has tried to send for long. It looks only at those that expire next.
func (s *Store) WithoutProgress(ctx context.Context) (bool, error) {
	var found bool
	err := s.db.GetContext(ctx, &found, someWithoutProgress, s.optOutsOfEverySender, s.plivoAccount)
	return found, wrapError(err, "looking for messages without progress")
}

const acceptedTwice = `SELECT message_id FROM attempts WHERE outcome = 'accepted' GROUP BY message_id HAVING count(*) > 1`

// countIllegalTransitions counts pairs of consecutive events whose statuses are not a
// transition in $1, a list of "from>to".
const countIllegalTransitions = `
SELECT count(*) FROM (
    SELECT status, lag(status) OVER (PARTITION BY message_id ORDER BY id) AS before FROM message_events
) e WHERE before IS NOT NULL AND before <> status AND NOT before || '>' || status = ANY ($1)`

// Audit checks the invariants that the database alone can show.
func (s *Store) Audit(ctx context.Context) ([]audit.Finding, error) {
	var findings []audit.Finding
	for _, c := range checks {
		var count int
		if err := s.db.GetContext(ctx, &count, c.query); err != nil {
			return nil, wrapError(err, "counting "+c.description)
		}
		findings = append(findings, audit.Finding{Invariant: c.invariant, What: c.description, Count: count, Broken: !c.informational && count > 0})
	}
	var stuck int
	if err := s.db.GetContext(ctx, &stuck, countWithoutProgress, s.optOutsOfEverySender, s.plivoAccount); err != nil {
		return nil, wrapError(err, "counting messages without progress")
	}
	findings = append(findings, audit.Finding{Invariant: "I1", What: "queued messages that could be sent, but make no progress", Count: stuck, Broken: stuck > 0})
	var legal []string
	for _, from := range mms.Statuses() {
		for _, to := range mms.Statuses() {
			if from.CanBecome(to) {
				legal = append(legal, string(from)+">"+string(to))
			}
		}
	}
	var illegal int
	if err := s.db.GetContext(ctx, &illegal, countIllegalTransitions, pq.Array(legal)); err != nil {
		return nil, wrapError(err, "counting illegal transitions")
	}
	return append(findings, audit.Finding{Invariant: "I4", What: "events that follow each other by no legal transition", Count: illegal, Broken: illegal > 0}), nil
}

const selectAttemptRecords = `
SELECT a.token, a.message_id, a.ordinal, a.started_at, coalesce(a.plivo_uuid, '') AS plivo_uuid, coalesce(a.outcome, '') AS outcome, m.status,
    (SELECT count(*) FROM message_events e WHERE e.message_id = m.id
     AND ` + isResend + `) AS retries
FROM attempts a JOIN messages m ON m.id = a.message_id`

// AttemptRecords returns all attempts by token, to compare them with Plivo's records.
func (s *Store) AttemptRecords(ctx context.Context) (map[string]audit.AttemptRecord, error) {
	var rows []struct {
		Token     string    `db:"token"`
		MessageID uuid.UUID `db:"message_id"`
		Ordinal   int       `db:"ordinal"`
		StartedAt time.Time `db:"started_at"`
		PlivoUUID string    `db:"plivo_uuid"`
		Outcome   string    `db:"outcome"`
		Status    string    `db:"status"`
		Retries   int       `db:"retries"`
	}
	if err := s.db.SelectContext(ctx, &rows, selectAttemptRecords); err != nil {
		return nil, wrapError(err, "reading attempts for an audit")
	}
	records := make(map[string]audit.AttemptRecord, len(rows))
	for _, r := range rows {
		records[r.Token] = audit.AttemptRecord{
			MessageID: r.MessageID, Ordinal: r.Ordinal, StartedAt: r.StartedAt, PlivoUUID: r.PlivoUUID,
			Outcome: mms.Outcome(r.Outcome), Status: mms.Status(r.Status), Retries: r.Retries,
		}
	}
	return records, nil
}
