package client

import (
	"net/url"
	"strconv"
	"time"
)

// NewMessage is a picture message to be sent. Postcard's rules stand in its
// OpenAPI description.
type NewMessage struct {
	To        string            `json:"to"` // E.164
	Text      string            `json:"text,omitempty"`
	MediaURLs []string          `json:"mediaUrls"`
	From      string            `json:"from,omitempty"`     // "" lets Postcard choose
	SendAt    *time.Time        `json:"sendAt,omitempty"`   // nil: at once
	ValidFor  int               `json:"validFor,omitempty"` // seconds; 0: Postcard's default
	Priority  string            `json:"priority,omitempty"` // high, normal or bulk
	Metadata  map[string]string `json:"metadata,omitempty"`

	IdempotencyKey string `json:"-"`
}

// Message is where a picture message stands.
type Message struct {
	ID            string            `json:"id"`
	Status        string            `json:"status"`
	StatusTitle   string            `json:"statusTitle"`
	Explanation   string            `json:"explanation"`
	NextStep      string            `json:"nextStep,omitempty"`
	Final         bool              `json:"final"`
	To            string            `json:"to"`
	From          string            `json:"from"`
	Text          string            `json:"text"`
	MediaURLs     []string          `json:"mediaUrls"`
	Reason        string            `json:"reason,omitempty"`
	PlivoUUID     string            `json:"plivoUuid,omitempty"`
	PlivoCode     string            `json:"plivoCode,omitempty"`
	Units         int               `json:"units,omitempty"`
	Cost          string            `json:"cost,omitempty"` // US dollars
	Held          bool              `json:"held,omitempty"` // waits for a person's decision
	Priority      string            `json:"priority"`
	Metadata      map[string]string `json:"metadata,omitempty"`
	ResendOf      string            `json:"resendOf,omitempty"`
	BatchID       string            `json:"batchId,omitempty"`
	Version       int64             `json:"version"`
	SendAt        *time.Time        `json:"sendAt,omitempty"`
	ExpiresAt     time.Time         `json:"expiresAt"`
	CreatedAt     time.Time         `json:"createdAt"`
	UpdatedAt     time.Time         `json:"updatedAt"`
	FinalAt       *time.Time        `json:"finalAt,omitempty"`
	Events        []Event           `json:"events,omitempty"`        // of one message, not in lists
	QueuePosition *QueuePosition    `json:"queuePosition,omitempty"` // of one message that waits
}

// QueuePosition is a message's place among those that wait for their sender's turn.
type QueuePosition struct {
	Ahead       int     `json:"ahead"`       // messages, counted up to 5000
	WaitSeconds float64 `json:"waitSeconds"` // about; at the least where something holds it up
	Explanation string  `json:"explanation"`
}

// Event is one thing that happened to a message.
type Event struct {
	At      time.Time `json:"at"`
	Kind    string    `json:"kind"`
	Status  string    `json:"status"`
	Attempt int       `json:"attempt,omitempty"`
	Detail  string    `json:"detail,omitempty"`
}

// Forecast is what would become of a message.
type Forecast struct {
	To              string    `json:"to"`
	From            string    `json:"from"`
	PerMinute       float64   `json:"perMinute,omitempty"` // 0: no limit
	Ahead           int       `json:"ahead"`
	Paused          string    `json:"paused"` // why all sending is paused; "" while it goes on
	EstimatedSendAt time.Time `json:"estimatedSendAt"`
	EstimatedCost   string    `json:"estimatedCost"` // US dollars
	Suppressed      bool      `json:"suppressed"`
}

// Filter chooses messages; its zero value takes all.
type Filter struct {
	Status   string
	To       string
	From     string
	Since    time.Time
	Until    time.Time
	Text     string
	Batch    string
	Metadata map[string]string
	Limit    int // of a page; 0: Postcard's default
}

func (f Filter) query() url.Values {
	query := url.Values{}
	for name, value := range map[string]string{"status": f.Status, "to": f.To, "from": f.From, "text": f.Text, "batch": f.Batch} {
		if value != "" {
			query.Set(name, value)
		}
	}
	for name, at := range map[string]time.Time{"since": f.Since, "until": f.Until} {
		if !at.IsZero() {
			query.Set(name, at.Format(time.RFC3339Nano))
		}
	}
	for key, value := range f.Metadata {
		query.Set("metadata["+key+"]", value)
	}
	if f.Limit > 0 {
		query.Set("limit", strconv.Itoa(f.Limit))
	}
	return query
}

// Page is some of the messages.
type Page struct {
	Messages   []Message `json:"messages"`
	NextCursor string    `json:"nextCursor"` // "" on the last
}

// NewBatch is messages to be sent together. Text, MediaURL and the values of
// Metadata may hold {{column}} for a row's value.
type NewBatch struct {
	Name     string              `json:"name,omitempty"`
	Text     string              `json:"text,omitempty"`
	MediaURL string              `json:"mediaUrl"`
	From     string              `json:"from,omitempty"`
	SendAt   *time.Time          `json:"sendAt,omitempty"`
	ValidFor int                 `json:"validFor,omitempty"` // seconds
	Priority string              `json:"priority,omitempty"`
	Metadata map[string]string   `json:"metadata,omitempty"`
	OnError  string              `json:"onError,omitempty"` // RejectAll or AcceptGood
	Rows     []map[string]string `json:"rows"`              // each with the recipient as "to"

	IdempotencyKey string `json:"-"`
}

// What OnError can be.
const (
	RejectAll   = "reject_all"
	CreateValid = "create_valid"
)

// Batch is messages that were taken on together.
type Batch struct {
	ID          string         `json:"id"`
	Name        string         `json:"name,omitempty"`
	State       string         `json:"state"` // running, paused or canceled
	Explanation string         `json:"explanation,omitempty"`
	Created     int            `json:"created"`
	Rejected    int            `json:"rejected"`
	Open        int            `json:"open"`
	Counts      map[string]int `json:"counts,omitempty"`
	CreatedAt   time.Time      `json:"createdAt"`
	Errors      []RowError     `json:"errors,omitempty"` // of a new one: the first hundred
}

// RowError is one fault of one row.
type RowError struct {
	Row     int    `json:"row"` // from 1
	Field   string `json:"field"`
	Rule    string `json:"rule"`
	Message string `json:"message"`
}
