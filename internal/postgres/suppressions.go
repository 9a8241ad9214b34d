package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/postcard-mms/postcard/internal/mms"
)

// suppressed is true when a row's recipient has opted out of messages from its sender. The
// row needs the columns sender and recipient. everySender is a boolean parameter: whether an
// opt-out from one sender holds for all. A suppression without a sender always holds for all.
//
// OFFSET 0 keeps the planner from turning EXISTS into a join, which may read the whole table.
func suppressed(row, everySender string) string {
	return `EXISTS (SELECT FROM suppressions s WHERE ` + suppresses(row, everySender) + ` OFFSET 0)`
}

// suppresses is true for a suppression s that forbids sending from the row's sender to its
// recipient.
func suppresses(row, everySender string) string {
	return `s.recipient = ` + row + `.recipient AND (` + everySender + `::boolean OR s.sender IN (` + row + `.sender, ''))`
}

// failSuppressed records the suppression in the event, as mms.Event describes it: the one of
// the message's own sender, if there is one. $2 is whether an opt-out holds for every sender.
var failSuppressed = `
WITH m AS (
    UPDATE messages SET status = 'failed', reason = 'opted_out', next_attempt_at = NULL, task_check_at = NULL, backlog_state = NULL,
        version = version + 1, updated_at = now(), final_at = now()
    WHERE id = $1 AND status = 'queued' AND ` + suppressed("messages", "$2") + `
    RETURNING id, status, sender, recipient
), event AS (
    INSERT INTO message_events (message_id, kind, status, detail)
    SELECT id, 'suppressed', status, (
        SELECT s.reason || ' ' || s.sender FROM suppressions s WHERE ` + suppresses("m", "$2") + `
        ORDER BY s.sender <> m.sender, s.created_at LIMIT 1) FROM m
)
SELECT id FROM m`

// FailSuppressed fails a queued message whose recipient has opted out.
func (s *Store) FailSuppressed(ctx context.Context, id uuid.UUID) error {
	_, err := s.exec(ctx, "failing a message to a suppressed recipient", failSuppressed, id, s.optOutsOfEverySender)
	return err
}

const addSuppressions = `
INSERT INTO suppressions AS s (sender, recipient, reason)
SELECT DISTINCT ON (sender, recipient) * FROM unnest($1::text[], $2::text[], $3::text[]) AS u (sender, recipient, reason) ORDER BY sender, recipient
ON CONFLICT (sender, recipient) DO UPDATE SET reason = EXCLUDED.reason WHERE EXCLUDED.reason = 'admin' AND s.reason <> 'admin'`

// AddSuppressions adds suppressions and returns how many of them are new. An admin's replaces
// one of another reason, because START would end that one.
func (s *Store) AddSuppressions(ctx context.Context, list []mms.Suppression) (int, error) {
	var senders, recipients, reasons []string
	for _, sup := range list {
		senders, recipients, reasons = append(senders, string(sup.Sender)), append(recipients, string(sup.Recipient)), append(reasons, string(sup.Reason))
	}
	result, err := s.db.ExecContext(ctx, addSuppressions, pq.Array(senders), pq.Array(recipients), pq.Array(reasons))
	if err != nil {
		return 0, wrapError(err, "adding suppressions")
	}
	n, err := result.RowsAffected()
	return int(n), wrapError(err, "adding suppressions")
}

const removeSuppressions = `
WITH old AS (
    SELECT sender, recipient FROM suppressions WHERE recipient = $2 AND ($3 OR sender = $1) ORDER BY sender, recipient FOR UPDATE
), removed AS (
    DELETE FROM suppressions s USING old WHERE s.sender = old.sender AND s.recipient = old.recipient RETURNING s.sender
)
SELECT count(*) FROM removed`

// RemoveSuppression removes a suppression. If an opt-out holds for every sender, it removes
// all suppressions of the recipient, so that messages to the recipient are sent again. It
// returns false when there is none.
func (s *Store) RemoveSuppression(ctx context.Context, sender, recipient mms.PhoneNumber) (bool, error) {
	var removed int
	err := s.db.GetContext(ctx, &removed, removeSuppressions, string(sender), string(recipient), s.optOutsOfEverySender)
	return removed > 0, wrapError(err, "removing a suppression")
}

const selectSuppressions = `
SELECT sender, recipient, reason, created_at FROM suppressions
WHERE ($1 = '' OR recipient = $1) AND (recipient, sender) > ($2, $3)
ORDER BY recipient, sender LIMIT $4`

// Suppressions returns a page of suppressions ordered by recipient and sender, from
// after the given pair on, and true when more follow. A recipient restricts the list;
// empty means all.
func (s *Store) Suppressions(ctx context.Context, recipient mms.PhoneNumber, after mms.Suppression, limit int) ([]mms.Suppression, bool, error) {
	var rows []struct {
		Sender    string    `db:"sender"`
		Recipient string    `db:"recipient"`
		Reason    string    `db:"reason"`
		CreatedAt time.Time `db:"created_at"`
	}
	err := s.db.SelectContext(ctx, &rows, selectSuppressions, string(recipient), string(after.Recipient), string(after.Sender), limit+1)
	if err != nil {
		return nil, false, wrapError(err, "listing suppressions")
	}
	list := make([]mms.Suppression, min(len(rows), limit))
	for i := range list {
		r := rows[i]
		list[i] = mms.Suppression{Sender: mms.PhoneNumber(r.Sender), Recipient: mms.PhoneNumber(r.Recipient), Reason: mms.SuppressionReason(r.Reason), CreatedAt: r.CreatedAt}
	}
	return list, len(rows) > limit, nil
}
