package postgres

import (
	"context"
	"database/sql"
	"errors"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
)

const cancelMessage = `
WITH changed AS (
    UPDATE messages SET status = 'canceled', reason = '', next_attempt_at = NULL, task_check_at = NULL, backlog_state = NULL,
        version = version + 1, updated_at = now(), final_at = now()
    WHERE id = $1 AND workspace_id = $2 AND status IN ('scheduled', 'queued')
    RETURNING id, status
), event AS (
    INSERT INTO message_events (message_id, kind, status) SELECT id, 'canceled', status FROM changed
)
SELECT id FROM changed`

// Cancel cancels the workspace's message before it is sent. Canceling a canceled message
// succeeds. Cancel returns mms.ErrNotFound when the workspace has no such message, and
// mms.ErrTooLate when it is not scheduled or queued any more.
func (s *Store) Cancel(ctx context.Context, workspace, id uuid.UUID) error {
	changed, err := s.exec(ctx, "canceling a message", cancelMessage, id, workspace)
	if err != nil || changed == 1 {
		return err
	}
	var row messageRow
	err = s.db.GetContext(ctx, &row, selectMessage, id, workspace)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return mms.ErrNotFound
	case err != nil:
		return wrapError(err, "reading why a message cannot be canceled")
	case row.Status != string(mms.Canceled):
		return mms.ErrTooLate
	}
	return nil
}
