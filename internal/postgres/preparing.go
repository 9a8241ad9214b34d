package postgres

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/postcard-mms/postcard/internal/mms"
)

// notReady is true for a medium that has to be prepared before its message is sent: Plivo
// does not have the upload, or the URL has no recent check, or its picture
// has to be copied, or the history has to say that the URL redirects. The row needs the
// columns url, content and fit. alone says whether it is the message's only medium: if not,
// what fits alone may not fit together. account and check are parameters: the Plivo account,
// and whether media URLs are checked.
//
// The scalar subquery hides check from the planner. Knowing it, the planner may leave out the
// search for a check, take that plan for cheaper, and plan each execution anew.
func notReady(row, alone, account, check string) string {
	return `CASE WHEN ` + row + `.content IS NOT NULL THEN NOT ` + atPlivo(row, account) + `
        WHEN NOT (SELECT ` + check + `::boolean) THEN false
        ELSE NOT EXISTS (
            SELECT FROM media_checks k WHERE k.url_hash = sha256(convert_to(` + row + `.url, 'UTF8')) AND k.checked_at > now() - ` + checkLifetime + `
            AND k.result = 'passed' AND ` + alone + ` AND (` + row + `.fit = 'auto' AND k.fits
                OR ` + row + `.fit = 'never' AND NOT k.redirected AND k.type <> 'image/webp' AND k.bytes <= ` + strconv.Itoa(mms.MaxPlivoMedia) + `)) END`
}

const checkLifetime = `interval '10 minutes'` // mms.MediaCheckLifetime

// knownPreview is the small version of the picture behind the URL of a medium u, if a check
// has seen it: a message that needs no check of its own gets no other.
const knownPreview = `(SELECT k.preview FROM media_checks k WHERE k.url_hash = sha256(convert_to(u.url, 'UTF8')) AND k.result = 'passed')`

// unprepared is true when some medium of a stored message m is not ready.
func unprepared(account, check string) string {
	return `EXISTS (
        SELECT FROM message_media mm WHERE mm.message_id = m.id AND ` +
		notReady("mm", `NOT EXISTS (SELECT FROM message_media o WHERE o.message_id = m.id AND o.position <> mm.position)`, account, check) + ` OFFSET 0)`
}

const prepare = `
UPDATE messages SET backlog_state = 'preparing', prepare_at = now(), task_check_at = 'infinity'
WHERE id = $1 AND status = 'queued' AND backlog_state IS DISTINCT FROM 'preparing'
RETURNING id`

// Prepare makes a queued message wait until its media are ready: Plivo does not have its
// uploads any more. It has no task until then.
func (s *Store) Prepare(ctx context.Context, id uuid.UUID) error {
	_, err := s.exec(ctx, "preparing a message", prepare, id)
	return err
}

// duePreparations reads up to $1 messages that are due to be prepared, those that have waited
// longest first, and ranks them. The condition says what their batch_id is.
func duePreparations(condition string) string {
	return `
    SELECT *, row_number() OVER (ORDER BY prepare_at) AS rank FROM (
        SELECT id, expires_at, prepare_at FROM messages
        WHERE backlog_state = 'preparing' AND batch_id ` + condition + ` AND prepare_at <= now() AND expires_at > now()
        ORDER BY prepare_at LIMIT $1) longest`
}

