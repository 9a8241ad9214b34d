package postgres

import (
	"context"
	"time"

	"github.com/postcard-mms/postcard/internal/mms"
)

// pauseCause is why nothing is sent at present; empty while sending goes on.
const pauseCause = `coalesce((SELECT cause FROM pauses ORDER BY since LIMIT 1), '')`

const selectPauses = `SELECT cause, detail, since FROM pauses ORDER BY since`

// Pauses returns why nothing is sent at present; nothing while sending goes on.
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

// Resume ends a pause by a person's word. It reports false when there is none
// for the cause.
func (s *Store) Resume(ctx context.Context, cause mms.Reason) (bool, error) {
	result, err := s.db.ExecContext(ctx, resume, string(cause))
	if err != nil {
		return false, wrapError(err, "ending a pause")
	}
	n, err := result.RowsAffected()
	return n == 1, wrapError(err, "ending a pause")
}

// probe lets one message pass a pause, less and less often the longer it lasts,
// and each time one that was tried the fewest times, of the first and the last hundred in
// each line: the trouble may be of some messages alone.
const probe = `
WITH due AS (
    UPDATE pauses SET probe_at = now() + interval '10 seconds' + least(now() - since, interval '5 minutes')
    WHERE probe_at <= now() RETURNING cause
), picked AS (
    SELECT c.id FROM messages c
    WHERE c.id = ANY (ARRAY(
        SELECT f.id FROM rate_limits, LATERAL (
            (SELECT m.id FROM messages m WHERE m.sender = rate_limits.name AND m.backlog_state = 'waiting' AND NOT ` + pairInFlight + `
                ORDER BY m.priority, m.id LIMIT 100)
            UNION ALL
            (SELECT m.id FROM messages m WHERE m.sender = rate_limits.name AND m.backlog_state = 'waiting' AND NOT ` + pairInFlight + `
                ORDER BY m.priority DESC, m.id DESC LIMIT 100)
        ) f WHERE EXISTS (SELECT FROM due)))
      AND c.backlog_state = 'waiting'
    ORDER BY c.attempts, c.priority, c.id LIMIT 1 FOR UPDATE SKIP LOCKED
)` + releasePicked

// Probe takes one message out of the line during a pause whose time for a
// probe has come, and returns its task, to be enqueued.
func (s *Store) Probe(ctx context.Context) ([]mms.Task, error) {
	return s.tasks(ctx, "probing a pause", probe)
}
