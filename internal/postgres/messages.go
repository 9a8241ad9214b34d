package postgres

import (
	"context"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"github.com/postcard-mms/postcard/internal/mms"
)

// messageColumns are the columns of a messageRow. The table must be aliased as m.
const messageColumns = `m.id, m.workspace_id, m.sender, m.recipient, m.text, m.status, m.reason,
    coalesce(m.plivo_uuid, '') AS plivo_uuid, m.plivo_code, m.attempts, m.version, m.held, m.expires_at,
    CASE WHEN m.next_attempt_at > now() THEN m.next_attempt_at END AS next_attempt_at, m.created_at, m.updated_at, m.final_at,
    m.units, coalesce(m.cost::text, '') AS cost, m.carrier_sent_at, m.carrier_report_at,
    m.priority, m.send_at, m.metadata, m.api_key_id, coalesce(m.created_by, m.workspace_id) AS created_by, m.resend_of, m.batch_id,
    CASE WHEN m.status = 'queued' THEN (SELECT state FROM batches b WHERE b.id = m.batch_id) END AS batch_state,
    coalesce(m.backlog_state, '') = 'preparing' AS preparing,
    m.status = 'queued' AND EXISTS (SELECT FROM rate_limits l WHERE l.name = m.sender AND l.resting) AS sender_resting, ` + pauseColumns

type messageRow struct {
	ID            uuid.UUID      `db:"id"`
	WorkspaceID   uuid.UUID      `db:"workspace_id"`
	Sender        string         `db:"sender"`
	Recipient     string         `db:"recipient"`
	Text          string         `db:"text"`
	Status        string         `db:"status"`
	Reason        string         `db:"reason"`
	PlivoUUID     string         `db:"plivo_uuid"`
	PlivoCode     string         `db:"plivo_code"`
	Attempts      int            `db:"attempts"`
	Version       int64          `db:"version"`
	Held          bool           `db:"held"`
	ExpiresAt     time.Time      `db:"expires_at"`
	NextAttemptAt *time.Time     `db:"next_attempt_at"`
	CreatedAt     time.Time      `db:"created_at"`
	UpdatedAt     time.Time      `db:"updated_at"`
	FinalAt       *time.Time     `db:"final_at"`
	Units         *int           `db:"units"`
	Cost          string         `db:"cost"`
	SentAt        *time.Time     `db:"carrier_sent_at"`
	ReportedAt    *time.Time     `db:"carrier_report_at"`
	Priority      int            `db:"priority"`
	SendAt        *time.Time     `db:"send_at"`
	Metadata      metadata       `db:"metadata"`
	KeyID         uuid.NullUUID  `db:"api_key_id"`
	CreatedBy     uuid.UUID      `db:"created_by"`
	ResendOf      uuid.NullUUID  `db:"resend_of"`
	BatchID       uuid.NullUUID  `db:"batch_id"`
	BatchState    sql.NullString `db:"batch_state"`
	Preparing     bool           `db:"preparing"`
	SenderResting bool           `db:"sender_resting"`
	Media         mediaColumn    `db:"media"`
	pauseRow
}

// metadata is a jsonb column that holds an object of strings.
type metadata map[string]string

// Scan implements sql.Scanner. An empty object becomes nil.
func (m *metadata) Scan(value any) error {
	text, ok := value.([]byte)
	if !ok {
		return fmt.Errorf("reading metadata: unexpected %T", value)
	}
	if string(text) == "{}" {
		*m = nil
		return nil
	}
	if err := json.Unmarshal(text, m); err != nil {
		return fmt.Errorf("reading metadata: %w", err)
	}
	return nil
}

