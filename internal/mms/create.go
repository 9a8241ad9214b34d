package mms

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
)

var (
	// ErrKeyReused says that an idempotency key was used for something else.
	ErrKeyReused = errors.New("the idempotency key was used for another request")

	// ErrInFlight says that another request with the same idempotency key is
	// being worked on.
	ErrInFlight = errors.New("a request with this idempotency key is being worked on")

	// ErrTooLate says that a message cannot be canceled any more.
	ErrTooLate = errors.New("the message cannot be canceled any more")

	// ErrNotFinal says that a message cannot be sent again yet: its story is not
	// over.
	ErrNotFinal = errors.New("the message's story is not over yet")
)

// Submitter is who sends: a user, perhaps by one of their API keys.
type Submitter struct {
	User    uuid.UUID
	Key     uuid.UUID // uuid.Nil without one
	UserCap int       // messages a day, UTC; 0: the installation's cap
	KeyCap  int       // messages a day, UTC; 0: none of its own
}

// Caps are what the author may send in a day; byDefault is the installation's
// cap for a user, 0 for none.
func (a Submitter) Caps(byDefault int) []Cap {
	var caps []Cap
	if a.UserCap == 0 {
		a.UserCap = byDefault
	}
	if a.UserCap > 0 {
		caps = append(caps, Cap{Holder: a.User, Messages: a.UserCap})
	}
	if a.KeyCap > 0 {
		caps = append(caps, Cap{Holder: a.Key, Messages: a.KeyCap, OfKey: true})
	}
	return caps
}

// Cap is how many messages may be sent in a day, UTC, by its holder: a user or
// an API key.
type Cap struct {
	Holder   uuid.UUID
	Messages int
	OfKey    bool
}

// CapError says that a daily cap does not allow what was asked for.
type CapError struct {
	Cap
	Requested  int           // messages
	Remaining  int           // messages that could still be sent today
	RetryAfter time.Duration // until the next day begins
}

func (e CapError) Error() string {
	of := "you"
	if e.OfKey {
		of = "this API key"
	}
	return fmt.Sprintf("the daily cap for %s is %d messages, %d of which are left until 00:00 UTC, and %d were asked for", of, e.Messages, e.Remaining, e.Requested)
}

// CreateRequest is a message to be taken on, and under what conditions.
type CreateRequest struct {
	Message
	Caps        []Cap
	Idempotency Idempotency
}

// CreateResult is a message that was taken on.
type CreateResult struct {
	Message
	Replayed bool // it had been before, under the same idempotency key
}

// AsCreated is the message as it was when it was taken on.
func (m Message) AsCreated() Message {
	then := Message{
		ID: m.ID, Owner: m.Owner, Sender: m.Sender, Recipient: m.Recipient, Text: m.Text, MediaURLs: m.MediaURLs,
		Status: Queued, NextAttemptAt: &m.CreatedAt, ExpiresAt: m.ExpiresAt, Version: 1, CreatedAt: m.CreatedAt, UpdatedAt: m.CreatedAt,
		Priority: m.Priority, SendAt: m.SendAt, Metadata: m.Metadata, KeyID: m.KeyID, ResendOf: m.ResendOf, BatchID: m.BatchID,
	}
	if m.SendAt != nil {
		then.Status, then.NextAttemptAt = Scheduled, nil
	}
	return then
}

// Forecast is what would become of a message if it were sent.
type Forecast struct {
	Message
	Interval   time.Duration // between two messages of its sender; 0: no limit
	Ahead      int           // messages that wait before it
	SendAt     time.Time     // about when it would be sent
	Suppressed bool          // it would fail: the recipient has opted out
	Paused     Reason        // why nothing is sent at present; empty while sending goes on
	Cost       string        // in US dollars, decimal; about
}

// ListPrice is what Plivo charges for an MMS to the US or Canada, in US dollars,
// where we have not been charged yet (Plivo's pricing page; it may change).
const ListPrice = "0.016000"
