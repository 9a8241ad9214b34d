package postgres

import (
	"context"
	"database/sql"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
)

const (
	// lostProcess is how long after its last heartbeat an api process may still refuse
	// callbacks: a process that is cut off from the database looks like a stopped one.
	// After this time the load balancer has noticed.
	lostProcess = 10 * time.Minute

	// silenceOff is how long the rule stays off after it was wrong.
	silenceOff = 24 * time.Hour

	// maxMeasuredSilence is the age from which a silence is left to Plivo's list.
	maxMeasuredSilence = mms.MaxSilence + 5*time.Minute

	// maxMeasuredAttempts bounds what one measurement reads. Plivo takes 60 requests a
	// second, which is 54,000 in maxMeasuredSilence.
	maxMeasuredAttempts = 300_000
)

// callbacksUnbroken is true when, since the attempt a started, no callback can have been
// missed: an api process is alive, and none that may have received callbacks since then
// has stopped or has a break. Parameters: $6 lateBeat, $7 lostProcess.
const callbacksUnbroken = `
    EXISTS (SELECT FROM api_processes p WHERE p.beat_at > now() - $6 * interval '1 second')
    AND NOT EXISTS (
        SELECT FROM api_processes p WHERE p.beat_at > a.started_at - $7 * interval '1 second'
        AND (p.broken_at >= a.started_at OR p.beat_at <= now() - $6 * interval '1 second'))`

// selectSilences measures all candidates at once, in one pass over the accepted attempts
// since the oldest of them. Those are grouped by the seconds in which they started and
// ended, so that the window of each candidate is a sum over few groups: it begins with
// the second in which the candidate started, and an attempt counts as ended with the end
// of its second.
//
// The reason plivo_server_error shows that the answer was read whole: it would be
// malformed_response if the answer had been cut off, and worker_lost if the worker had
// died.
//
// Other messages between the same two numbers (mms.Doubt.PairAmbiguous) do not matter: each
// attempt has a callback URL of its own.
//
// Parameters: $1 shortest and $2 longest silence in seconds, $3 attempts that a message
// may have, $4 silenceOff, $5 limit, $8 maxMeasuredAttempts, $9 mms.SilenceFactor.
const selectSilences = `
WITH candidate AS MATERIALIZED (
    SELECT a.message_id, a.ordinal, a.http_status, a.started_at, a.finished_at, now() - a.finished_at AS lasted
    FROM attempts a JOIN messages m ON m.id = a.message_id AND m.attempts = a.ordinal
    WHERE a.next_check_at IS NOT NULL AND a.outcome = 'unknown' AND a.http_status IN (500, 503)
      AND m.status = 'in_doubt' AND NOT m.held AND m.reason = 'plivo_server_error' AND m.expires_at > now()
      AND a.finished_at BETWEEN now() - $2 * interval '1 second' AND now() - $1 * interval '1 second'
      AND NOT EXISTS (SELECT FROM silence_retries r WHERE r.message_id = m.id)
      AND NOT EXISTS (SELECT FROM silence_retries r WHERE r.refuted_at > now() - $4 * interval '1 second')
      AND (SELECT count(*) FROM attempts t WHERE t.message_id = m.id AND ` + countsTowardsLimit + `) < $3
      AND ` + callbacksUnbroken + `
    ORDER BY a.started_at LIMIT $5
), accepted AS MATERIALIZED (
    SELECT date_trunc('second', started_at) AS started, date_trunc('second', finished_at) + interval '1 second' AS ended,
        count(*) AS n, count(first_report_at) AS reported, max(first_report_at - finished_at) AS slowest
    FROM (
        SELECT started_at, finished_at, first_report_at FROM attempts
        WHERE EXISTS (SELECT FROM candidate) AND outcome = 'accepted'
          AND started_at BETWEEN (SELECT date_trunc('second', min(started_at)) FROM candidate) AND now()
        LIMIT $8
    ) a GROUP BY 1, 2
)
SELECT c.message_id, c.ordinal, c.http_status, c.finished_at, extract(epoch FROM c.lasted) AS lasted,
    w.n, w.reported, extract(epoch FROM w.slowest) AS slowest
FROM candidate c, LATERAL (
    SELECT coalesce(sum(n) FILTER (WHERE due), 0) AS n, coalesce(sum(reported) FILTER (WHERE due), 0) AS reported,
        greatest(max(slowest), interval '0') AS slowest
    FROM (SELECT *, ended <= now() - c.lasted / $9 AS due FROM accepted WHERE started >= date_trunc('second', c.started_at)) g
) w
WHERE (SELECT coalesce(sum(n), 0) FROM accepted) < $8`

