package postgres

import (
	"context"
	"database/sql"
	"time"

	"github.com/postcard-mms/postcard/internal/mms"
)

// pauseColumns are the columns of a pauseRow for the oldest pause.
const pauseColumns = `coalesce((SELECT cause FROM pauses ORDER BY since LIMIT 1), '') AS pause_cause, (SELECT min(since) FROM pauses) AS paused_since`

// pauseRow is a pause of all sending; its cause is empty if there is none.
type pauseRow struct {
	Cause string       `db:"pause_cause"`
	Since sql.NullTime `db:"paused_since"`
}

func (r pauseRow) pause() mms.Pause {
	return mms.Pause{Cause: mms.Reason(r.Cause), Since: r.Since.Time}
}

const selectPauses = `SELECT cause, detail, since FROM pauses ORDER BY since`

// Pauses returns the current pauses, the oldest first. Any of them pauses all sending.
func (s *Store) Pauses(ctx context.Context) ([]mms.Pause, error) {
	var rows []struct {
		Cause  string    `db:"cause"`
		Detail string    `db:"detail"`
		Since  time.Time `db:"since"`
	}
	if err := s.db.SelectContext(ctx, &rows, selectPauses); err != nil {
		return nil, wrapError(err, "reading pauses")
	}
	pauses := make([]mms.Pause, len(rows))
	for i, row := range rows {
		pauses[i] = mms.Pause{Cause: mms.Reason(row.Cause), Detail: row.Detail, Since: row.Since}
	}
	return pauses, nil
}

const resume = `DELETE FROM pauses WHERE cause = $1`

// Resume ends the pause with this cause. It reports false when there is none.
func (s *Store) Resume(ctx context.Context, cause mms.Reason) (bool, error) {
	const doing = "ending a pause"
	result, err := s.db.ExecContext(ctx, resume, string(cause))
	if err != nil {
		return false, wrapError(err, doing)
	}
	n, err := result.RowsAffected()
	return n == 1, wrapError(err, doing)
}

// probe releases one message during a pause. The longer the pause lasts, the less often
// it does so. It picks the message with the fewest attempts among the first and the last
// hundred of each sender's backlog, because the error may concern some messages alone.
const probe = `
WITH locked AS (
    SELECT cause FROM pauses WHERE probe_at <= now() ORDER BY cause FOR UPDATE SKIP LOCKED
), due AS (
    UPDATE pauses SET probe_at = now() + interval '10 seconds' + least(now() - since, interval '5 minutes')
    FROM locked WHERE pauses.cause = locked.cause RETURNING pauses.cause
), picked AS (
    SELECT m.id FROM messages m
    WHERE m.id = ANY (ARRAY(
        SELECT candidates.id FROM rate_limits, LATERAL (
            (SELECT m.id FROM messages m WHERE m.sender = rate_limits.name AND m.backlog_state = 'waiting' AND NOT ` + pairInFlight + `
                ORDER BY m.priority, m.id LIMIT 100)
            UNION ALL
            (SELECT m.id FROM messages m WHERE m.sender = rate_limits.name AND m.backlog_state = 'waiting' AND NOT ` + pairInFlight + `
                ORDER BY m.priority DESC, m.id DESC LIMIT 100)
        ) candidates WHERE NOT rate_limits.resting AND EXISTS (SELECT FROM due)))
      AND m.backlog_state = 'waiting'
    ORDER BY m.attempts, m.priority, m.id LIMIT 1 FOR UPDATE SKIP LOCKED
)` + releasePicked

// Probe releases one message during a pause that is due for a probe, and returns the
// task to enqueue.
func (s *Store) Probe(ctx context.Context) ([]mms.Task, error) {
	return s.tasks(ctx, "probing a pause", probe)
}
