package dispatch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"code.dny.dev/ssrf"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/retryafter"
	"github.com/postcard-mms/postcard/internal/webhook"
)

const (
	// callTimeout bounds one call, from the lookup of its host to the end of the response.
	callTimeout = 15 * time.Second

	// bodyTimeout bounds how long a response's body is read. A slow body must not
	// occupy a slot: the status has decided the result.
	bodyTimeout = webhook.Patience / 4

	// maxResponseBody bounds how much of a response is read, in bytes. A short
	// body is read to its end, so that the connection can be reused.
	maxResponseBody = 4 << 10

	maxIdleConns = 200
)

// Client posts events to endpoints.
type Client struct{ http *http.Client }

// NewClient returns a client that follows no redirects and refuses to dial
// private and reserved addresses, whatever name they were resolved from.
// allowPrivate permits them, for local trials.
func NewClient(allowPrivate bool) *Client {
	dialer := &net.Dialer{ // PreferGo: a lookup that stalls occupies no thread, and ends with the call
		Timeout: 5 * time.Second, Resolver: &net.Resolver{PreferGo: true},
	}
	if !allowPrivate {
		dialer.Control = ssrf.New(ssrf.WithAnyPort()).Safe
	}
	return &Client{http: &http.Client{
		Timeout: callTimeout,
		Transport: &http.Transport{ // no proxy: it would dial for us and bypass the address check
			DialContext:            dialer.DialContext,
			TLSHandshakeTimeout:    5 * time.Second,
			MaxResponseHeaderBytes: 32 << 10,
			MaxIdleConns:           maxIdleConns,
			MaxIdleConnsPerHost:    webhook.MaxSlots,
			IdleConnTimeout:        30 * time.Second,
			// No limit per host: users may share one, and would wait for each other.
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// post makes one call. Every failure is part of the result.
func (c *Client) post(ctx context.Context, d webhook.Delivery, signature string, body []byte) webhook.DeliveryResult {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, d.URL, bytes.NewReader(body))
	if err != nil {
		return webhook.DeliveryResult{Error: "The URL cannot be used."}
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "Postcard")
	request.Header.Set("webhook-id", d.ID.String())
	request.Header.Set("webhook-timestamp", strconv.FormatInt(d.Now.Unix(), 10))
	request.Header.Set("webhook-signature", signature)
	response, err := c.http.Do(request)
	if err != nil {
		return webhook.DeliveryResult{Error: describeError(err)}
	}
	defer response.Body.Close()
	defer time.AfterFunc(bodyTimeout, cancel).Stop()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, maxResponseBody)) // only the status matters
	result := webhook.DeliveryResult{HTTPStatus: response.StatusCode, OK: response.StatusCode/100 == 2}
	switch {
	case response.StatusCode/100 == 3:
		result.Error = fmt.Sprintf("It answered %d: redirects are not followed. Enter the address that it redirects to.", response.StatusCode)
	case !result.OK:
		result.Error = fmt.Sprintf("It answered %d. Only 200 to 299 counts as delivered.", response.StatusCode)
	}
	if result.RetryAfter = retryAfter(response); result.RetryAfter > 0 {
		result.Error += describeWait(result.RetryAfter)
	}
	return result
}

// retryAfter returns how long a receiver that is overloaded asks us to wait (Standard
// Webhooks). Other statuses may have the header for other reasons.
func retryAfter(response *http.Response) time.Duration {
	if response.StatusCode != http.StatusTooManyRequests && response.StatusCode != http.StatusServiceUnavailable {
		return 0
	}
	return retryafter.Parse(response.Header, webhook.MaxRetryAfter)
}

// describeWait says why the next attempt may be later than usual.
func describeWait(wait time.Duration) string {
	if wait == webhook.MaxRetryAfter {
		return " It asked for a wait of 24 hours or more (Retry-After): Postcard waits 24 hours."
	}
	return fmt.Sprintf(" It asked for a wait of %s (Retry-After).", mms.Counted(int(wait.Seconds()), "second"))
}

// describeError tells the webhook's workspace why there was no response. It reveals
// nothing about the network that Postcard runs in.
func describeError(err error) string {
	var netErr net.Error
	var dns *net.DNSError
	switch {
	case errors.Is(err, ssrf.ErrProhibitedIP), errors.Is(err, ssrf.ErrProhibitedNetwork), errors.Is(err, ssrf.ErrProhibitedPort):
		return "Its host name resolves to a private or reserved address, which Postcard does not call."
	case errors.As(err, &dns):
		return "Its host name could not be resolved (DNS)."
	case errors.As(err, &netErr) && netErr.Timeout():
		return fmt.Sprintf("It did not answer within %d seconds.", int(callTimeout.Seconds()))
	}
	return "It could not be reached, or it closed the connection without a response."
}
