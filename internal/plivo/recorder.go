package plivo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/postcard-mms/postcard/internal/failpoint"
)

// maxAnswer bounds what is read of an answer, in bytes. A real one has a few
// hundred.
const maxAnswer = 64 << 10

var errAnswerTooLong = errors.New("the answer is longer than 64 KiB")

// exchange is what went over the wire in one call: the SDK keeps neither the
// status nor the headers.
type exchange struct {
	mayWrite func() bool
	withheld atomic.Bool // mayWrite said no; like written, set by the connection's own goroutine
	written  atomic.Bool
	sending  atomic.Pointer[bytes.Reader] // what is left of the request's body
	status   int                          // 0 until an answer's head was read
	header   http.Header
	body     []byte
	readErr  error
}

type exchangeKey struct{}

// observe returns a context whose request is recorded in x. A request counts as
// written from the moment its headers are handed to the connection's buffer:
// what of it left the machine is not known any more from there on.
func (x *exchange) observe(ctx context.Context) context.Context {
	ctx = context.WithValue(ctx, exchangeKey{}, x)
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteHeaders: x.begin,
		WroteRequest: func(httptrace.WroteRequestInfo) { failpoint.Hit(failpoint.WorkerWritten) },
	})
}

// begin asks once more before the body is written. Without its body the request is
// incomplete: net/http breaks it off, and Plivo cannot have accepted it.
func (x *exchange) begin() {
	failpoint.Hit(failpoint.WorkerConnected)
	if x.mayWrite() {
		x.written.Store(true)
		return
	}
	x.withheld.Store(true)
	if body := x.sending.Load(); body != nil {
		body.Reset(nil)
	}
}

// recorder fills the exchange in the request's context. It reads the whole
// answer, bounded, and closes it: the SDK does neither.
type recorder struct{ next http.RoundTripper }

func (r recorder) RoundTrip(request *http.Request) (*http.Response, error) {
	x, ok := request.Context().Value(exchangeKey{}).(*exchange)
	if !ok {
		return nil, errors.New("a request to Plivo that nobody observes")
	}
	request, err := guard(request, x)
	if err != nil {
		return nil, err
	}
	response, err := r.next.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err == nil && len(body) > maxAnswer {
		err = errAnswerTooLong
	}
	x.status, x.header, x.body, x.readErr = response.StatusCode, response.Header, body, err
	response.Body = io.NopCloser(&failing{bytes.NewReader(body), err})
	return response, nil
}

// guard makes the request's body one that can be taken back, also where net/http
// takes it up anew: over HTTP/1.1 it does so for a POST only when a kept connection
// turns out to be dead before anything was written to it. It is of a kind that
// net/http knows to be in memory: of any other it would write the headers first, in a
// packet of their own.
func guard(request *http.Request, x *exchange) (*http.Request, error) {
	if request.Body == nil {
		return request, nil
	}
	defer request.Body.Close()
	text, err := io.ReadAll(request.Body)
	if err != nil {
		return nil, fmt.Errorf("reading the request's body: %w", err)
	}
	body := func() (io.ReadCloser, error) {
		if x.withheld.Load() { // net/http takes it for a dead connection, too
			return nil, errWithheld
		}
		reader := bytes.NewReader(text)
		x.sending.Store(reader)
		return io.NopCloser(reader), nil
	}
	request = request.Clone(request.Context())
	request.GetBody = body
	request.Body, err = body()
	return request, err
}

// errWithheld ends a request that was held back: it is never taken up anew, whatever
// may be written later.
var errWithheld = errors.New("the attempt was not ours any more")

// failing hands the SDK what was read and then the error that reading ended in.
type failing struct {
	data *bytes.Reader
	err  error
}

func (f *failing) Read(p []byte) (int, error) {
	n, err := f.data.Read(p)
	if err == io.EOF && f.err != nil {
		err = f.err
	}
	return n, err
}

// retryAfter reads the header in both of its forms (RFC 9110); 0 for none.
// Plivo does not document it, but its CLI's hints mention it.
func retryAfter(h http.Header, now time.Time) time.Duration {
	value := h.Get("Retry-After")
	if seconds, err := strconv.Atoi(value); err == nil && seconds > 0 {
		return time.Duration(min(seconds, 86_400)) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil && at.After(now) {
		return at.Sub(now)
	}
	return 0
}
