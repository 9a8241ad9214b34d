package postgres

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/postcard-mms/postcard/internal/groupcommit"
	"github.com/postcard-mms/postcard/internal/mms"
)

// mediaAtPlivo is true when Plivo has all uploads of a message m, for long enough to use
// them. account is a parameter: the Plivo account.
func mediaAtPlivo(account string) string {
	return `NOT EXISTS (
        SELECT FROM message_media mm WHERE mm.message_id = m.id AND mm.content IS NOT NULL AND NOT ` + atPlivo("mm", account) + ` OFFSET 0)`
}

// atPlivo is true when Plivo has the content of a row of message_media.
func atPlivo(row, account string) string {
	return `EXISTS (SELECT FROM plivo_media p WHERE p.content = ` + row + `.content AND p.account = ` + account + ` AND p.usable_until > now())`
}

// claimable is the condition under which a message m can be claimed, apart from its
// sender's rate limit and its pair: it is queued, due and not expired, its recipient
// has not opted out, its media are ready, and its batch is running. A message that Release has not released
// must also not pass others: sending is not paused, and no message of the same or a
// higher priority waits for its sender. everySender and account are parameters; see suppressed
// and mediaAtPlivo.
//
// OFFSET 0 keeps the planner from turning an EXISTS into a join, which may read a whole
// table. So each is evaluated per message, by an index.
func claimable(everySender, account string) string {
	return `m.status = 'queued' AND m.next_attempt_at <= now() AND m.expires_at > now()
      AND m.backlog_state IS DISTINCT FROM 'preparing'
      AND NOT ` + suppressed("m", everySender) + `
      AND ` + mediaAtPlivo(account) + `
      AND NOT EXISTS (SELECT FROM batches b WHERE b.id = m.batch_id AND b.state <> 'running' OFFSET 0)
      AND (m.backlog_state = 'released' OR (
          NOT EXISTS (SELECT FROM pauses)
          AND NOT EXISTS (SELECT FROM messages w WHERE w.sender = m.sender AND w.backlog_state = 'waiting' AND w.priority <= m.priority OFFSET 0)))`
}

// pairInFlight is true when the sender and recipient of a message m have another
// message in flight or in doubt. A held message does not count: it may wait for days.
// The unique index messages_one_in_flight_per_pair enforces this; asking first avoids
// most of its violations.
const pairInFlight = `EXISTS (
        SELECT FROM messages o WHERE o.sender = m.sender AND o.recipient = m.recipient
        AND (o.status = 'sending' OR (o.status = 'in_doubt' AND NOT o.held)) OFFSET 0
    )`

// rateAdmits is true when the rate limit of a message m's sender admits a message now. A
// released message counts as admitted: it was released for the moment at which its limit
// admits it, and that moment is over when another message of the sender has taken it. A
// resting sender admits none.
const rateAdmits = `EXISTS (
        SELECT FROM rate_limits l WHERE l.name = m.sender AND NOT l.resting
        AND (coalesce(m.backlog_state, '') = 'released' OR l.interval_seconds = 0 OR l.next_arrival_at <= now()) OFFSET 0)`

// wouldBeClaimed is the condition under which a claim of a message m would succeed now,
// but for others at the same moment. A message that meets it and is not claimed for long
// has no task that runs.
func wouldBeClaimed(everySender, account string) string {
	return `coalesce(` + claimable(everySender, account) + ` AND ` + rateAdmits + ` AND NOT ` + pairInFlight + `, false)`
}

// setSending changes a message that is being claimed.
const setSending = `
    UPDATE messages SET status = 'sending', reason = '', attempts = attempts + 1, backlog_state = NULL,
        next_attempt_at = NULL, task_check_at = NULL, version = version + 1, updated_at = now()`

// returnClaimed follows a CTE claimed with the claimed messages.
var returnClaimed = `, event AS (
    INSERT INTO message_events (message_id, kind, status, attempt)
    SELECT id, 'attempt_started', status, attempts FROM claimed
)
SELECT ` + claimColumns("$5") + `
FROM claimed m`

