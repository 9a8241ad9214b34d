package postgres

import (
	"context"
	"database/sql"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/postcard-mms/postcard/internal/groupcommit"
	"github.com/postcard-mms/postcard/internal/mms"
)

// ClaimTogether claims messages with one shared statement, and returns the claims of
// those it claimed.
func (s *Store) ClaimTogether(ctx context.Context, ids ...uuid.UUID) map[uuid.UUID]mms.Claim {
	var batch []*groupcommit.Item[claimCall]
	for _, id := range ids {
		batch = append(batch, &groupcommit.Item[claimCall]{Value: claimCall{id: id, token: uuid.NewString(), lease: time.Minute}})
	}
	s.claimTogether(ctx, batch)
	claims := map[uuid.UUID]mms.Claim{}
	for _, item := range batch {
		if item.OK && item.Value.claimed {
			claims[item.Value.id] = item.Value.claim
		}
	}
	return claims
}

// CreateTogether creates messages with one shared statement, and returns the results of
// those it created.
func (s *Store) CreateTogether(ctx context.Context, requests ...mms.CreateRequest) map[uuid.UUID]mms.CreateResult {
	var batch []*groupcommit.Item[createCall]
	for _, request := range requests {
		batch = append(batch, &groupcommit.Item[createCall]{Value: createCall{request: request}})
	}
	s.createTogether(ctx, batch)
	results := map[uuid.UUID]mms.CreateResult{}
	for _, item := range batch {
		if item.OK {
			results[item.Value.request.ID] = item.Value.result
		}
	}
	return results
}

// CreateShared creates messages with one shared statement, as concurrent calls of
// CreateMessage do, and returns the result of the first.
func (s *Store) CreateShared(ctx context.Context, requests ...mms.CreateRequest) error {
	var batch []*groupcommit.Item[createCall]
	for _, request := range requests {
		batch = append(batch, &groupcommit.Item[createCall]{Value: createCall{request: request}})
	}
	s.createTogether(ctx, batch)
	_, err := s.afterShared(ctx, batch[0].Value, batch[0].OK)
	return err
}

// Statements whose cost must not grow with the backlog.
const (
	ReleaseStatement  = release
	ProbeStatement    = probe
	SilencesStatement = selectSilences
)

// SchemaFile returns what schema.txt must contain for the database's schema.
func SchemaFile(ctx context.Context, db *sql.DB) (string, error) {
	objects, err := readSchema(ctx, db)
	return formatSchema(objects), err
}

// WrapError is what callers see of an error.
var WrapError = wrapError

// ListenFor is Listen with connections that live that long.
var ListenFor = listen

// OpenListener opens a connection as Listen does.
func OpenListener(url string) (*pq.ListenerConn, error) {
	conn, err := (&listener{dsn: url, channel: TaskCheckChannel}).open()
	if err != nil {
		return nil, err
	}
	return conn.ListenerConn, nil
}

// ParseURL is parseURL.
var ParseURL = parseURL

// WouldBeClaimed must agree with the claims.
var WouldBeClaimed = wouldBeClaimed("true", "''")

// ClaimAll claims messages with one shared statement. When another statement claimed a
// message of the same pair meanwhile, it claims none, as Claim expects.
func (s *Store) ClaimAll(ctx context.Context, ids []uuid.UUID) error {
	tokens := make([]string, len(ids))
	for i := range tokens {
		tokens[i] = uuid.NewString()
	}
	_, err := s.db.ExecContext(ctx, claimMessages, pq.Array(ids), pq.Array(tokens), 60.0, s.optOutsOfEverySender, s.plivoAccount)
	if violates(err, "messages_one_in_flight_per_pair") {
		return nil
	}
	return err
}

// ClaimAlone claims one message with the statement for one.
func (s *Store) ClaimAlone(ctx context.Context, id uuid.UUID) error {
	_, _, err := s.claimAlone(ctx, claimCall{id: id, token: uuid.NewString(), lease: time.Minute})
	return err
}

// RecordSubmittedTogether records with one shared statement that Plivo accepted attempts.
func (s *Store) RecordSubmittedTogether(ctx context.Context, kind mms.EventKind, refs []mms.AttemptRef) error {
	var calls []submitCall
	for _, ref := range refs {
		calls = append(calls, submitCall{ref: ref, verdict: mms.Verdict{PlivoUUID: "u-" + ref.MessageID.String(), HTTPStatus: 202}, kind: kind})
	}
	_, err := s.recordSubmitted(ctx, calls)
	return err
}

// CreateAll creates messages with one shared statement.
func (s *Store) CreateAll(ctx context.Context, requests []mms.CreateRequest) error {
	_, _, err := s.createMessages(ctx, requests)
	return err
}

// SQLStates returns the SQLSTATE of each database error in a tree of errors.
func SQLStates(err error) (states []string) {
	switch e := err.(type) { //nolint:errorlint // walks the tree itself
	case *pq.Error:
		return []string{e.SQLState()}
	case interface{ Unwrap() error }:
		return SQLStates(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			states = append(states, SQLStates(err)...)
		}
	}
	return states
}
