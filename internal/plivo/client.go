// Package plivo implements Plivo's wire format: requests, responses, callback
// fields and signatures. It uses the official SDK, but works around its habits of
// hiding HTTP statuses, ignoring empty error responses and following redirects
// with credentials. It does not judge what an answer means; package mms does.
package plivo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	sdk "github.com/plivo/plivo-go/v7"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/retryafter"
)

// Client sends messages through one Plivo account. It is safe for concurrent
// use.
type Client struct {
	sdk     *sdk.Client
	uploads uploader
}

// Options configure a Client. AuthID, AuthToken and BaseURL are required: for
// empty credentials the SDK would silently read environment variables.
type Options struct {
	AuthID    string
	AuthToken string
	BaseURL   string // scheme://host[:port] without a path, which the SDK would drop
	MaxConns  int    // Plivo allows 100 simultaneous requests per account (Plivo docs, MMS FAQ)
}

// idleTimeout closes idle connections before the server does: a connection that
// breaks during a request leaves that request in doubt.
const idleTimeout = 20 * time.Second

// New returns a client. It does not connect.
func New(o Options) (*Client, error) {
	base, err := url.Parse(o.BaseURL)
	if err != nil || base.Host == "" || o.AuthID == "" || o.AuthToken == "" {
		return nil, errors.New("creating a Plivo client: base URL, auth id and auth token are required")
	}
	client, err := sdk.NewClient(o.AuthID, o.AuthToken, &sdk.ClientOptions{HttpClient: &http.Client{
		Transport: recorder{next: newTransport(o.MaxConns)},
		// Following a redirect would repeat the POST, with the credentials.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}})
	if err != nil {
		return nil, fmt.Errorf("creating a Plivo client: %w", err)
	}
	client.BaseUrl = base
	return &Client{sdk: client, uploads: newUploader(o, base)}, nil
}

// newTransport returns a transport for HTTP/1.1 only. Over HTTP/2, net/http
// retries a request whose stream was reset, even if it was fully written, and so
// could send a message twice. Over HTTP/1.1 it retries only if nothing was
// written.
func newTransport(maxConns int) *http.Transport {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Protocols = new(http.Protocols)
	transport.Protocols.SetHTTP1(true)
	transport.MaxConnsPerHost = maxConns
	transport.MaxIdleConnsPerHost = maxConns
	transport.IdleConnTimeout = idleTimeout
	return transport
}

// sendResponse is the body of a 2xx response (Plivo docs, send a message). The
// SDK's type lacks invalid_number.
type sendResponse struct {
	APIID         string   `json:"api_id"`
	MessageUUID   []string `json:"message_uuid"`
	InvalidNumber []string `json:"invalid_number"`
}

// Send submits a message with a single request, which the deadline of ctx limits.
// The answer contains any error.
func (c *Client) Send(ctx context.Context, s mms.Submission) mms.Answer {
	x := exchange{mayWrite: s.MayWrite}
	request, err := c.sdk.NewRequest(http.MethodPost, createParams(s), "Message")
	if err != nil {
		return mms.Answer{Err: fmt.Errorf("creating the request: %w", err)}
	}
	var body sendResponse
	err = c.sdk.ExecuteRequest(request.WithContext(x.observe(ctx)), &body)
	answer := x.answer(body, err)
	answer.MediaIDs = len(s.MediaIDs) > 0
	return answer
}

// createParams has one destination, so that the response has one UUID. It sets
// url, never callback_url, which would make the request asynchronous and its
// response lack the UUID (Plivo docs, API overview).
func createParams(s mms.Submission) sdk.MessageCreateParams {
	p := sdk.MessageCreateParams{
		Src:       string(s.Sender),
		Dst:       string(s.Recipient),
		Text:      s.Text,
		Type:      "mms",
		MediaUrls: s.MediaURLs,
		MediaIds:  s.MediaIDs,
	}
	if s.CallbackURL != "" {
		p.URL, p.Method = s.CallbackURL, http.MethodPost
	}
	return p
}

// maxRetryAfter bounds the wait that a response may ask for. Plivo does not document
// Retry-After, but its CLI's hints mention it.
const maxRetryAfter = 24 * time.Hour

// answer combines the recorded exchange with the SDK's result.
func (x *exchange) answer(body sendResponse, err error) mms.Answer {
	a := mms.Answer{
		Written:    x.written.Load() && !x.withheld.Load(),
		Status:     x.status,
		RetryAfter: retryafter.Parse(x.header, maxRetryAfter),
	}
	switch {
	case x.status == 0:
		a.Err = withoutURL(err)
	case x.status/100 == 2:
		a.APIID, a.UUIDs, a.Err = body.APIID, body.MessageUUID, err
		if len(body.InvalidNumber) > 0 {
			a.Err = errors.New("a 2xx answer called the number invalid")
		}
	default:
		a.APIID, a.Text = errorText(x.body)
		a.Err = x.readErr
	}
	return a
}

// withoutURL removes the URL, which contains the account's id, from an error of
// net/http.
func withoutURL(err error) error {
	var urlErr *url.Error
	if errors.As(err, &urlErr) {
		return urlErr.Err
	}
	return err
}

// errorText extracts the text of an error body. The docs describe {"api_id",
// "error"}; error as an object, message instead of error, and plain text have
// been seen too.
func errorText(body []byte) (apiID, text string) {
	var fields struct {
		APIID   string          `json:"api_id"`
		Error   json.RawMessage `json:"error"`
		Message string          `json:"message"`
	}
	if err := json.Unmarshal(body, &fields); err != nil {
		return "", strings.TrimSpace(string(body))
	}
	if json.Unmarshal(fields.Error, &text) == nil && text != "" {
		return fields.APIID, text
	}
	if len(fields.Error) > 0 {
		return fields.APIID, string(fields.Error)
	}
	return fields.APIID, fields.Message
}
