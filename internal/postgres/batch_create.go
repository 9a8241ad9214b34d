package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"github.com/postcard-mms/postcard/internal/mms"
)

const insertBatch = `INSERT INTO batches (id, workspace_id, api_key_id, name, created_by) VALUES ($1, $2, $3, $4, $5)`

const finishBatch = `UPDATE batches SET created = $2, rejected = $3 WHERE id = $1`

// batchTimeout bounds each statement of a batch, and the wait for a connection.
const batchTimeout = 10 * time.Second

// batchWriter is an open transaction that stores a batch.
type batchWriter struct {
	store       *Store
	tx          *sqlx.Tx
	end         context.CancelCauseFunc // of the transaction's context
	request     mms.BatchRequest
	senders     map[string]bool
	created     int
	lastMessage uuid.UUID
}

// BeginBatch starts a transaction that stores a batch. When the request's idempotency
// key has been used for the same batch, it returns that batch instead of a writer. It
// returns mms.ErrKeyReused or mms.ErrInFlight like CreateMessage. The transaction ends
// with ctx.
func (s *Store) BeginBatch(ctx context.Context, request mms.BatchRequest) (mms.BatchWriter, *mms.BatchResult, error) {
	// The transaction lives as long as its context, so a timer bounds the wait for a
	// connection.
	transaction, end := context.WithCancelCause(ctx)
	timer := time.AfterFunc(batchTimeout, func() { end(context.DeadlineExceeded) })
	tx, err := s.db.BeginTxx(transaction, nil)
	timer.Stop()
	if err != nil {
		err = wrapError(errors.Join(err, context.Cause(transaction)), "starting a batch")
		end(nil)
		return nil, nil, err
	}
	w := &batchWriter{store: s, tx: tx, end: end, request: request, senders: map[string]bool{}}
	err = w.begin(ctx)
	if err == nil {
		return w, nil, nil
	}
	w.Rollback()
	if !errors.Is(err, errKeyTaken) {
		return nil, nil, err
	}
	result, err := s.BatchCreatedUnder(ctx, request.Workspace, request.Idempotency)
	switch {
	case errors.Is(err, mms.ErrBatchNotFound):
		return nil, nil, mms.ErrInFlight
	case err != nil:
		return nil, nil, err
	}
	return nil, &result, nil
}

func (w *batchWriter) begin(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, batchTimeout)
	defer cancel()
	if _, err := w.tx.ExecContext(ctx, insertBatch, w.request.ID, w.request.Workspace, nullID(w.request.KeyID), w.request.Name, nullID(w.request.CreatedBy)); err != nil {
		return wrapError(err, "storing a batch")
	}
	return claimBatchKey(ctx, w.tx, w.request)
}

// Add stores messages of the batch.
func (w *batchWriter) Add(ctx context.Context, messages []mms.Message) error {
	if len(messages) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, batchTimeout)
	defer cancel()
	senders, err := w.store.insertMessages(ctx, w.tx, w.request, messages)
	if err != nil {
		return err
	}
	for _, sender := range senders {
		w.senders[sender] = true
	}
	w.created += len(messages)
	w.lastMessage = messages[len(messages)-1].ID
	return nil
}

// addRateLimits gives each sender without a rate limit, because it is not configured any
// more, that of AddToBacklog. It runs once for all messages: two batches that added the same
// senders one by one, in different orders, would wait for each other.
const addRateLimits = `
INSERT INTO rate_limits (name, interval_seconds, next_arrival_at)
SELECT sender, ` + unconfiguredInterval + `, now() FROM unnest($1::text[]) AS sender ORDER BY sender ON CONFLICT DO NOTHING`

// Commit stores the errors of rejected rows and commits the batch. It returns
// mms.CapError when the batch exceeds a daily cap, and mms.OutcomeUnknownError when the
// batch may be stored all the same. After any other error it is not stored.
func (w *batchWriter) Commit(ctx context.Context, rejected mms.RowErrors) (mms.BatchResult, error) {
	result, err := w.finish(ctx, rejected)
	if err != nil {
		return mms.BatchResult{}, err
	}
	if err := w.commit(); err != nil {
		return w.afterFailedCommit(ctx, result, err)
	}
	if w.created > 0 {
		// One message is enough: a change makes its workspace's pages reload their lists.
		w.store.noteChanged(w.lastMessage)
	}
	return result, nil
}

func (w *batchWriter) commit() error {
	err := w.tx.Commit()
	if err != nil && !serverRejected(err) {
		return fmt.Errorf("%w: %w", errMayHaveCommitted, err)
	}
	return err
}