// claimMessage claims one message if its sender's rate limit allows a send now. It
// does not write to the limiter of an unlimited sender, so that its messages do not
// wait for each other. A sender without a row in rate_limits cannot send;
// AddToBacklog adds the row. A resting sender cannot send either.
//
// A send that is late by up to a twentieth of the interval does not delay the next
// one (mms.IntervalForRate leaves a margin). The clock is read once: between two
// readings a busy machine may stop for longer than that.
//
// Parameters: $1 message, $2 token, $3 lease in seconds, $4 whether an opt-out holds for
// every sender, $5 Plivo account. claimMessages claims several messages of unlimited senders with the same
// effect.
var claimMessage = `
WITH target AS (
    SELECT m.id, m.sender FROM messages m
    WHERE m.id = $1 AND ` + claimable("$4", "$5") + `
    FOR UPDATE OF m
), clock AS MATERIALIZED (
    SELECT clock_timestamp() AS at FROM target
), limiter AS (
    UPDATE rate_limits SET released_until = '-infinity',
        next_arrival_at = greatest(next_arrival_at, clock.at - 0.05 * interval_seconds * interval '1 second') + interval_seconds * interval '1 second'
    FROM target, clock WHERE rate_limits.name = target.sender AND interval_seconds > 0 AND rate_limits.next_arrival_at <= clock.at AND NOT resting
    RETURNING clock.at AS allowed_at
), claimed AS (` + setSending + `
    FROM target WHERE messages.id = target.id AND (EXISTS (SELECT FROM limiter)
        OR EXISTS (SELECT FROM rate_limits WHERE name = target.sender AND interval_seconds = 0 AND NOT resting))
    RETURNING messages.*
), attempt AS (
    INSERT INTO attempts (message_id, ordinal, token, sender, started_at, lease_until)
    SELECT id, attempts, $2, sender, coalesce((SELECT allowed_at FROM limiter), clock_timestamp()), clock_timestamp() + $3 * interval '1 second' FROM claimed
)` + returnClaimed

// claimMessages claims messages of unlimited senders. It leaves out what would make it
// wait or fail as a whole: locked messages, all but one message of a pair, pairs in
// flight, and pairs that another statement is claiming. Those are claimed alone. Without the
// advisory locks, two statements that claim the same two pairs in different orders would wait
// for each other's entries in messages_one_in_flight_per_pair. Parameters: $1 messages,
// $2 tokens, $3 lease in seconds, $4 whether an opt-out holds for every sender,
// $5 Plivo account.
//
// It reads the given messages first and applies the conditions afterwards. If both were in
// one query level, the planner might read the whole queue by another index.
var claimMessages = `
WITH found AS (
    SELECT * FROM messages WHERE id = ANY ((SELECT $1::uuid[])::uuid[]) FOR UPDATE SKIP LOCKED
), target AS (
    SELECT m.id, m.sender, m.recipient FROM found m
    WHERE ` + claimable("$4", "$5") + ` AND NOT ` + pairInFlight + `
      AND EXISTS (SELECT FROM rate_limits WHERE name = m.sender AND interval_seconds = 0 AND NOT resting OFFSET 0)
), one_per_pair AS MATERIALIZED (
    SELECT DISTINCT ON (sender, recipient) id, sender, recipient FROM target ORDER BY sender, recipient, id
), free AS MATERIALIZED (
    SELECT id FROM one_per_pair WHERE pg_try_advisory_xact_lock(hashtextextended(sender || recipient, 1))
), claimed AS (` + setSending + `
    WHERE id = ANY (ARRAY(SELECT id FROM free))
    RETURNING messages.*
), attempt AS (
    INSERT INTO attempts (message_id, ordinal, token, sender, started_at, lease_until)
    SELECT claimed.id, claimed.attempts, input.token, claimed.sender, clock_timestamp(), clock_timestamp() + $3 * interval '1 second'
    FROM claimed JOIN unnest((SELECT $1::uuid[]), $2::text[]) AS input (id, token) ON input.id = claimed.id
)` + returnClaimed

