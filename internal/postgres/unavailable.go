package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"

	"github.com/lib/pq"

	"github.com/postcard-mms/postcard/internal/mms"
)

// unavailable says why the database could not carry out a statement for now. It is an
// mms.ErrUnavailable.
type unavailable string

// Error implements error.
func (u unavailable) Error() string { return string(u) }

// Is makes it an mms.ErrUnavailable.
func (unavailable) Is(target error) bool { return target == mms.ErrUnavailable }

// states maps SQLSTATEs, or their beginnings, to what they mean for a caller: the
// statement was not carried out for a reason that passes, or that an operator removes.
// The first match counts.
var states = []struct {
	state  string
	reason unavailable
}{
	{"25006", "the database is read-only, as a standby is"},           // read_only_sql_transaction
	{"0A000", "the database connection is out of date"},               // feature_not_supported: see serverChanged
	{"25P0", "the database ended or lost the transaction"},            // 25P03 and 25P04: it was idle or took too long
	{"26", "the database connection has lost its statements"},         // invalid_sql_statement_name
	{"42P05", "the database connection is shared with other clients"}, // duplicate_prepared_statement
	{"28", "the database refuses the log-in; check the user and password in DATABASE_URL"},
	{"3D000", "the database in DATABASE_URL does not exist"},
	{"40001", "the database rolled the statement back, because another one changed the same rows at the same time"},
	{"40P01", "the database rolled the statement back, because it and another one waited for each other (a deadlock)"},
	{"40", "the database rolled the transaction back"},
	{"53300", "the database accepts no more connections"},
	{"53100", "the database's disk is full"},
	{"53", "the database lacks memory or other resources"},
	{"55P03", "the database waited too long for a lock"}, // lock_not_available, with lock_timeout
	{"57014", "the database did not finish the statement in time"},
	{"57", "the database is shutting down or starting"},
	{"58", "the database's storage fails"},
	{"08", "the connection to the database was lost"},
}

// unavailability returns why the database could not carry out a statement for now; ""
// if err is of another kind.
func unavailability(err error) unavailable {
	if pqErr, ok := errors.AsType[*pq.Error](err); ok {
		for _, s := range states {
			if strings.HasPrefix(pqErr.SQLState(), s.state) {
				return s.reason
			}
		}
		return ""
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "the database did not answer in time"
	}
	netErr, isNet := errors.AsType[net.Error](err)
	switch {
	case isNet && netErr.Timeout():
		return "the database did not answer in time"
	case isNet, errors.Is(err, sql.ErrConnDone), errors.Is(err, driver.ErrBadConn), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return unavailable(mms.ErrUnavailable.Error())
	default:
		return ""
	}
}

// isUnavailable reports whether the database could not carry out a statement for now.
func isUnavailable(err error) bool { return unavailability(err) != "" }

// wrapError adds what was being done to err. If the database could not carry out the
// statement for now, it adds why, as an mms.ErrUnavailable.
func wrapError(err error, doing string) error {
	if err == nil {
		return nil
	}
	if reason := unavailability(err); reason != "" {
		return fmt.Errorf("%s: %w: %w", doing, reason, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// serverChanged reports whether a connection is unusable because the server behind it,
// or its settings or schema, have changed since it was opened. The statement was not
// executed. Messages are not compared, because they may be translated.
func serverChanged(err *pq.Error) bool {
	return slices.Contains([]string{
		"25006", // read-only: the server is a standby, or its disk is full
		"0A000", // "cannot set transaction read-write mode during recovery", "cached plan must not change result type"
	}, err.SQLState())
}

// sessionLost reports whether a connection is unusable because its session is no longer
// what it was. The statement was not executed. Errors that end the session, such as 57P01,
// are not among them: they break the connection.
func sessionLost(err *pq.Error) bool {
	return strings.HasPrefix(err.SQLState(), "08") || slices.Contains([]string{
		"25P02", // a failed transaction that is not ours
		"26000", // a prepared statement is missing: a pooler has changed the server connection
		"42P05", // a prepared statement exists already, for the same reason
		"53200", // out of memory: a new session needs less
	}, err.SQLState())
}
