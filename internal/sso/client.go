package sso

import (
	"net/http"
	"time"
)

const (
	callTimeout = 3 * time.Second // a log-in makes up to three calls, within the deadline of its request
	maxResponse = 1 << 20         // bytes
)

// newClient returns a client whose calls end, whatever the provider does. It uses the proxy
// of the environment (HTTPS_PROXY).
func newClient() *http.Client {
	return &http.Client{Timeout: callTimeout, Transport: limited{http.DefaultTransport.(*http.Transport).Clone()}}
}

// limited bounds the size of responses.
type limited struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (l limited) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := l.next.RoundTrip(r)
	if err == nil {
		response.Body = http.MaxBytesReader(nil, response.Body, maxResponse)
	}
	return response, err
}
