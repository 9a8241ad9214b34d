// Package client talks to Postcard's API: it sends picture messages (MMS), and
// waits for what becomes of them.
//
//	c := client.New("https://mms.example.com", os.Getenv("POSTCARD_API_KEY"))
//	message, err := c.Send(ctx, client.NewMessage{To: "+14155550123", MediaURLs: []string{"https://example.com/picture.jpg"}})
//	...
//	message, err = c.Wait(ctx, message.ID)
//
// A request whose answer was lost is repeated under the same idempotency key, so
// that it sends nothing twice.
package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Client is safe for concurrent use.
type Client struct {
	base string
	key  string

	// HTTP makes the requests. New gives it a time-out that is longer than the
	// longest wait for news.
	HTTP *http.Client

	// Tries is how often a request is made that gets no answer, or one that says
	// "later": 429, 502, 503, 504. New makes it 5.
	MaxAttempts int
}

// New makes a client for the Postcard at the base URL, which acts by the API key.
func New(base, key string) *Client {
	return &Client{
		base: strings.TrimSuffix(base, "/"), key: key, MaxAttempts: 5,
		HTTP: &http.Client{Timeout: newsWait + 30*time.Second},
	}
}

// newsWait is how long one request waits for news; Postcard allows 60 seconds.
const newsWait = 30 * time.Second

// maxAnswer is the largest answer that is read, in bytes.
const maxAnswer = 16 << 20

// Error is an answer of Postcard's that says what went wrong.
type Error struct {
	Status    int          `json:"status"` // of HTTP
	Detail    string       `json:"detail"` // for people
	RequestID string       `json:"requestId"`
	Errors    []FieldError `json:"errors"`

	RetryAfter time.Duration `json:"-"` // 0 when it does not say
}

// FieldError is one fault of the input.
type FieldError struct {
	Field   string `json:"field"`
	Rule    string `json:"rule"` // a stable code
	Message string `json:"message"`
}

// Error is the detail with every fault.
func (e *Error) Error() string {
	words := fmt.Sprintf("%s (HTTP %d", strings.TrimSuffix(e.Detail, "."), e.Status)
	if e.RequestID != "" {
		words += ", request " + e.RequestID
	}
	words += ")"
	for _, f := range e.Errors {
		words += "; " + f.Field + " " + f.Message
	}
	return words
}

// later reports whether the same request may succeed later. Of the conflicts,
// that is one with itself: an earlier try whose answer was lost is still under
// way.
func (e *Error) later() bool {
	switch e.Status {
	case http.StatusConflict:
		return e.RetryAfter > 0
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// maxRetryAfter is the longest wait that is worth it. A daily cap asks for more.
const maxRetryAfter = time.Minute

// call makes a request, and again where that may help. body and result are JSON;
// either may be nil.
func (c *Client) call(ctx context.Context, method, path string, header http.Header, body, result any) (http.Header, error) {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return nil, fmt.Errorf("postcard: writing a request: %w", err)
		}
	}
	wait := 200 * time.Millisecond
	for try := 1; ; try++ {
		got, err := c.once(ctx, method, path, header, text, result)
		var answer *Error
		told := errors.As(err, &answer)
		if err == nil || try >= c.MaxAttempts || ctx.Err() != nil || told && (!answer.later() || answer.RetryAfter > maxRetryAfter) {
			return got, err
		}
		pause := wait
		if told && answer.RetryAfter > 0 {
			pause = answer.RetryAfter
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, err
		}
		wait *= 2
	}
}

