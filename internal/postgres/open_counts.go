package postgres

import (
	"context"

	"github.com/postcard-mms/postcard/internal/mms"
)

const selectOpenCounts = `
SELECT status, count(*) AS messages, count(*) FILTER (WHERE backlog_state = 'waiting') AS waiting,
    count(*) FILTER (WHERE backlog_state = 'preparing') AS preparing, count(*) FILTER (WHERE held) AS held
FROM messages WHERE status IN ('queued', 'sending', 'in_doubt', 'submitted') AND final_at IS NULL GROUP BY status`

// OpenCounts counts the open messages by status.
func (s *Store) OpenCounts(ctx context.Context) (mms.OpenCounts, error) {
	var rows []struct {
		Status    string `db:"status"`
		Messages  int    `db:"messages"`
		Waiting   int    `db:"waiting"`
		Preparing int    `db:"preparing"`
		Held      int    `db:"held"`
	}
	if err := s.db.SelectContext(ctx, &rows, selectOpenCounts); err != nil {
		return mms.OpenCounts{}, wrapError(err, "counting messages")
	}
	counts := mms.OpenCounts{Messages: map[mms.Status]int{mms.Queued: 0, mms.Sending: 0, mms.InDoubt: 0, mms.Submitted: 0}}
	for _, row := range rows {
		counts.Messages[mms.Status(row.Status)] = row.Messages
		counts.Waiting += row.Waiting
		counts.Preparing += row.Preparing
		counts.Held += row.Held
	}
	return counts, nil
}
