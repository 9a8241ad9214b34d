// Package mms is the domain of Postcard: what a picture message is, which
// statuses it goes through, what makes one valid, how Plivo's answers are
// judged, when to retry, and the plain-language texts for all of that.
//
// It must not know SQL, HTTP, Redis or an SDK, and keeps no state.
package mms

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
)

var (
	// ErrNotFound says that a message does not exist or belongs to another
	// user. The two cases look the same on purpose.
	ErrNotFound = errors.New("no such message")

	// ErrNotHeld is returned for a message that does not wait for a decision: it was
	// never held, or another person has decided.
	ErrNotHeld = errors.New("the message is not held for a decision")

	// ErrUnavailable says that the database cannot be reached, or cannot carry out a
	// change for now, for example because it is read-only; the errors that are an
	// ErrUnavailable say why. The change was not made, or its outcome is unknown.
	ErrUnavailable = errors.New("the database cannot be reached")

	// ErrNotStored says that a message or batch was not stored, and will not be:
	// it is safe to create it again.
	ErrNotStored = errors.New("nothing was stored")
)

// OutcomeUnknownError says that a message or batch may have been stored: the answer
// of the database was lost, or did not come in time. It wraps ErrUnavailable.
type OutcomeUnknownError struct {
	ID    uuid.UUID // of the message or batch
	Batch bool      // it is a batch
	Err   error     // what happened
}

func (e OutcomeUnknownError) Error() string {
	return fmt.Sprintf("it is unknown whether %s was stored: %v", e.ID, e.Err)
}

// Unwrap implements the interface of errors.Is.
func (e OutcomeUnknownError) Unwrap() []error { return []error{ErrUnavailable, e.Err} }

// Message is one picture message to one recipient.
type Message struct {
	ID            uuid.UUID // UUIDv7
	Workspace     uuid.UUID // that it belongs to
	Sender        PhoneNumber
	Recipient     PhoneNumber
	Text          string          // may be empty
	MediaURLs     []string        // with Uploads 1 to MaxMedia, in the order given
	Uploads       []MessageUpload // after MediaURLs
	Fit           Fit
	Copies        []bool // for each picture, in order, whether Postcard has a copy to show; nil: of none
	Preparing     bool   // queued, while its media are being checked or handed to Plivo
	SenderResting bool   // queued, while its sender rests
	Status        Status
	Reason        Reason        // why it failed or waits; empty for none
	PlivoUUID     string        // empty until Plivo has accepted it
	PlivoCode     string        // Plivo's error code; empty for none (see ErrorCode)
	Attempts      int           // calls to Plivo started so far
	Held          bool          // in doubt, and a person has to decide
	ValidFor      time.Duration // how long it may wait; set at creation only, ExpiresAt follows from it
	ExpiresAt     time.Time     // it is not sent after this time
	Version       int64         // grows with every event
	Priority      Priority
	SendAt        *time.Time        // it is not sent before this time; nil: immediately
	Metadata      map[string]string // the submitter's own data, returned unchanged
	KeyID         uuid.UUID         // the API key that created it; uuid.Nil: a person did
	CreatedBy     uuid.UUID         // the user who created it, or the key
	ResendOf      uuid.UUID         // the message that it repeats; uuid.Nil: none
	BatchID       uuid.UUID         // its batch; uuid.Nil: none
	BatchRow      int               // its row in the batch, as its submitter numbers rows; set at creation only
	NextAttemptAt *time.Time        // when a retry is due; nil if nothing delays the next attempt
	CreatedAt     time.Time
	UpdatedAt     time.Time
	FinalAt       *time.Time // when it became final (see Final)
	Pause         Pause      // of all sending, while it is queued
	BatchState    BatchState // of its batch while it is queued; empty otherwise
	MediaProblem  string     // while preparing: a sentence on what delays it; empty for nothing known
	Details
}

// Final reports whether no further change is expected: the status is final, or
// Postcard has stopped waiting for delivery reports.
func (m Message) Final() bool { return m.FinalAt != nil }

// Attempt is one call to Plivo.
type Attempt struct {
	Ordinal    int // from 1
	Sender     PhoneNumber
	StartedAt  time.Time
	FinishedAt *time.Time
	Outcome    Outcome // empty while the call is in progress
	HTTPStatus int     // 0 if no response was read
	PlivoUUID  string
	APIID      string
	Detail     string // the error from Plivo or the network; may contain a phone number
}

// History is a message with its attempts and events, oldest first.
type History struct {
	Message
	Creator     string // the email of CreatedBy
	KeyName     string // of KeyID
	AttemptList []Attempt
	Events      []Event
}

// Filter selects among a workspace's messages. The zero value selects all.
type Filter struct {
	Status    Status
	Recipient PhoneNumber
	Sender    PhoneNumber
	Since     time.Time // created at this time or later
	Until     time.Time // created before this time
	Metadata  map[string]string
	Text      string // the text contains all of these words
	Batch     uuid.UUID
}

// Page requests one page of a workspace's messages, newest first. A search by words
// or by sender may return a short page although more results exist; follow the
// cursor.
type Page struct {
	Filter
	Before uuid.UUID // only messages older than this one; uuid.Nil: from the newest
	Limit  int       // at least 1; at most MaxPage for users and clients
}

// MaxPage is the largest page of messages, webhook events or row errors that users and
// clients get at once.
const MaxPage = 100
