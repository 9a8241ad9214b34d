package postgres

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"github.com/postcard-mms/postcard/internal/mms"
)

// contentColumns are the columns of a contentRow. The table must be aliased as c.
const contentColumns = `c.hash, c.type, c.bytes, c.width, c.height, c.data, c.preview`

type contentRow struct {
	Hash    []byte `db:"hash"`
	Type    string `db:"type"`
	Bytes   int    `db:"bytes"`
	Width   int    `db:"width"`
	Height  int    `db:"height"`
	Data    []byte `db:"data"`
	Preview []byte `db:"preview"`
}

func (r contentRow) content() mms.Content {
	return mms.Content{
		Hash: contentHash(r.Hash), Data: r.Data, Preview: contentHash(r.Preview),
		PictureInfo: mms.PictureInfo{Type: r.Type, Bytes: r.Bytes, Width: r.Width, Height: r.Height},
	}
}

// contentHash returns the zero hash for NULL.
func contentHash(column []byte) mms.ContentHash {
	var h mms.ContentHash
	copy(h[:], column)
	return h
}

// hashColumn returns NULL for the zero hash.
func hashColumn(h mms.ContentHash) []byte {
	if h.IsZero() {
		return nil
	}
	return h[:]
}

// hexColumn returns NULL for the zero hash, as an element of an array.
func hexColumn(h mms.ContentHash) sql.NullString {
	return sql.NullString{String: `\x` + h.String(), Valid: !h.IsZero()}
}

// insertContent touches a content that is stored already, so that it is not deleted at the
// same moment.
const insertContent = `
INSERT INTO media_contents AS c (hash, type, bytes, width, height, data, preview) VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (hash) DO UPDATE SET touched_at = now(), preview = coalesce(c.preview, EXCLUDED.preview)`

// SaveContent stores a content, whose preview must be stored already, unless it is stored.
func (s *Store) SaveContent(ctx context.Context, c mms.Content) error {
	_, err := s.db.ExecContext(ctx, insertContent, contentArgs(c)...)
	return wrapError(err, "storing a picture")
}

func contentArgs(c mms.Content) []any {
	return []any{c.Hash[:], c.Type, len(c.Data), c.Width, c.Height, c.Data, hashColumn(c.Preview)}
}

const selectContent = `SELECT ` + contentColumns + ` FROM media_contents c WHERE c.hash = $1`

// Content returns a content, or mms.ErrNoUpload.
func (s *Store) Content(ctx context.Context, hash mms.ContentHash) (mms.Content, error) {
	var row contentRow
	err := s.db.GetContext(ctx, &row, selectContent, hash[:])
	if errors.Is(err, sql.ErrNoRows) {
		return mms.Content{}, mms.ErrNoUpload
	}
	return row.content(), wrapError(err, "reading a picture")
}

const (
	// lockUploads makes a user's uploads wait for each other, so that none is stored
	// between another's check of the quota and its commit.
	lockUploads = `SELECT pg_advisory_xact_lock(hashtextextended($1::text, 2))`

	selectQuotaUsed = `
SELECT coalesce(sum(s.bytes + coalesce(o.bytes, 0)), 0)
FROM media_uploads u JOIN media_contents s ON s.hash = u.sent LEFT JOIN media_contents o ON o.hash = u.original AND o.hash <> u.sent
WHERE u.workspace_id = $1 AND u.expires_at > now()`

	insertUpload = `
INSERT INTO media_uploads (id, workspace_id, type, bytes, width, height, sent, original, changed, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, now() + $10 * interval '1 second')
RETURNING created_at, expires_at`
)

