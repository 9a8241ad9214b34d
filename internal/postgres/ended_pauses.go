package postgres

import (
	"context"
	"time"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/operator"
)

const selectEndedPauses = `SELECT cause, detail, since, ended_at FROM ended_pauses ORDER BY ended_at DESC, id DESC LIMIT $1`

// EndedPauses returns the last pauses that are over, the newest first. A trigger stores them
// when they end.
func (s *Store) EndedPauses(ctx context.Context, limit int) ([]operator.EndedPause, error) {
	var rows []struct {
		Cause   string    `db:"cause"`
		Detail  string    `db:"detail"`
		Since   time.Time `db:"since"`
		EndedAt time.Time `db:"ended_at"`
	}
	if err := s.db.SelectContext(ctx, &rows, selectEndedPauses, limit); err != nil {
		return nil, wrapError(err, "reading ended pauses")
	}
	pauses := make([]operator.EndedPause, len(rows))
	for i, r := range rows {
		pauses[i] = operator.EndedPause{Pause: mms.Pause{Cause: mms.Reason(r.Cause), Detail: r.Detail, Since: r.Since}, EndedAt: r.EndedAt}
	}
	return pauses, nil
}

const deleteOldPauses = `
DELETE FROM ended_pauses WHERE id IN (
    SELECT id FROM ended_pauses WHERE ended_at < now() - interval '90 days' LIMIT $1 FOR UPDATE SKIP LOCKED)`