// selectPreparations reads the media with the size of their contents. Each batch, and the
// messages of no batch together, have an equal share of the page: a batch whose URLs take
// long to check does not hold up others. The batches are found by index, one by one.
//
// OFFSET 0 makes it read the media of each message by its id. The planner takes the page for
// a tenth of all messages, and might join it with all media.
var selectPreparations = `
WITH RECURSIVE preparing AS (
    (SELECT batch_id FROM messages WHERE backlog_state = 'preparing' AND batch_id IS NOT NULL ORDER BY batch_id LIMIT 1)
    UNION ALL
    SELECT (SELECT m.batch_id FROM messages m WHERE m.backlog_state = 'preparing' AND m.batch_id > p.batch_id ORDER BY m.batch_id LIMIT 1)
    FROM preparing p WHERE p.batch_id IS NOT NULL
), due AS MATERIALIZED (
    SELECT * FROM (
        SELECT * FROM (` + duePreparations(`IS NULL`) + `) of_no_batch
        UNION ALL
        SELECT of_batch.* FROM preparing, LATERAL (` + duePreparations(`= preparing.batch_id`) + `) of_batch
    ) of_all ORDER BY rank, prepare_at LIMIT $1
)
SELECT due.id, due.expires_at, mm.position, mm.fit, mm.url, mm.content, mm.bytes, mm.at_plivo
FROM due, LATERAL (
    SELECT mm.position, mm.fit, coalesce(mm.url, '') AS url, mm.content, mm.content IS NOT NULL AND ` + atPlivo("mm", "$2") + ` AS at_plivo,
        coalesce((SELECT c.bytes FROM media_contents c WHERE c.hash = mm.content), 0) AS bytes
    FROM message_media mm WHERE mm.message_id = due.id OFFSET 0) mm
ORDER BY due.rank, due.prepare_at, due.id, mm.position`

// Preparations returns up to limit messages whose media are due to be prepared, those that
// have waited longest first, in turn for each batch and for the messages of no batch.
func (s *Store) Preparations(ctx context.Context, limit int) ([]mms.Preparation, error) {
	var rows []struct {
		ID        uuid.UUID `db:"id"`
		ExpiresAt time.Time `db:"expires_at"`
		Position  int       `db:"position"`
		Fit       string    `db:"fit"`
		URL       string    `db:"url"`
		Content   []byte    `db:"content"`
		Bytes     int       `db:"bytes"`
		AtPlivo   bool      `db:"at_plivo"`
	}
	if err := s.db.SelectContext(ctx, &rows, selectPreparations, limit, s.plivoAccount); err != nil {
		return nil, wrapError(err, "reading messages to prepare")
	}
	var list []mms.Preparation
	for _, row := range rows {
		if n := len(list); n == 0 || list[n-1].MessageID != row.ID {
			list = append(list, mms.Preparation{MessageID: row.ID, ExpiresAt: row.ExpiresAt, Fit: mms.Fit(row.Fit)})
		}
		p := &list[len(list)-1]
		p.Media = append(p.Media, mms.MessageMedium{
			Position: row.Position, URL: row.URL, Content: contentHash(row.Content), Bytes: row.Bytes, AtPlivo: row.AtPlivo,
		})
	}
	return list, nil
}

// markPrepared locks the batches first, so that pausing one waits: either it finds the
// message waiting, or the message is parked. Parameters: $1 messages, $2 notes; of the media
// that change $3 messages, $4 positions, $5 contents, $6 previews.
//
// A message of no batch gets its task at once, like one that is created.
//
// Here and in the statements below, the given messages are read first and the conditions
// applied afterwards. If both were in one query level, the planner might read all messages
// that are being prepared, or all of the batch.
const markPrepared = `
WITH b AS MATERIALIZED (
    SELECT id, state FROM batches WHERE id IN (
        SELECT batch_id FROM (SELECT batch_id FROM messages WHERE id = ANY ((SELECT $1::uuid[])::uuid[]) OFFSET 0) m) ORDER BY id FOR SHARE
), found AS MATERIALIZED (
    SELECT id, batch_id, status, backlog_state FROM messages
    WHERE id = ANY ((SELECT $1::uuid[])::uuid[]) AND (SELECT count(*) FROM b) >= 0
    ORDER BY id FOR UPDATE
), locked AS MATERIALIZED (
    SELECT id, batch_id FROM found WHERE status = 'queued' AND backlog_state = 'preparing'
), media AS (
    UPDATE message_media mm SET content = coalesce(u.content, mm.content), preview = coalesce(u.preview, mm.preview)
    FROM unnest($3::uuid[], $4::smallint[], $5::bytea[], $6::bytea[]) AS u (message_id, position, content, preview), locked
    WHERE locked.id = u.message_id AND mm.message_id = u.message_id AND mm.position = u.position
), noted AS MATERIALIZED (
    SELECT locked.id, u.note, locked.batch_id IS NULL OR u.note <> '' AS tell,
        CASE WHEN locked.batch_id IS NULL THEN NULL WHEN (SELECT state FROM b WHERE b.id = locked.batch_id) = 'paused' THEN 'parked' ELSE 'waiting' END AS next
    FROM locked JOIN unnest((SELECT $1::uuid[]), $2::text[]) AS u (id, note) ON u.id = locked.id
), changed AS (
    UPDATE messages SET backlog_state = noted.next, prepare_at = NULL, updated_at = now(), version = version + tell::int,
        task_check_at = CASE WHEN noted.next IS NULL THEN now() + ` + taskCheckGrace + ` ELSE 'infinity' END,
        task_generation = task_generation + 1
    FROM noted WHERE messages.id = noted.id
    RETURNING messages.id, messages.status, messages.task_generation, messages.priority, messages.backlog_state, noted.note, noted.tell
), event AS (
    INSERT INTO message_events (message_id, kind, status, detail) SELECT id, 'prepared', status, note FROM changed WHERE tell
)
SELECT id, task_generation, priority, backlog_state IS NOT NULL AS in_backlog FROM changed`