// SaveUploads stores a user's uploads and their contents: all, or none of them. It returns
// them with their times, or mms.QuotaError if the user had more than quota bytes afterwards.
func (s *Store) SaveUploads(ctx context.Context, uploads []mms.Upload, contents []mms.Content, quota int64) ([]mms.Upload, error) {
	const doing = "storing uploads"
	tx, err := s.db.BeginTxx(ctx, nil)
	if err != nil {
		return nil, wrapError(err, doing)
	}
	defer tx.Rollback() //nolint:errcheck // a no-op after the commit
	workspace := uploads[0].Workspace
	if _, err := tx.ExecContext(ctx, lockUploads, workspace.String()); err != nil {
		return nil, wrapError(err, doing)
	}
	var before, used int64
	if err := tx.GetContext(ctx, &before, selectQuotaUsed, workspace); err != nil {
		return nil, wrapError(err, doing)
	}
	if err := insertContents(ctx, tx, contents); err != nil {
		return nil, wrapError(err, doing)
	}
	stored := slices.Clone(uploads)
	for i := range stored {
		if err := insertOneUpload(ctx, tx, &stored[i]); err != nil {
			return nil, wrapError(err, doing)
		}
	}
	if err := tx.GetContext(ctx, &used, selectQuotaUsed, workspace); err != nil {
		return nil, wrapError(err, doing)
	}
	if used > quota {
		return nil, mms.QuotaError{Quota: quota, Used: before, Requested: used - before}
	}
	return stored, wrapError(tx.Commit(), doing)
}

// insertContents stores contents without a preview first, since others refer to them, and
// otherwise in the order of the hashes, so that two transactions with the same contents
// cannot deadlock. The preview is no part of the order: one content may come with several.
func insertContents(ctx context.Context, tx *sqlx.Tx, contents []mms.Content) error {
	sorted := slices.SortedFunc(slices.Values(contents), func(a, b mms.Content) int {
		return cmp.Or(len(hashColumn(a.Preview))-len(hashColumn(b.Preview)), bytes.Compare(a.Hash[:], b.Hash[:]))
	})
	for _, c := range sorted {
		if _, err := tx.ExecContext(ctx, insertContent, contentArgs(c)...); err != nil {
			return err
		}
	}
	return nil
}

func insertOneUpload(ctx context.Context, tx *sqlx.Tx, u *mms.Upload) error {
	changed := u.Changed
	if changed == nil {
		changed = []string{}
	}
	return tx.QueryRowxContext(ctx, insertUpload, u.ID, u.Workspace, u.Uploaded.Type, u.Uploaded.Bytes, u.Uploaded.Width, u.Uploaded.Height,
		u.Sent[:], hashColumn(u.Original), pq.Array(changed), mms.UploadLifetime.Seconds()).Scan(&u.CreatedAt, &u.ExpiresAt)
}

const selectUpload = `
SELECT u.id, u.workspace_id, u.type, u.bytes, u.width, u.height, u.sent, u.original, u.changed, u.created_at, u.expires_at,
    c.type AS sent_type, c.bytes AS sent_bytes, c.width AS sent_width, c.height AS sent_height
FROM media_uploads u JOIN media_contents c ON c.hash = u.sent
WHERE u.workspace_id = $1 AND u.id = $2 AND u.expires_at > now()`

// Upload returns a user's upload, or mms.ErrNoUpload.
func (s *Store) Upload(ctx context.Context, workspace, id uuid.UUID) (mms.Upload, error) {
	var row struct {
		ID          uuid.UUID      `db:"id"`
		WorkspaceID uuid.UUID      `db:"workspace_id"`
		Type        string         `db:"type"`
		Bytes       int            `db:"bytes"`
		Width       int            `db:"width"`
		Height      int            `db:"height"`
		Sent        []byte         `db:"sent"`
		Original    []byte         `db:"original"`
		Changed     pq.StringArray `db:"changed"`
		CreatedAt   time.Time      `db:"created_at"`
		ExpiresAt   time.Time      `db:"expires_at"`
		SentType    string         `db:"sent_type"`
		SentBytes   int            `db:"sent_bytes"`
		SentWidth   int            `db:"sent_width"`
		SentHeight  int            `db:"sent_height"`
	}
	err := s.db.GetContext(ctx, &row, selectUpload, workspace, id)
	if errors.Is(err, sql.ErrNoRows) {
		return mms.Upload{}, mms.ErrNoUpload
	}
	return mms.Upload{
		ID: row.ID, Workspace: row.WorkspaceID, Changed: row.Changed, CreatedAt: row.CreatedAt, ExpiresAt: row.ExpiresAt,
		Uploaded: mms.PictureInfo{Type: row.Type, Bytes: row.Bytes, Width: row.Width, Height: row.Height},
		Sent:     contentHash(row.Sent), Original: contentHash(row.Original),
		SentInfo: mms.PictureInfo{Type: row.SentType, Bytes: row.SentBytes, Width: row.SentWidth, Height: row.SentHeight},
	}, wrapError(err, "reading an upload")
}