func (r messageRow) message() mms.Message {
	m := mms.Message{
		ID: r.ID, Workspace: r.WorkspaceID, Sender: mms.PhoneNumber(r.Sender), Recipient: mms.PhoneNumber(r.Recipient),
		Text: r.Text, Status: mms.Status(r.Status), Reason: mms.Reason(r.Reason),
		PlivoUUID: r.PlivoUUID, PlivoCode: mms.ErrorCode(r.PlivoCode), Attempts: r.Attempts, Version: r.Version, Held: r.Held, ExpiresAt: r.ExpiresAt,
		NextAttemptAt: r.NextAttemptAt, CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt, FinalAt: r.FinalAt,
		Priority: mms.Priority(r.Priority), SendAt: r.SendAt, Metadata: r.Metadata, KeyID: r.KeyID.UUID, CreatedBy: r.CreatedBy, ResendOf: r.ResendOf.UUID, BatchID: r.BatchID.UUID,
		Details: mms.Details{Units: r.Units, Cost: r.Cost, SentAt: r.SentAt, ReportedAt: r.ReportedAt},
	}
	r.Media.addTo(&m)
	m.Preparing, m.SenderResting = r.Preparing, r.SenderResting
	if m.Status == mms.Queued { // a pause stops no others
		m.Pause, m.BatchState = r.pause(), mms.BatchState(r.BatchState.String)
	}
	return m
}

const selectVersion = `SELECT version FROM messages WHERE id = $1 AND workspace_id = $2`

// Version returns the version of the workspace's message, or mms.ErrNotFound.
func (s *Store) Version(ctx context.Context, workspace, id uuid.UUID) (int64, error) {
	var version int64
	err := s.db.GetContext(ctx, &version, selectVersion, id, workspace)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, mms.ErrNotFound
	}
	return version, wrapError(err, "reading a message's version")
}

// mediaOfMessage is read by mediaColumn: for each medium of a message m how it fits, whether
// there is a copy to show, its upload and that upload's content, or its URL.
const mediaOfMessage = `ARRAY(
        SELECT concat_ws(' ', fit, content IS NOT NULL OR preview IS NOT NULL, coalesce(upload_id::text || ' ' || encode(content, 'hex'), url)) FROM message_media WHERE message_id = m.id ORDER BY position) AS media`

// mediaColumn is the media of a message.
type mediaColumn pq.StringArray

// Scan implements sql.Scanner.
func (c *mediaColumn) Scan(value any) error { return (*pq.StringArray)(c).Scan(value) }

// addTo sets the media of the message.
func (c mediaColumn) addTo(m *mms.Message) {
	m.Fit = mms.FitAuto
	for _, medium := range c {
		parts := strings.Split(medium, " ") // a URL has no spaces
		m.Fit = mms.Fit(parts[0])
		m.Copies = append(m.Copies, parts[1] == "t")
		if len(parts) == 3 {
			m.MediaURLs = append(m.MediaURLs, parts[2])
			continue
		}
		upload := mms.MessageUpload{ID: uuid.MustParse(parts[2])}
		_, _ = hex.Decode(upload.Content[:], []byte(parts[3])) // Postgres has encoded it
		m.Uploads = append(m.Uploads, upload)
	}
	if !slices.Contains(m.Copies, true) {
		m.Copies = nil
	}
}

const selectMessages = `
SELECT ` + messageColumns + `, ` + mediaOfMessage + `
FROM messages m WHERE m.workspace_id = $1`

// A search by words or by sender has no index that yields one workspace's messages in
// order. It reads them from the newest on, one span per statement, and returns
// what it has after searchTime, so that the cost of a request does not grow with
// the number of messages. Words are in another table, which makes a message about
// ten times as expensive to check.
const (
	firstWordSpan = 250 // messages
	wordSpan      = 5_000
	senderSpan    = 50_000
	searchTime    = 250 * time.Millisecond
)

// firstSpan returns how many messages the first statement of a search may read;
// 0 means that an index answers the request with a single statement.
func firstSpan(p mms.Page) int {
	switch {
	case p.Recipient != "" || p.Batch != uuid.Nil:
		return 0
	case p.Text != "":
		return firstWordSpan
	case p.Sender != "":
		return senderSpan
	default:
		return 0
	}
}

