package client

import (
	"net/url"
	"strconv"
	"time"
)

// MessageParams holds the parameters of a message. The OpenAPI description documents
// their limits.
type MessageParams struct {
	To        string            `json:"to"` // best in E.164 form, like +14155550123
	Text      string            `json:"text,omitempty"`
	MediaURLs []string          `json:"mediaUrls,omitempty"` // the pictures; with MediaIDs at least one
	MediaIDs  []string          `json:"mediaIds,omitempty"`  // the IDs of uploads
	Fit       string            `json:"fit,omitempty"`       // auto, always or never; default: auto
	From      string            `json:"from,omitempty"`      // a sender number in E.164; default: Postcard chooses
	SendAt    *time.Time        `json:"sendAt,omitempty"`    // default: immediately
	ValidFor  int               `json:"validFor,omitempty"`  // seconds; default: 3 hours
	Priority  string            `json:"priority,omitempty"`  // high, normal or bulk; default: normal
	Metadata  map[string]string `json:"metadata,omitempty"`

	IdempotencyKey string `json:"-"` // default: a new key for each call
}

// File is a picture to upload.
type File struct {
	Name string // for errors
	Data []byte // JPEG, PNG, GIF or WebP; up to 25 MB
}

// Upload is an uploaded picture.
type Upload struct {
	ID        string      `json:"id"` // for MediaIDs
	Type      string      `json:"type"`
	Bytes     int         `json:"bytes"`
	Width     int         `json:"width"`
	Height    int         `json:"height"`
	Sent      SentPicture `json:"sent"`
	Changed   []string    `json:"changed"`   // what was done to the picture, like location_removed
	ExpiresAt time.Time   `json:"expiresAt"` // until when new messages can use it
}

// SentPicture is what messages send of an upload.
type SentPicture struct {
	Type   string `json:"type"`
	Bytes  int    `json:"bytes"`
	Width  int    `json:"width"`
	Height int    `json:"height"`
}

// Message is an MMS message and its status.
type Message struct {
	ID            string            `json:"id"`
	StatusURL     string            `json:"statusUrl"` // the URL of this message in the API
	Status        string            `json:"status"`
	StatusTitle   string            `json:"statusTitle"`
	Explanation   string            `json:"explanation"`
	NextStep      string            `json:"nextStep,omitempty"`
	Final         bool              `json:"final"`
	To            string            `json:"to"`
	From          string            `json:"from"`
	Text          string            `json:"text"`
	MediaURLs     []string          `json:"mediaUrls"`
	MediaIDs      []string          `json:"mediaIds,omitempty"`
	Fit           string            `json:"fit"`
	Reason        string            `json:"reason,omitempty"`
	PlivoUUID     string            `json:"plivoUuid,omitempty"`
	PlivoCode     string            `json:"plivoCode,omitempty"`
	Units         int               `json:"units,omitempty"`
	Cost          string            `json:"cost,omitempty"` // US dollars
	Held          bool              `json:"held,omitempty"` // needs a decision
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
	Events        []Event           `json:"events,omitempty"`        // absent in lists
	QueuePosition *QueuePosition    `json:"queuePosition,omitempty"` // absent in lists and unless the message is waiting
	Warnings      []string          `json:"warnings,omitempty"`      // only in the result of Send: what may be wrong although the message is valid
}

// QueuePosition is the position of a waiting message in its sender's backlog.
type QueuePosition struct {
	Ahead       int     `json:"ahead"`       // messages ahead, counted up to 5000
	WaitSeconds float64 `json:"waitSeconds"` // an estimate; a lower bound while sending is paused
	Explanation string  `json:"explanation"`
}

// Event is one entry in the history of a message.
type Event struct {
	At      time.Time `json:"at"`
	Kind    string    `json:"kind"`
	Status  string    `json:"status"`
	Attempt int       `json:"attempt,omitempty"`
	Detail  string    `json:"detail,omitempty"`
}

// Forecast predicts how a message would be sent.
type Forecast struct {
	To               string    `json:"to"`
	From             string    `json:"from"`
	RatePerMinute    float64   `json:"ratePerMinute,omitempty"` // the sender's rate limit; 0 means none
	Ahead            int       `json:"ahead"`                   // messages ahead, counted up to 5000
	PauseExplanation string    `json:"pauseExplanation"`        // why all sending is paused; "" if it is not
	EstimatedSendAt  time.Time `json:"estimatedSendAt"`
	EstimatedCost    string    `json:"estimatedCost"` // US dollars
	Suppressed       bool      `json:"suppressed"`    // the recipient has opted out
	Warnings         []string  `json:"warnings"`      // what may be wrong although the message is valid
}

// Filter selects messages. The zero value selects all of them.
type Filter struct {
	Status   string
	To       string
	From     string
	Since    time.Time // created at or after
	Until    time.Time // created before
	Text     string    // words that the text contains
	Batch    string    // the ID of a batch
	Metadata map[string]string
	Limit    int // messages per page, up to 100; default: 25
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

// Page is one page of messages.
type Page struct {
	Messages   []Message `json:"messages"`
	NextCursor string    `json:"nextCursor"` // "" on the last page
}

// BatchParams holds the parameters of a batch. Text, MediaURL and the values of
// Metadata can contain {{column}}, which is replaced with the row's value.
type BatchParams struct {
	Name     string              `json:"name,omitempty"`
	Text     string              `json:"text,omitempty"`
	MediaURL string              `json:"mediaUrl,omitempty"` // with MediaIDs at least one picture
	MediaIDs []string            `json:"mediaIds,omitempty"` // the IDs of uploads, for all messages
	Fit      string              `json:"fit,omitempty"`      // auto, always or never; default: auto
	From     string              `json:"from,omitempty"`
	SendAt   *time.Time          `json:"sendAt,omitempty"`
	ValidFor int                 `json:"validFor,omitempty"` // seconds
	Priority string              `json:"priority,omitempty"`
	Metadata map[string]string   `json:"metadata,omitempty"`
	OnError  string              `json:"onError,omitempty"` // RejectAll or CreateValid; default: RejectAll
	Rows     []map[string]string `json:"rows"`              // each with the recipient as "to"

	IdempotencyKey string `json:"-"` // default: a new key for each call
}

// The values of BatchParams.OnError.
const (
	RejectAll   = "reject_all"   // reject the batch if a row is invalid
	CreateValid = "create_valid" // create the messages of the valid rows
)

// Batch is a set of messages that were created with one request.
type Batch struct {
	ID          string         `json:"id"`
	Name        string         `json:"name,omitempty"`
	State       string         `json:"state"` // running, paused, canceled or finished
	Explanation string         `json:"explanation,omitempty"`
	Created     int            `json:"created"`
	Rejected    int            `json:"rejected"`
	Remaining   int            `json:"remaining"` // messages neither submitted to Plivo nor final
	Counts      map[string]int `json:"counts,omitempty"`
	CreatedAt   time.Time      `json:"createdAt"`
	Errors      []RowError     `json:"errors,omitempty"` // the first 100; only in the result of SendBatch
}

// RowError is one violation by one row.
type RowError struct {
	Row     int    `json:"row"` // from 1; in CSV, row 1 names the columns
	Field   string `json:"field"`
	Rule    string `json:"rule"` // a stable code
	Message string `json:"message"`
}