// deleteUpload touches the contents: a request may be creating a message with them. It locks
// them in the order of insertContents.
const deleteUpload = `
WITH gone AS (
    DELETE FROM media_uploads WHERE workspace_id = $1 AND id = $2 AND expires_at > now() RETURNING id, sent, original
), locked AS MATERIALIZED (
    SELECT hash FROM media_contents WHERE hash IN (SELECT unnest(ARRAY[sent, original]) FROM gone) ORDER BY preview IS NOT NULL, hash FOR NO KEY UPDATE
), touched AS (
    UPDATE media_contents SET touched_at = now() WHERE hash IN (SELECT hash FROM locked)
)
SELECT id FROM gone`

// DeleteUpload deletes a user's upload, or returns mms.ErrNoUpload. Messages that were
// created with it keep their pictures.
func (s *Store) DeleteUpload(ctx context.Context, workspace, id uuid.UUID) error {
	var gone uuid.UUID
	err := s.db.GetContext(ctx, &gone, deleteUpload, workspace, id)
	if errors.Is(err, sql.ErrNoRows) {
		return mms.ErrNoUpload
	}
	return wrapError(err, "deleting an upload")
}

const (
	selectFitted = `
SELECT ` + contentColumns + ` FROM media_fitted f JOIN media_contents c ON c.hash = f.fitted WHERE f.content = $1 AND f.budget = $2`

	insertFitted = `INSERT INTO media_fitted (content, budget, fitted) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`
)

// Fitted returns the version of a content for a smaller budget, in bytes. It reports false
// if none has been made.
func (s *Store) Fitted(ctx context.Context, hash mms.ContentHash, budget int) (mms.Content, bool, error) {
	var row contentRow
	err := s.db.GetContext(ctx, &row, selectFitted, hash[:], budget)
	if errors.Is(err, sql.ErrNoRows) {
		return mms.Content{}, false, nil
	}
	return row.content(), err == nil, wrapError(err, "reading a smaller picture")
}

// SaveFitted stores the version of a content for a smaller budget. Its preview must be
// stored already.
func (s *Store) SaveFitted(ctx context.Context, hash mms.ContentHash, budget int, fitted mms.Content) error {
	if err := s.SaveContent(ctx, fitted); err != nil {
		return err
	}
	_, err := s.db.ExecContext(ctx, insertFitted, hash[:], budget, fitted.Hash[:])
	return wrapError(err, "storing a smaller picture")
}

// selectMessagePicture takes a preview where there is one, if $4 asks for it, and for a
// picture behind a URL that was not copied there is nothing else.
const selectMessagePicture = `
SELECT ` + contentColumns + `
FROM messages m JOIN message_media mm ON mm.message_id = m.id LEFT JOIN media_contents whole ON whole.hash = mm.content
JOIN media_contents c ON c.hash = CASE WHEN $4 THEN coalesce(mm.preview, whole.preview, whole.hash) ELSE coalesce(whole.hash, mm.preview) END
WHERE m.workspace_id = $1 AND m.id = $2 AND mm.position = $3`

// MessagePicture returns our copy of a picture of the workspace's message, or a small version
// for lists. It returns mms.ErrNotFound if there is none.
func (s *Store) MessagePicture(ctx context.Context, workspace, message uuid.UUID, position int, preview bool) (mms.Content, error) {
	var row contentRow
	err := s.db.GetContext(ctx, &row, selectMessagePicture, workspace, message, position, preview)
	if errors.Is(err, sql.ErrNoRows) {
		return mms.Content{}, mms.ErrNotFound
	}
	return row.content(), wrapError(err, "reading a message's picture")
}