// MarkPrepared releases messages whose media are ready, and returns the tasks to enqueue:
// messages of batches join the backlog instead. A message that is not preparing any more is
// left as it is.
func (s *Store) MarkPrepared(ctx context.Context, prepared []mms.Prepared) ([]mms.Task, error) {
	ids, notes := make([]string, len(prepared)), make([]string, len(prepared))
	var messages []string
	var positions []int64
	var contents, previews []sql.NullString
	for i, p := range prepared {
		ids[i], notes[i] = p.MessageID.String(), p.Note
		for position := 1; position <= mms.MaxMedia; position++ {
			content, preview := p.Contents[position], p.Previews[position]
			if content.IsZero() && preview.IsZero() {
				continue
			}
			messages, positions = append(messages, p.MessageID.String()), append(positions, int64(position))
			contents, previews = append(contents, hexColumn(content)), append(previews, hexColumn(preview))
		}
	}
	rows, err := s.queued(ctx, "releasing prepared messages", markPrepared, pq.Array(ids), pq.Array(notes), pq.Array(messages), pq.Array(positions), pq.Array(contents), pq.Array(previews))
	return tasksOf(rows), err
}

const postponePreparation = `
WITH found AS MATERIALIZED (
    SELECT id, backlog_state FROM messages WHERE id = ANY ((SELECT $1::uuid[])::uuid[]) FOR UPDATE SKIP LOCKED
)
UPDATE messages SET prepare_at = now() + $2 * interval '1 second' WHERE id = ANY (ARRAY(SELECT id FROM found WHERE backlog_state = 'preparing'))`

// PostponePreparation makes messages wait before their media are checked again.
func (s *Store) PostponePreparation(ctx context.Context, ids []uuid.UUID, wait time.Duration) error {
	_, err := s.db.ExecContext(ctx, postponePreparation, pq.Array(idStrings(ids)), wait.Seconds())
	return wrapError(err, "postponing messages to prepare")
}

const failPreparation = `
WITH found AS MATERIALIZED (
    SELECT id, status, backlog_state FROM messages WHERE id = ANY ((SELECT $1::uuid[])::uuid[]) ORDER BY id FOR UPDATE
), m AS (
    UPDATE messages SET status = 'failed', reason = $2, next_attempt_at = NULL, task_check_at = NULL, backlog_state = NULL, prepare_at = NULL,
        version = version + 1, updated_at = now(), final_at = now()
    WHERE id = ANY (ARRAY(SELECT id FROM found WHERE status = 'queued' AND backlog_state = 'preparing'))
    RETURNING messages.id, messages.status
), event AS (
    INSERT INTO message_events (message_id, kind, status, detail) SELECT id, 'media_failed', status, $3 FROM m
)
SELECT id FROM m`

