// Package mms is the heart of Postcard: what a picture message is, which
// statuses it passes through, what makes one valid, how an answer of Plivo is
// to be read, when to try again, and the plain words for all of it.
//
// It knows no SQL, no HTTP, no Redis and no SDK, and has no state of its own.
package mms

import (
	"errors"
	"time"

	"github.com/google/uuid"
)

var (
	// ErrNotFound says that there is no such message, or none that the asking
	// person may see: the two are not told apart.
	ErrNotFound = errors.New("no such message")

	// ErrNotHeld says that there is nothing to decide about a message: it was
	// never held, or somebody else has decided.
	ErrNotHeld = errors.New("the message is not held for a decision")

	// ErrUnavailable says that the database cannot be reached at present.
	// Nothing was changed, or it is not known whether it was.
	ErrUnavailable = errors.New("the database cannot be reached")
)

// Message is one picture message to one recipient.
type Message struct {
	ID            uuid.UUID // UUIDv7
	Owner         uuid.UUID // the user who sent it
	Sender        PhoneNumber
	Recipient     PhoneNumber
	Text          string   // may be empty
	MediaURLs     []string // 1 to MaxMedia, in the order given
	Status        Status
	Reason        Reason        // why it failed or waits; empty when there is nothing to say
	PlivoUUID     string        // empty until Plivo has it
	PlivoCode     string        // Plivo's error code as it came; empty when there was none
	Attempts      int           // calls to Plivo begun so far
	Held          bool          // in doubt, and its owner has to decide
	ValidFor      time.Duration // how long it may wait, said when it is accepted; then ExpiresAt tells
	ExpiresAt     time.Time     // not sent later than this
	Version       int64         // grows with every event
	Priority      Priority
	SendAt        *time.Time        // not before this; nil: at once
	Metadata      map[string]string // the sender's own, given back as it is
	KeyID         uuid.UUID         // the API key it was sent with; uuid.Nil: by a person
	ResendOf      uuid.UUID         // the message that this one sends again; uuid.Nil: none
	BatchID       uuid.UUID         // the batch it belongs to; uuid.Nil: none
	BatchRow      int               // its row there, from 1, said when it is accepted
	NextAttemptAt *time.Time
	CreatedAt     time.Time
	UpdatedAt     time.Time
	FinalAt       *time.Time // since when its story is over
	Details
}

// Final reports whether the message's story is over, as far as is known: its
// status is final, or no further report is expected.
func (m Message) Final() bool { return m.FinalAt != nil }

// Attempt is one call to Plivo.
type Attempt struct {
	Ordinal    int // from 1
	Sender     PhoneNumber
	StartedAt  time.Time
	FinishedAt *time.Time
	Outcome    Outcome // empty while the call is under way
	HTTPStatus int     // 0 when no answer was read
	PlivoUUID  string
	APIID      string
	Detail     string // what Plivo or the network said; may name a phone number
}

// Event is one thing that happened to a message.
type Event struct {
	ID      int64
	At      time.Time
	Kind    EventKind
	Status  Status // of the message, after the event
	Attempt int    // 0 when it belongs to none
	Detail  string // further words, e.g. the reason; may be empty
}

// History is a message with all that happened to it, oldest first.
type History struct {
	Message
	AttemptList []Attempt
	Events      []Event
}

// EventKind names what happened.
type EventKind string

// The kinds of event.
const (
	EventCreated          EventKind = "created"           // taken on by Postcard: stored and safe
	EventAttemptStarted   EventKind = "attempt_started"   // a worker is about to call Plivo
	EventSubmitted        EventKind = "submitted"         // Plivo took it and named its UUID
	EventTransientFailure EventKind = "transient_failure" // Plivo did not take it; another try follows
	EventAccountError     EventKind = "account_error"     // the Plivo account cannot send; the message waits
	EventPermanentFailure EventKind = "permanent_failure" // Plivo will not take it
	EventInDoubt          EventKind = "in_doubt"          // Plivo may or may not have it
	EventReport           EventKind = "report"            // a delivery report came
	EventStatusPolled     EventKind = "status_polled"     // Plivo was asked, and told
	EventClosed           EventKind = "closed"            // no further report is expected
	EventRequeued         EventKind = "requeued"          // its task was missing from the queue and was put there again
	EventWaiting          EventKind = "waiting"           // it waits for its sender's turn, or for the end of a pause
	EventSuppressed       EventKind = "suppressed"        // not sent: the recipient has opted out
	EventExpired          EventKind = "expired"           // it could not be sent in time
	EventEvidenceSearched EventKind = "evidence_searched" // the resolver looked for evidence and found none yet
	EventEvidenceFound    EventKind = "evidence_found"    // Plivo's list shows that it has the message
	EventNoEvidence       EventKind = "no_evidence"       // Plivo does not have it, as far as can be known: queued again
	EventHeld             EventKind = "held"              // a person has to decide
	EventDecided          EventKind = "decided"           // a person decided
	EventDuplicate        EventKind = "duplicate"         // Plivo turned out to have it twice
	EventDue              EventKind = "due"               // its set time has come
	EventCanceled         EventKind = "canceled"          // its sender took it back
	EventResent           EventKind = "resent"            // a new message sends the same again
)

// Filter chooses among an owner's messages; its zero value takes all.
type Filter struct {
	Status    Status
	Recipient PhoneNumber
	Sender    PhoneNumber
	Since     time.Time // taken on at this time or later
	Until     time.Time // taken on before this
	Metadata  map[string]string
	Text      string // all of these words stand in the text
	Batch     uuid.UUID
}

// Page asks for one page of an owner's messages, newest first. A search for words or a
// sender may come back with less than a page before it has looked through all.
type Page struct {
	Filter
	Before uuid.UUID // only messages older than this one; uuid.Nil for the newest
	Limit  int       // 1 or more; MaxPage for what people and programs ask for
}

// MaxPage is the largest page of messages.
const MaxPage = 100