// Messages returns a page of the workspace's messages, newest first, and the id to
// use as Before for the next page; uuid.Nil means that there is none. A search
// may return a short or empty page although more results exist: follow the id.
func (s *Store) Messages(ctx context.Context, workspace uuid.UUID, p mms.Page) ([]mms.Message, uuid.UUID, error) {
	ctx, cancel := s.db.withTimeout(ctx)
	defer cancel()
	if span := firstSpan(p); span > 0 {
		return s.search(ctx, workspace, p, span)
	}
	return s.page(ctx, workspace, p, nil, uuid.Nil)
}

// search reads the workspace's messages span by span. A frequent word fills the page
// from the first span. For any other word the text index is used next: when it
// has few matches, one statement answers the rest of the search.
func (s *Store) search(ctx context.Context, workspace uuid.UUID, p mms.Page, span int) ([]mms.Message, uuid.UUID, error) {
	timer, stop := context.WithTimeout(ctx, searchTime)
	defer stop()
	var found []mms.Message
	for {
		end, err := s.spanEnd(ctx, workspace, p.Before, span)
		if err != nil {
			return nil, uuid.Nil, err
		}
		list, next, err := s.page(ctx, workspace, p, nil, end)
		found = append(found, list...)
		if err != nil || next != uuid.Nil || end == uuid.Nil {
			return found, next, err
		}
		p.Before, p.Limit = end, p.Limit-len(list)
		if p.Limit == 0 || timer.Err() != nil {
			return found, end, nil
		}
		if span != firstWordSpan {
			continue
		}
		matches, err := s.rareMatches(ctx, p.Text)
		if err != nil {
			return nil, uuid.Nil, err
		}
		if matches != nil {
			list, next, err := s.page(ctx, workspace, p, matches, uuid.Nil)
			return append(found, list...), next, err
		}
		span = wordSpan
	}
}

// page reads one page with one statement: only messages from end on unless it is
// uuid.Nil, and only those in matches, instead of by their words, unless it is nil.
func (s *Store) page(ctx context.Context, workspace uuid.UUID, p mms.Page, matches []string, end uuid.UUID) ([]mms.Message, uuid.UUID, error) {
	query, args := pageQuery(workspace, p, matches, end)
	var rows []messageRow
	if err := s.db.DB.SelectContext(ctx, &rows, query, args...); err != nil { // not prepared: planned for its filters
		return nil, uuid.Nil, wrapError(err, "listing messages")
	}
	next := uuid.Nil
	if len(rows) > p.Limit {
		rows = rows[:p.Limit]
		next = rows[p.Limit-1].ID
	}
	messages := make([]mms.Message, len(rows))
	for i, row := range rows {
		messages[i] = row.message()
	}
	return messages, next, nil
}

const selectSpanEnd = `SELECT id FROM messages WHERE workspace_id = $1 AND id < $2 ORDER BY id DESC OFFSET $3 LIMIT 1`

// spanEnd returns the oldest message of a span of the given size that begins
// before a message; uuid.Nil when the span reaches the workspace's first message.
func (s *Store) spanEnd(ctx context.Context, workspace, before uuid.UUID, size int) (uuid.UUID, error) {
	if before == uuid.Nil {
		before = uuid.Max
	}
	var id uuid.UUID
	err := s.db.GetContext(ctx, &id, selectSpanEnd, workspace, before, size-1)
	if errors.Is(err, sql.ErrNoRows) {
		return uuid.Nil, nil
	}
	return id, wrapError(err, "finding the end of a search span")
}

// selectMatches returns up to $2 messages, of all users, that contain all words.
// The CTE is planned as if all matches were needed, so the planner uses the text
// index unless it knows the words to be in a large part of all messages; then a
// scan finds $2 of them at once.
const selectMatches = `
WITH found AS MATERIALIZED (
    SELECT message_id FROM message_search WHERE words @@ plainto_tsquery('simple', $1)
)
SELECT message_id FROM found LIMIT $2`

const (
	maxRareMatches = 2000
	// The index reads all matches of a word before it returns the first: 200,000
	// take about 20 ms.
	// The database itself ends the statement. If the context did, the driver would
	// close the connection.
	limitRareMatches = `SET LOCAL statement_timeout = '100ms'`
)

