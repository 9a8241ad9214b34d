package postgres

import (
	"context"
	"database/sql"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/postcard-mms/postcard/internal/mms"
)

// refittable is the condition under which a message m may be resent with smaller pictures:
// Plivo has reported that they were too large, and nobody has resent it, as far as its
// submitter lets pictures be changed. A message that is a refit itself has the same event.
const refittable = `m.status = 'failed' AND m.plivo_code = '120' AND m.created_at > now() - interval '1 day'
    AND NOT EXISTS (SELECT FROM messages r WHERE r.resend_of = m.id)
    AND NOT EXISTS (SELECT FROM message_events e WHERE e.message_id = m.id AND e.kind = 'refitted')
    AND NOT EXISTS (SELECT FROM message_media mm WHERE mm.message_id = m.id AND mm.fit = 'never')`

const selectRefitCandidates = `
WITH m AS MATERIALIZED (
    SELECT id, sender, recipient, plivo_uuid, updated_at FROM messages m WHERE ` + refittable + ` AND plivo_uuid IS NOT NULL AND id > $1 ORDER BY id LIMIT $2
)
SELECT m.id, m.sender, m.recipient, m.plivo_uuid, m.updated_at, mm.position, coalesce(mm.url, '') AS url, mm.content, coalesce(c.bytes, 0) AS bytes
FROM m JOIN message_media mm ON mm.message_id = m.id LEFT JOIN media_contents c ON c.hash = mm.content
ORDER BY m.id, mm.position`

// RefitCandidates returns up to limit messages after the id that failed in the last day
// because their pictures were too large, and may be resent with smaller ones.
func (s *Store) RefitCandidates(ctx context.Context, after uuid.UUID, limit int) ([]mms.RefitCandidate, error) {
	var rows []struct {
		ID        uuid.UUID `db:"id"`
		Sender    string    `db:"sender"`
		Recipient string    `db:"recipient"`
		PlivoUUID string    `db:"plivo_uuid"`
		UpdatedAt time.Time `db:"updated_at"`
		Position  int       `db:"position"`
		URL       string    `db:"url"`
		Content   []byte    `db:"content"`
		Bytes     int       `db:"bytes"`
	}
	if err := s.db.SelectContext(ctx, &rows, selectRefitCandidates, after, limit); err != nil {
		return nil, wrapError(err, "reading messages with too large pictures")
	}
	var list []mms.RefitCandidate
	for _, row := range rows {
		if n := len(list); n == 0 || list[n-1].MessageID != row.ID {
			list = append(list, mms.RefitCandidate{FailedAt: row.UpdatedAt, Unreported: mms.Unreported{
				AttemptRef: mms.AttemptRef{MessageID: row.ID}, PlivoUUID: row.PlivoUUID,
				Sender: mms.PhoneNumber(row.Sender), Recipient: mms.PhoneNumber(row.Recipient),
			}})
		}
		c := &list[len(list)-1]
		c.Media = append(c.Media, mms.MessageMedium{Position: row.Position, URL: row.URL, Content: contentHash(row.Content), Bytes: row.Bytes})
	}
	return list, nil
}

// createRefit creates a message like $1 with the id $2, the contents $4 at the positions $3,
// and the time to live that $1 had. The media preparer queues it. It counts towards no daily
// cap, since nobody asked for it and Plivo did not charge the first one.
const createRefit = `
WITH old AS MATERIALIZED (
    SELECT * FROM messages m WHERE id = $1 AND ` + refittable + ` FOR UPDATE
), created AS (
    INSERT INTO messages (id, workspace_id, sender, recipient, text, status, next_attempt_at, task_check_at, backlog_state, prepare_at, expires_at, priority, metadata, api_key_id, created_by, resend_of, version)
    SELECT $2, workspace_id, sender, recipient, text, 'queued', now(), 'infinity', 'preparing', now(),
        now() + (expires_at - coalesce(send_at, created_at)), priority, metadata, api_key_id, created_by, id, 2
    FROM old
    ON CONFLICT (id) DO NOTHING
    RETURNING id, status, text, metadata, resend_of
), search AS (` + insertSearch + `
), media AS (
    INSERT INTO message_media (message_id, position, url, upload_id, content, fit, preview)
    SELECT created.id, mm.position, mm.url, mm.upload_id, coalesce(u.content, mm.content), mm.fit, mm.preview
    FROM created JOIN message_media mm ON mm.message_id = created.resend_of
    LEFT JOIN unnest($3::smallint[], $4::bytea[]) AS u (position, content) ON u.position = mm.position
), resent AS (
    UPDATE messages SET version = messages.version + 1, updated_at = now()
    FROM created WHERE messages.id = created.resend_of RETURNING messages.id, messages.status, created.id AS new_id
), event AS (
    INSERT INTO message_events (message_id, kind, status, detail)
    SELECT id, 'refitted', status, 'as message ' || new_id FROM resent
    UNION ALL SELECT id, 'created', status, '' FROM created
    UNION ALL SELECT id, 'refitted', status, 'repeats message ' || resend_of FROM created
)
SELECT id FROM resent UNION ALL SELECT id FROM created`

// CreateRefit creates the message that repeats a message whose pictures were too large, with
// other contents by position. It does nothing if the message may not be refitted any more.
func (s *Store) CreateRefit(ctx context.Context, old, id uuid.UUID, contents map[int]mms.ContentHash) error {
	var positions []int64
	var hashes []sql.NullString
	for position, hash := range contents {
		positions, hashes = append(positions, int64(position)), append(hashes, hexColumn(hash))
	}
	_, err := s.exec(ctx, "resending a message with smaller pictures", createRefit, old, id, pq.Array(positions), pq.Array(hashes))
	return err
}
