package mms

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"postcard/internal/invalid"
)

var (
	// ErrNoWebhook says that there is no such webhook or event, or none that the
	// asking person may see.
	ErrNoWebhook = errors.New("no such webhook")

	// ErrTooManyWebhooks says that a user has MaxWebhooks.
	ErrTooManyWebhooks = errors.New("too many webhooks")
)

// Limits of webhooks; our own.
const (
	MaxWebhooks           = 10 // of a user
	MaxWebhookURL         = 2000
	MaxWebhookDescription = 200
)

// SecretOverlap is for how long an old secret signs beside a new one.
const SecretOverlap = 24 * time.Hour

// Webhook is a user's endpoint that is told what happens to their messages.
type Webhook struct {
	ID             uuid.UUID
	Owner          uuid.UUID
	URL            string
	Description    string
	Statuses       []Status // it is told of these; none: of all
	CreatedAt      time.Time
	FailingSince   *time.Time // the first failure after the last success
	DisabledAt     *time.Time
	DisabledWhy    string // failing or gone
	OldSecretUntil *time.Time
}

// Explain says in plain words how the webhook is.
func (w Webhook) Explain() string {
	switch {
	case w.DisabledWhy == "gone":
		return "Switched off: it answered 410 Gone, which says that it wants nothing more."
	case w.DisabledAt != nil:
		return "Switched off: it has failed for days on end. What happened meanwhile can be sent again after it is switched on."
	case w.FailingSince != nil:
		return "Its last answers were failures; each event is tried again for about three days."
	}
	return "It is told of what happens."
}

// WebhookSecret signs what a webhook is told (Standard Webhooks). It is told to
// its owner and must never be logged.
type WebhookSecret string

// LogValue keeps the secret out of logs.
func (WebhookSecret) LogValue() slog.Value { return slog.StringValue("[hidden]") }

// secretPrefix marks secrets of Standard Webhooks; 32 random bytes follow.
const secretPrefix = "whsec_"

// NewWebhookSecret makes a secret.
func NewWebhookSecret() WebhookSecret {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails (crypto/rand)
	return WebhookSecret(secretPrefix + base64.StdEncoding.EncodeToString(key))
}

// Key is what the secret stands for.
func (s WebhookSecret) Key() ([]byte, error) {
	if len(s) < len(secretPrefix) {
		return nil, errors.New("reading a webhook's secret: it is too short")
	}
	key, err := base64.StdEncoding.DecodeString(string(s[len(secretPrefix):]))
	if err != nil {
		return nil, errors.New("reading a webhook's secret: it is not base64") // the cause would repeat some of it
	}
	return key, nil
}

// NewWebhook makes a webhook of what somebody asked for, or returns every fault
// as invalid.Fields. allowPrivate lets it be on a private or local host, and
// without https, for trying things out.
func NewWebhook(id, owner uuid.UUID, rawURL, description string, statuses []string, allowPrivate bool) (Webhook, error) {
	var faults invalid.Fields
	if err := checkWebhookURL(rawURL, allowPrivate); err != nil {
		faults.Add("url", "url", err.Error())
	}
	if utf8.RuneCountInString(description) > MaxWebhookDescription || !printable(description) {
		faults.Add("description", "max_length", fmt.Sprintf("must be at most %d printable characters long", MaxWebhookDescription))
	}
	w := Webhook{ID: id, Owner: owner, URL: rawURL, Description: description}
	for i, word := range statuses {
		status := Status(word)
		if !status.Known() {
			faults.Add(fmt.Sprintf("statuses[%d]", i), "one_of", "must be a status of a message, like delivered")
			break
		}
		if !slices.Contains(w.Statuses, status) {
			w.Statuses = append(w.Statuses, status)
		}
	}
	return w, faults.Err()
}