// claimColumns are read into a claimRow; the table is named m. A medium is a URL, or
// plivoMedia and the id that it has at Plivo; account is a parameter.
func claimColumns(account string) string {
	return `m.id, m.attempts, m.sender, m.recipient, m.text, ARRAY(
        SELECT CASE WHEN mm.content IS NULL THEN mm.url ELSE (
            SELECT '` + plivoMedia + `' || p.media_id FROM plivo_media p WHERE p.content = mm.content AND p.account = ` + account + `) END
        FROM message_media mm WHERE mm.message_id = m.id ORDER BY mm.position) AS media, ` + claimCounts
}

// plivoMedia precedes an id that Plivo gave to an upload. No URL begins like this.
const plivoMedia = "plivo:"

// claimCounts are the earlier attempts that the retry policy counts. A first attempt
// has none.
const claimCounts = `
    CASE WHEN m.attempts > 1 THEN (SELECT count(*) FROM attempts t
        WHERE t.message_id = m.id AND t.outcome = 'transient_failure' AND t.http_status IS NOT NULL) ELSE 0 END AS transient_failures,
    CASE WHEN m.attempts > 1 THEN (SELECT count(*) FROM attempts t
        WHERE t.message_id = m.id AND t.outcome = 'unknown') ELSE 0 END AS unknown_outcomes,
    CASE WHEN m.attempts > 1 THEN (SELECT count(*) FROM attempts t
        WHERE t.message_id = m.id AND t.outcome = 'account_error' AND EXISTS (
            SELECT FROM attempts b WHERE b.outcome = 'accepted' AND b.started_at > t.started_at)) ELSE 0 END AS own_account_errors`

type claimRow struct {
	ID                uuid.UUID      `db:"id"`
	Attempts          int            `db:"attempts"`
	Sender            string         `db:"sender"`
	Recipient         string         `db:"recipient"`
	Text              string         `db:"text"`
	Media             pq.StringArray `db:"media"`
	TransientFailures int            `db:"transient_failures"`
	UnknownOutcomes   int            `db:"unknown_outcomes"`
	OwnAccountErrors  int            `db:"own_account_errors"`
}

func (r claimRow) claim() mms.Claim {
	var urls, ids []string
	for _, medium := range r.Media {
		if id, ok := strings.CutPrefix(medium, plivoMedia); ok {
			ids = append(ids, id)
		} else {
			urls = append(urls, medium)
		}
	}
	return mms.Claim{
		AttemptRef: mms.AttemptRef{MessageID: r.ID, Ordinal: r.Attempts},
		Sender:     mms.PhoneNumber(r.Sender), Recipient: mms.PhoneNumber(r.Recipient),
		Text: r.Text, MediaURLs: urls, MediaIDs: ids, TransientFailures: r.TransientFailures, UnknownOutcomes: r.UnknownOutcomes, OwnAccountErrors: r.OwnAccountErrors,
	}
}

// claimCall is one call of Claim.
type claimCall struct {
	id    uuid.UUID
	token string
	lease time.Duration

	claim   mms.Claim
	claimed bool
	err     error
}

// Claim moves a queued message to sending and starts an attempt with the given token.
// The attempt counts as lost when its lease is not renewed in time. Claim reports false
// when the message cannot be claimed now; ClaimBlocker says why.
//
// Claim does not stop when ctx ends: a claim that was committed without its caller
// would leave the message in doubt. Concurrent calls share a statement; what the
// shared statement did not claim is tried alone.
func (s *Store) Claim(ctx context.Context, id uuid.UUID, token string, lease time.Duration) (mms.Claim, bool, error) {
	ctx = context.WithoutCancel(ctx)
	call := claimCall{id: id, token: token, lease: lease}
	if call, ok, _ := s.claiming.Do(ctx, call, id.String(), s.claimTogether); ok {
		return call.claim, call.claimed, call.err
	}
	return s.claimAlone(ctx, call)
}

