package postgres

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/postcard-mms/postcard/internal/mms"
)

// errMayHaveCommitted says that a statement or transaction failed after the server
// may have committed it.
var errMayHaveCommitted = errors.New("it may have been committed")

// sends counts how often one call of database/sql sends its statement.
type sends struct{ n atomic.Int32 }

// argument returns arg as an argument that counts: database/sql asks for its value
// once it has a connection on which the statement is prepared, immediately before it
// sends the statement.
func (s *sends) argument(arg driver.Valuer) driver.Valuer { return countedArgument{arg, s} }

type countedArgument struct {
	driver.Valuer
	sends *sends
}

// Value implements driver.Valuer.
func (a countedArgument) Value() (driver.Value, error) {
	a.sends.n.Add(1)
	return a.Valuer.Value()
}

// outcome adds errMayHaveCommitted to the error of a statement that is its own
// transaction, unless the statement was not sent or the server rejected it.
// database/sql sends a statement again when the connection broke.
func (s *sends) outcome(err error) error {
	n := s.n.Load()
	if err == nil || n == 0 || n == 1 && serverRejected(err) {
		return err
	}
	return fmt.Errorf("%w: %w", errMayHaveCommitted, err)
}

// serverRejected reports whether err is the server's answer that it has rolled back. The
// end of a connection (SQLSTATE classes 08 and 57P, 53300) is no such answer.
func serverRejected(err error) bool {
	var pqErr *pq.Error
	if !errors.As(err, &pqErr) || pqErr.Fatal() {
		return false
	}
	state := pqErr.SQLState()
	return !strings.HasPrefix(state, "08") && !strings.HasPrefix(state, "57P") && state != "53300"
}

// outcomeOf returns err as the error of creating the message.
func outcomeOf(id uuid.UUID, err error) error {
	if errors.Is(err, errMayHaveCommitted) {
		return mms.OutcomeUnknownError{ID: id, Err: err}
	}
	return err
}