func checkWebhookURL(raw string, allowPrivate bool) error {
	if raw == "" {
		return errors.New("is missing: where to send events to")
	}
	u, err := url.Parse(raw)
	switch {
	case len(raw) > MaxWebhookURL:
		return fmt.Errorf("must be at most %d characters long", MaxWebhookURL)
	case err != nil || u.Hostname() == "" || !printable(raw) || u.Fragment != "":
		return errors.New("must be a URL like https://example.com/postcard-events")
	case u.User != nil:
		return errors.New("must not contain a user name or password: the signature shows who sends")
	case u.Scheme != "https" && !(allowPrivate && u.Scheme == "http"):
		return errors.New("must start with https://")
	case !allowPrivate && isPrivateHost(u.Hostname()):
		return errors.New("must be reachable from the internet: this host is private or local")
	}
	return nil
}

// WebhookEventState says whether a webhook has taken an event.
type WebhookEventState string

// The states of an event for a webhook.
const (
	TellingPending   WebhookEventState = "pending"
	TellingDelivered WebhookEventState = "delivered"
	TellingFailed    WebhookEventState = "failed"
)

// WebhookEvent is one thing that a webhook is told.
type WebhookEvent struct {
	ID         uuid.UUID
	Number     int64
	WebhookID  uuid.UUID
	MessageID  uuid.UUID // uuid.Nil: a test
	Status     Status    // of the message then; empty for a test
	Version    int64     // of the message then
	OccurredAt time.Time
	State      WebhookEventState
	Tries      int
	DueAt      time.Time // when the next try is due, while pending
	TriedAt    *time.Time
	HTTPStatus int    // of the last answer; 0 for none
	Error      string // of the last try, in words
}

// Type is the event's type, e.g. message.delivered.
func (e WebhookEvent) Type() string {
	if e.MessageID == uuid.Nil {
		return "webhook.test"
	}
	return "message." + string(e.Status)
}

// Telling is one try to tell a webhook of an event.
type Telling struct {
	WebhookEvent
	URL       string
	Secret    WebhookSecret
	OldSecret WebhookSecret // "" when there is none that still signs
	Failing   bool          // the webhook's last answers were failures
	Message   Message       // as it was when the event occurred, as far as that is kept
	Now       time.Time
}

// Told is what a try came to.
type Told struct {
	OK         bool
	HTTPStatus int    // 0 when no answer was read
	Error      string // in words; empty when OK
}

// Gone reports whether the receiver wants no more events at all (Standard
// Webhooks: 410).
func (t Told) Gone() bool { return t.HTTPStatus == 410 }

// tellingWaits are the times between tries, as Standard Webhooks proposes: about
// three days in all.
var tellingWaits = []time.Duration{
	5 * time.Second, time.Minute, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour,
	10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
}

// NextTelling says how long to wait after so many tries; false when that was the
// last. jitter is from 0 to 1, and makes the wait up to a tenth longer.
func NextTelling(tries int, jitter float64) (time.Duration, bool) {
	if tries < 1 || tries > len(tellingWaits) {
		return 0, false
	}
	wait := tellingWaits[tries-1]
	return wait + time.Duration(jitter*float64(wait)/10), true
}

// FailingFor is for how long a webhook may fail before it is switched off.
const FailingFor = 3 * 24 * time.Hour

// MaxTellingError is how much is kept of a failure's words, in bytes.
const MaxTellingError = 500

// WebhookTask is the hint in the queue that says "look at this event".
type WebhookTask struct {
	EventID    uuid.UUID
	Generation int
}

// At is the message as it was when the event occurred, as far as that is kept.
func (m Message) At(e WebhookEvent, reason Reason, plivoCode string) Message {
	if e.Version != m.Version {
		m.Held, m.NextAttemptAt = false, nil
		m.FinalAt = nil
		if e.Status.Final() {
			m.FinalAt = &e.OccurredAt
		}
	}
	if slices.Contains([]Status{Scheduled, Queued, Sending, InDoubt}, e.Status) {
		m.PlivoUUID = ""
	}
	m.Status, m.Reason, m.PlivoCode, m.Version, m.UpdatedAt = e.Status, reason, plivoCode, e.Version, e.OccurredAt
	return m
}
