package mms

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
)

var (
	// ErrKeyReused says that an idempotency key was used for another request.
	ErrKeyReused = errors.New("the idempotency key was already used for another request")

	// ErrInFlight says that another request with the same idempotency key is in
	// progress.
	ErrInFlight = errors.New("another request with this idempotency key is in progress")

	// ErrTooLate says that a message is not scheduled or queued any more.
	ErrTooLate = errors.New("the message can no longer be canceled")

	// ErrNotFinal says that a message cannot be resent, because its outcome is
	// still open.
	ErrNotFinal = errors.New("the message is not final yet")
)

// CreateParams is a message as somebody submitted it. Rules.Validate makes a
// Message of it. A new field must be left out of the JSON when it is empty: idempotency keys
// are stored with a hash of it (see package intake), and must survive an upgrade.
type CreateParams struct {
	To        string   // as people type it (see ParseTypedPhoneNumber)
	From      string   // like To; empty: Postcard chooses one of the senders
	Text      string   // may be empty
	MediaURL  string   // for one picture; exclusive with MediaURLs
	MediaURLs []string // for several pictures
	MediaIDs  []string `json:",omitempty"` // ids of uploads, beside the URLs
	Fit       string   `json:",omitempty"` // empty: FitAuto
	ValidFor  *int     // how long it may wait to be sent, in seconds; nil: DefaultValidFor
	SendAt    string   // RFC 3339; empty: immediately
	Priority  string   // empty: normal
	Metadata  map[string]string

	Idempotency Idempotency

	// Uploads are what becomes of MediaIDs, when it is known already: of a message that is
	// resent, and of the rows of a batch.
	Uploads []MessageUpload `json:",omitempty"`
}

// Limits of CreateParams.ValidFor.
const (
	DefaultValidFor = 3 * time.Hour
	MinValidFor     = time.Minute
	MaxValidFor     = 30 * 24 * time.Hour
)

// Submitter is who creates messages in a workspace: a user, or a program with an API key.
type Submitter struct {
	Workspace    uuid.UUID
	User         uuid.UUID // who created the key, if there is one
	Key          uuid.UUID // uuid.Nil: no key
	WorkspaceCap int       // messages a day, UTC; 0: the installation's default
	KeyCap       int       // messages a day, UTC; 0: no cap of its own
}

// Caps returns the daily caps that apply to the submitter. defaultCap is the
// installation's cap for a workspace; 0 for none.
func (s Submitter) Caps(defaultCap int) []Cap {
	workspaceCap := s.WorkspaceCap
	if workspaceCap == 0 {
		workspaceCap = defaultCap
	}
	var caps []Cap
	if workspaceCap > 0 {
		caps = append(caps, Cap{Holder: s.Workspace, Messages: workspaceCap})
	}
	if s.KeyCap > 0 {
		caps = append(caps, Cap{Holder: s.Key, Messages: s.KeyCap, OfKey: true})
	}
	return caps
}

// Cap limits how many messages its holder may create in a day, UTC.
type Cap struct {
	Holder   uuid.UUID // a workspace, or an API key if OfKey
	Messages int
	OfKey    bool
}

// CapError says that a request exceeds a daily cap.
type CapError struct {
	Cap
	Requested  int           // messages
	Remaining  int           // messages that may still be created today
	RetryAfter time.Duration // until the next day begins
}

func (e CapError) Error() string {
	holder := "this workspace"
	if e.OfKey {
		holder = "this API key"
	}
	return fmt.Sprintf("the daily cap for %s is %d: %d requested, %d left until 00:00 UTC", holder, e.Messages, e.Requested, e.Remaining)
}

// CreateRequest asks the store to create a valid message, unless a cap or the
// idempotency key forbids it.
type CreateRequest struct {
	Message
	Candidates  []PhoneNumber // see Rules.Candidates; all requests of a process that have any have the same
	Caps        []Cap
	Idempotency Idempotency
}

// CreateResult is the created message.
type CreateResult struct {
	Message
	Replayed bool // an earlier request with the same idempotency key created it
}

// AsCreated returns the message as it was when it was created.
func (m Message) AsCreated() Message {
	created := Message{
		ID: m.ID, Workspace: m.Workspace, Sender: m.Sender, Recipient: m.Recipient, Text: m.Text, MediaURLs: m.MediaURLs, Uploads: m.Uploads, Fit: m.Fit,
		Status: Queued, ExpiresAt: m.ExpiresAt, Version: 1, CreatedAt: m.CreatedAt, UpdatedAt: m.CreatedAt,
		Priority: m.Priority, SendAt: m.SendAt, Metadata: m.Metadata, KeyID: m.KeyID, CreatedBy: m.CreatedBy, ResendOf: m.ResendOf, BatchID: m.BatchID,
	}
	if m.SendAt != nil {
		created.Status = Scheduled
	}
	return created
}

// Forecast predicts what would happen to a message.
type Forecast struct {
	Message
	Interval   time.Duration // between two messages of its sender; 0: no limit
	Ahead      int           // messages in the backlog ahead of it
	SendAt     time.Time     // estimate
	Suppressed bool          // it would fail: the recipient has opted out
	Pause      Pause         // of all sending; zero if there is none
	Cost       string        // estimate, in US dollars, decimal
}

// ListPrice is Plivo's price for an MMS to the US or Canada, in US dollars. It
// serves as an estimate until Plivo has charged for a message (Plivo's pricing
// page; it may change).
const ListPrice = "0.016000"
