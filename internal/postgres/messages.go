package postgres

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"postcard/internal/mms"
)

// messageColumns are read into a messageRow; the table is named m.
const messageColumns = `m.id, m.user_id, m.sender, m.recipient, m.text, m.status, m.reason,
    coalesce(m.plivo_uuid, '') AS plivo_uuid, m.plivo_code, m.attempts, m.version, m.held, m.expires_at,
    m.next_attempt_at, m.created_at, m.updated_at, m.final_at, m.units, coalesce(m.cost::text, '') AS cost, m.carrier_sent_at, m.carrier_report_at`

type messageRow struct {
	ID            uuid.UUID      `db:"id"`
	UserID        uuid.UUID      `db:"user_id"`
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
	Media         pq.StringArray `db:"media"`
}

func (r messageRow) message() mms.Message {
	return mms.Message{
		ID: r.ID, Owner: r.UserID, Sender: mms.Number(r.Sender), Recipient: mms.Number(r.Recipient),
		Text: r.Text, MediaURLs: r.Media, Status: mms.Status(r.Status), Reason: mms.Reason(r.Reason),
		PlivoUUID: r.PlivoUUID, PlivoCode: r.PlivoCode, Attempts: r.Attempts, Version: r.Version, Held: r.Held, ExpiresAt: r.ExpiresAt,
		NextAttemptAt: r.NextAttemptAt, CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt, FinalAt: r.FinalAt,
		Details: mms.Details{Units: r.Units, Cost: r.Cost, SentAt: r.SentAt, ReportedAt: r.ReportedAt},
	}
}

// relayGrace is how long a message may be due before the relay looks whether
// it still has its task. An idle worker needs milliseconds.
const relayGrace = "interval '10 seconds'"

const acceptMessage = `
WITH m AS (
    INSERT INTO messages (id, user_id, sender, recipient, text, status, next_attempt_at, relay_at, expires_at)
    VALUES ($1, $2, $3, $4, $5, 'queued', now(), now() + ` + relayGrace + `, now() + $7 * interval '1 second')
    ON CONFLICT (id) DO NOTHING
    RETURNING *
), media AS (
    INSERT INTO message_media (message_id, position, url)
    SELECT m.id, u.position, u.url FROM m, unnest($6::text[]) WITH ORDINALITY AS u (url, position)
), event AS (
    INSERT INTO message_events (message_id, kind, status) SELECT id, 'accepted', status FROM m
)
SELECT ` + messageColumns + `, $6::text[] AS media FROM m`

// Accept stores a queued message. When it returns without an error the message
// is on disk. It may be called again for the same message: the answer of the
// first call may have been lost, and database/sql itself repeats a statement
// whose connection broke.
func (s *Store) Accept(ctx context.Context, m mms.Message) (mms.Message, error) {
	var row messageRow
	err := s.db.GetContext(ctx, &row, acceptMessage,
		m.ID, m.Owner, string(m.Sender), string(m.Recipient), m.Text, pq.Array(m.MediaURLs), m.ValidFor.Seconds())
	if errors.Is(err, sql.ErrNoRows) {
		err = s.db.GetContext(ctx, &row, selectMessage, m.ID, m.Owner)
	}
	if err == nil {
		s.changed(row.ID)
	}
	return row.message(), translate(err, "accepting a message")
}

const selectVersion = `SELECT version FROM messages WHERE id = $1 AND user_id = $2`

// Version returns the version of the owner's message, or mms.ErrNotFound.
func (s *Store) Version(ctx context.Context, owner, id uuid.UUID) (int64, error) {
	var version int64
	err := s.db.GetContext(ctx, &version, selectVersion, id, owner)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, mms.ErrNotFound
	}
	return version, translate(err, "reading a message's version")
}

const mediaOfMessage = `ARRAY(SELECT url FROM message_media WHERE message_id = m.id ORDER BY position) AS media`

const selectMessages = `
SELECT ` + messageColumns + `, ` + mediaOfMessage + `
FROM messages m
WHERE m.user_id = $1 AND ($2 = '' OR m.status = $2) AND ($3::uuid IS NULL OR m.id < $3)
ORDER BY m.id DESC LIMIT $4`

// Messages returns a page of the owner's messages, newest first, and whether
// there are more behind it.
func (s *Store) Messages(ctx context.Context, owner uuid.UUID, p mms.Page) ([]mms.Message, bool, error) {
	before := uuid.NullUUID{UUID: p.Before, Valid: p.Before != uuid.Nil}
	var rows []messageRow
	err := s.db.SelectContext(ctx, &rows, selectMessages, owner, string(p.Status), before, p.Limit+1)
	if err != nil {
		return nil, false, translate(err, "listing messages")
	}
	more := len(rows) > p.Limit
	rows = rows[:min(len(rows), p.Limit)]
	messages := make([]mms.Message, len(rows))
	for i, row := range rows {
		messages[i] = row.message()
	}
	return messages, more, nil
}

// Message returns the owner's message with its attempts and events as of one
// moment, or mms.ErrNotFound.
func (s *Store) Message(ctx context.Context, owner, id uuid.UUID) (mms.History, error) {
	tx, err := s.db.BeginTxx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return mms.History{}, translate(err, "beginning to read a message")
	}
	defer tx.Rollback() //nolint:errcheck // nothing was written
	history, err := readHistory(ctx, tx, owner, id)
	if errors.Is(err, sql.ErrNoRows) {
		return mms.History{}, mms.ErrNotFound
	}
	return history, translate(err, "reading a message")
}

const selectMessage = `
SELECT ` + messageColumns + `, ` + mediaOfMessage + `
FROM messages m WHERE m.id = $1 AND m.user_id = $2`

const selectAttempts = `
SELECT number, sender, started_at, finished_at, coalesce(outcome, '') AS outcome,
    coalesce(http_status, 0) AS http_status, coalesce(plivo_uuid, '') AS plivo_uuid, api_id, detail
FROM attempts WHERE message_id = $1 ORDER BY number`

const selectEvents = `
SELECT id, at, kind, status, coalesce(attempt, 0) AS attempt, detail
FROM message_events WHERE message_id = $1 ORDER BY id`

type attemptRow struct {
	Number     int        `db:"number"`
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

func readHistory(ctx context.Context, tx *sqlx.Tx, owner, id uuid.UUID) (mms.History, error) {
	var row messageRow
	if err := tx.GetContext(ctx, &row, selectMessage, id, owner); err != nil {
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
	history := mms.History{Message: row.message()}
	for _, a := range attempts {
		history.AttemptList = append(history.AttemptList, mms.Attempt{
			Number: a.Number, Sender: mms.Number(a.Sender), StartedAt: a.StartedAt, FinishedAt: a.FinishedAt,
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
