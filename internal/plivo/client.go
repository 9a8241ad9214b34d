// Package plivo speaks to Plivo and understands what Plivo says: it is the
// only place that knows the wire. It goes through the official SDK, around the
// SDK's habits of hiding HTTP statuses, swallowing empty errors and following
// redirects with credentials. What an answer means is for mms to judge.
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
)

// Client sends messages through one Plivo account. It is safe for concurrent
// use.
type Client struct{ sdk *sdk.Client }

// Options name the account. All are required: the SDK would silently fall back
// to environment variables for empty credentials.
type Options struct {
	AuthID    string
	AuthToken string
	BaseURL   string // scheme://host[:port] without a path, which the SDK would drop
	MaxConns  int    // Plivo allows 100 simultaneous requests per account (Plivo docs, MMS FAQ)
}

// idleTimeout closes idle connections before a server would: a connection that
// dies under a request leaves that request in doubt.
const idleTimeout = 20 * time.Second

// New makes a client.
func New(o Options) (*Client, error) {
	base, err := url.Parse(o.BaseURL)
	if err != nil || base.Host == "" || o.AuthID == "" || o.AuthToken == "" {
		return nil, errors.New("making a Plivo client: base URL, auth id and auth token are required")
	}
	client, err := sdk.NewClient(o.AuthID, o.AuthToken, &sdk.ClientOptions{HttpClient: &http.Client{
		Transport: recorder{next: newTransport(o.MaxConns)},
		// A redirected POST would carry the credentials along and send again.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}})
	if err != nil {
		return nil, fmt.Errorf("making a Plivo client: %w", err)
	}
	client.BaseUrl = base
	return &Client{sdk: client}, nil
}

// newTransport speaks HTTP/1.1 only. Over HTTP/2, net/http makes a request anew
// when the server resets its stream, also after it was written whole: a second
// message. Over HTTP/1.1 it does so only when nothing was written.
func newTransport(maxConns int) *http.Transport {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Protocols = new(http.Protocols)
	transport.Protocols.SetHTTP1(true)
	transport.MaxConnsPerHost = maxConns
	transport.MaxIdleConnsPerHost = maxConns
	transport.IdleConnTimeout = idleTimeout
	return transport
}

// sent is the answer to an accepted message (Plivo docs, send a message). The
// SDK's own type would drop invalid_number.
type sent struct {
	APIID         string   `json:"api_id"`
	MessageUUID   []string `json:"message_uuid"`
	InvalidNumber []string `json:"invalid_number"`
}

// Send hands one message to Plivo, once, within the context's deadline. It
// returns no error: the answer says whatever happened.
func (c *Client) Send(ctx context.Context, s mms.Submission) mms.Answer {
	seen := exchange{mayWrite: s.MayWrite}
	request, err := c.sdk.NewRequest(http.MethodPost, params(s), "Message")
	if err != nil {
		return mms.Answer{Err: fmt.Errorf("writing the request: %w", err)}
	}
	var reply sent
	err = c.sdk.ExecuteRequest(request.WithContext(seen.observe(ctx)), &reply)
	return seen.answer(reply, err)
}

// params asks for one destination, so that one UUID comes back, and for the
// field url, not callback_url: the latter would turn the call asynchronous and
// its answer UUID-less (Plivo docs, API overview).
func params(s mms.Submission) sdk.MessageCreateParams {
	p := sdk.MessageCreateParams{
		Src:       string(s.Sender),
		Dst:       string(s.Recipient),
		Text:      s.Text,
		Type:      "mms",
		MediaUrls: s.MediaURLs,
	}
	if s.CallbackURL != "" {
		p.URL, p.Method = s.CallbackURL, http.MethodPost
	}
	return p
}

// answer puts together what the SDK made of the body and what went over the
// wire.
func (x *exchange) answer(reply sent, err error) mms.Answer {
	a := mms.Answer{
		Written:    x.written.Load() && !x.withheld.Load(),
		Status:     x.status,
		RetryAfter: retryAfter(x.header, time.Now()),
	}
	switch {
	case x.status == 0:
		a.Err = withoutURL(err)
	case x.status/100 == 2:
		a.APIID, a.UUIDs, a.Err = reply.APIID, reply.MessageUUID, err
		if len(reply.InvalidNumber) > 0 {
			a.Err = errors.New("the number was called invalid and the request accepted all the same")
		}
	default:
		a.APIID, a.Text = errorText(x.body)
		a.Err = x.readErr
	}
	return a
}

// withoutURL takes the URL, which names the account, off an error of net/http.
func withoutURL(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}

// errorText finds the words in an error body: {"api_id", "error"} by the docs,
// but error was also seen as an object, message in its place, and plain text.
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
