// Package webhook defines users' webhooks: the endpoint, its secret, the
// events it receives and when a failed delivery is retried. It sends nothing
// (see dispatch) and stores nothing.
package webhook

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/pasted"
)

var (
	// ErrNotFound says that no such webhook or event exists, or that it belongs
	// to another workspace.
	ErrNotFound = errors.New("no such webhook")

	// ErrTooMany says that a user already has MaxEndpoints.
	ErrTooMany = errors.New("too many webhooks")
)

// Limits of webhooks.
const (
	MaxEndpoints   = 10 // of a user
	MaxURL         = 2000
	MaxDescription = 200
)

// DisableAfter is how long an endpoint may fail before it is disabled.
const DisableAfter = 3 * 24 * time.Hour

// MaxSlots is how many calls an endpoint that answers may get at a time, over all
// workers. A new endpoint starts with one and gains one with each success.
const MaxSlots = 8

// Patience is how long a call may take before its endpoint counts as slow. Slow
// endpoints share slots of their own, so others wait no longer than this for them.
const Patience = time.Second

// Why an endpoint is disabled.
const (
	DisabledFailing = "failing" // it has failed for DisableAfter
	DisabledGone    = "gone"    // it answered 410
)

// Endpoint is a user's webhook.
type Endpoint struct {
	ID             uuid.UUID // UUIDv7
	Workspace      uuid.UUID
	URL            string
	Description    string
	Statuses       []mms.Status // it receives events of these; empty: of all
	CreatedAt      time.Time
	FailingSince   *time.Time // first failure after the last success
	Slow           bool       // the last call took longer than Patience
	WaitsUntil     *time.Time // it gets no call before this: it asked for that, or failed slowly; nil: now
	DisabledAt     *time.Time
	DisabledReason string     // DisabledFailing or DisabledGone
	OldSecretUntil *time.Time // until then the previous secret signs too
}

// Explain describes the endpoint's state in plain words.
func (e Endpoint) Explain() string {
	switch {
	case e.DisabledReason == DisabledGone:
		return "Disabled: the endpoint responded with 410 Gone, which means stop sending."
	case e.DisabledAt != nil:
		return "Disabled: it failed for three days. Enable it, then replay the events that failed. Changes made while it was disabled sent no events."
	case e.FailingSince != nil:
		return "Failing: the last deliveries failed. Each event is retried for about three days." + e.explainWait()
	case e.WaitsUntil != nil:
		return "Enabled." + e.explainWait()
	case e.Slow:
		return "Enabled, but slow: its last response took longer than a second. Its events wait for each other and for those of other slow webhooks."
	}
	return "Enabled."
}

// explainWait says why an event that is due is not delivered.
func (e Endpoint) explainWait() string {
	if e.WaitsUntil == nil {
		return ""
	}
	return fmt.Sprintf(" No event is sent to it before %s: it asked for that (Retry-After), or it failed slowly.", e.WaitsUntil.UTC().Format("2 Jan 2006, 15:04:05 UTC"))
}

// Params describe a webhook as a user submitted it.
type Params struct {
	URL         string
	Description string
	Statuses    []string
}

// Store stores endpoints. CreateWebhook returns ErrTooMany.
type Store interface {
	CreateWebhook(ctx context.Context, e Endpoint, secret Secret) (Endpoint, error)
}

// Create validates and stores a new endpoint. It returns the endpoint with its
// secret, which is shown to the user once; violations as invalid.Fields; or
// ErrTooMany. allowPrivate permits private hosts and plain http, for local
// trials.
func Create(ctx context.Context, store Store, workspace uuid.UUID, p Params, allowPrivate bool) (Endpoint, Secret, error) {
	endpoint, err := validate(workspace, p, allowPrivate)
	if err != nil {
		return Endpoint{}, "", err
	}
	if endpoint.ID, err = uuid.NewV7(); err != nil {
		return Endpoint{}, "", fmt.Errorf("generating a webhook id: %w", err)
	}
	secret := NewSecret()
	endpoint, err = store.CreateWebhook(ctx, endpoint, secret)
	return endpoint, secret, err
}

func validate(workspace uuid.UUID, p Params, allowPrivate bool) (Endpoint, error) {
	var violations invalid.Fields
	p.URL, p.Description = pasted.Trim(p.URL), pasted.Clean(p.Description)
	if p.URL == "" {
		violations.Add("url", "required", "is missing: enter the address that receives the events")
	} else if err := validateURL(p.URL, allowPrivate); err != nil {
		violations.Add("url", "url", err.Error())
	}
	if !mms.IsPrintable(p.Description) {
		violations.Add("description", "control", "must contain only printable characters")
	} else if utf8.RuneCountInString(p.Description) > MaxDescription {
		violations.Add("description", "max_length", fmt.Sprintf("must be at most %d characters long", MaxDescription))
	}
	e := Endpoint{Workspace: workspace, URL: p.URL, Description: p.Description}
	for i, name := range p.Statuses {
		status := mms.Status(name)
		if !status.Known() {
			violations.Add(fmt.Sprintf("statuses[%d]", i), "one_of", "must be a message status, like delivered")
			break
		}
		if !slices.Contains(e.Statuses, status) {
			e.Statuses = append(e.Statuses, status)
		}
	}
	return e, violations.Err()
}

func validateURL(raw string, allowPrivate bool) error {
	if r, before := pasted.Invisible(raw); before >= 0 {
		return fmt.Errorf("has an invisible character (%U) after its first %d characters: enter the URL again without it", r, before)
	}
	u, err := url.Parse(raw)
	switch {
	case len(raw) > MaxURL:
		return fmt.Errorf("must be at most %d characters long", MaxURL)
	case err != nil || u.Hostname() == "" || !mms.IsPrintable(raw) || u.Fragment != "":
		return errors.New("must be a URL like https://example.com/postcard-events")
	case u.User != nil:
		return errors.New("must not contain a user name or password: deliveries are authenticated by their signature")
	case u.Scheme != "https" && !(allowPrivate && u.Scheme == "http"):
		return errors.New("must start with https://")
	case !allowPrivate && mms.IsPrivateHost(u.Hostname()):
		return errors.New("must be reachable from the internet: this host is private or local")
	}
	return nil
}