// FailPreparation fails messages whose media Plivo could not use. The detail says what was
// found.
func (s *Store) FailPreparation(ctx context.Context, ids []uuid.UUID, reason mms.Reason, detail string) error {
	_, err := s.exec(ctx, "failing messages with unusable media", failPreparation, pq.Array(idStrings(ids)), string(reason), detail)
	return err
}

func idStrings(ids []uuid.UUID) []string {
	list := make([]string, len(ids))
	for i, id := range ids {
		list[i] = id.String()
	}
	return list
}

// urlHash is the key of a URL in media_checks.
func urlHash(url string) []byte {
	sum := sha256.Sum256([]byte(url))
	return sum[:]
}

const selectMediaChecks = `
SELECT url_hash, checked_at, result, reason, detail, type, bytes, width, height, redirected, fits, copy, preview
FROM media_checks WHERE url_hash = ANY ($1) AND checked_at > now() - ` + checkLifetime

// MediaChecks returns the checks of media URLs that are still used, by their URL.
func (s *Store) MediaChecks(ctx context.Context, urls []string) (map[string]mms.MediaCheck, error) {
	hashes, byHash := make(pq.ByteaArray, len(urls)), make(map[string]string, len(urls))
	for i, url := range urls {
		hashes[i] = urlHash(url)
		byHash[string(hashes[i])] = url
	}
	var rows []struct {
		URLHash    []byte    `db:"url_hash"`
		CheckedAt  time.Time `db:"checked_at"`
		Result     string    `db:"result"`
		Reason     string    `db:"reason"`
		Detail     string    `db:"detail"`
		Type       string    `db:"type"`
		Bytes      int       `db:"bytes"`
		Width      int       `db:"width"`
		Height     int       `db:"height"`
		Redirected bool      `db:"redirected"`
		Fits       bool      `db:"fits"`
		Copy       []byte    `db:"copy"`
		Preview    []byte    `db:"preview"`
	}
	if err := s.db.SelectContext(ctx, &rows, selectMediaChecks, hashes); err != nil {
		return nil, wrapError(err, "reading checks of media URLs")
	}
	checks := make(map[string]mms.MediaCheck, len(rows))
	for _, row := range rows {
		url := byHash[string(row.URLHash)]
		checks[url] = mms.MediaCheck{
			URL: url, CheckedAt: row.CheckedAt, Result: mms.CheckResult(row.Result), Reason: mms.Reason(row.Reason), Detail: row.Detail,
			PictureInfo: mms.PictureInfo{Type: row.Type, Bytes: row.Bytes, Width: row.Width, Height: row.Height},
			Redirected:  row.Redirected, Fits: row.Fits, Copy: contentHash(row.Copy), Preview: contentHash(row.Preview),
		}
	}
	return checks, nil
}

const saveMediaCheck = `
INSERT INTO media_checks (url_hash, result, reason, detail, type, bytes, width, height, redirected, fits, copy, preview)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT (url_hash) DO UPDATE SET checked_at = now(), result = EXCLUDED.result, reason = EXCLUDED.reason, detail = EXCLUDED.detail,
    type = EXCLUDED.type, bytes = EXCLUDED.bytes, width = EXCLUDED.width, height = EXCLUDED.height,
    redirected = EXCLUDED.redirected, fits = EXCLUDED.fits, copy = EXCLUDED.copy, preview = EXCLUDED.preview`

// SaveMediaCheck stores what was found behind a media URL. Its copy and preview must be
// stored already.
func (s *Store) SaveMediaCheck(ctx context.Context, c mms.MediaCheck) error {
	_, err := s.db.ExecContext(ctx, saveMediaCheck, urlHash(c.URL), string(c.Result), string(c.Reason), c.Detail, c.Type, c.Bytes, c.Width, c.Height,
		c.Redirected, c.Fits, hashColumn(c.Copy), hashColumn(c.Preview))
	return wrapError(err, "storing the check of a media URL")
}

