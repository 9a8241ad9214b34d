package dispatch

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"code.dny.dev/ssrf"

	"github.com/postcard-mms/postcard/internal/webhook"
)

const (
	// callTimeout is for one call, from dialing to the end of the answer.
	callTimeout = 15 * time.Second

	maxResponseBody = 4 << 10 // bytes read of an answer, so that its connection can be used again
)

// Client posts events.
type Client struct{ http *http.Client }

// NewClient makes a client that refuses private and reserved addresses when it
// dials, whatever name led there; allowPrivate lets it reach them, for trying
// things out.
func NewClient(allowPrivate bool) *Client {
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	if !allowPrivate {
		dialer.Control = ssrf.New(ssrf.WithAnyPort()).Safe
	}
	return &Client{http: &http.Client{
		Timeout: callTimeout,
		Transport: &http.Transport{ // no proxy: it would dial in our place, past the guard
			DialContext:            dialer.DialContext,
			TLSHandshakeTimeout:    5 * time.Second,
			MaxResponseHeaderBytes: 32 << 10,
			MaxIdleConnsPerHost:    maxConcurrentCalls,
			IdleConnTimeout:        30 * time.Second,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// sign makes the header webhook-signature (Standard Webhooks): with each secret
// that signs, an HMAC over id, time and body.
func sign(t webhook.Delivery, body []byte) (string, error) {
	header := ""
	for _, secret := range []webhook.Secret{t.Secret, t.OldSecret} {
		if secret == "" {
			continue
		}
		key, err := secret.Key()
		if err != nil {
			return "", err
		}
		mac := hmac.New(sha256.New, key)
		fmt.Fprintf(mac, "%s.%d.", t.ID, t.Now.Unix())
		mac.Write(body)
		if header != "" {
			header += " "
		}
		header += "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	return header, nil
}

func (c *Client) post(ctx context.Context, t webhook.Delivery, signature string, body []byte) webhook.DeliveryResult {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, t.URL, bytes.NewReader(body))
	if err != nil {
		return webhook.DeliveryResult{Error: "The URL cannot be used."}
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "Postcard")
	request.Header.Set("webhook-id", t.ID.String())
	request.Header.Set("webhook-timestamp", strconv.FormatInt(t.Now.Unix(), 10))
	request.Header.Set("webhook-signature", signature)
	response, err := c.http.Do(request)
	if err != nil {
		return webhook.DeliveryResult{Error: describeError(err)}
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, maxResponseBody)) // the status alone counts
	told := webhook.DeliveryResult{HTTPStatus: response.StatusCode, OK: response.StatusCode/100 == 2}
	switch {
	case response.StatusCode/100 == 3:
		told.Error = fmt.Sprintf("It answered %d: redirects are not followed. Enter the address that it leads to.", response.StatusCode)
	case !told.OK:
		told.Error = fmt.Sprintf("It answered %d, and only 200 to 299 count as taken.", response.StatusCode)
	}
	return told
}

// describeError says for the webhook's owner why there was no answer. It tells nothing
// of our own network.
func describeError(err error) string {
	var netErr net.Error
	var dns *net.DNSError
	switch {
	case errors.Is(err, ssrf.ErrProhibitedIP), errors.Is(err, ssrf.ErrProhibitedNetwork), errors.Is(err, ssrf.ErrProhibitedPort):
		return "Its name leads to a private or reserved address, which is not called."
	case errors.As(err, &dns):
		return "Its name cannot be found (DNS)."
	case errors.As(err, &netErr) && netErr.Timeout():
		return fmt.Sprintf("It did not answer within %d seconds.", int(callTimeout.Seconds()))
	}
	return "It could not be reached, or broke the connection off."
}