// afterFailedCommit returns the batch if it is stored although its commit failed with
// err, because the connection broke for example.
func (w *batchWriter) afterFailedCommit(ctx context.Context, result mms.BatchResult, err error) (mms.BatchResult, error) {
	err = wrapError(err, "committing a batch")
	if !errors.Is(err, errMayHaveCommitted) {
		return mms.BatchResult{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, createTimeout)
	defer cancel()
	if _, readErr := readBatch(ctx, w.store.db, w.request.Workspace, w.request.ID); readErr != nil {
		return mms.BatchResult{}, mms.OutcomeUnknownError{ID: w.request.ID, Batch: true, Err: err}
	}
	return result, nil
}

// finish does all that precedes the commit, and returns the result to come.
func (w *batchWriter) finish(ctx context.Context, rejected mms.RowErrors) (mms.BatchResult, error) {
	const doing = "finishing a batch"
	ctx, cancel := context.WithTimeout(ctx, batchTimeout)
	defer cancel()
	if err := w.store.checkCaps(ctx, w.tx, w.request.Caps, w.created); err != nil {
		return mms.BatchResult{}, err
	}
	var senders []string
	for sender := range w.senders {
		senders = append(senders, sender)
	}
	if _, err := w.tx.ExecContext(ctx, addRateLimits, pq.Array(senders)); err != nil {
		return mms.BatchResult{}, wrapError(err, doing)
	}
	holders, _ := capColumns(w.request.Caps)
	if _, err := w.tx.ExecContext(ctx, countDaily, holders, w.created); err != nil {
		return mms.BatchResult{}, wrapError(err, doing)
	}
	if err := insertRowErrors(ctx, w.tx, w.request.ID, rejected.Errors); err != nil {
		return mms.BatchResult{}, err
	}
	if _, err := w.tx.ExecContext(ctx, finishBatch, w.request.ID, w.created, rejected.Rejected); err != nil {
		return mms.BatchResult{}, wrapError(err, doing)
	}
	batch, err := readBatch(ctx, w.tx, w.request.Workspace, w.request.ID)
	if err != nil {
		return mms.BatchResult{}, err
	}
	return mms.BatchResult{Batch: batch, Errors: rejected.First()}, nil
}

// Rollback discards the batch. After Commit it does nothing.
func (w *batchWriter) Rollback() {
	w.tx.Rollback() //nolint:errcheck // nothing is left to discard after a commit or a lost connection
	w.end(nil)
}

// insertBatchMessages stores messages of a batch in their senders' backlog, without a
// task until they are released. Parameters: $1 ids, $2 senders, $3 recipients,
// $4 texts, $5 metadata, $6 rows, $7 workspace, $8 valid for in seconds, $9 send at,
// $10 priority, $11 API key, $12 batch; of the media $13 message ids, $14 positions,
// $15 URLs, $17 uploads, $18 their contents, $19 fit, $20 whether the message has no other;
// $16 the candidates for the sender, $21 the Plivo account, $22 whether media URLs are
// checked, $23 who creates them. It returns the senders of the messages.
var insertBatchMessages = `
WITH attached AS MATERIALIZED (
    SELECT * FROM unnest($13::uuid[], $14::smallint[], $15::text[], $17::uuid[], $18::bytea[], $19::text[], $20::boolean[]) AS u (id, position, url, upload_id, content, fit, alone)
), unprepared AS MATERIALIZED (
    SELECT DISTINCT u.id FROM attached u WHERE ` + notReady("u", "u.alone", "$21", "$22") + `
), created AS (
    INSERT INTO messages (id, workspace_id, sender, recipient, text, metadata, batch_row, status, next_attempt_at, task_check_at, backlog_state, prepare_at,
        expires_at, send_at, priority, api_key_id, batch_id, created_by)
    SELECT input.id, $7::uuid,
        CASE WHEN cardinality($16::text[]) > 0 THEN coalesce(` + lastSender("input.recipient", "$16::text[]") + `, input.sender) ELSE input.sender END,
        input.recipient, input.text, input.metadata, input.row, CASE WHEN $9::timestamptz IS NULL THEN 'queued' ELSE 'scheduled' END,
        CASE WHEN $9::timestamptz IS NULL THEN now() END, CASE WHEN $9::timestamptz IS NULL THEN 'infinity'::timestamptz END,
        CASE WHEN $9::timestamptz IS NOT NULL THEN NULL WHEN input.id IN (SELECT id FROM unprepared) THEN 'preparing' ELSE 'waiting' END,
        CASE WHEN $9::timestamptz IS NULL AND input.id IN (SELECT id FROM unprepared) THEN now() END,
        coalesce($9, now()) + $8::float8 * interval '1 second', $9, $10::smallint, $11::uuid, $12::uuid, $23::uuid
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::jsonb[], $6::int[]) AS input (id, sender, recipient, text, metadata, row)
    RETURNING id, sender, status, text, metadata
), search AS (` + insertSearch + `
), media AS (
    INSERT INTO message_media (message_id, position, url, upload_id, content, fit, preview)
    SELECT id, position, url, upload_id, content, fit, ` + knownPreview + ` FROM attached u
), event AS (
    INSERT INTO message_events (message_id, kind, status) SELECT id, 'created', status FROM created
)
SELECT DISTINCT sender FROM created`

func (s *Store) insertMessages(ctx context.Context, tx *sqlx.Tx, request mms.BatchRequest, messages []mms.Message) ([]string, error) {
	n := len(messages)
	ids, senders, recipients, texts, metadata := make([]string, n), make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	rows := make([]int64, n)
	var media mediaColumns
	for i, m := range messages {
		var err error
		if metadata[i], err = metadataJSON(m.Metadata); err != nil {
			return nil, err
		}
		ids[i], senders[i], recipients[i], texts[i], rows[i] = m.ID.String(), string(m.Sender), string(m.Recipient), m.Text, int64(m.BatchRow)
		media.add(m)
	}
	first := messages[0]
	var used []string
	err := tx.SelectContext(ctx, &used, insertBatchMessages,
		pq.Array(ids), pq.Array(senders), pq.Array(recipients), pq.Array(texts), pq.Array(metadata), pq.Array(rows),
		request.Workspace, first.ValidFor.Seconds(), first.SendAt, first.Priority, nullID(request.KeyID), request.ID,
		pq.Array(media.messages), pq.Array(media.positions), pq.Array(media.urls), pq.Array(phoneNumbers(request.Candidates)),
		pq.Array(media.uploads), pq.Array(media.contents), pq.Array(media.fits), pq.Array(media.alone), s.plivoAccount, s.checksMedia, nullID(request.CreatedBy))
	return used, wrapError(err, "storing messages of a batch")
}

const insertBatchErrors = `
INSERT INTO batch_errors (batch_id, sequence, row, field, rule, message)
SELECT $1, input.sequence, input.row, input.field, input.rule, input.message
FROM unnest($2::int[], $3::text[], $4::text[], $5::text[]) WITH ORDINALITY AS input (row, field, rule, message, sequence)`

func insertRowErrors(ctx context.Context, tx *sqlx.Tx, batch uuid.UUID, rowErrors []mms.RowError) error {
	if len(rowErrors) == 0 {
		return nil
	}
	n := len(rowErrors)
	rows, fields, rules, messages := make([]int64, n), make([]string, n), make([]string, n), make([]string, n)
	for i, e := range rowErrors {
		rows[i], fields[i], rules[i], messages[i] = int64(e.Row), e.Name, e.Rule, e.Message
	}
	_, err := tx.ExecContext(ctx, insertBatchErrors, batch, pq.Array(rows), pq.Array(fields), pq.Array(rules), pq.Array(messages))
	return wrapError(err, "storing the errors of a batch's rows")
}

const tryKeyLock = `SELECT pg_try_advisory_xact_lock(hashtextextended($1::uuid || ' ' || $2::text, 0))`

const insertBatchKey = `
INSERT INTO idempotency_keys AS k (workspace_id, key, fingerprint, batch_id) VALUES ($1, $2, $3, $4)
ON CONFLICT (workspace_id, key) DO UPDATE SET fingerprint = EXCLUDED.fingerprint, message_id = NULL, batch_id = EXCLUDED.batch_id, created_at = now()
    WHERE k.created_at <= now() - interval '24 hours'
RETURNING batch_id`

// errKeyTaken says that another request uses or has used the idempotency key.
var errKeyTaken = errors.New("the idempotency key is taken")

// claimBatchKey stores the request's idempotency key, if it has one. It returns
// errKeyTaken without waiting for a request in flight that has the same key.
func claimBatchKey(ctx context.Context, tx *sqlx.Tx, request mms.BatchRequest) error {
	const doing = "claiming a batch's idempotency key"
	idempotency := request.Idempotency
	if idempotency.Key == "" {
		return nil
	}
	var locked bool
	if err := tx.GetContext(ctx, &locked, tryKeyLock, request.Workspace, idempotency.Key); err != nil {
		return wrapError(err, doing)
	}
	if !locked {
		return errKeyTaken
	}
	var id uuid.UUID
	err := tx.GetContext(ctx, &id, insertBatchKey, request.Workspace, idempotency.Key, idempotency.Fingerprint[:], request.ID)
	if errors.Is(err, sql.ErrNoRows) {
		return errKeyTaken
	}
	return wrapError(err, doing)
}