// AtPlivo reports whether Plivo has a content, for long enough to use it.
func (s *Store) AtPlivo(ctx context.Context, hash mms.ContentHash) (bool, error) {
	var has bool
	err := s.db.GetContext(ctx, &has, `SELECT `+atPlivo("c", "$2")+` FROM (SELECT $1::bytea AS content) c`, hash[:], s.plivoAccount)
	return has, wrapError(err, "reading whether Plivo has a picture")
}

const forgetFailedCheck = `DELETE FROM media_checks WHERE url_hash = $1 AND result <> 'passed'`

// ForgetFailedCheck deletes the check of a media URL unless it has passed, so that the URL is
// checked again: somebody has seen that it works.
func (s *Store) ForgetFailedCheck(ctx context.Context, url string) error {
	_, err := s.db.ExecContext(ctx, forgetFailedCheck, urlHash(url))
	return wrapError(err, "deleting the failed check of a media URL")
}

const savePlivoMedia = `
INSERT INTO plivo_media (content, account, media_id, usable_until) VALUES ($1, $2, $3, now() + $4 * interval '1 second')
ON CONFLICT (content, account) DO UPDATE SET media_id = EXCLUDED.media_id, uploaded_at = now(), used = false, usable_until = EXCLUDED.usable_until`

// SavePlivoMedia stores the id under which Plivo has a content.
func (s *Store) SavePlivoMedia(ctx context.Context, hash mms.ContentHash, mediaID string) error {
	_, err := s.db.ExecContext(ctx, savePlivoMedia, hash[:], s.plivoAccount, mediaID, mms.UnusedPlivoMedia.Seconds())
	return wrapError(err, "storing Plivo's id of a picture")
}

const forgetPlivoMedia = `
WITH locked AS MATERIALIZED (
    SELECT content FROM plivo_media WHERE account = $2 AND content IN (SELECT content FROM message_media WHERE message_id = $1) ORDER BY content FOR UPDATE
)
DELETE FROM plivo_media WHERE account = $2 AND content IN (SELECT content FROM locked)`

// ForgetPlivoMedia deletes the ids that Plivo gave to the uploads of a message, because it
// does not know one of them any more.
func (s *Store) ForgetPlivoMedia(ctx context.Context, message uuid.UUID) error {
	_, err := s.db.ExecContext(ctx, forgetPlivoMedia, message, s.plivoAccount)
	return wrapError(err, "deleting Plivo's ids of a message's pictures")
}

// markUsedPlivoMedia looks for an attempt with the content that Plivo accepted after the
// upload: from then on Plivo keeps the content for longer. OFFSET 0 makes it do so per
// upload, by indexes. It gives up a day after the upload is no longer used: a large batch that
// was canceled would be searched forever.
const markUsedPlivoMedia = `
WITH found AS MATERIALIZED (
    SELECT p.content, p.account FROM plivo_media p
    WHERE p.account = $1 AND NOT p.used AND p.usable_until > now() - interval '1 day' AND EXISTS (
        SELECT FROM message_media mm JOIN attempts a ON a.message_id = mm.message_id
        WHERE mm.content = p.content AND a.outcome = 'accepted' AND a.started_at > p.uploaded_at OFFSET 0)
    FOR UPDATE SKIP LOCKED
)
UPDATE plivo_media p SET used = true, usable_until = p.uploaded_at + $2 * interval '1 second'
FROM found WHERE p.content = found.content AND p.account = found.account`

// MarkUsedPlivoMedia notes which uploads Plivo keeps for longer because a message has used
// them.
func (s *Store) MarkUsedPlivoMedia(ctx context.Context) error {
	_, err := s.db.ExecContext(ctx, markUsedPlivoMedia, s.plivoAccount, mms.UsedPlivoMedia.Seconds())
	return wrapError(err, "noting the uploads that Plivo keeps")
}