func (c *Client) once(ctx context.Context, method, path string, header http.Header, body []byte, result any) (http.Header, error) {
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("postcard: making a request: %w", err)
	}
	for name, values := range header {
		request.Header[name] = values
	}
	request.Header.Set("Authorization", "Bearer "+c.key)
	request.Header.Set("User-Agent", "postcard-go")
	if len(body) > 0 {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := c.HTTP.Do(request)
	if err != nil {
		return nil, fmt.Errorf("postcard: %w", err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("postcard: reading an answer: %w", err)
	}
	if response.StatusCode >= 400 {
		return nil, errorOf(response, text)
	}
	if result != nil && response.StatusCode != http.StatusNotModified && len(text) > 0 {
		if err := json.Unmarshal(text, result); err != nil {
			return nil, fmt.Errorf("postcard: reading an answer: %w", err)
		}
	}
	return response.Header, nil
}

// errorOf reads an error, which may come from something between us and Postcard.
func errorOf(response *http.Response, text []byte) *Error {
	e := &Error{}
	if json.Unmarshal(text, e) != nil || e.Detail == "" {
		e.Detail = http.StatusText(response.StatusCode)
	}
	e.Status = response.StatusCode
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil {
		e.RetryAfter = time.Duration(seconds) * time.Second
	}
	return e
}

// Send has a message taken on: when it returns without an error, the message is
// stored safely and will be sent. Without an IdempotencyKey it gets one, so that a
// repeated request sends nothing twice.
func (c *Client) Send(ctx context.Context, m NewMessage) (Message, error) {
	var taken Message
	_, err := c.call(ctx, http.MethodPost, "/api/send-mms", once(m.IdempotencyKey), m, &taken)
	return taken, err
}

// Forecast says what would become of a message, and sends nothing.
func (c *Client) Forecast(ctx context.Context, m NewMessage) (Forecast, error) {
	var f Forecast
	_, err := c.call(ctx, http.MethodPost, "/api/send-mms", nil, struct {
		NewMessage
		DryRun bool `json:"dryRun"`
	}{m, true}, &f)
	return f, err
}

// Resend has a new message taken on that says the same as an earlier one,
// whose story has to be over. The key is an idempotency key; "" for a new one.
func (c *Client) Resend(ctx context.Context, id, key string) (Message, error) {
	var taken Message
	_, err := c.call(ctx, http.MethodPost, messagePath(id)+"/resend", once(key), nil, &taken)
	return taken, err
}

// Cancel takes a message back before it is handed to Plivo. An Error of status
// 409 says that it is too late.
func (c *Client) Cancel(ctx context.Context, id string) (Message, error) {
	var m Message
	_, err := c.call(ctx, http.MethodPost, messagePath(id)+"/cancel", nil, nil, &m)
	return m, err
}

// Message reads a message.
func (c *Client) Message(ctx context.Context, id string) (Message, error) {
	var m Message
	_, err := c.call(ctx, http.MethodGet, messagePath(id), nil, nil, &m)
	return m, err
}

// Wait returns the message once its story is over, or when ctx ends with what is
// known then and ctx's error.
func (c *Client) Wait(ctx context.Context, id string) (Message, error) {
	return c.Watch(ctx, id, func(Message) {})
}

// Watch is Wait that tells of every news on the way, the first look included.
func (c *Client) Watch(ctx context.Context, id string, news func(Message)) (Message, error) {
	var m Message
	header := http.Header{}
	path := messagePath(id)
	for {
		var fresh Message // stays empty when there is no news
		got, err := c.call(ctx, http.MethodGet, path, header, nil, &fresh)
		if err != nil {
			return m, err
		}
		if fresh.ID != "" {
			m = fresh
			news(m)
		}
		if m.Final {
			return m, nil
		}
		header.Set("If-None-Match", got.Get("ETag"))
		path = messagePath(id) + "?wait=" + newsWait.String()
	}
}

// List reads one page of messages, newest first. The cursor is the NextCursor of
// the page before, "" for the first.
func (c *Client) List(ctx context.Context, f Filter, cursor string) (Page, error) {
	query := f.query()
	if cursor != "" {
		query.Set("cursor", cursor)
	}
	var page Page
	_, err := c.call(ctx, http.MethodGet, "/api/messages?"+query.Encode(), nil, nil, &page)
	return page, err
}

// SendBatch has up to 100,000 messages taken on: all, none, or with AcceptGood
// those that are right.
func (c *Client) SendBatch(ctx context.Context, b NewBatch) (Batch, error) {
	var taken Batch
	_, err := c.call(ctx, http.MethodPost, "/api/batches", once(b.IdempotencyKey), b, &taken)
	return taken, err
}

// Batch reads a batch and its progress.
func (c *Client) Batch(ctx context.Context, id string) (Batch, error) {
	var b Batch
	_, err := c.call(ctx, http.MethodGet, "/api/batches/"+url.PathEscape(id), nil, nil, &b)
	return b, err
}

// PauseBatch, ResumeBatch and CancelBatch hold for all messages of the batch that
// are not with Plivo yet.
func (c *Client) PauseBatch(ctx context.Context, id string) (Batch, error) {
	return c.actOnBatch(ctx, id, "pause")
}

// ResumeBatch goes on with a paused batch.
func (c *Client) ResumeBatch(ctx context.Context, id string) (Batch, error) {
	return c.actOnBatch(ctx, id, "resume")
}

// CancelBatch ends a batch for good.
func (c *Client) CancelBatch(ctx context.Context, id string) (Batch, error) {
	return c.actOnBatch(ctx, id, "cancel")
}

func (c *Client) actOnBatch(ctx context.Context, id, verb string) (Batch, error) {
	var b Batch
	_, err := c.call(ctx, http.MethodPost, "/api/batches/"+url.PathEscape(id)+"/"+verb, nil, nil, &b)
	return b, err
}

func messagePath(id string) string { return "/api/messages/" + url.PathEscape(id) }

// once is the header of a request that can be repeated safely.
func once(key string) http.Header {
	if key == "" {
		key = rand.Text()
	}
	return http.Header{"Idempotency-Key": {key}}
}