func (s *Store) claimTogether(ctx context.Context, batch []*groupcommit.Item[claimCall]) {
	if len(batch) == 1 {
		call := &batch[0].Value
		call.claim, call.claimed, call.err = s.claimAlone(ctx, *call)
		batch[0].OK = true
		return
	}
	ids, tokens := make([]string, len(batch)), make([]string, len(batch))
	byID := make(map[uuid.UUID]*groupcommit.Item[claimCall], len(batch))
	lease := batch[0].Value.lease
	for i, item := range batch {
		ids[i], tokens[i] = item.Value.id.String(), item.Value.token
		byID[item.Value.id] = item
		lease = min(lease, item.Value.lease)
	}
	var rows []claimRow
	if err := s.db.SelectContext(ctx, &rows, claimMessages, pq.Array(ids), pq.Array(tokens), lease.Seconds(), s.optOutsOfEverySender, s.plivoAccount); err != nil {
		return // each call is tried alone and meets the error itself
	}
	for _, row := range rows {
		item := byID[row.ID]
		item.Value.claim, item.Value.claimed, item.OK = row.claim(), true, true
		s.noteChanged(row.ID)
	}
}

// selectClaim finds an open attempt by its token.
var selectClaim = `
SELECT ` + claimColumns("$3") + `
FROM messages m JOIN attempts a ON a.message_id = m.id AND a.ordinal = m.attempts
WHERE m.id = $1 AND a.token = $2 AND a.outcome IS NULL AND m.status = 'sending'`

func (s *Store) claimAlone(ctx context.Context, call claimCall) (mms.Claim, bool, error) {
	var row claimRow
	err := s.db.GetContext(ctx, &row, claimMessage, call.id, call.token, call.lease.Seconds(), s.optOutsOfEverySender, s.plivoAccount)
	if errors.Is(err, sql.ErrNoRows) {
		// An earlier execution may have claimed the message with this token although
		// its answer was lost: database/sql repeats a statement whose connection broke,
		// and Claim comes here after claimTogether failed.
		err = s.db.GetContext(ctx, &row, selectClaim, call.id, call.token, s.plivoAccount)
	}
	if errors.Is(err, sql.ErrNoRows) || violates(err, "messages_one_in_flight_per_pair") {
		return mms.Claim{}, false, nil
	}
	if err == nil {
		s.noteChanged(call.id)
	}
	return row.claim(), err == nil, wrapError(err, "claiming a message")
}

var selectClaimBlocker = `
SELECT extract(epoch FROM m.next_attempt_at - now()) AS due_in, m.expires_at <= now() AS expired,
    ` + suppressed("m", "$2") + ` AS suppressed,
    coalesce(m.backlog_state, '') = 'preparing' OR NOT ` + mediaAtPlivo("$3") + ` AS not_prepared,
    coalesce(m.backlog_state, '') = 'released' AS released,
    EXISTS (SELECT FROM batches b WHERE b.id = m.batch_id AND b.state <> 'running') AS batch_not_running,
    coalesce(extract(epoch FROM rate_limits.next_arrival_at - clock_timestamp()), 0) AS rate_limited,
    coalesce(rate_limits.resting, false) AS resting,
    ` + pairInFlight + ` AS pair_in_flight
FROM messages m LEFT JOIN rate_limits ON rate_limits.name = m.sender
WHERE m.id = $1 AND m.status = 'queued'`

// ClaimBlocker returns what keeps a message from being claimed.
func (s *Store) ClaimBlocker(ctx context.Context, id uuid.UUID) (mms.ClaimBlocker, error) {
	var row struct {
		DueIn           float64 `db:"due_in"`
		Expired         bool    `db:"expired"`
		Suppressed      bool    `db:"suppressed"`
		NotPrepared     bool    `db:"not_prepared"`
		Released        bool    `db:"released"`
		BatchNotRunning bool    `db:"batch_not_running"`
		RateLimited     float64 `db:"rate_limited"`
		Resting         bool    `db:"resting"`
		PairInFlight    bool    `db:"pair_in_flight"`
	}
	err := s.db.GetContext(ctx, &row, selectClaimBlocker, id, s.optOutsOfEverySender, s.plivoAccount)
	if errors.Is(err, sql.ErrNoRows) {
		return mms.ClaimBlocker{Gone: true}, nil
	}
	return mms.ClaimBlocker{
		DueIn: max(0, seconds(row.DueIn)), Expired: row.Expired, Suppressed: row.Suppressed, NotPrepared: row.NotPrepared, Released: row.Released, BatchNotRunning: row.BatchNotRunning,
		RateLimited: max(0, seconds(row.RateLimited)), Resting: row.Resting, PairInFlight: row.PairInFlight,
	}, wrapError(err, "reading why a message cannot be claimed")
}