// Silences returns up to limit attempts, the oldest first, for which silence may be
// evidence, with what was measured in their windows. It returns none while a callback may
// have been missed, and while the rule is off because it was wrong.
func (s *Store) Silences(ctx context.Context, p mms.SilencePolicy, limit int) ([]mms.Silence, error) {
	var rows []struct {
		MessageID  uuid.UUID `db:"message_id"`
		Ordinal    int       `db:"ordinal"`
		HTTPStatus int       `db:"http_status"`
		FinishedAt time.Time `db:"finished_at"`
		Lasted     float64   `db:"lasted"`
		Accepted   int       `db:"n"`
		Reported   int       `db:"reported"`
		Slowest    float64   `db:"slowest"`
	}
	err := s.db.SelectContext(ctx, &rows, selectSilences, p.After.Seconds(), maxMeasuredSilence.Seconds(), p.MaxAttempts,
		silenceOff.Seconds(), limit, lateBeat.Seconds(), lostProcess.Seconds(), maxMeasuredAttempts, mms.SilenceFactor)
	if err != nil {
		return nil, wrapError(err, "measuring silences")
	}
	silences := make([]mms.Silence, len(rows))
	for i, r := range rows {
		silences[i] = mms.Silence{
			AttemptRef: mms.AttemptRef{MessageID: r.MessageID, Ordinal: r.Ordinal},
			HTTPStatus: r.HTTPStatus, FinishedAt: r.FinishedAt, Lasted: seconds(r.Lasted),
			Accepted: r.Accepted, Reported: r.Reported, Slowest: seconds(r.Slowest),
		}
	}
	return silences, nil
}

// retrySilent queues a message again, once in its life, unless a callback may have been
// missed since the silence was measured. The outcome of the attempt stays unknown, and its
// next check stays scheduled: Plivo's list shows whether this was right.
//
// Parameters: $1 message, $2 ordinal, $3 ListAfter, $4 event detail, $5 silenceOff, and
// those of callbacksUnbroken.
const retrySilent = `
WITH changed AS (
    UPDATE messages SET status = 'queued', reason = 'not_reported', held = false, next_attempt_at = now(), task_check_at = ` + noTask + `,
        task_generation = task_generation + 1, version = version + 1, updated_at = now()
    WHERE id = $1 AND attempts = $2 AND status = 'in_doubt' AND NOT held
      AND NOT EXISTS (SELECT FROM silence_retries WHERE message_id = $1)
      AND NOT EXISTS (SELECT FROM silence_retries WHERE refuted_at > now() - $5 * interval '1 second')
      AND EXISTS (SELECT FROM attempts a WHERE a.message_id = $1 AND a.ordinal = $2 AND ` + callbacksUnbroken + `)
    RETURNING id, status, attempts
), attempt AS (
    UPDATE attempts a SET next_check_at = a.finished_at + $3 * interval '1 second'
    FROM changed WHERE a.message_id = changed.id AND a.ordinal = changed.attempts
), retry AS (
    INSERT INTO silence_retries (message_id, ordinal) SELECT id, attempts FROM changed
), event AS (
    INSERT INTO message_events (message_id, kind, status, attempt, detail)
    SELECT id, 'no_report', status, attempts, $4 FROM changed
)
SELECT id FROM changed, pg_notify('task_check', '')`

// RetrySilent queues the message of a silent attempt again, with an event that names the
// evidence. It reports false when the message is not in doubt any more, or held, when the
// rule was used for it before or is off, or when a callback may have been missed meanwhile.
func (s *Store) RetrySilent(ctx context.Context, silence mms.Silence, p mms.SilencePolicy) (bool, error) {
	changed, err := s.exec(ctx, "requeueing a silent message", retrySilent, silence.MessageID, silence.Ordinal,
		p.ListAfter.Seconds(), silence.Description(), silenceOff.Seconds(), lateBeat.Seconds(), lostProcess.Seconds())
	return changed == 1, err
}

