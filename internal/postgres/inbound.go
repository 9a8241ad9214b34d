package postgres

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/postcard-mms/postcard/internal/mms"
)

// recordInbound stores a message that somebody sent us, once, and does what its
// keyword says. $8: whether START may lift a suppression. An admin's word is not
// lifted by it.
const recordInbound = `
WITH taken AS (
    INSERT INTO inbound_messages (id, plivo_uuid, from_number, to_number, text, media, keyword)
    VALUES ($1, $2, $3, $4, $5, coalesce($6::text[], '{}'), $7) ON CONFLICT (plivo_uuid) DO NOTHING
    RETURNING from_number, to_number, keyword
), stopped AS (
    INSERT INTO suppressions (sender, recipient, reason) SELECT to_number, from_number, 'recipient' FROM taken
    WHERE keyword = 'stop' AND from_number ~ '^\+[1-9][0-9]{6,14}$' ON CONFLICT DO NOTHING
), started AS (
    DELETE FROM suppressions s USING taken t
    WHERE t.keyword = 'start' AND $8 AND s.sender = t.to_number AND s.recipient = t.from_number AND s.reason <> 'admin'
)
SELECT count(*) FROM taken`

// RecordInbound stores a message that somebody sent to one of our numbers, and
// opts its author out, or in where mayLift, as its keyword says. It reports
// false when it had the message already.
func (s *Store) RecordInbound(ctx context.Context, in mms.Inbound, mayLift bool) (bool, error) {
	var taken int
	err := s.db.GetContext(ctx, &taken, recordInbound, in.ID, in.PlivoUUID, string(in.From), string(in.To),
		in.Text, pq.Array(in.MediaURLs), string(in.Keyword), mayLift)
	return taken == 1, wrapError(err, "storing an inbound message")
}

// selectReplies shows an owner what came from somebody they have sent to, from
// then on.
const selectReplies = `
SELECT i.id, i.plivo_uuid, i.from_number, i.to_number, i.text, i.media, i.keyword, i.received_at
FROM messages m JOIN inbound_messages i ON i.to_number = m.sender AND i.from_number = m.recipient
WHERE m.id = $1 AND m.user_id = $2 AND i.received_at >= (
    SELECT min(f.created_at) FROM messages f WHERE f.user_id = $2 AND f.sender = m.sender AND f.recipient = m.recipient)
ORDER BY i.received_at DESC LIMIT $3`

// maxReplies is how many replies are shown with a message.
const maxReplies = 50

// Replies returns what the recipient of the owner's message has sent back to its
// sender, newest first.
func (s *Store) Replies(ctx context.Context, owner, id uuid.UUID) ([]mms.Inbound, error) {
	var rows []struct {
		ID         uuid.UUID      `db:"id"`
		PlivoUUID  string         `db:"plivo_uuid"`
		Author     string         `db:"from_number"`
		Number     string         `db:"to_number"`
		Text       string         `db:"text"`
		Media      pq.StringArray `db:"media"`
		Keyword    string         `db:"keyword"`
		ReceivedAt time.Time      `db:"received_at"`
	}
	if err := s.db.SelectContext(ctx, &rows, selectReplies, id, owner, maxReplies); err != nil {
		return nil, wrapError(err, "reading replies")
	}
	replies := make([]mms.Inbound, len(rows))
	for i, r := range rows {
		replies[i] = mms.Inbound{
			ID: r.ID, PlivoUUID: r.PlivoUUID, From: mms.PhoneNumber(r.Author), To: mms.PhoneNumber(r.Number),
			Text: r.Text, MediaURLs: r.Media, Keyword: mms.Keyword(r.Keyword), ReceivedAt: r.ReceivedAt,
		}
	}
	return replies, nil
}

const failSuppressed = `
WITH m AS (
    UPDATE messages SET status = 'failed', reason = 'opted_out', next_attempt_at = NULL, task_check_at = NULL, backlog_state = NULL,
        version = version + 1, updated_at = now(), final_at = now()
    WHERE id = $1 AND status = 'queued' AND EXISTS (
        SELECT FROM suppressions s WHERE s.sender = messages.sender AND s.recipient = messages.recipient)
    RETURNING id, status
), event AS (
    INSERT INTO message_events (message_id, kind, status) SELECT id, 'suppressed', status FROM m
)
SELECT id FROM m`

// FailSuppressed fails a queued message whose recipient has opted out.
func (s *Store) FailSuppressed(ctx context.Context, id uuid.UUID) error {
	_, err := s.exec(ctx, "failing a message to somebody who has opted out", failSuppressed, id)
	return err
}

const addSuppressions = `
INSERT INTO suppressions (sender, recipient, reason)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[]) ON CONFLICT DO NOTHING`

// AddSuppressions adds suppressions, and returns how many there had not been.
func (s *Store) AddSuppressions(ctx context.Context, list []mms.Suppression) (int, error) {
	var senders, recipients, reasons []string
	for _, one := range list {
		senders, recipients, reasons = append(senders, string(one.Sender)), append(recipients, string(one.Recipient)), append(reasons, string(one.Reason))
	}
	result, err := s.db.ExecContext(ctx, addSuppressions, pq.Array(senders), pq.Array(recipients), pq.Array(reasons))
	if err != nil {
		return 0, wrapError(err, "adding suppressions")
	}
	n, err := result.RowsAffected()
	return int(n), wrapError(err, "adding suppressions")
}

const removeSuppression = `DELETE FROM suppressions WHERE sender = $1 AND recipient = $2 RETURNING sender`

// RemoveSuppression ends a suppression. It reports false when there is none.
func (s *Store) RemoveSuppression(ctx context.Context, sender, recipient mms.PhoneNumber) (bool, error) {
	var lifted string
	err := s.db.GetContext(ctx, &lifted, removeSuppression, string(sender), string(recipient))
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, wrapError(err, "lifting a suppression")
}

const selectSuppressions = `
SELECT sender, recipient, reason, created_at FROM suppressions
WHERE ($1 = '' OR recipient = $1) AND (recipient, sender) > ($2, $3)
ORDER BY recipient, sender LIMIT $4`

// Suppressions returns a page of suppressions in the order of their recipients,
// and whether there are more behind it: those of one recipient unless it is
// empty, behind the pair after.
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
	more := len(rows) > limit
	list := make([]mms.Suppression, min(len(rows), limit))
	for i := range list {
		r := rows[i]
		list[i] = mms.Suppression{Sender: mms.PhoneNumber(r.Sender), Recipient: mms.PhoneNumber(r.Recipient), Reason: mms.SuppressionReason(r.Reason), CreatedAt: r.CreatedAt}
	}
	return list, more, nil
}