// rareMatches returns the ids of the messages, of all users, that contain all
// words; nil when they are more than maxRareMatches, or take too long to find.
func (s *Store) rareMatches(ctx context.Context, words string) ([]string, error) {
	const action = "looking up words"
	tx, err := s.db.BeginTxx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, wrapError(err, action)
	}
	defer tx.Rollback() //nolint:errcheck // it only reads
	if _, err := tx.ExecContext(ctx, limitRareMatches); err != nil {
		return nil, wrapError(err, action)
	}
	matches := []string{}
	err = tx.SelectContext(ctx, &matches, selectMatches, words, maxRareMatches+1) // not prepared: planned for its words
	switch {
	case isCanceled(err) && ctx.Err() == nil, len(matches) > maxRareMatches:
		return nil, nil
	case err != nil:
		return nil, wrapError(err, action)
	}
	return matches, nil
}

// clockSkew bounds the difference between the clock of the process that made a
// message's id and the database's clock, which sets created_at. Within it, filters
// by time can use the ids and stay exact.
const clockSkew = 10 * time.Minute

// pageQuery builds the statement of page.
func pageQuery(workspace uuid.UUID, p mms.Page, matches []string, end uuid.UUID) (string, []any) {
	query, args := selectMessages, []any{workspace}
	where := func(condition string, arg any) {
		args = append(args, arg)
		query += " AND " + strings.ReplaceAll(condition, "$n", fmt.Sprintf("$%d", len(args)))
	}
	if p.Status != "" {
		where("m.status = $n", string(p.Status))
	}
	if p.Recipient != "" {
		where("m.recipient = $n", string(p.Recipient))
	}
	if p.Sender != "" {
		where("m.sender = $n", string(p.Sender))
	}
	if p.Batch != uuid.Nil {
		where("m.batch_id = $n", p.Batch)
	}
	if !p.Since.IsZero() {
		where("m.created_at >= $n", p.Since)
		where("m.id >= $n", minID(p.Since.Add(-clockSkew)))
	}
	if !p.Until.IsZero() {
		where("m.created_at < $n", p.Until)
		where("m.id < $n", minID(p.Until.Add(clockSkew)))
	}
	if len(p.Metadata) > 0 {
		object, _ := metadataJSON(p.Metadata) // cannot fail for a map of strings
		where("EXISTS (SELECT FROM message_search s WHERE s.message_id = m.id AND s.metadata <> '{}' AND s.metadata @> $n::jsonb)", object)
	}
	switch {
	case matches != nil:
		where("m.id = ANY ($n::uuid[])", pq.Array(matches))
	case p.Text != "":
		// Not EXISTS, which may become a join that reads all of message_search.
		where("(SELECT s.words @@ plainto_tsquery('simple', $n) FROM message_search s WHERE s.message_id = m.id)", p.Text)
	}
	if p.Before != uuid.Nil {
		where("m.id < $n", p.Before)
	}
	if end != uuid.Nil {
		where("m.id >= $n", end)
	}
	args = append(args, p.Limit+1)
	return query + fmt.Sprintf(" ORDER BY m.id DESC LIMIT $%d", len(args)), args
}

// minID returns the smallest UUIDv7 of a time. Ids sort by their time.
func minID(at time.Time) uuid.UUID {
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[:8], uint64(max(0, at.UnixMilli()))<<16)
	return id
}

// Message returns the workspace's message with its attempts and events, all from one
// snapshot, or mms.ErrNotFound.
func (s *Store) Message(ctx context.Context, workspace, id uuid.UUID) (mms.History, error) {
	ctx, cancel := s.db.withTimeout(ctx)
	defer cancel()
	tx, err := s.db.BeginTxx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return mms.History{}, wrapError(err, "reading a message")
	}
	defer tx.Rollback() //nolint:errcheck // the transaction is read-only
	history, err := readHistory(ctx, tx, workspace, id)
	if errors.Is(err, sql.ErrNoRows) {
		return mms.History{}, mms.ErrNotFound
	}
	return history, wrapError(err, "reading a message")
}

