package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/postcard-mms/postcard/internal/mms"
)

// recordInbound stores an inbound message once and applies its keyword. $8 says
// whether START may remove suppressions; it never removes an admin's. $9 says whether an
// opt-out holds for every sender: START then removes the recipient's suppressions from all
// of them.
const recordInbound = `
WITH inbound AS (
    INSERT INTO inbound_messages (id, plivo_uuid, from_number, to_number, text, media, keyword)
    VALUES ($1, $2, $3, $4, $5, coalesce($6::text[], '{}'), $7) ON CONFLICT (plivo_uuid) DO NOTHING
    RETURNING from_number, to_number, keyword
), opted_out AS (
    INSERT INTO suppressions (sender, recipient, reason) SELECT to_number, from_number, 'recipient' FROM inbound
    WHERE keyword = 'stop' AND from_number ~ '^\+[1-9][0-9]{6,14}$' ON CONFLICT DO NOTHING
), old AS (
    SELECT s.sender, s.recipient FROM inbound i JOIN suppressions s ON s.recipient = i.from_number
    WHERE i.keyword = 'start' AND $8 AND s.reason <> 'admin' AND ($9 OR s.sender = i.to_number)
    ORDER BY s.sender, s.recipient FOR UPDATE OF s
), opted_in AS (
    DELETE FROM suppressions s USING old WHERE s.sender = old.sender AND s.recipient = old.recipient
)
SELECT count(*) FROM inbound`

// RecordInbound stores a message that somebody sent to one of our numbers. STOP adds a
// suppression; START removes it if mayOptIn, and those from the other senders if an opt-out
// holds for every sender. It returns false, and does not apply the keyword again, when the
// message was already stored: a callback that Plivo repeats must not undo a later one.
func (s *Store) RecordInbound(ctx context.Context, in mms.Inbound, mayOptIn bool) (bool, error) {
	var stored int
	err := s.db.GetContext(ctx, &stored, recordInbound, in.ID, in.PlivoUUID, string(in.From), string(in.To),
		in.Text, pq.Array(in.MediaURLs), string(in.Keyword), mayOptIn, s.optOutsOfEverySender)
	return stored == 1, wrapError(err, "storing an inbound message")
}

// selectReplies selects what the recipient of message $1 sent to its sender since the
// user $2 first sent to this recipient.
const selectReplies = `
SELECT i.id, i.plivo_uuid, i.from_number, i.to_number, i.text, i.media, i.keyword, i.received_at
FROM messages m JOIN inbound_messages i ON i.to_number = m.sender AND i.from_number = m.recipient
WHERE m.id = $1 AND m.workspace_id = $2 AND i.received_at >= (
    SELECT min(f.created_at) FROM messages f WHERE f.workspace_id = $2 AND f.sender = m.sender AND f.recipient = m.recipient)
ORDER BY i.received_at DESC LIMIT $3`

// maxReplies is how many replies Replies returns.
const maxReplies = 50

// Replies returns what the recipient of the workspace's message has sent back, newest
// first, 50 at most. Messages from before the workspace's first message to this recipient
// are left out: they are replies to another workspace.
func (s *Store) Replies(ctx context.Context, workspace, id uuid.UUID) ([]mms.Inbound, error) {
	var rows []struct {
		ID         uuid.UUID      `db:"id"`
		PlivoUUID  string         `db:"plivo_uuid"`
		From       string         `db:"from_number"`
		To         string         `db:"to_number"`
		Text       string         `db:"text"`
		Media      pq.StringArray `db:"media"`
		Keyword    string         `db:"keyword"`
		ReceivedAt time.Time      `db:"received_at"`
	}
	if err := s.db.SelectContext(ctx, &rows, selectReplies, id, workspace, maxReplies); err != nil {
		return nil, wrapError(err, "reading replies")
	}
	replies := make([]mms.Inbound, len(rows))
	for i, r := range rows {
		replies[i] = mms.Inbound{
			ID: r.ID, PlivoUUID: r.PlivoUUID, From: mms.PhoneNumber(r.From), To: mms.PhoneNumber(r.To),
			Text: r.Text, MediaURLs: r.Media, Keyword: mms.Keyword(r.Keyword), ReceivedAt: r.ReceivedAt,
		}
	}
	return replies, nil
}
