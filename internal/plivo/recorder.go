package plivo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"

	"github.com/postcard-mms/postcard/internal/failpoint"
)

// maxResponse limits the body of a response, in bytes. Real ones have a few
// hundred.
const maxResponse = 64 << 10

var errResponseTooLong = errors.New("the response is longer than 64 KiB")

// exchange records one request and its response, since the SDK keeps neither the
// status nor the headers. The connection's goroutine sets withheld and written.
type exchange struct {
	mayWrite func() bool
	withheld atomic.Bool                  // mayWrite returned false
	written  atomic.Bool                  // any byte may have been sent
	unsent   atomic.Pointer[bytes.Reader] // the rest of the request's body
	status   int                          // 0 until the response's header was read
	header   http.Header
	body     []byte
	readErr  error
}

type exchangeKey struct{}

// observe returns a context whose request is recorded in x. A request counts as
// written once its headers are in the connection's buffer: from then on it is
// unknown how much has left the machine.
func (x *exchange) observe(ctx context.Context) context.Context {
	ctx = context.WithValue(ctx, exchangeKey{}, x)
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteHeaders: x.beforeBody,
		WroteRequest: func(httptrace.WroteRequestInfo) { failpoint.Hit(failpoint.WorkerWritten) },
	})
}

// beforeBody checks mayWrite before the body is written, and empties the body if
// it returns false. net/http then aborts the incomplete request, which Plivo
// cannot accept.
func (x *exchange) beforeBody() {
	failpoint.Hit(failpoint.WorkerConnected)
	if x.mayWrite() {
		x.written.Store(true)
		return
	}
	x.withheld.Store(true)
	if body := x.unsent.Load(); body != nil {
		body.Reset(nil)
	}
}

// recorder is a RoundTripper that fills the exchange in the request's context. It
// reads the response up to a limit and closes it, which the SDK does not do.
type recorder struct{ next http.RoundTripper }

func (r recorder) RoundTrip(request *http.Request) (*http.Response, error) {
	x, ok := request.Context().Value(exchangeKey{}).(*exchange)
	if !ok {
		return nil, errors.New("the request to Plivo has no exchange in its context")
	}
	request, err := withRevocableBody(request, x)
	if err != nil {
		return nil, err
	}
	response, err := r.next.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxResponse+1))
	if err == nil && len(body) > maxResponse {
		err = errResponseTooLong
	}
	x.status, x.header, x.body, x.readErr = response.StatusCode, response.Header, body, err
	response.Body = io.NopCloser(&errorReader{bytes.NewReader(body), err})
	return response, nil
}

// withRevocableBody replaces the request's body with one that beforeBody can
// empty, also when net/http retries the request: over HTTP/1.1 it retries a POST
// when a kept connection was closed before anything was written. The body is a
// NopCloser of a bytes.Reader, which net/http recognizes: for other types it
// would send the headers in a packet of their own.
func withRevocableBody(request *http.Request, x *exchange) (*http.Request, error) {
	if request.Body == nil {
		return request, nil
	}
	defer request.Body.Close()
	data, err := io.ReadAll(request.Body)
	if err != nil {
		return nil, fmt.Errorf("reading the request's body: %w", err)
	}
	getBody := func() (io.ReadCloser, error) {
		if x.withheld.Load() { // net/http takes the aborted request for a closed connection
			return nil, errWithheld
		}
		reader := bytes.NewReader(data)
		x.unsent.Store(reader)
		return io.NopCloser(reader), nil
	}
	request = request.Clone(request.Context())
	request.GetBody = getBody
	request.Body, err = getBody()
	return request, err
}

// errWithheld prevents net/http from retrying a request that was withheld, even
// if the lease has been renewed since.
var errWithheld = errors.New("the attempt's lease has expired")

// errorReader reads data and then returns err, or io.EOF if err is nil.
type errorReader struct {
	data *bytes.Reader
	err  error
}

func (r *errorReader) Read(p []byte) (int, error) {
	n, err := r.data.Read(p)
	if err == io.EOF && r.err != nil {
		err = r.err
	}
	return n, err
}