// refuteMissed marks what recordSubmitted has missed: it does not see the row of
// silence_retries when retrySilent inserts it while recordSubmitted waits for the message's
// lock.
const refuteMissed = `
WITH missed AS (
    SELECT r.message_id FROM silence_retries r JOIN attempts a ON a.message_id = r.message_id AND a.ordinal = r.ordinal
    WHERE r.refuted_at IS NULL AND r.retried_at > now() - interval '2 minutes' AND a.outcome = 'accepted'
), locked AS (
    SELECT id FROM messages WHERE id = ANY (ARRAY(SELECT message_id FROM missed)) ORDER BY id FOR UPDATE
)
UPDATE silence_retries SET refuted_at = now() WHERE message_id = ANY (ARRAY(SELECT id FROM locked)) AND refuted_at IS NULL`

// RefuteMissed marks the retries that evidence has refuted without being able to mark them
// itself. Call it before SilenceOff when a decision depends on the result.
func (s *Store) RefuteMissed(ctx context.Context) error {
	_, err := s.db.ExecContext(ctx, refuteMissed)
	return wrapError(err, "recording that DOUBT_SILENCE was wrong")
}

const selectSilenceOff = `
SELECT extract(epoch FROM max(refuted_at) - now()) + $1 FROM silence_retries WHERE refuted_at > now() - $1 * interval '1 second'`

// SilenceOff returns for how long DOUBT_SILENCE stays off, because Plivo turned out to
// have accepted an attempt that the rule treated as not accepted; 0 when it is not off.
func (s *Store) SilenceOff(ctx context.Context) (time.Duration, error) {
	var off sql.NullFloat64
	err := s.db.GetContext(ctx, &off, selectSilenceOff, silenceOff.Seconds())
	return max(0, seconds(off.Float64)), wrapError(err, "reading whether DOUBT_SILENCE is off")
}

const countSilencesRefuted = `SELECT count(*) FROM silence_retries WHERE refuted_at IS NOT NULL`

// SilencesRefuted counts the attempts that DOUBT_SILENCE treated as not accepted, and that
// Plivo turned out to have accepted.
func (s *Store) SilencesRefuted(ctx context.Context) (int, error) {
	var n int
	err := s.db.GetContext(ctx, &n, countSilencesRefuted)
	return n, wrapError(err, "counting how often DOUBT_SILENCE was wrong")
}

const selectReportTimes = `
SELECT w.n, w.reported, coalesce(extract(epoch FROM w.p99), 0) AS p99, coalesce(extract(epoch FROM w.slowest), 0) AS slowest,
    p.alive, coalesce(extract(epoch FROM now() - p.broken), 0) AS unbroken
FROM (
    SELECT count(*) AS n, count(first_report_at) AS reported, greatest(max(first_report_at - finished_at), interval '0') AS slowest,
        percentile_cont(0.99) WITHIN GROUP (ORDER BY greatest(first_report_at - finished_at, interval '0')) FILTER (WHERE first_report_at IS NOT NULL) AS p99
    FROM attempts
    WHERE started_at BETWEEN now() - interval '24 hours' AND now() AND outcome = 'accepted' AND finished_at < now() - $1 * interval '1 second'
) w, (
    SELECT count(*) FILTER (WHERE alive) AS alive, max(CASE WHEN alive THEN broken_at ELSE beat_at END) AS broken
    FROM (SELECT *, beat_at > now() - $2 * interval '1 second' AS alive FROM api_processes) p
) p`

// ReportTimes measures how soon Plivo's reports came in the last 24 hours.
func (s *Store) ReportTimes(ctx context.Context) (mms.ReportTimes, error) {
	var row struct {
		Accepted  int     `db:"n"`
		Reported  int     `db:"reported"`
		P99       float64 `db:"p99"`
		Slowest   float64 `db:"slowest"`
		Processes int     `db:"alive"`
		Unbroken  float64 `db:"unbroken"`
	}
	if err := s.db.GetContext(ctx, &row, selectReportTimes, mms.MinSilence.Seconds(), lateBeat.Seconds()); err != nil {
		return mms.ReportTimes{}, wrapError(err, "measuring report times")
	}
	off, err := s.SilenceOff(ctx)
	return mms.ReportTimes{
		Accepted: row.Accepted, Reported: row.Reported, P99: seconds(row.P99), Slowest: seconds(row.Slowest),
		Processes: row.Processes, Unbroken: seconds(row.Unbroken), OffFor: off,
	}, err
}
