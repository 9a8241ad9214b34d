package postgres

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/postcard-mms/postcard/internal/groupcommit"
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

// claimCall is a wish to claim a message, and the claim.
type claimCall struct {
	id    uuid.UUID
	token string
	lease time.Duration

	claim   mms.Claim
	claimed bool
	err     error
}

// claimGroup is claimMessage for many whose senders have no pace: who has to pass a
// gate passes it alone. So does the second between two numbers, and who has one under
// way there: it would fail the whole group. Parameters: $1 messages, $2 tokens,
// $3 lease in seconds.
const claimGroup = `
WITH i AS MATERIALIZED (
    SELECT * FROM unnest($1::uuid[], $2::text[]) AS u (id, token)
), target AS (
    SELECT m.id, m.sender, m.recipient FROM i JOIN messages m ON m.id = i.id JOIN rate_limits g ON g.name = m.sender
    WHERE m.status = 'queued' AND m.next_attempt_at <= now() AND m.expires_at > now() AND g.interval_seconds = 0
      AND NOT EXISTS (SELECT FROM suppressions s WHERE s.sender = m.sender AND s.recipient = m.recipient)
      AND NOT EXISTS (SELECT FROM batches b WHERE b.id = m.batch_id AND b.state <> 'running')
      AND (m.backlog_state = 'released' OR (
          NOT EXISTS (SELECT FROM pauses)
          AND NOT EXISTS (SELECT FROM messages w WHERE w.sender = m.sender AND w.backlog_state = 'waiting' AND w.priority <= m.priority)))
      AND NOT ` + pairInFlight + `
    ORDER BY m.id FOR UPDATE OF m SKIP LOCKED
), first AS (
    SELECT DISTINCT ON (sender, recipient) id FROM target ORDER BY sender, recipient, id
), m AS (
    UPDATE messages SET status = 'sending', reason = '', attempts = attempts + 1, backlog_state = NULL,
        next_attempt_at = NULL, task_check_at = NULL, version = version + 1, updated_at = now()
    FROM first WHERE messages.id = first.id
    RETURNING messages.*
), attempt AS (
    INSERT INTO attempts (message_id, ordinal, token, sender, started_at, lease_until)
    SELECT m.id, m.attempts, i.token, m.sender, clock_timestamp(), clock_timestamp() + $3 * interval '1 second' FROM m JOIN i ON i.id = m.id
), event AS (
    INSERT INTO message_events (message_id, kind, status, attempt)
    SELECT id, 'attempt_started', status, attempts FROM m
)
SELECT ` + claimColumns + `
FROM m`

// claimInGroup claims a message together with others.
func (s *Store) claimInGroup(ctx context.Context, id uuid.UUID, token string, lease time.Duration) (c claimCall, ok bool) {
	return s.claiming.Do(ctx, claimCall{id: id, token: token, lease: lease}, id.String(), s.claimGroup)
}

func (s *Store) claimGroup(ctx context.Context, group []*groupcommit.Item[claimCall]) {
	if p := group[0]; len(group) == 1 {
		p.Value.claim, p.Value.claimed, p.Value.err = s.claimOne(ctx, p.Value.id, p.Value.token, p.Value.lease)
		p.OK = true
		return
	}
	ids, tokens := make([]string, len(group)), make([]string, len(group))
	byID := make(map[uuid.UUID]*groupcommit.Item[claimCall], len(group))
	lease := group[0].Value.lease
	for i, p := range group {
		ids[i], tokens[i] = p.Value.id.String(), p.Value.token
		byID[p.Value.id] = p
		lease = min(lease, p.Value.lease)
	}
	var rows []claimRow
	if err := s.db.SelectContext(ctx, &rows, claimGroup, pq.Array(ids), pq.Array(tokens), lease.Seconds()); err != nil {
		return // each will learn the cause alone
	}
	for _, row := range rows {
		p := byID[row.ID]
		p.Value.claim, p.Value.claimed, p.OK = row.claim(), true, true
		s.noteChanged(row.ID)
	}
}

// pairInFlight is true of a message m whose sender and recipient have another
// message under way or in doubt.
const pairInFlight = `EXISTS (
        SELECT FROM messages o WHERE o.sender = m.sender AND o.recipient = m.recipient
        AND (o.status = 'sending' OR (o.status = 'in_doubt' AND NOT o.held))
    )`

const selectClaimBlocker = `
SELECT extract(epoch FROM m.next_attempt_at - now()) AS wait, m.expires_at <= now() AS expired,
    EXISTS (SELECT FROM suppressions s WHERE s.sender = m.sender AND s.recipient = m.recipient) AS suppressed,
    coalesce(m.backlog_state, '') = 'released' AS released,
    EXISTS (SELECT FROM batches b WHERE b.id = m.batch_id AND b.state <> 'running') AS parked,
    coalesce(extract(epoch FROM g.next_arrival_at - clock_timestamp()), 0) AS rate_limit,
    EXISTS (
        SELECT FROM messages o WHERE o.sender = m.sender AND o.recipient = m.recipient
        AND (o.status = 'sending' OR (o.status = 'in_doubt' AND NOT o.held))
    ) AS pair_in_flight
FROM messages m LEFT JOIN rate_limits g ON g.name = m.sender
WHERE m.id = $1 AND m.status = 'queued'`

// ClaimBlocker says what keeps a message from being claimed.
func (s *Store) ClaimBlocker(ctx context.Context, id uuid.UUID) (mms.ClaimBlocker, error) {
	var row struct {
		Wait       float64 `db:"wait"`
		Expired    bool    `db:"expired"`
		Suppressed bool    `db:"suppressed"`
		Released   bool    `db:"released"`
		SetAside   bool    `db:"parked"`
		Gate       float64 `db:"rate_limit"`
		PairBusy   bool    `db:"pair_in_flight"`
	}
	err := s.db.GetContext(ctx, &row, selectClaimBlocker, id)
	if errors.Is(err, sql.ErrNoRows) {
		return mms.ClaimBlocker{Gone: true}, nil
	}
	return mms.ClaimBlocker{
		DueIn: max(0, seconds(row.Wait)), Expired: row.Expired, Suppressed: row.Suppressed, Released: row.Released, Parked: row.SetAside,
		RateLimited: max(0, seconds(row.Gate)), PairInFlight: row.PairBusy,
	}, wrapError(err, "asking why a message cannot be claimed")
}
