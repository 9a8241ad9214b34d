// Package client is a client of Postcard's API. It sends MMS messages and tracks
// their delivery.
//
//	c := client.New("https://mms.example.com", os.Getenv("POSTCARD_API_KEY"))
//	message, err := c.Send(ctx, client.MessageParams{To: "+14155550123", MediaURLs: []string{"https://example.com/picture.jpg"}})
//	...
//	message, err = c.Wait(ctx, message.ID)
//
// Requests that may have failed temporarily are retried. All attempts of a request
// that creates something carry the same idempotency key, so that a retry creates
// nothing twice, and finds out what became of an attempt whose outcome is unknown.
// If the outcome is unknown after the last attempt, Error.Outcome says so.
//
// The package uses only the standard library and must not import other packages of
// this module.
package client

import (
	"bytes"
	"cmp"
	"context"
	cryptorand "crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime/multipart"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Client calls the API with one API key. It is safe for concurrent use, but its
// fields must be set before its first use.
type Client struct {
	base string
	key  string

	// HTTP sends the requests. Its timeout must exceed the 30 seconds of a long poll.
	// Default: a client with a timeout of 60 seconds.
	HTTP *http.Client

	// MaxAttempts is how often a request is attempted in total if there is no
	// response, or the response is 429, 502, 503, 504, or 409 with Retry-After.
	// Default: 5.
	MaxAttempts int

	// RetryFor is how long after the first attempt another one may start.
	// Default: 2 minutes.
	RetryFor time.Duration
}

// New returns a client for the Postcard installation at the base URL, which may have a path,
// like https://example.com/postcard.
func New(base, key string) *Client {
	return &Client{
		base: strings.TrimRight(base, "/"), key: key, MaxAttempts: 5, RetryFor: 2 * time.Minute,
		HTTP: &http.Client{Timeout: pollWait + 30*time.Second},
	}
}

// pollWait is how long one request of Wait and Watch waits for a change. The API
// allows up to 60 seconds.
const pollWait = 30 * time.Second

// maxResponse is the maximum size of a response in bytes.
const maxResponse = 16 << 20

// Error is an error response of the API. Use errors.As to get it.
type Error struct {
	Status    int          `json:"status"`    // the HTTP status
	Detail    string       `json:"detail"`    // a human-readable explanation
	RequestID string       `json:"requestId"` // identifies the request to the operator
	Errors    []FieldError `json:"errors"`    // the invalid fields

	// Outcome is OutcomeUnknown if the request may have been carried out. ID is then
	// the ID of the message or batch that it was to create, if any: it exists if the
	// request was carried out. Repeating the call with IdempotencyKey creates nothing
	// twice.
	Outcome        string `json:"outcome"`
	ID             string `json:"id"`
	IdempotencyKey string `json:"-"` // of the request; "" if it had none

	RetryAfter time.Duration `json:"-"` // 0 if the response has no Retry-After
}

// OutcomeUnknown is the Outcome of an error after which the request may have been
// carried out.
const OutcomeUnknown = "unknown"

// FieldError is one violation by one field.
type FieldError struct {
	Field   string `json:"field"`
	Rule    string `json:"rule"`    // a stable code
	Message string `json:"message"` // to be shown after the field's name
}

// Error returns the detail, the status and every violation.
func (e *Error) Error() string {
	detail := e.Detail
	if !strings.HasSuffix(detail, "...") {
		detail = strings.TrimSuffix(detail, ".")
	}
	text := fmt.Sprintf("%s (HTTP %d", detail, e.Status)
	if e.RequestID != "" {
		text += ", request " + e.RequestID
	}
	text += ")"
	for _, f := range e.Errors {
		text += "; " + f.Field + " " + f.Message
	}
	return text
}

// isTemporary reports whether a retry may succeed. A conflict with Retry-After means
// that an earlier attempt with the same idempotency key is still being processed.
func (e *Error) isTemporary() bool {
	switch e.Status {
	case http.StatusConflict:
		return e.RetryAfter > 0
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// maxRetryAfter is the longest Retry-After that is honored. A longer one, as of a
// daily cap, is returned as an error.
const maxRetryAfter = time.Minute

// encodedBody is a body that is no JSON.
type encodedBody struct {
	contentType string
	content     []byte
}

// call sends a request and retries it if that may help. It encodes body as JSON, unless it
// is an encodedBody, and decodes the response into result; either can be nil.
func (c *Client) call(ctx context.Context, method, path string, header http.Header, body, result any) (http.Header, error) {
	encoded, isEncoded := body.(encodedBody)
	if body != nil && !isEncoded {
		content, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("postcard: encoding a request: %w", err)
		}
		encoded = encodedBody{"application/json", content}
	}
	backoff := 200 * time.Millisecond
	lastStart := time.Now().Add(c.RetryFor)
	var unknown *Error // of an attempt that may have been carried out
	for attempt := 1; ; attempt++ {
		responseHeader, err := c.do(ctx, method, path, header, encoded, result)
		if err == nil {
			return responseHeader, nil
		}
		delay := backoff
		var apiError *Error
		if errors.As(err, &apiError) {
			if apiError.Outcome == OutcomeUnknown {
				apiError.IdempotencyKey = header.Get("Idempotency-Key")
				unknown = apiError
			}
			if !apiError.isTemporary() || apiError.RetryAfter > maxRetryAfter {
				return nil, lastError(err, unknown)
			}
			delay = cmp.Or(apiError.RetryAfter, backoff)
		}
		delay += rand.N(delay/2 + 1) // so that clients do not retry all at once
		if attempt >= c.MaxAttempts || time.Now().Add(delay).After(lastStart) || !sleep(ctx, delay) {
			return nil, lastError(err, unknown)
		}
		backoff *= 2
	}
}

// lastError returns the error of the last attempt, unless an earlier one may have been
// carried out: what failed later did not undo it.
func lastError(err error, unknown *Error) error {
	if unknown == nil {
		return err
	}
	return unknown
}

// sleep waits for the delay. It reports false when ctx ends before that.
func sleep(ctx context.Context, delay time.Duration) bool {
	select {
	case <-time.After(delay):
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// do sends one request.
func (c *Client) do(ctx context.Context, method, path string, header http.Header, body encodedBody, result any) (http.Header, error) {
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body.content))
	if err != nil {
		return nil, fmt.Errorf("postcard: building a request: %w", err)
	}
	for name, values := range header {
		request.Header[name] = values
	}
	request.Header.Set("Authorization", "Bearer "+c.key)
	request.Header.Set("User-Agent", "postcard-go")
	if len(body.content) > 0 {
		request.Header.Set("Content-Type", body.contentType)
	}
	response, err := c.HTTP.Do(request)
	if err != nil {
		return nil, fmt.Errorf("postcard: %w", err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(io.LimitReader(response.Body, maxResponse))
	if err != nil {
		return nil, fmt.Errorf("postcard: reading a response: %w", err)
	}
	if response.StatusCode >= 400 {
		return nil, errorOf(response, content)
	}
	if result != nil && response.StatusCode != http.StatusNotModified && len(content) > 0 {
		if err := json.Unmarshal(content, result); err != nil {
			return nil, fmt.Errorf("postcard: decoding a response: %w", err)
		}
	}
	return response.Header, nil
}

// errorOf decodes an error response. A body that is not a problem detail (RFC
// 9457) probably comes from a proxy, so the status text is used.
func errorOf(response *http.Response, body []byte) *Error {
	e := &Error{}
	if json.Unmarshal(body, e) != nil || e.Detail == "" {
		e.Detail = http.StatusText(response.StatusCode)
	}
	e.Status = response.StatusCode
	// The API sends seconds. A negative number, which only a proxy would send, is none.
	if seconds, err := strconv.ParseUint(response.Header.Get("Retry-After"), 10, 31); err == nil {
		e.RetryAfter = time.Duration(seconds) * time.Second
	}
	return e
}

// Upload uploads pictures, all or none of them, to be sent with MediaIDs. A repeated upload
// is a new one; those that no message uses expire after a week.
func (c *Client) Upload(ctx context.Context, files ...File) ([]Upload, error) {
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for _, f := range files {
		part, err := form.CreateFormFile("file", f.Name)
		if err == nil {
			_, err = part.Write(f.Data)
		}
		if err != nil {
			return nil, fmt.Errorf("postcard: encoding an upload: %w", err)
		}
	}
	if err := form.Close(); err != nil {
		return nil, fmt.Errorf("postcard: encoding an upload: %w", err)
	}
	var uploads []Upload
	_, err := c.call(ctx, http.MethodPost, "/api/media", nil, encodedBody{form.FormDataContentType(), body.Bytes()}, &uploads)
	return uploads, err
}

// Send creates a message. When it returns no error, the message is stored durably
// and will be sent. If m has no IdempotencyKey, Send generates one for its retries.
// After an Error with OutcomeUnknown, use Message with its ID to find out whether the
// message exists, or call Send again with its IdempotencyKey.
func (c *Client) Send(ctx context.Context, m MessageParams) (Message, error) {
	var created Message
	_, err := c.call(ctx, http.MethodPost, "/api/send-mms", idempotencyHeader(m.IdempotencyKey), m, &created)
	return created, err
}

// Forecast predicts how a message would be sent, without creating it.
func (c *Client) Forecast(ctx context.Context, m MessageParams) (Forecast, error) {
	var f Forecast
	_, err := c.call(ctx, http.MethodPost, "/api/send-mms", nil, struct {
		MessageParams
		DryRun bool `json:"dryRun"`
	}{m, true}, &f)
	return f, err
}

// Resend creates a new message with the content of an earlier one, which must be
// final. If idempotencyKey is empty, Resend generates one for its retries.
func (c *Client) Resend(ctx context.Context, id, idempotencyKey string) (Message, error) {
	var created Message
	_, err := c.call(ctx, http.MethodPost, messagePath(id)+"/resend", idempotencyHeader(idempotencyKey), nil, &created)
	return created, err
}

// Cancel cancels a message that has not been handed to Plivo. It returns an Error
// with status 409 if it is too late.
func (c *Client) Cancel(ctx context.Context, id string) (Message, error) {
	var m Message
	_, err := c.call(ctx, http.MethodPost, messagePath(id)+"/cancel", nil, nil, &m)
	return m, err
}

// Message returns a message.
func (c *Client) Message(ctx context.Context, id string) (Message, error) {
	var m Message
	_, err := c.call(ctx, http.MethodGet, messagePath(id), nil, nil, &m)
	return m, err
}

// Wait waits until the message is final and returns it. When ctx ends first, it
// returns the latest known state and an error.
func (c *Client) Wait(ctx context.Context, id string) (Message, error) {
	return c.Watch(ctx, id, func(Message) {})
}

// Watch is Wait that also calls onChange with the current state and with each
// change. Changes in quick succession may be reported as one.
func (c *Client) Watch(ctx context.Context, id string, onChange func(Message)) (Message, error) {
	var m Message
	header := http.Header{}
	path := messagePath(id)
	for {
		var latest Message // stays empty if there is no change
		responseHeader, err := c.call(ctx, http.MethodGet, path, header, nil, &latest)
		if err != nil {
			return m, err
		}
		if latest.ID != "" {
			m = latest
			onChange(m)
		}
		if m.Final {
			return m, nil
		}
		header.Set("If-None-Match", responseHeader.Get("ETag"))
		path = messagePath(id) + "?wait=" + pollWait.String()
	}
}

// List returns one page of messages, newest first. cursor is the NextCursor of the
// previous page, or "" for the first page.
func (c *Client) List(ctx context.Context, f Filter, cursor string) (Page, error) {
	query := f.query()
	if cursor != "" {
		query.Set("cursor", cursor)
	}
	var page Page
	_, err := c.call(ctx, http.MethodGet, "/api/messages?"+query.Encode(), nil, nil, &page)
	return page, err
}

// SendBatch creates up to 100,000 messages. If a row is invalid, it creates none, or
// with CreateValid those of the valid rows.
func (c *Client) SendBatch(ctx context.Context, b BatchParams) (Batch, error) {
	var created Batch
	_, err := c.call(ctx, http.MethodPost, "/api/batches", idempotencyHeader(b.IdempotencyKey), b, &created)
	return created, err
}

// Batch returns a batch and its progress.
func (c *Client) Batch(ctx context.Context, id string) (Batch, error) {
	var b Batch
	_, err := c.call(ctx, http.MethodGet, "/api/batches/"+url.PathEscape(id), nil, nil, &b)
	return b, err
}

// PauseBatch stops sending a batch until it is resumed. Messages already handed to
// Plivo are not affected.
func (c *Client) PauseBatch(ctx context.Context, id string) (Batch, error) {
	return c.changeBatch(ctx, id, "pause")
}

// ResumeBatch resumes sending a paused batch.
func (c *Client) ResumeBatch(ctx context.Context, id string) (Batch, error) {
	return c.changeBatch(ctx, id, "resume")
}

// CancelBatch permanently cancels the messages of a batch that have not been handed
// to Plivo.
func (c *Client) CancelBatch(ctx context.Context, id string) (Batch, error) {
	return c.changeBatch(ctx, id, "cancel")
}

func (c *Client) changeBatch(ctx context.Context, id, action string) (Batch, error) {
	var b Batch
	_, err := c.call(ctx, http.MethodPost, "/api/batches/"+url.PathEscape(id)+"/"+action, nil, nil, &b)
	return b, err
}

func messagePath(id string) string { return "/api/messages/" + url.PathEscape(id) }

// idempotencyHeader returns the header with key, or with a new key if it is empty.
func idempotencyHeader(key string) http.Header {
	if key == "" {
		key = cryptorand.Text()
	}
	return http.Header{"Idempotency-Key": {key}}
}