const selectMessage = `
SELECT ` + messageColumns + `, ` + mediaOfMessage + `
FROM messages m WHERE m.id = $1 AND m.workspace_id = $2`

// selectHistory is selectMessage with who created the message.
const selectHistory = `
SELECT ` + messageColumns + `, ` + mediaOfMessage + `,
    coalesce((SELECT email FROM users u WHERE u.id = coalesce(m.created_by, m.workspace_id)), '') AS creator,
    coalesce((SELECT name FROM api_keys k WHERE k.id = m.api_key_id), '') AS key_name
FROM messages m WHERE m.id = $1 AND m.workspace_id = $2`

const selectAttempts = `
SELECT ordinal, sender, started_at, finished_at, coalesce(outcome, '') AS outcome,
    coalesce(http_status, 0) AS http_status, coalesce(plivo_uuid, '') AS plivo_uuid, api_id, detail
FROM attempts WHERE message_id = $1 ORDER BY ordinal`

const selectEvents = `
SELECT id, at, kind, status, coalesce(attempt, 0) AS attempt, detail
FROM message_events WHERE message_id = $1 ORDER BY id`

// selectMediaProblem reads why a host of a message that is being prepared does not answer.
const selectMediaProblem = `
SELECT coalesce((
    SELECT k.detail FROM message_media mm JOIN media_checks k ON k.url_hash = sha256(convert_to(mm.url, 'UTF8'))
    WHERE mm.message_id = $1 AND mm.content IS NULL AND k.result = 'retry' ORDER BY mm.position LIMIT 1), '')`

type attemptRow struct {
	Ordinal    int        `db:"ordinal"`
	Sender     string     `db:"sender"`
	StartedAt  time.Time  `db:"started_at"`
	FinishedAt *time.Time `db:"finished_at"`
	Outcome    string     `db:"outcome"`
	HTTPStatus int        `db:"http_status"`
	PlivoUUID  string     `db:"plivo_uuid"`
	APIID      string     `db:"api_id"`
	Detail     string     `db:"detail"`
}

type eventRow struct {
	ID      int64     `db:"id"`
	At      time.Time `db:"at"`
	Kind    string    `db:"kind"`
	Status  string    `db:"status"`
	Attempt int       `db:"attempt"`
	Detail  string    `db:"detail"`
}

func readHistory(ctx context.Context, tx *sqlx.Tx, workspace, id uuid.UUID) (mms.History, error) {
	var row struct {
		messageRow
		Creator string `db:"creator"`
		KeyName string `db:"key_name"`
	}
	if err := tx.GetContext(ctx, &row, selectHistory, id, workspace); err != nil {
		return mms.History{}, err
	}
	var attempts []attemptRow
	if err := tx.SelectContext(ctx, &attempts, selectAttempts, id); err != nil {
		return mms.History{}, err
	}
	var events []eventRow
	if err := tx.SelectContext(ctx, &events, selectEvents, id); err != nil {
		return mms.History{}, err
	}
	history := mms.History{Message: row.message(), Creator: row.Creator, KeyName: row.KeyName}
	if history.Preparing {
		if err := tx.GetContext(ctx, &history.MediaProblem, selectMediaProblem, id); err != nil {
			return mms.History{}, err
		}
	}
	for _, a := range attempts {
		history.AttemptList = append(history.AttemptList, mms.Attempt{
			Ordinal: a.Ordinal, Sender: mms.PhoneNumber(a.Sender), StartedAt: a.StartedAt, FinishedAt: a.FinishedAt,
			Outcome: mms.Outcome(a.Outcome), HTTPStatus: a.HTTPStatus, PlivoUUID: a.PlivoUUID, APIID: a.APIID, Detail: a.Detail,
		})
	}
	for _, e := range events {
		history.Events = append(history.Events, mms.Event{
			ID: e.ID, At: e.At, Kind: mms.EventKind(e.Kind), Status: mms.Status(e.Status), Attempt: e.Attempt, Detail: e.Detail,
		})
	}
	return history, nil
}
